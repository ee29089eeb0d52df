"""13,000 messages of one indicator each with three workers, 3,000 with one; TEST_LONG=1 makes it 13,000 with both."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable

import pytest

from tests.support.stacklab import Lab, message

ALL = 13_000
WITH_ONE = ALL if os.environ.get("TEST_LONG") else 3_000


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("workers", "messages"), [(1, WITH_ONE), pytest.param(3, ALL, marks=pytest.mark.alone)])
def test_thousands_of_messages_are_accepted_within_the_budget_and_the_sum_is_true_all_the_while(
    lab: Callable[..., Lab], workers: int, messages: int
) -> None:
    here = lab(workers=workers)
    texts = [message(f"n{number}.volume.example") for number in range(messages)]
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
            assert time.monotonic() - begun < 800, here.admin.counters()
            time.sleep(2.0)
    finally:
        putting.join()
    looks = here.books.looks
    found = here.ledger()
    print(f"{workers} workers: {time.monotonic() - begun:.1f} s, {looks} looks, {here.stack.usage()}")
    assert set(found) == set(sent.values())
    assert len(found) == messages
    assert all(one.accepted and one.fold.submitted == 1 for one in found.values())
    assert looks > 0  # how many depends on the machine's speed
    counters = here.admin.counters()
    print(counters)
    assert counters["throttled"] == 0
    assert counters["most_in_60s"]["import"] <= 30
    assert counters["indicators"] == messages
    assert not here.app.dead_letters()
    assert here.poisoned() == 0
