"""The stop button in virtual time: no call after the permit under way, nothing lost, and on again without delay."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import NotSentError, OrderError, PausedError
from shared.publishing.budget import AHEAD, GRACE, HOLD_KEY, PAUSE_KEY, TABLE, Budget
from shared.publishing.pause import read_reason, read_until
from shared.publishing.retire import win
from shared.settings import Limit, Settings
from tests.support import virtual
from tests.support.items import message
from tests.support.memory import MemoryTables
from tests.support.pausing import STATES, a_worker, check_sum, starts
from tests.support.rig import Host, Rig


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_paused_in_the_middle_of_thirteen_thousand_and_resumed(workers: int) -> None:
    async def main() -> None:
        rig = Rig()
        loop = asyncio.get_running_loop()
        names = [rig.put(message(n)) for n in range(13_000)]
        skews = (0.0, 0.5, -0.5)[:workers]
        hosts = [Host(rig, rig.worker(skew=skew, table_seconds=0.01)) for skew in skews]
        serving = [asyncio.ensure_future(host.serve(4_000.0)) for host in hosts]
        operator = rig.worker()

        async def look() -> dict[str, int]:
            told = dict.fromkeys(("submitted", *STATES), 0)
            for name in names[::401]:
                known = await operator.submissions.read(name)
                counts = known.fold.counts() if known else {**told, "submitted": 0}
                check_sum(counts)
            return told

        while len(rig.tenant.calls) < 8:
            await asyncio.sleep(0.05)
            if len(rig.tenant.calls) % 3 == 0:
                await look()
        await operator.pauses.pause("the tenant is migrated", None, "key")
        under_way = loop.time() + GRACE + AHEAD + 0.5  # clocks differ by half a second
        for _ in range(12):
            await asyncio.sleep(100.0)
            await look()
        assert not [start for start in starts(rig) if start > under_way], "a call was begun while paused"
        published = len(rig.tenant.held)
        assert published < 13_000
        parts = await operator.parts.all_open()
        assert sum(part.items for part in parts) == 13_000 - published
        assert len(parts) <= 2 * (13_000 // 500 + 1) * workers, "gathered into few parts"
        assert not any(part.failed for part in parts)
        assert all(not host.in_flight for host in hosts), "no message is held in a worker"
        resumed = loop.time()
        ended, pointed = await operator.pauses.resume("done", "key")
        assert ended is not None and ended.reason == "the tenant is migrated"
        assert 0 < pointed <= len(parts)
        while len(rig.tenant.held) < 13_000:
            assert loop.time() < resumed + 200.0, f"{len(rig.tenant.held)} published, {rig.tell.alarms}"
            await asyncio.sleep(3.0)
            await look()
        for one in serving:
            one.cancel()
        await asyncio.gather(*(host.drain(2_000.0) for host in hosts))
        assert sum(items for _, items in rig.tenant.calls) == 13_000, "something was sent twice"
        assert rig.tenant.throttled == 0
        assert not await operator.parts.all_open()
        for name in names[::13]:
            assert (await rig.read(name)).fold.counts()["accepted"] == 1
        assert {kind for kind, _ in rig.tell.alarms} == {"paused"}

    virtual.run(main())


@settings(max_examples=60, deadline=None)
@given(
    skews=st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=4),
    at=st.floats(0.0, 70.0),
    seed=st.integers(0, 2**32),
    route=st.sampled_from(["import", "delete"]),
)
def test_no_permit_is_won_once_the_pause_is_made(skews: list[float], at: float, seed: int, route: str) -> None:
    """Whatever the workers had read before, and however long they thought about it."""

    async def main() -> None:
        rnd = random.Random(seed)
        rig = Rig(Settings(limit_import=(Limit(30, 20.0),), limit_delete=(Limit(30, 20.0),)))
        won: list[float] = []
        loop = asyncio.get_running_loop()

        async def slow(_when: str, _what: str) -> None:
            await asyncio.sleep(rnd.choice((0.0, 0.005, 0.05, 0.6)))

        async def worker(skew: float) -> None:
            publishing = rig.worker(gate=slow, skew=skew)
            budget = {"import": publishing.imports, "delete": publishing.deletes}[route]
            while loop.time() < 200.0:
                view = await budget.look()
                await asyncio.sleep(rnd.choice((0.0, 0.0, 0.3, 5.0)))  # choosing and staging
                if await budget.take(view) is not None:
                    won.append(loop.time())
                await asyncio.sleep(rnd.uniform(0.0, 1.0))

        async def operator() -> tuple[float, float]:
            publishing = rig.worker(gate=slow)
            await asyncio.sleep(at)
            await publishing.pauses.pause("stop", None, "key")
            paused = loop.time()
            await asyncio.sleep(60.0)
            resuming = loop.time()
            await publishing.pauses.resume("go", "key")
            return paused, resuming

        (paused, resuming), *_ = await asyncio.gather(operator(), *map(worker, skews))
        # A worker knows of its permit up to one answer later than it won it.
        assert not [time for time in won if paused + 0.6 < time < resuming]
        assert [time for time in won if time > resuming]

    virtual.run(main())


def test_a_pause_and_the_hold_of_a_429_know_nothing_of_each_other() -> None:
    async def main() -> None:
        _, worker, pauses = a_worker()
        now = worker.stores.clock.now()
        await pauses.pause("stop", now + 100, "key")
        await worker.imports.hold(now + 10, "Defender answered 429")
        view = await worker.imports.look()
        assert (view.hold_until, view.paused_until, view.opens_at) == (now + 10, now + 100, now + 100)
        await worker.imports.hold(now + 500, "Defender answered 429")
        await pauses.resume("go", "key")
        view = await worker.imports.look()
        assert (view.hold_until, view.paused_until, view.opens_at) == (now + 500, 0.0, now + 500)
        assert (await worker.deletes.look()).opens_at <= now + 1

    virtual.run(main())


def test_routes_that_delete_are_paused_too_and_lists_are_not() -> None:
    async def main() -> None:
        _, worker, pauses = a_worker()
        clock = worker.stores.clock
        await pauses.pause("stop", None, "key")
        for budget in (worker.imports, worker.deletes, worker.batch_deletes):
            with pytest.raises(PausedError, match="paused"):
                await win(budget, clock, 50.0)
        assert await win(worker.lists, clock, 1.0) > 0
        await pauses.resume("go", "key")
        for budget in (worker.imports, worker.deletes, worker.batch_deletes):
            assert await win(budget, clock, 1.0) > 0
        with pytest.raises(NotSentError):
            await worker.imports.hold(clock.now() + 100, "429")
            await win(worker.imports, clock, 50.0)

    virtual.run(main())


def test_nobody_shortens_anothers_pause_and_everything_is_on_record() -> None:
    async def main() -> None:
        rig, worker, pauses = a_worker()
        now = worker.stores.clock.now()
        first, changed = await pauses.pause("migration", now + 3600, "person:1", "Ann")
        assert changed and (first.by, first.by_name, first.until) == ("person:1", "Ann", now + 3600)
        stands, changed = await pauses.pause("deploying", now + 600, "app:2")
        assert not changed and stands == first
        await asyncio.sleep(1.0)
        longer, changed = await pauses.pause("for good", None, "app:2")
        assert changed and (longer.since, longer.until, longer.reason) == (first.since, None, "for good")
        stands, changed = await pauses.pause("again", None, "person:1")
        assert not changed and stands == longer
        await asyncio.sleep(1.0)
        ended, _ = await pauses.resume("it is over", "person:3", "Bob")
        assert ended == longer and await pauses.standing() is None
        assert await pauses.resume("is it?", "person:3") == (None, 0)
        log = await pauses.log()
        assert [(entry.what, entry.by, entry.reason) for entry in log] == [
            ("resume", "person:3", "it is over"),
            ("pause", "app:2", "for good"),
            ("pause", "person:1", "migration"),
        ]
        assert [kind for kind, _ in rig.tell.alarms] == ["paused", "paused"]
        assert await pauses.forget_before(now - 1) == 0
        assert await pauses.forget_before(worker.stores.clock.now() + 1) == 3

    virtual.run(main())


def test_a_repeated_pause_takes_no_further_permits() -> None:
    async def main() -> None:
        _, worker, pauses = a_worker()
        for _ in range(5):
            await pauses.pause("stop", None, "key")
        assert (await worker.imports.look()).number == 1

    virtual.run(main())


def test_a_reason_must_be_given_and_an_end_must_be_in_the_future() -> None:
    assert read_reason("  the tenant moves ") == "the tenant moves"
    for wrong in (None, "", "   ", 5, "x" * 401, "a\nb"):
        with pytest.raises(OrderError):
            read_reason(wrong)
    given = Settings()
    assert read_until(None, given, 1000.0) is None
    assert read_until("PT30M", given, 1000.0) == 2800.0
    assert read_until("1970-01-01T01:00:00Z", given, 1000.0) == 3600.0
    for wrong in ("yesterday", 5, "1970-01-01T00:00:01Z", "P9000D"):
        with pytest.raises(OrderError):
            read_until(wrong, given, 1000.0)


def test_a_pause_that_would_end_before_it_begins_is_refused() -> None:
    async def main() -> None:
        rig, worker, pauses = a_worker()
        with pytest.raises(OrderError, match="future"):
            await pauses.pause("stop", worker.stores.clock.now() - 1.0, "key")
        assert not rig.service.all_rows(TABLE)

    virtual.run(main())


def test_the_hold_row_sorts_before_the_pause_and_both_before_the_permits() -> None:
    async def main() -> None:
        rig, worker, pauses = a_worker()
        budget = Budget(
            MemoryTables(rig.service), worker.stores.clock, "import", (Limit(2, 1.0),), paused_with="import"
        )
        await worker.imports.hold(1.0, "429")
        for _ in range(5):
            await budget.fence()
        await pauses.pause("stop", None, "key")
        keys = list(rig.service.rows(TABLE, "import"))
        assert keys[:2] == [HOLD_KEY, PAUSE_KEY] and len(keys) == 8
        view = await budget.look()
        assert view.number == 6 and view.paused_until == float("inf")

    virtual.run(main())
