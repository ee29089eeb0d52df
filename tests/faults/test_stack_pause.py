"""Somebody stops everything in the middle of thousands of messages, looks around, and lets it go on.

2,000 with one worker and 3,000 with three; TEST_LONG=1 makes it 13,000, which takes some minutes for each.
"""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from shared.ledger.parts import PARTITION
from shared.ledger.parts import TABLE as OPEN
from shared.publishing.budget import AHEAD, GRACE
from tests.support.stacklab import Lab, message, request, wait_for

LONG = os.environ.get("TEST_LONG")
# A permit won just before starts so much later at most; the clocks of worker and service differ by half a second.
UNDER_WAY = GRACE + AHEAD + 0.5


def order(here: Lab, path: str, reason: str) -> dict[str, Any]:
    body = json.dumps({"reason": reason}).encode()
    return request(here.stack.url, "POST", f"/api/{path}", here.stack.keys["master"], body)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(
    ("workers", "messages"),
    [(1, 13_000 if LONG else 2_000), pytest.param(3, 13_000 if LONG else 3_000, marks=pytest.mark.alone)],
)
def test_paused_in_the_middle_of_thousands_and_resumed(lab: Callable[..., Lab], workers: int, messages: int) -> None:
    here = lab(workers=workers)
    texts = [message(f"n{number}.pause.example") for number in range(messages)]
    sent: dict[str, str] = {}
    putting = threading.Thread(target=lambda: sent.update(here.put(texts)))
    putting.start()
    day = time.strftime("%Y%m%d", time.gmtime())
    shards = itertools.cycle("0123456789abcdef")
    try:
        wait_for(
            lambda: len(here.admin.imports()) >= min(6, max(2, messages // 1_500)), "it is in the middle", every=0.05
        )
        told = order(here, "pause", "a stop in the middle")
        paused_at = time.time()
        assert told["changed"], told

        def gathered() -> bool:
            """Nothing but pointers is left, and no worker holds a message."""
            here.ledger(day + next(shards))
            if putting.is_alive() or any(
                here.status(worker)["in_flight"] for worker in here.stack.workers.queue_workers()
            ):
                return False
            return here.depth() == len(here.rows(OPEN, pk=PARTITION))

        wait_for(gathered, "everything else is put off", 600.0, every=1.0)
    finally:
        putting.join()
    late = [call["at"] - paused_at for call in here.admin.imports() if call["at"] > paused_at + UNDER_WAY]
    assert not late, f"calls were begun {late} s after the pause"
    published = here.admin.counters()["indicators"]
    operations = here.ask("GET", "/api/operations")
    assert operations["paused"]["reason"] == "a stop in the middle" and operations["problems"] == []
    assert operations["openParts"]["items"] == messages - published > 0
    assert len(operations["workers"]) == workers
    parts = operations["openParts"]["parts"]
    assert parts < messages // 20, "messages are gathered, not made into a part each"
    found = here.ledger()
    assert sum(one.accepted for one in found.values()) == published
    assert not here.app.dead_letters() and here.poisoned() == 0
    calls = len(here.admin.imports())
    told = order(here, "resume", "go on")
    assert told["changed"] and 0 < told["parts"] <= parts, told
    resumed_at = time.time()
    wait_for(lambda: here.admin.counters()["indicators"] == messages, "everything is published", 600.0, every=0.5)
    print(
        f"{workers} workers: {published} published before, {parts} parts, {told['parts']} hastened, "
        f"the rest in {time.time() - resumed_at:.1f} s and {len(here.admin.imports()) - calls} calls"
    )
    found = here.finish(sent.values(), 300.0)
    assert len(found) == messages and all(one.accepted and one.fold.submitted == 1 for one in found.values())
    assert sum(call["items"] for call in here.admin.imports()) == messages, "something was published twice"
    counters = here.admin.counters()
    assert counters["throttled"] == 0 and counters["most_in_60s"]["import"] <= 30
    wait_for(lambda: not here.rows(OPEN, pk=PARTITION), "no part is left")
    assert not here.app.dead_letters() and here.poisoned() == 0
    assert {alarm["kind"] for alarm in here.events("alarm")} == {"paused"}
