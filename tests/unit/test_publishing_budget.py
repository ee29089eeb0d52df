"""The call budget, proved in virtual time: any number of workers, clocks a second apart, late calls, deaths."""

from __future__ import annotations

import asyncio
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.publishing.budget import GRACE, TABLE, Budget, View
from shared.settings import Limit
from shared.storage.clock import ServiceClock
from shared.storage.protocols import Row
from tests.support import virtual
from tests.support.memory import MemoryTables, Service

LIMITS = (Limit(30, 63.0),)
SERVICE_WINDOW = 60.0


async def a_worker(
    budget: Budget, clock: virtual.VirtualClock, arrivals: list[float], rnd: random.Random, death: float
) -> None:
    """Calls as often as the budget lets it. `arrivals`: when calls reach the service, by the service's clock."""
    loop = asyncio.get_running_loop()
    while loop.time() < 400.0:
        view = await budget.look()
        now = clock.now()
        if view.opens_at - now > 0.5:
            await asyncio.sleep(view.opens_at - now + rnd.uniform(-0.3, 0.3))
            continue
        permit = await budget.take(view)
        if permit is None:
            continue
        if loop.time() > death:
            return  # with its permit
        await asyncio.sleep(max(0.0, permit.starts_at - clock.now()) + rnd.choice((0.0, 0.0, 0.4, 0.99, 1.5)))
        if permit.too_late(clock.now()):
            continue
        arrivals.append(virtual.service_now())


@settings(max_examples=40, deadline=None)
@given(
    skews=st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=6),
    deaths=st.lists(st.sampled_from([50.0, 120.0, 1e9]), min_size=6, max_size=6),
    seed=st.integers(0, 2**32),
)
def test_never_more_than_the_limit_in_any_window(skews: list[float], deaths: list[float], seed: int) -> None:
    async def main() -> list[float]:
        rnd = random.Random(seed)
        service = Service(virtual.service_now)
        arrivals: list[float] = []

        async def slow(when: str, _what: str) -> None:
            await asyncio.sleep(rnd.choice((0.0, 0.005, 0.05, 0.6 if when == "after" else 0.0)))

        async def worker(skew: float, death: float) -> None:
            clock = virtual.VirtualClock(skew)
            budget = Budget(MemoryTables(service, slow), clock, "import", LIMITS)
            await a_worker(budget, clock, arrivals, rnd, death)

        await asyncio.gather(*(worker(skew, death) for skew, death in zip(skews, deaths, strict=False)))
        return sorted(arrivals)

    arrivals = virtual.run(main())
    for first, last in zip(arrivals, arrivals[30:], strict=False):
        assert last - first > SERVICE_WINDOW, f"31 calls within {last - first:.3f} s"


@settings(max_examples=15, deadline=None)
@given(workers=st.integers(1, 5), seed=st.integers(0, 2**32))
def test_no_permit_stays_idle_while_somebody_waits(workers: int, seed: int) -> None:
    """With prompt workers that always want to call, every window of permits is used up as soon as it opens."""

    async def main() -> list[float]:
        rnd = random.Random(seed)
        service = Service(virtual.service_now)
        starts: list[float] = []

        async def worker() -> None:
            clock = virtual.VirtualClock()
            budget = Budget(MemoryTables(service), clock, "import", LIMITS)
            loop = asyncio.get_running_loop()
            while loop.time() < 300.0:
                view = await budget.look()
                if view.opens_at - clock.now() > 0.5:
                    await asyncio.sleep(view.opens_at - clock.now() + rnd.uniform(0, 0.2))
                    continue
                permit = await budget.take(view)
                if permit is not None:
                    await asyncio.sleep(max(0.0, permit.starts_at - clock.now()))
                    starts.append(loop.time())
                await asyncio.sleep(0.001)

        await asyncio.gather(*(worker() for _ in range(workers)))
        return sorted(starts)

    starts = virtual.run(main())
    for earlier, later in zip(starts, starts[30:], strict=False):
        assert later - earlier < 63.0 + 0.5, "a permit that was free was not taken"
    assert len(starts) >= 30 * (300 // 64)


def test_an_insert_whose_answer_was_lost_is_told_from_a_conflict_by_its_nonce() -> None:
    class Forgetful(MemoryTables):
        async def insert(self, table: str, row: Row) -> str | None:
            await super().insert(table, row)
            return None  # the SDK tried again, and was told that the row exists

    async def main() -> None:
        service = Service(virtual.service_now)
        clock = virtual.VirtualClock()
        ours = Budget(Forgetful(service), clock, "import", LIMITS)
        permit = await ours.take(await ours.look())
        assert permit is not None and permit.number == 1
        theirs = Budget(MemoryTables(service), clock, "import", LIMITS)
        assert await theirs.take(View((), 0, 0.0, "", 0.0)) is None, "row 1 was won twice"

    virtual.run(main())


def test_a_hold_stops_everybody_until_it_ends_and_is_never_shortened() -> None:
    async def main() -> None:
        service = Service(virtual.service_now)
        clock = virtual.VirtualClock()
        budget = Budget(MemoryTables(service), clock, "import", LIMITS)
        now = clock.now()
        await budget.hold(now + 100, "429")
        await budget.hold(now + 10, "a smaller one")
        view = await budget.look()
        assert view.opens_at == now + 100 and view.hold_reason == "429"
        assert await budget.take(view) is None
        await asyncio.sleep(100)
        assert await budget.take(await budget.look()) is not None

    virtual.run(main())


def test_an_hourly_limit_beside_the_short_one() -> None:
    async def main() -> None:
        service = Service(virtual.service_now)
        clock = virtual.VirtualClock()
        budget = Budget(MemoryTables(service), clock, "list", (Limit(5, 10.0), Limit(12, 1000.0)))
        loop = asyncio.get_running_loop()
        starts = []
        while len(starts) < 14:
            view = await budget.look()
            await asyncio.sleep(max(0.0, view.opens_at - clock.now()))
            permit = await budget.take(view)
            assert permit is not None
            starts.append(loop.time())
        assert starts[12] - starts[0] >= 1000.0 and starts[5] - starts[0] >= 10.0
        assert starts[11] < 30.0

    virtual.run(main())


def test_a_machine_whose_clock_is_broken_neither_stops_the_others_nor_lets_them_loose() -> None:
    async def main() -> None:
        service = Service(virtual.service_now)
        wrong = Budget(MemoryTables(service), virtual.VirtualClock(86_400.0), "import", LIMITS)
        assert await wrong.take(await wrong.look()) is not None
        right = Budget(MemoryTables(service), virtual.VirtualClock(), "import", LIMITS)
        view = await right.look()
        assert view.opens_at - virtual.service_now() < 2.0

    virtual.run(main())


def test_old_permits_are_forgotten_but_not_those_a_limit_looks_back_to() -> None:
    async def main() -> None:
        service = Service(virtual.service_now)
        clock = virtual.VirtualClock()
        budget = Budget(MemoryTables(service), clock, "import", (Limit(3, 1.0),))
        for _ in range(10):
            view = await budget.look()
            await asyncio.sleep(max(0.0, view.opens_at - clock.now()))
            assert await budget.take(view) is not None
        assert await budget.forget_before(clock.now() + 1000) == 6
        assert (await budget.look()).number == 10
        assert len(service.all_rows(TABLE)) == 4

    virtual.run(main())


@given(
    offset=st.floats(-1e6, 1e6),
    delays=st.lists(st.tuples(st.floats(0, 0.3), st.floats(0, 0.3), st.floats(0, 5)), min_size=20, max_size=60),
)
def test_the_service_clock_is_told_to_half_a_second_from_whole_second_dates(
    offset: float, delays: list[tuple[float, float, float]]
) -> None:
    moment = 1000.0
    clock = ServiceClock(lambda: moment, lambda: moment)
    for there, back, pause in delays:
        asked = moment
        date = float(int(asked + there + offset + 1e7)) - 1e7  # floor, below zero as well
        moment += there + back
        clock.observe(date, asked, moment)
        assert abs(clock.now() - (moment + offset)) <= 0.5 + (there + back) + 1e-6
        moment += pause


def test_grace_and_window_leave_room_for_the_clocks() -> None:
    """The arithmetic behind the module's claim: window - grace - twice the clocks' error > the service's window."""
    assert LIMITS[0].seconds - GRACE - 2 * 0.5 > SERVICE_WINDOW
