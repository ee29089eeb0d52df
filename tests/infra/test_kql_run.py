"""The queries of the alerts over rows: each finds what it is for, and not what looks like it.

They run in DuckDB, by the package `duckdb-kql`; it is not among the locked ones, because nothing else needs it.
"""

from __future__ import annotations

import importlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.infra.expanded import INFRA

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
APP = "func-relay"


@pytest.fixture
def space() -> Workspace:
    return Workspace()


class Workspace:
    """The tables AppMetrics and AppTraces, as far as the queries read them."""

    def __init__(self) -> None:
        try:
            self._kql: Any = importlib.import_module("duckdb_kql")
        except ImportError:
            pytest.skip("NO duckdb-kql (pip install duckdb-kql duckdb pytz): the queries of the alerts were NOT run")
        self._tables: Any = self._kql.connect()
        self._tables.execute(
            "create table AppMetrics(TimeGenerated timestamptz, Name varchar, Sum double, Min double, Max double, "
            "ItemCount integer, Properties json, AppRoleName varchar, AppRoleInstance varchar)"
        )
        self._tables.execute(
            "create table AppTraces(TimeGenerated timestamptz, Message varchar, ItemCount integer, AppRoleName varchar)"
        )

    def metric(self, name: str, value: float, ago: float, instance: str = "i1", app: str = APP, **labels: str) -> None:
        """One exported point, `ago` minutes old."""
        row = [NOW - timedelta(minutes=ago), f"relay.{name}", value, value, value, 1, json.dumps(labels), app, instance]
        self._tables.execute("insert into AppMetrics values (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def line(self, ago: float, stands_for: int = 1, **fields: Any) -> None:
        """One log line, which stands for so many."""
        row = [NOW - timedelta(minutes=ago), json.dumps(fields), stands_for, APP]
        self._tables.execute("insert into AppTraces values (?, ?, ?, ?)", row)

    def run(self, name: str) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        text = (INFRA / "kql" / f"{name}.kql").read_text("utf-8").replace("{app}", APP)
        return list(self._kql.query(self._tables, text, query_now=NOW).fetchall())


def test_dead_letters_of_this_app_only_and_no_additions_of_nothing(space: Workspace) -> None:
    space.metric("dead", 0, 1)
    space.metric("dead", 5, 1, app="func-other")
    assert space.run("alert-dead-letter") == []
    space.metric("dead", 3, 2)
    assert [items for _, items in space.run("alert-dead-letter")] == [3]


@pytest.mark.parametrize(
    ("age", "paused", "fires"),
    [
        (lambda ago: 3600 - 60 * ago, 0, True),
        (lambda ago: 3600 - 60 * ago, 1, False),  # somebody has paused: another alert
        (lambda _ago: 3600, 0, False),  # old, and no older
        (lambda ago: 600 + 60 * (ago % 7), 0, False),  # up and down
        (lambda ago: 60 * ago, 0, False),  # younger and younger
    ],
)
def test_oldest_pending_only_when_it_grows(space: Workspace, age: Any, paused: int, fires: bool) -> None:
    for ago in range(30):
        space.metric("oldest_pending", age(ago), ago)
        space.metric("paused", 60.0 * paused, ago)
    found = space.run("alert-oldest-pending")
    assert bool(found) == fires
    if fires:
        assert found[0][0] == pytest.approx((3600 - 60 * 15) / 60, abs=1)


def test_heartbeat_counts_beats_and_not_points(space: Workspace) -> None:
    for ago in range(15):
        space.metric("heartbeat", 0, ago, instance="one that has handed over")
    assert space.run("alert-heartbeat") == []
    space.metric("heartbeat", 1, 3)
    assert len(space.run("alert-heartbeat")) == 1


def test_standing_counts_minutes_of_pause_and_hold_apart(space: Workspace) -> None:
    for ago in range(30):
        space.metric("paused", 0 if ago > 26 else 60.0, ago)
        space.metric("held", 20.0 if ago < 2 else 0, ago)
    assert sorted(space.run("alert-standing")) == [("hold", 2), ("pause", 27)]


def test_refused_forgives_a_lone_401(space: Workspace) -> None:
    space.metric("alarm", 2, 5, kind="denied_401")
    space.metric("alarm", 1, 5, kind="tenant_full")
    assert space.run("alert-refused") == []
    space.metric("alarm", 1, 4, kind="denied_401")
    space.metric("alarm", 1, 4, kind="denied_403")
    space.metric("alarm", 4, 4, kind="identity")
    assert sorted(space.run("alert-refused")) == [("denied_401", 3), ("denied_403", 1), ("identity", 4)]


def test_service_only_when_nothing_at_all_is_taken(space: Workspace) -> None:
    for ago in range(4):
        space.metric("calls", 1, ago, route="import", outcome="503")
        space.metric("calls", 1, ago, route="list", outcome="200")
        space.metric("calls", 0, ago, route="import", outcome="200")
    assert space.run("alert-service") == [(4,)]
    space.metric("calls", 1, 1, route="import", outcome="200")
    assert space.run("alert-service") == []
    space.metric("alarm", 1, 1, kind="defender_refuses_all")
    assert space.run("alert-service") == [(4,)], "the app has searched, and knows better"


def test_service_without_calls_is_silent(space: Workspace) -> None:
    assert all(refused < 3 for (refused,) in space.run("alert-service"))


def test_capacity_secret_and_instances(space: Workspace) -> None:
    space.metric("capacity", 91.2, 4)
    space.metric("secret_days", 13.5, 4)
    for number in range(40):
        space.metric("calls", 1, 7, instance=f"i{number}", route="import", outcome="200")
    assert [value for _, value in space.run("alert-capacity")] == [91.2]
    assert [value for _, value in space.run("alert-secret")] == [13.5]
    assert max(count for _, count in space.run("alert-instances")) == 40


def test_alarm_takes_every_kind_that_has_no_rule(space: Workspace) -> None:
    for kind in ("identity", "denied_404", "exhausted", "poison", "paused", "pointer_late", "defender_refuses_all"):
        space.metric("alarm", 1, 3, kind=kind)
    assert space.run("alert-alarm") == []
    for kind in ("tenant_full", "part_lost", "one_of_tomorrow"):
        space.metric("alarm", 2, 3, kind=kind)
    assert sorted(space.run("alert-alarm")) == [("one_of_tomorrow", 2), ("part_lost", 2), ("tenant_full", 2)]


def test_sources_are_found_in_any_line_of_a_submission(space: Workspace) -> None:
    block, audit = ({"type": "Url", "action": action, "items": 2} for action in ("Block", "Audit"))
    space.line(9, event="submitted", submission="s1", source="console", items=4, rejected=0)
    space.line(8, event="outcome", submission="s1", call="c1", accepted=4, published=[block, audit])
    space.line(7, event="outcome", submission="s2", source="feed", call="c1", deferred=2)
    space.line(3, stands_for=5, event="outcome", submission="s2", call="c2", accepted=2, published=[block])
    space.line(3, event="outcome", submission="s3", call="c2", accepted=2, published=[audit])
    assert sorted(space.run("book-sources")) == [
        ("console", "Url", "Audit", 2),
        ("console", "Url", "Block", 2),
        ("feed", "Url", "Block", 10),
        ("not named", "Url", "Audit", 2),
    ]
    assert {(what, number) for what, _, number in space.run("book-published")} == {("Url Block", 12), ("Url Audit", 4)}


def test_deferred_and_waiting(space: Workspace) -> None:
    space.line(3, stands_for=2, event="deferred", items=7, delay=60, reason="throttled")
    space.line(3, event="call", permit=1)
    space.metric("queue_depth", 12, 3)
    space.metric("oldest_pending", 120, 3)
    assert [(reason, items) for reason, _, items in space.run("book-deferred")] == [("throttled", 14)]
    assert [row[1:] for row in space.run("book-waiting")] == [(12, 2)]
