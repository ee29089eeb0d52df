"""More than there is room for, and the same for a long time. By option only: TEST_LONG=1, or TEST_LONG=short.

TEST_LONG=1 scripts/test tests/faults/test_stack_overload.py -s        # 50,000 messages; an hour at the trickle
TEST_LONG=short scripts/test tests/faults/test_stack_overload.py -s    # 3,000 messages; two minutes
"""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.ledger.parts import PARTITION
from shared.ledger.parts import TABLE as OPEN
from tests.support.stacklab import Lab, batch, message, wait_for
from tests.support.summary import LINES

LONG = os.environ.get("TEST_LONG", "")
SHORT = LONG == "short"
MESSAGES = 3_000 if SHORT else 50_000
CALLERS = 200
EACH = 5  # indicators of a caller
SECONDS = 120 if SHORT else 3_600
FRONT_END = 230.0  # seconds after which the platform's front end gives an HTTP request up (documented)
WORKER_MAX = 400 * 2**20  # bytes of a worker, as design.md has it for 64 KiB messages
GROWTH_MAX = 24 * 2**20  # bytes that a worker may have more at the end of a soak than after its first fifth

pytestmark = [
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.timeout(0),
    pytest.mark.skipif(not LONG, reason="takes long: TEST_LONG=1, or TEST_LONG=short"),
]


def ask(lab: Lab, number: int) -> tuple[str, float]:
    """A caller who does as the answers say; its submission, and the longest that one answer took."""
    url = f"{lab.stack.url}/api/submissions"
    headers = {
        "x-functions-key": lab.stack.keys["host"],
        "content-type": "application/json",
        "idempotency-key": f"caller-{number}",
    }
    body = batch(f"n{n}.caller{number}.overload.example" for n in range(EACH))
    longest = 0.0
    while True:
        began = time.monotonic()
        request = urllib.request.Request(url, body, headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=FRONT_END) as answer:
                told = json.loads(answer.read())
                return str(told["id"]), max(longest, time.monotonic() - began)
        except urllib.error.HTTPError as error:
            error.read()
            assert error.code in (409, 429, 503), error.code
            longest = max(longest, time.monotonic() - began)
            time.sleep(float(error.headers.get("Retry-After") or 1))


def at_rest(lab: Lab) -> bool:
    return lab.depth() == 0 and not lab.rows(OPEN, pk=PARTITION)


class Watch:
    """The largest that each process was, looked at now and then."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.largest: dict[str, int] = {}

    def _look(self) -> None:
        while not self._ended.wait(1.0):
            for name, usage in self._lab.stack.usage().items():
                self.largest[name] = max(self.largest.get(name, 0), usage.rss)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._ended.set()
        self._thread.join()


def test_overload_drains_at_the_budgets_pace_and_nobody_waits_too_long(lab: Callable[..., Lab]) -> None:
    here = lab(workers=2)
    here.admin.rules(capacity=MESSAGES + 2 * CALLERS * EACH)  # more than a tenant has room for is not what is tested
    texts = [message(f"n{number}.overload.example") for number in range(MESSAGES)]
    sent: dict[str, str] = {}
    putting = threading.Thread(target=lambda: sent.update(here.put(texts)))
    began = time.monotonic()
    with Watch(here) as watch, ThreadPoolExecutor(CALLERS) as callers:
        putting.start()
        answers = list(callers.map(lambda number: ask(here, number), range(CALLERS)))
        putting.join()
        # Parts of a request that broke off and was sent again lie open until the sweep drops them.
        wait_for(lambda: here.depth() == 0, "the queue has drained", timeout=3_600.0, every=2.0)
    seconds = time.monotonic() - began
    assert len({name for name, _ in answers}) == CALLERS
    longest = max(took for _, took in answers)
    assert longest < FRONT_END
    known = here.ledger()
    wanted = {*sent.values(), *(name for name, _ in answers)}
    assert set(known) == wanted
    assert all(one.accepted for one in known.values())
    counters = here.admin.counters()
    assert counters["indicators"] == MESSAGES + CALLERS * EACH
    assert counters["throttled"] == 0
    assert counters["most_in_60s"]["import"] <= 30
    assert here.poisoned() == 0
    assert not here.app.dead_letters()
    workers = {name: size for name, size in watch.largest.items() if name.startswith(("publish", "http", "timers"))}
    assert max(workers.values()) <= WORKER_MAX, workers
    calls = counters["calls"]["import"]
    sizes = ", ".join(f"{name} {size / 2**20:.0f} MiB" for name, size in sorted(workers.items()))
    LINES.append(
        f"overload: {MESSAGES} messages and {CALLERS} callers in {seconds:.0f} s, {calls} calls, "
        f"longest answer {longest:.1f} s; {sizes}"
    )


def test_soak_at_the_trickle_grows_nothing(lab: Callable[..., Lab]) -> None:
    here = lab(workers=1)
    names: list[str] = []
    ended = threading.Event()

    def trickle() -> None:
        number = 0
        while not ended.wait(0.5):
            names.extend(here.put([message(f"n{number}.soak.example")], at_once=1).values())
            number += 1

    def sizes() -> dict[str, int]:
        return {name: usage.rss for name, usage in here.stack.usage().items() if name.startswith(("publish", "timers"))}

    flowing = threading.Thread(target=trickle)
    flowing.start()
    try:
        time.sleep(SECONDS / 5)
        before = sizes()
        time.sleep(SECONDS * 4 / 5)
        after = sizes()
    finally:
        ended.set()
        flowing.join()
    wait_for(lambda: at_rest(here), "nothing is left to be done", timeout=300.0)
    known = here.ledger()
    assert set(known) == set(names)
    assert all(one.accepted for one in known.values())
    counters = here.admin.counters()
    assert counters["throttled"] == 0
    assert counters["indicators"] == len(names)
    assert not [worker for worker in here.stack.queue_workers if worker.starts != 1]
    grown = {name: after[name] - before[name] for name in before}
    shown = ", ".join(f"{name} {before[name] / 2**20:.1f} to {after[name] / 2**20:.1f} MiB" for name in sorted(before))
    LINES.append(f"soak: {SECONDS} s, {len(names)} messages; {shown}")
    assert max(grown.values()) <= GROWTH_MAX, shown
