"""What Defender's answers do to indicators on the real stack: refusals of one, a batch, everything; throttling."""

from __future__ import annotations

from typing import Any

import pytest

from shared.ledger.parts import PARTITION
from shared.ledger.parts import TABLE as OPEN
from tests.support.stacklab import Lab, batch, message, wait_for

COUNT = 500


def names(group: str, count: int = COUNT) -> list[str]:
    return [f"n{number}.{group}.example" for number in range(count)]


def at_rest(lab: Lab) -> bool:
    """Whether nothing is left to be done: no message, no open part."""
    return lab.depth() == 0 and not lab.rows(OPEN, pk=PARTITION)


def rejected(told: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The items of an outcome that were rejected, by value."""
    return {item["value"]: item for item in told["items"] if item["state"] == "rejected"}


@pytest.mark.parametrize("how", ["item", "named", "batch"])
def test_p5_one_bad_item_among_500_costs_the_others_nothing_now_or_next_time(here: Lab, how: str) -> None:
    values = names(f"one-{how}")
    bad = values[321]
    here.admin.poison(bad, how)
    told = here.outcome(here.app.submit(batch(values))["id"])
    assert told["counts"]["accepted"] == COUNT - 1
    assert list(rejected(told)) == [bad]
    assert rejected(told)[bad]["reason"] == "refused_by_defender"
    # In the service's own words, whichever they were.
    assert ("Request body is incorrect" if how == "batch" else f"Invalid input {bad}") in rejected(told)[bad]["text"]
    assert told["reasons"] == {"refused_by_defender": 1}
    held = here.held()
    assert bad not in held
    assert all(value in held for value in values if value != bad)
    # The next cycle of a feed brings the same again.
    here.admin.reset("metrics")
    again = here.outcome(here.app.submit(batch(values))["id"])
    assert again["counts"]["accepted"] == COUNT - 1
    assert list(rejected(again)) == [bad]
    calls = here.admin.imports()
    assert [call["status"] for call in calls] == [200]
    assert calls[0]["items"] == (COUNT if how == "item" else COUNT - 1)


def test_p3_refusals_of_every_kind_end(here: Lab) -> None:
    values = names("mixed", 40)
    for value, how in zip(values[::8], ("batch", "item", "named", "batch", "item"), strict=True):
        here.admin.poison(value, how)
    told = here.outcome(here.app.submit(batch(values))["id"])
    assert set(rejected(told)) == set(values[::8])
    assert told["counts"]["accepted"] == 35
    wait_for(lambda: at_rest(here), "nothing is left to be done")
    # One call whole, then halves down to eight, those one by one, and a control or two.
    assert here.admin.counters()["calls"]["import"] <= 40
    assert here.poisoned() == 0


@pytest.mark.parametrize("control", [True, False], ids=["with a control", "before anything was ever accepted"])
def test_a_service_that_refuses_everything_rejects_nothing(here: Lab, control: bool) -> None:
    known = here.outcome(here.app.submit(batch([f"good-{control}.example".lower()]))["id"])
    assert known["counts"]["accepted"] == 1
    row = wait_for(lambda: here.rows("suspects", pk="control"), "a control is remembered")[0]
    if not control:
        here.connection.tables.get_table_client("suspects").delete_entity(row.pk, row.rk)
    alarms = len(here.alarms("defender_refuses_all"))
    group = f"refused-{control}".lower()
    fault = here.admin.refuse_imports()
    name = here.app.submit(batch(names(group, 60)))["id"]
    texts = [message(f"m{number}.{group}.example") for number in range(3)]
    sent = [name, *here.put(texts).values()]

    def all_deferred() -> bool:
        counts = [one.fold.counts() for one in here.read(sent).values()]
        assert not any(one["rejected"] for one in counts)
        return len(counts) == 4 and all(one["deferred"] == one["submitted"] > 0 for one in counts)

    wait_for(all_deferred, "everything is deferred")
    wait_for(lambda: len(here.alarms("defender_refuses_all")) > alarms, "an alarm")
    if not control:
        # As it was: the worker writes it every ten minutes only.
        here.connection.tables.get_table_client("suspects").upsert_entity(
            {"PartitionKey": row.pk, "RowKey": row.rk, **row.data}
        )
    here.admin.clear_faults(fault)
    assert all(one.accepted for one in here.finish(sent).values())


def test_p1_a_429_with_retry_after_is_retried_and_not_too_soon(here: Lab) -> None:
    here.admin.fault("import", "status", status=429, headers={"Retry-After": "2"})
    text = message("once.throttled.example")
    assert here.finish(here.put([text]).values()).popitem()[1].accepted
    first, second = here.admin.imports()
    assert (first["status"], second["status"]) == (429, 200)
    # The service's wish, less what clocks may differ by.
    assert second["at"] - first["at"] > 1.4


def test_p2_after_a_429_and_a_503_not_one_item_of_the_calls_is_skipped(here: Lab) -> None:
    here.admin.fault("import", "status", status=429, headers={"Retry-After": "1"})
    here.admin.fault("import", "status", status=503)
    values = names("skipped", 1100)
    told = here.outcome(here.app.submit(batch(values))["id"])
    assert told["counts"]["accepted"] == 1100
    assert set(values) <= set(here.held())


def test_p20_a_long_retry_after_is_not_slept_off_inside_the_function(here: Lab) -> None:
    here.admin.fault("import", "status", status=429, headers={"Retry-After": "8"})
    text = message("long.throttled.example")
    name = here.put([text])[text]

    def given_back() -> bool:
        found = here.read([name]).get(name)
        idle = here.status(here.stack.queue_workers[0])["in_flight"] == 0
        return idle and here.depth() == 1 and found is not None and found.fold.counts()["deferred"] == 1

    wait_for(given_back, "the function has returned, and a pointer waits in the queue")
    assert here.finish([name])[name].accepted
