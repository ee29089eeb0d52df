"""Every query means something to Microsoft's own KQL parser, and gives the columns that its rule or chart reads.

The parser is an npm package, locked in tests/infra/kql; install it with `npm ci` in that folder.
"""

from __future__ import annotations

import functools
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from local.azurite.server import AzuriteError, node
from tests.infra.expanded import SETS, golden
from tests.infra.test_alerts import QUERIES, charts, rules

FOLDER = Path(__file__).resolve().parent / "kql"
SERVICE = FOLDER / "node_modules" / "@kusto" / "language-service-next"
_NUMBERS = {"real", "long", "int", "decimal"}


def analysed(queries: dict[str, str]) -> dict[str, Any]:
    """What the parser says of each query; skips loudly without it."""
    if not (SERVICE / "bridge.min.js").exists():
        pytest.skip("NO KQL PARSER (npm ci in tests/infra/kql): the queries of alerts and workbook were NOT checked")
    try:
        binary = node()
    except (ImportError, AzuriteError):
        pytest.skip("NO NODE in .venv: the queries of alerts and workbook were NOT checked")
    asked = json.dumps({"tables": json.loads((FOLDER / "tables.json").read_text("utf-8")), "queries": queries})
    command = [str(binary), str(FOLDER / "check.js"), str(SERVICE)]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@functools.cache
def files() -> dict[str, Any]:
    """The queries of infra/kql."""
    return analysed({file.stem: file.read_text("utf-8") for file in QUERIES})


@pytest.mark.parametrize("name", [file.stem for file in QUERIES])
def test_a_query_is_sound(name: str) -> None:
    assert files()[name]["said"] == []
    assert files()[name]["columns"]


def test_the_parser_knows_the_tables() -> None:
    """Or it would find everything sound."""
    told = analysed({"column": "AppMetrics | where Nmae == 1", "table": "AppMetric | count", "sound": "AppMetrics"})
    assert told["sound"]["said"] == []
    assert "KS142" in told["column"]["said"][0] and "KS204" in told["table"]["said"][0]


def test_a_rule_reads_columns_that_its_query_gives() -> None:
    for key, rule in {key: rule for name in SETS for key, rule in rules(golden(name)).items()}.items():
        criterion = rule["criteria"]["allOf"][0]
        stem = "alert-" + (key.partition("-")[0] if key.startswith(("capacity", "secret")) else key)
        columns = files()[stem]["columns"]
        measure = criterion.get("metricMeasureColumn")
        assert (measure is None) == (criterion["timeAggregation"] == "Count")
        assert measure is None or columns[measure] in _NUMBERS
        for dimension in criterion["dimensions"]:
            assert columns[dimension["name"]] == "string"


def test_a_chart_over_time_has_a_time_and_a_number() -> None:
    by_text = {file.read_text("utf-8"): file.stem for file in QUERIES}
    made = golden("dev")
    for chart in charts(made):
        stem = by_text[chart["query"].replace(made.outputs["functionAppName"], "{app}")]
        types = list(files()[stem]["columns"].values())
        assert set(types) & _NUMBERS
        if chart["visualization"] in ("timechart", "barchart"):
            assert "datetime" in types
