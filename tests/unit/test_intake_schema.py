"""The published schema is the one the code makes, and says what the code does."""

from __future__ import annotations

import json
from pathlib import Path

from shared.indicators.model import IndicatorType
from shared.indicators.names import FIELDS, OVERRIDE
from shared.intake.schema import as_text, schema

DOCS = Path(__file__).parents[2] / "docs"


def test_the_file_in_docs_is_in_step():
    assert (DOCS / "queue-contract.schema.json").read_text() == as_text(), (
        "run: python -m shared.intake.schema > docs/queue-contract.schema.json"
    )


def test_it_names_every_field_and_type_and_says_what_is_for_http_alone():
    fields = schema()["$defs"]["indicator"]["properties"]
    assert set(FIELDS) <= set(fields)
    assert set(fields["indicatorType"]["enum"]) == {*(kind.value for kind in IndicatorType), None}
    assert "Allowed: over HTTP only, with the role Indicators.Allow" in fields["action"]["description"]
    assert "Over HTTP only, with the role Guards.Override" in fields["override"]["description"]


def test_every_field_is_in_the_document_for_senders():
    text = (DOCS / "queue-contract.md").read_text()
    assert [name for name in (*FIELDS, OVERRIDE) if f"`{name}`" not in text] == []


def test_the_examples_in_the_document_are_json_that_is_taken():
    from tests.unit.test_intake_read import take

    text = (DOCS / "queue-contract.md").read_text()
    blocks = [block.partition("```")[0] for block in text.split("```json\n")[1:]]
    assert len(blocks) == 3
    for block in blocks:
        assert all(item.indicator for item in take(json.loads(block)).items)
