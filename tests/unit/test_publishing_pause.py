"""The stop button in virtual time: no call after the permit under way, nothing lost, and on again without delay."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import NotSentError, OrderError, PausedError, StorageError, UnavailableError
from shared.publishing.budget import AHEAD, GRACE, HOLD_KEY, PAUSE_KEY, TABLE, Budget
from shared.publishing.pause import LOG, Pauses, read_reason, read_until
from shared.publishing.retire import win
from shared.relay import Publishing
from shared.settings import Limit, Settings
from tests.support import virtual
from tests.support.memory import Killed, MemoryTables
from tests.support.rig import Host, Rig

STATES = ("accepted", "unchanged", "superseded", "rejected", "held", "deferred", "pending")


def message(n: int, **fields: Any) -> dict[str, Any]:
    return {"indicatorValue": f"h{n}.evil-domain.com", "action": "Block", **fields}


def check_sum(counts: dict[str, int]) -> None:
    assert counts["submitted"] == sum(counts[state] for state in STATES), counts
    assert min(counts.values()) >= 0, counts


def starts(rig: Rig) -> list[float]:
    return [start for start, _ in rig.tenant.calls]


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


async def _rig(**options: Any) -> tuple[Rig, Publishing, Pauses]:
    rig = Rig(**options)
    worker = rig.worker()
    return rig, worker, worker.pauses


def test_a_pause_and_the_hold_of_a_429_know_nothing_of_each_other() -> None:
    async def main() -> None:
        _, worker, pauses = await _rig()
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
        _, worker, pauses = await _rig()
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
        rig, worker, pauses = await _rig()
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
        _, worker, pauses = await _rig()
        for _ in range(5):
            await pauses.pause("stop", None, "key")
        assert (await worker.imports.look()).number == 1

    virtual.run(main())


def test_a_pause_ends_by_itself_and_the_timer_points_to_what_waits() -> None:
    async def main() -> None:
        rig, worker, pauses = await _rig()
        until = worker.stores.clock.now() + 1000.0
        await pauses.pause("stop", until, "key")
        host = Host(rig, worker)
        names = [rig.put(message(n)) for n in range(30)]
        await host.serve(995.0)
        assert not rig.tenant.calls
        assert await pauses.tend() is not None, "it stands still"
        await asyncio.sleep(10.0)
        assert await pauses.standing() is None, "its time is up, whatever the timer does"
        before = asyncio.get_running_loop().time()
        assert await pauses.tend() is None
        await host.serve(before + 20.0)
        assert starts(rig)[0] - before < 15.0
        assert all([(await rig.read(name)).fold.counts()["accepted"] for name in names])
        await host.drain(700.0)  # the pointer made under the pause comes in its time, and finds its part closed
        assert len(rig.tenant.calls) == 1
        assert [entry.what for entry in await pauses.log()] == ["end", "pause"]
        assert await pauses.tend() is None

    virtual.run(main())


def test_messages_under_a_pause_are_put_off_without_a_failure_however_long_it_lasts() -> None:
    """What merely waits for a person is not exhausted, and a part is not read again and again."""

    async def main() -> None:
        rig, worker, pauses = await _rig(settings=Settings(exhausted_after=3600.0))
        reads = 0

        async def gate(when: str, what: str) -> None:
            nonlocal reads
            reads += when == "before" and what == "read parts"

        host = Host(rig, rig.worker(gate=gate))
        await pauses.pause("stop", None, "key")
        name = rig.put({"indicators": [message(n) for n in range(40)]})
        await host.serve(3 * 86_400.0, poll=20.0)
        assert (await rig.read(name)).fold.counts()["deferred"] == 40
        part = (await worker.parts.load((await worker.parts.all_open())[0].id)) or pytest.fail("gone")
        assert {item.attempts for item in part.items} == {0}
        assert reads <= 3
        await pauses.resume("go", "key")
        await host.serve(asyncio.get_running_loop().time() + 60.0)
        assert (await rig.read(name)).fold.counts()["accepted"] == 40
        await host.drain(700.0)
        assert not rig.service.all_rows("deadletters")

    virtual.run(main())


def test_a_retraction_under_a_pause_is_put_off_without_a_failure() -> None:
    async def main() -> None:
        rig, worker, pauses = await _rig()
        host = Host(rig, worker)
        body = json.dumps({"indicators": [message(n) for n in range(3)]}).encode()
        name = (await worker.submitting.submit(body, caller="key")).id
        await host.drain(20.0)
        undone = await worker.undoing.undo(name, caller="key")
        assert undone is not None
        await pauses.pause("stop", None, "key")
        # One that has not looked yet, and so takes the retractions up.
        await Host(rig, rig.worker()).serve(asyncio.get_running_loop().time() + 30.0)
        assert len(rig.tenant.held) == 3
        opened = await worker.parts.all_open()
        parts = [await worker.parts.load(one.id) for one in opened]
        assert {item.attempts for part in parts if part for item in part.items} == {0}
        assert not any(one.failed for one in opened)
        await pauses.resume("go", "key")
        await host.serve(asyncio.get_running_loop().time() + 30.0)
        assert not rig.tenant.held
        assert (await rig.read(undone.undo.header.id)).fold.counts()["accepted"] == 3

    virtual.run(main())


def test_a_replaced_action_under_a_pause_is_put_off_without_a_failure() -> None:
    async def main() -> None:
        rig, worker, pauses = await _rig()
        host = Host(rig, worker)
        rig.put(message(1))
        await host.drain(10.0)
        await asyncio.sleep(2.0)

        # Paused between the call that puts the new action there and the deletion of the old one.
        async def gate(when: str, what: str) -> None:
            if when == "after" and what == "import":
                await pauses.pause("stop", None, "key")

        other = Host(rig, rig.worker(gate=gate))
        name = rig.put(message(1, action="Audit"))
        await other.serve(asyncio.get_running_loop().time() + 900.0)
        assert rig.tenant.actions("h1.evil-domain.com") == ["Audit", "Block"]
        counts = (await rig.read(name)).fold.counts()
        assert counts["deferred"] == 1
        [opened] = await worker.parts.all_open()
        part = await worker.parts.load(opened.id)
        assert part is not None and part.items[0].attempts == 0 and not opened.failed
        await pauses.resume("go", "key")
        await host.serve(asyncio.get_running_loop().time() + 30.0)
        assert rig.tenant.actions("h1.evil-domain.com") == ["Audit"]

    virtual.run(main())


def test_resuming_leaves_what_waits_because_a_call_failed_and_spreads_the_rest() -> None:
    async def main() -> None:
        rig, worker, pauses = await _rig(settings=Settings(unsent_step=600.0))
        rig.tenant.fault = lambda _payloads: UnavailableError("down", status=503, retry_after=3000.0)
        rig.put(message(9999))
        host = Host(rig, worker)
        await host.serve(5.0)
        [failed] = await worker.parts.all_open()
        assert failed.failed
        rig.tenant.fault = None
        await pauses.pause("stop", None, "key")
        for n in range(45):
            rig.put({"indicators": [message(500 * n + m) for m in range(400)]})
        await host.serve(60.0)
        waiting = [part for part in await worker.parts.all_open() if not part.failed]
        assert sum(part.items for part in waiting) == 45 * 400
        now = worker.stores.clock.now()
        points = sum(part.points for part in waiting)

        async def slow(_when: str, _what: str) -> None:
            await asyncio.sleep(0.001)

        _, told = await rig.worker(gate=slow).pauses.resume("go", "key")
        opened = await worker.parts.all_open()
        assert told == sum(part.points for part in opened if not part.failed) - points > 20
        assert next(part for part in opened if part.id == failed.id) == failed
        due = sorted(part.due - now for part in opened if not part.failed)
        assert sum(one < 5.0 for one in due) <= 26 and due[0] < 1.0, due
        assert max(due) < 3 * 63.0

    virtual.run(main())


def test_what_comes_right_after_the_resume_is_not_put_off_by_what_a_worker_saw_before_it() -> None:
    """Neither a stored part nor a message, one or a call's worth, and however short ago the worker looked."""

    async def main(pause: float, size: int) -> None:
        rig, worker, pauses = await _rig(settings=Settings(unsent_step=600.0))
        host = Host(rig, worker)
        serving = asyncio.ensure_future(host.serve(10_000.0, poll=0.05))
        await pauses.pause("stop", None, "key")
        rig.put({"indicators": [message(n) for n in range(size)]})
        await asyncio.sleep(3.3 + pause)
        await pauses.resume("go", "key")
        rig.put({"indicators": [message(1000 + n) for n in range(size)]})
        await asyncio.sleep(15.0)
        assert len(rig.tenant.held) == 2 * size, f"{len(rig.tenant.held)} after a pause of {3.3 + pause} s"
        serving.cancel()

    for size, step in ((3, 0.5), (500, 1.6)):
        for number in range(int(7.0 / step)):
            virtual.run(main(step * number, size))


# Crashes


def _crashing(point: int, fault: str) -> tuple[Any, list[str]]:
    log: list[str] = []

    async def gate(when: str, what: str) -> None:
        log.append(f"{when} {what}")
        if len(log) == point:
            if fault == "kill":
                raise Killed
            raise StorageError("storage did not answer")
        if len(log) > point > 0 and fault == "kill":
            raise Killed

    return gate, log


@pytest.mark.parametrize("fault", ["kill", "fail"])
@pytest.mark.parametrize("order", ["pause", "resume", "tend"])
@pytest.mark.parametrize("mended_by", ["repetition", "timer"])
def test_at_every_point_it_is_paused_or_not_and_repeating_mends_it(order: str, fault: str, mended_by: str) -> None:
    async def once(point: int) -> int:
        rig = Rig(Settings(unsent_step=600.0))
        gate, log = _crashing(point, fault)
        steady = rig.worker()
        begun = steady.stores.clock.now()
        if order != "pause":
            await steady.pauses.pause("stop", begun + 100.0 if order == "tend" else None, "key")
            host = Host(rig, steady)
            rig.put({"indicators": [message(n) for n in range(3)]})
            await host.serve(40.0)
            assert not rig.tenant.calls and await steady.parts.all_open()
            await asyncio.sleep(70.0)
        crashing = rig.worker(gate=gate).pauses
        broke = False
        try:
            if order == "pause":
                await crashing.pause("stop", None, "key")
            elif order == "resume":
                await crashing.resume("go", "key")
            else:
                await crashing.tend()
        except (Killed, StorageError):
            broke = True
        assert broke == bool(point)
        views = [await one.look() for one in (steady.imports, steady.deletes, steady.batch_deletes)]
        shut = {view.paused_until > steady.stores.clock.now() for view in views}
        assert len(shut) == 1, "some routes are paused and others are not"
        fresh = rig.worker()
        assert (await fresh.pauses.standing() is not None) in shut, "what is told is what is so"
        if mended_by == "timer":
            stands = await fresh.pauses.tend()
            assert (stands is not None) in shut
        if order == "pause":
            stale = views[0]
            await fresh.pauses.pause("stop", None, "key")
            assert all(view.paused_until for view in [await fresh.imports.look(), await fresh.deletes.look()])
            assert (await fresh.imports.look()).number in ((1, 2) if point else (1,))
            assert await steady.imports.take(type(stale)((), 0, 0.0, "", 0.0)) is None
        else:
            if mended_by == "repetition" or True in shut:
                await fresh.pauses.resume("go", "key")
            assert await fresh.pauses.standing(fresh=True) is None
            assert all(part.due <= steady.stores.clock.now() for part in await fresh.parts.all_open())
            loop = asyncio.get_running_loop()
            await Host(rig, fresh).serve(loop.time() + 10.0)
            assert len(rig.tenant.held) == 3 and len(rig.tenant.calls) == 1
            await fresh.pauses.tend()
            await asyncio.sleep(60.0)
            await fresh.pauses.tend()
            assert not rig.service.rows(TABLE, "import").get(PAUSE_KEY)
        entries = rig.service.rows(TABLE, LOG)
        assert len(entries) <= 3 + (mended_by == "timer")
        return len(log)

    points = virtual.run(once(0))
    assert points > 6
    for point in range(1, points + 1):
        virtual.run(once(point))


def test_two_who_resume_and_one_who_pauses_leave_one_state() -> None:
    """Whoever comes last, what stands is what all routes do, and no part is pointed to twice."""

    async def main(seed: int) -> None:
        rnd = random.Random(seed)
        rig = Rig()

        async def slow(_when: str, _what: str) -> None:
            await asyncio.sleep(rnd.choice((0.0, 0.01, 0.02, 0.1)))

        await rig.worker().pauses.pause("first", None, "key")
        rig.put(message(1))
        await Host(rig, rig.worker()).serve(10.0)
        people = [rig.worker(gate=slow).pauses for _ in range(4)]
        await asyncio.gather(
            people[0].resume("go", "a"),
            people[1].resume("go", "b"),
            people[2].pause("stop", None, "c"),
            people[3].tend(),
        )
        worker = rig.worker()
        stands = await worker.pauses.standing()
        views = [await one.look() for one in (worker.imports, worker.deletes, worker.batch_deletes)]
        assert {view.paused_until > 0 for view in views} == {stands is not None}
        [opened] = await worker.parts.all_open()
        assert opened.points <= 1 + len(people) - 1
        if stands:
            assert stands.by == "c"
            await worker.pauses.resume("go", "d")
        await Host(rig, worker).serve(asyncio.get_running_loop().time() + 10.0)
        assert len(rig.tenant.held) == 1

    for seed in range(60):
        virtual.run(main(seed))


# What is given


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
        rig, worker, pauses = await _rig()
        with pytest.raises(OrderError, match="future"):
            await pauses.pause("stop", worker.stores.clock.now() - 1.0, "key")
        assert not rig.service.all_rows(TABLE)

    virtual.run(main())


def test_the_hold_row_sorts_before_the_pause_and_both_before_the_permits() -> None:
    async def main() -> None:
        rig, worker, pauses = await _rig()
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
