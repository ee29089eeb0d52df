"""The workbook reads fields of log lines: they are there, and add up to what was published."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from tests.infra.expanded import INFRA
from tests.support import virtual
from tests.support.rig import Host, Rig


@pytest.fixture(scope="module")
def lines() -> list[dict[str, Any]]:
    """Lines of submissions by both doors, some of which are put off first."""
    told: list[dict[str, Any]] = []

    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        host = Host(rig, worker)
        rig.put(
            {
                "source": "feed-1",
                "indicators": [{"value": f"h{n}.evil-domain.com", "action": "Block"} for n in range(3)],
            }
        )
        items = [{"value": "198.51.100.7"}, {"value": "evil-domain.org"}, {"value": "10.0.0.1"}]
        body = {"source": "soc-console", "incident": "3177", "indicators": items}
        await worker.submitting.submit(json.dumps(body).encode(), caller="key")
        await host.drain(20.0)
        await worker.pauses.pause("a test", None, "key")
        rig.put({"source": "feed-2", "indicatorValue": "late.evil-domain.com", "action": "Warn"})
        await host.serve(asyncio.get_running_loop().time() + 5.0)
        await worker.pauses.resume("over", "key")
        await host.drain(2000.0)
        told.extend({"event": name, **fields} for name, fields in rig.tell.events)

    virtual.run(main())
    return told


def test_every_field_that_a_query_reads_is_in_the_lines(lines: list[dict[str, Any]]) -> None:
    for file in sorted((INFRA / "kql").glob("book-*.kql")):
        text = file.read_text("utf-8")
        if "AppTraces" not in text:
            continue
        wanted = set(re.findall(r"\bLine\.(\w+)", text)) | {"event"}
        events = set(re.findall(r'(?:Event|Line\.event\)) == "(\w+)"|has "\\"(\w+)\\""', text))
        names = {one for pair in events for one in pair if one}
        there = {
            field for line in lines if line["event"] in names for field, value in line.items() if value is not None
        }
        assert wanted <= there, f"{file.name}: {wanted - there} is in no line {names}"
        parts = set(re.findall(r"\bPublished\.(\w+)", text))
        assert parts <= {part for line in lines for one in line.get("published") or () for part in one}


def test_the_lines_add_up_by_source_type_and_action(lines: list[dict[str, Any]]) -> None:
    """As book-sources.kql does it: the source of a submission is in one of its lines."""
    source = {line["submission"]: line["source"] for line in lines if line.get("source")}
    found: dict[tuple[str, str, str], int] = {}
    for line in lines:
        for one in line.get("published") or () if line["event"] == "outcome" else ():
            key = (source[line["submission"]], one["type"], one["action"])
            found[key] = found.get(key, 0) + one["items"]
    assert found[("feed-1", "DomainName", "Block")] == 3
    assert found[("feed-2", "DomainName", "Warn")] == 1, "put off by a pause, and accepted out of a stored part"
    (taken,) = (line for line in lines if line["event"] == "submitted")
    console = sum(number for (name, _, action), number in found.items() if name == "soc-console" and action == "Audit")
    assert console == taken["items"] - taken["rejected"] > 0
