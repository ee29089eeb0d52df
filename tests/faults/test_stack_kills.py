"""Workers that are killed in the middle of an import call, again and again."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import pytest

from shared.ledger.parts import PARTITION
from shared.ledger.parts import TABLE as OPEN
from tests.support.stacklab import Lab, batch, message, wait_for

WORKERS = 3
ROUNDS = ("hold", "hold_answer", "hold", "hold_answer")  # killed before, and after, Defender did the work
FAST = {
    "RELAY_LIMIT_IMPORT": "600/63",
    "RELAY_LIMIT_SUSPECT": "300/63",
    "RELAY_DEFER_FIRST": "1",
    "RELAY_DEFER_MAX": "4",
    "RELAY_UNSENT_STEP": "1",
    "RELAY_UNSENT_MAX": "2",
    "AzureFunctionsJobHost__extensions__queues__maxPollingInterval": "00:00:00.2",
}


def in_call(lab: Lab) -> int:
    return sum(not call["ended"] for call in lab.admin.imports())


@pytest.mark.slow
def test_twelve_workers_killed_in_their_calls_lose_nothing_and_count_nothing_twice(lab: Callable[..., Lab]) -> None:
    # One call at a time in each worker, so that three calls held are three workers in their calls.
    here = lab(
        workers=WORKERS,
        settings={**FAST, "RELAY_CALLS_AT_ONCE": "1"},
        host={"lease": 4.0, "timers": {"Poison": 1.0, "Sweep": 1.0}},
    )
    here.admin.rules(limits={"import": [[600, 60]]})
    expected: dict[str, int] = {}
    values: set[str] = set()
    kills = 0
    for number, kind in enumerate(ROUNDS):
        here.admin.reset("metrics")
        fault = here.admin.fault("import", kind, times=WORKERS)
        mine = [f"h{n}.r{number}.killed.example" for n in range(40)]
        values.update(mine)
        round_ = {here.app.submit(batch(mine))["id"]: len(mine)}
        for more in itertools.count():
            # A few at a time, so that each worker gets some.
            mine = [f"m{n}.w{more}.r{number}.killed.example" for n in range(40 if more == 0 else 3)]
            values.update(mine)
            round_.update(dict.fromkeys(here.put([message(value) for value in mine]).values(), 1))
            if in_call(here) == WORKERS:
                break
            assert more < 200, here.admin.imports()
            time.sleep(0.2)
        expected.update(round_)
        for worker in range(WORKERS):
            here.stack.kill_worker(worker)
            kills += 1
        here.admin.clear_faults(fault)
        # Whatever is delivered again meets no second death: a message that meets three is put aside, alone.
        found = here.finish(round_)
        assert {name: one.fold.submitted for name, one in found.items()} == round_
        assert all(one.accepted for one in found.values())
    assert kills >= 10
    assert all(worker.starts == 1 + len(ROUNDS) for worker in here.stack.queue_workers)
    wait_for(lambda: here.depth() == 0 and not here.rows(OPEN, pk=PARTITION), "nothing is left to be done")
    assert {name: one.fold.counts()["accepted"] for name, one in here.ledger().items()} == expected
    held = here.held()
    assert set(held) == values
    assert all(len(rows) == 1 for rows in held.values())
    assert not here.app.dead_letters()
    assert here.poisoned() == 0
    assert not here.alarms("poison")
