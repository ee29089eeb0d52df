"""Defender is away for a day, in which an hour is a second, while messages go on arriving."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.ledger.parts import PARTITION
from shared.ledger.parts import TABLE as OPEN
from tests.faults.test_stack_kills import FAST
from tests.support import tally
from tests.support.stacklab import Lab, message, wait_for

HOURS = 24
A_SECOND = 20


@pytest.mark.slow
def test_a_day_without_defender_loses_nothing_and_costs_fewer_blobs_than_messages(
    lab: Callable[..., Lab], tmp_path: Path
) -> None:
    here = lab(
        settings={**FAST, "RELAY_DEFER_MAX": "1", tally.FOLDER: str(tmp_path)},
        host={"timers": {"Poison": 1.0}, "preload": (tally.__name__,)},
    )
    here.admin.rules(limits={"import": [[600, 60]]})
    names: list[str] = []
    ended = threading.Event()

    def arrive() -> None:
        for hour in itertools.count():
            texts = [message(f"n{number}.h{hour}.outage.example") for number in range(A_SECOND)]
            names.extend(here.put(texts, at_once=2).values())
            if ended.wait(1.0):
                return

    before = tally.read(tmp_path)
    here.admin.down("defender", "refuse")
    arriving = threading.Thread(target=arrive)
    arriving.start()
    try:
        # Three kinds of absence, eight hours each.
        time.sleep(HOURS / 3)
        here.admin.down("defender", "close")
        time.sleep(HOURS / 3)
        here.admin.up("defender")
        fault = here.admin.fault("import", "status", times=None, status=503)
        time.sleep(HOURS / 3)
        assert not any(one.fold.fates for one in here.ledger().values())
        cost = tally.read(tmp_path) - before
        here.admin.clear_faults(fault)
        wait_for(lambda: here.admin.counters()["indicators"] > 0, "Defender is back")
    finally:
        ended.set()
        arriving.join()
    found = here.finish(names)
    assert len(found) == len(names)
    assert all(one.accepted for one in found.values())
    wait_for(lambda: here.depth() == 0 and not here.rows(OPEN, pk=PARTITION), "nothing is left to be done")
    assert here.admin.counters()["indicators"] == len(names)
    assert here.poisoned() == 0
    assert not here.alarms("poison")
    assert not here.app.dead_letters()
    by_service = {kind: sum(n for name, n in cost.items() if name.startswith(kind)) for kind in ("queue", "blob")}
    print(f"{len(names)} messages, {HOURS} scaled hours without Defender: {by_service}; {dict(sorted(cost.items()))}")
    assert 0 < cost["blob PUT"] < len(names)
    # A naive retry would receive every message each hour.
    assert by_service["queue"] < len(names) * HOURS
