"""Alerts and workbook name what the code emits, and every alert says what to do."""

from __future__ import annotations

import ast
import functools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from shared.defender.limits import CALLS
from shared.telemetry import COUNTERS, GAUGES, HISTOGRAMS
from tests.infra.expanded import INFRA, ROOT, SETS, Expanded, golden
from tests.unit.test_docs import alarm_kinds, sources

QUERIES = sorted((INFRA / "kql").glob("*.kql"))
_LABELS = {"rejected": {"reason"}, "calls": {"route", "outcome"}, "throttled": {"route"}, "alarm": {"kind"}}
every = pytest.mark.parametrize("made", [golden(name) for name in SETS], ids=SETS)


def code(file: Path) -> str:
    """A query without its comments."""
    return re.sub(r"^//.*$", "", file.read_text("utf-8"), flags=re.M)


@functools.cache
def events() -> frozenset[str]:
    """Names of the structured log lines."""
    found = set()
    for _, tree in sources("shared", "functions"):
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            at = {"event": 0, "log_event": 2}.get(name)
            if at is not None and len(node.args) > at and isinstance(node.args[at], ast.Constant):
                found.add(str(node.args[at].value))  # type: ignore[attr-defined]
    return frozenset(found)


@pytest.mark.parametrize("file", QUERIES, ids=lambda file: file.stem)
def test_a_query_names_what_the_code_emits(file: Path) -> None:
    text = code(file)
    assert 'AppRoleName == "{app}"' in text, "a workspace may be shared"
    metrics = set(re.findall(r'"relay\.(\w*)"', text)) - {""}
    assert metrics <= {*COUNTERS, *HISTOGRAMS, *GAUGES}
    labels = set(re.findall(r'Properties\["(\w+)"\]', text))
    assert labels <= set().union(*(_LABELS.get(metric, set()) for metric in metrics))
    if metrics & set(COUNTERS):
        # A counter is exported each minute, with nothing added as well.
        assert "Sum > 0" in text
    named = set(re.findall(r'(?:Event|Line\.event\)) == "(\w+)"', text)) | set(re.findall(r'has "\\"(\w+)\\""', text))
    assert named <= events() and bool(named) == ("AppTraces" in text)
    route = set(re.findall(r'route"\]\) == "(\w+)"', text))
    assert route <= set(CALLS)
    told = set(
        re.findall(r'"(\w+)"', " ".join(re.findall(r"(?:Kind|kind\"\]\)) (?:!?in \([^)]*\)|[!=]= \"\w+\")", text)))
    )
    assert told <= {one for one in alarm_kinds() if not one.endswith("_")} | {"denied_401"}
    for prefix in re.findall(r'Kind !?startswith "(\w+)"', text):
        assert prefix in alarm_kinds()


def rules(made: Expanded) -> dict[str, dict[str, Any]]:
    """The alert rules by the last words of their names."""
    short = made.one("Microsoft.Insights/workbooks")["properties"]["displayName"]
    name = re.findall(r"func-(\w+)-", short)[0]
    return {
        one["name"].removeprefix(f"alert-{name}-"): one["properties"]
        for one in made.of("Microsoft.Insights/scheduledQueryRules")
    }


WATCHED = {"dead-letter", "oldest-pending", "heartbeat", "standing", "refused", "service", "instances", "alarm"}
CAPACITY = {"capacity-80", "capacity-90", "capacity-95"}
SECRET = {"secret-30", "secret-14", "secret-7", "secret-1"}


@every
def test_each_deployment_watches_all_that_it_should(made: Expanded) -> None:
    with_secret = made.settings["RELAY_CREDENTIAL"] == "secret"
    found = rules(made)
    assert set(found) == WATCHED | CAPACITY | (SECRET if with_secret else set())
    for key, rule in found.items():
        assert rule["enabled"] is True and re.search(r"\bDo: .{40}", rule["description"]), f"{key} says what to do"
        criterion = rule["criteria"]["allOf"][0]
        assert "{app}" not in criterion["query"] and made.outputs["functionAppName"] in criterion["query"]
        assert rule["scopes"] == [made.outputs["workspaceId"]]
        if key.startswith(("capacity", "secret")):
            assert criterion["threshold"] == int(key.rpartition("-")[2])
    most = made.one("Microsoft.Web/sites")["properties"]["functionAppConfig"]["scaleAndConcurrency"]
    assert found["instances"]["criteria"]["allOf"][0]["threshold"] == most["maximumInstanceCount"]
    groups = made.of("Microsoft.Insights/actionGroups")
    for rule in found.values():
        assert len(rule["actions"]["actionGroups"]) == len(groups)


def documented() -> dict[str, list[str]]:
    """Rule to [severity, condition, what to do], from docs/operate.md."""
    text = (ROOT / "docs" / "operate.md").read_text("utf-8").partition("\n## Alert rules\n")[2].partition("\n## ")[0]
    found: dict[str, list[str]] = {}
    for names, levels, when, what in re.findall(r"^\| (`.*?) \| ([\d, ]+) \| (.*?) \| (.*?) \|$", text, flags=re.M):
        for name, level in zip(re.findall(r"`([\w-]+)`", names), levels.split(","), strict=True):
            found[name] = [level.strip(), when, what]
    return found


@every
def test_each_alert_is_in_the_manual_with_its_severity(made: Expanded) -> None:
    told = documented()
    for key, rule in rules(made).items():
        assert str(rule["severity"]) == told[key][0]
        assert len(told[key][2]) > 20
    assert set(told) == WATCHED | CAPACITY | SECRET


def test_every_alarm_of_the_code_reaches_somebody() -> None:
    """By a rule that names it, by the rule for all others, or for a reason by none."""
    refused, others, service = (code(INFRA / "kql" / f"alert-{name}.kql") for name in ("refused", "alarm", "service"))
    left_out = set(re.findall(r'"(\w+)"', re.findall(r"!in \(([^)]*)\)", others)[0]))
    by_another_way = {
        "exhausted",
        "killed_its_worker",
        "poison",
        "paused",
        "held",
        "pointer_late",
    }  # relay.dead, relay.paused, relay.held
    for kind in alarm_kinds():
        if kind in left_out:
            assert kind in by_another_way or f'"{kind}"' in refused or f'"{kind}"' in service, kind
    assert left_out <= alarm_kinds(), "what the code no longer raises need not be left out"
    assert 'startswith "denied_"' in refused and '!startswith "denied_"' in others


def charts(made: Expanded) -> list[dict[str, Any]]:
    """The charts of the workbook."""
    data = json.loads(made.one("Microsoft.Insights/workbooks")["properties"]["serializedData"])
    assert data["version"] == "Notebook/1.0" and data["fallbackResourceIds"] == [made.outputs["workspaceId"]]
    return [item["content"] for item in data["items"] if item["type"] == 3]


@every
def test_each_workbook_shows_what_an_operator_asks_for(made: Expanded) -> None:
    shown = charts(made)
    titles = " ".join(chart["title"].lower() for chart in shown)
    for wanted in ("source, type and action", "rejected, and why", "put off, and why", "time to publish", "calls"):
        assert wanted in titles
    assert "how full the tenant is" in titles
    assert ("days until the secret expires" in titles) == (made.settings["RELAY_CREDENTIAL"] == "secret")
    for chart in shown:
        assert made.outputs["functionAppName"] in chart["query"] and "{app}" not in chart["query"]
        assert chart["timeContextFromParameter"] == "Period"


def test_every_query_is_deployed() -> None:
    """As it stands in its file, with the app's name in its place."""
    made = golden("dev")
    name = made.outputs["functionAppName"]
    sent = {one["criteria"]["allOf"][0]["query"] for one in rules(made).values()}
    sent |= {chart["query"] for chart in charts(made)}
    assert sent == {file.read_text("utf-8").replace("{app}", name) for file in QUERIES}
