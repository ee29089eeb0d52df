"""`decide` and the group commit's rule of calling: properties, and a simulation over rates and workers."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.publishing.decide import GATHER, PATIENCE, Rule, decide
from tests.support import virtual
from tests.support.rig import Host, Rig

RULE = Rule()
NOW = 1000.0


@given(
    ready=st.integers(1, 2000),
    oldest=st.floats(0, 100),
    permits=st.lists(st.floats(900, 1000), max_size=31).map(sorted),
    hold=st.floats(0, 2000),
)
def test_what_it_never_does(ready: int, oldest: float, permits: list[float], hold: float) -> None:
    again = decide(NOW, ready, oldest, permits, hold, RULE)
    full_window = len(permits) >= 30 and permits[-30] + 63 > NOW
    if hold > NOW or full_window:
        assert again is not None, "called although it must not"
    elif ready >= 500 or oldest >= PATIENCE:
        assert again is None, "somebody starves beside a free permit"
    if again is not None:
        assert again > NOW, "asks again at once: a busy loop"
        assert again <= max(hold, NOW + PATIENCE, (permits[-30] + 63) if full_window else 0) + 1e-6


@pytest.mark.parametrize(
    ("ready", "oldest", "permits", "expected"),
    [
        (1, 0.0, [], NOW + GATHER),  # wait for what arrives with it
        (1, 0.02, [], None),  # a lone indicator does not wait longer
        (1, 0.02, [950.0, 960.0], None),
        (1, 0.02, [950.0, 960.0, 999.0], 999.0 + 3.15),  # a trickle keeps the pace
        (31, 1.0, [950.0, 960.0, 990.0], None),
        (499, 0.5, [950.0, 960.0, 999.0], 999.0 + 3.15),
        (500, 0.0, [950.0, 960.0, 999.9], None),  # a full call goes at once
        (1, 10.0, [999.9] * 29, None),  # patience ends
        (500, 60.0, [990.0] * 30, 1053.0),  # but never over the budget
    ],
)
def test_each_rule(ready: int, oldest: float, permits: list[float], expected: float | None) -> None:
    again = decide(NOW, ready, oldest, permits, 0.0, RULE)
    assert again == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("workers", "rate", "messages", "most_calls", "p50", "p95"),
    [
        (1, 600.0, 6_000, 16, 2.0, 3.5),
        # What is left in the end is a call for each worker that is not full, and these keep the pace: 3 x 3.15 s.
        (3, 600.0, 6_000, 22, 6.0, 9.5),
        (1, 10.0, 1_200, 46, 2.2, 3.6),
        (1, 10.0, 1, 1, 0.5, 0.5),
    ],
)
def test_simulation(workers: int, rate: float, messages: int, most_calls: int, p50: float, p95: float) -> None:
    """The real group commit on virtual time: calls made, and how long indicators wait from insertion to answer."""

    async def main() -> tuple[int, list[float]]:
        rig = Rig()
        rnd = random.Random(1)
        loop = asyncio.get_running_loop()
        end = messages / rate + 60
        hosts = [Host(rig, rig.worker(table_seconds=0.005, skew=rnd.uniform(-0.5, 0.5))) for _ in range(workers)]

        async def send() -> None:
            for n in range(messages):
                rig.put({"indicatorValue": f"h{n}.evil-domain.com", "action": "Block"})
                if n % 20 == 19 or rate < 20:
                    await asyncio.sleep((20 if rate >= 20 else 1) / rate)

        sending = loop.create_task(send())
        serving = [loop.create_task(host.serve(end)) for host in hosts]
        await sending
        await asyncio.gather(*serving)
        assert len(rig.tenant.held) == messages
        assert rig.tenant.throttled == 0
        return len(rig.tenant.calls), sorted(rig.tell.values["time_to_publish"])

    calls, waits = virtual.run(main())
    assert calls <= most_calls
    # InsertionTime has whole seconds, so a wait may seem up to a second longer than it was.
    assert waits[len(waits) // 2] <= p50 + 1.0
    assert waits[int(len(waits) * 0.95)] <= p95 + 1.0
