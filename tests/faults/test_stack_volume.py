"""13,000 messages of one indicator each, with one worker and with three."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable

import pytest

from tests.support.stacklab import Lab, message

MESSAGES = 13_000


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("workers", [1, 3])
def test_13000_messages_are_accepted_within_the_budget_and_the_sum_is_true_all_the_while(
    lab: Callable[..., Lab], workers: int
) -> None:
    here = lab(workers=workers)
    texts = [message(f"n{number}.volume.example") for number in range(MESSAGES)]
    sent: dict[str, str] = {}
    putting = threading.Thread(target=lambda: sent.update(here.put(texts)))
    begun = time.monotonic()
    putting.start()
    # Looked at while they come in and go: one shard of the ledger at a time.
    day = time.strftime("%Y%m%d", time.gmtime())
    shards = itertools.cycle("0123456789abcdef")
    try:
        while putting.is_alive() or here.depth():
            here.ledger(day + next(shards))
            assert time.monotonic() - begun < 500, here.admin.counters()
            time.sleep(2.0)
    finally:
        putting.join()
    looks = here.books.looks
    found = here.ledger()
    print(f"{workers} workers: {time.monotonic() - begun:.1f} s, {looks} looks, {here.stack.usage()}")
    assert set(found) == set(sent.values())
    assert len(found) == MESSAGES
    assert all(one.accepted and one.fold.submitted == 1 for one in found.values())
    assert looks > 0  # how many depends on the machine's speed
    counters = here.admin.counters()
    print(counters)
    assert counters["throttled"] == 0
    assert counters["most_in_60s"]["import"] <= 30
    assert counters["indicators"] == MESSAGES
    assert not here.app.dead_letters()
    assert here.poisoned() == 0
