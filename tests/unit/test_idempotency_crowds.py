"""Idempotency-Key under crashes and crowds: one submission, everything of it done once, nothing left behind."""

from __future__ import annotations

import asyncio
import random

import pytest

from shared.errors import KeyBusyError, KeyReuseError, StorageError
from shared.ledger.idempotency import TABLE
from shared.publishing.submit import Taken
from tests.support import share, virtual
from tests.support.gates import DiesAt
from tests.support.items import value
from tests.support.keyed import ALL_DONE, BODY, KEY, finished, headers, record, send, small_parts
from tests.support.memory import Killed
from tests.support.rig import Host, Rig

__all__ = ["small_parts"]


async def at_rest(rig: Rig, name: str) -> None:
    """Long after, the timers having done their work: one submission, everything of it done once, nothing left."""
    for _ in range(3):
        await asyncio.sleep(1000.0)
        await rig.worker().sweeper.overdue()
        assert await finished(rig, name) == ALL_DONE
    assert [row.rk for row in headers(rig)] == [f"{name}|h"]
    assert not rig.service.all_rows("open") and not rig.service.messages
    assert sorted(key[1] for key in rig.tenant.held) == [value(n) for n in range(3)]
    assert sum(n for _, n in rig.tenant.calls) == 3
    lost = [alarm for alarm in rig.tell.alarms if alarm[0] in ("part_lost", "import_call")]
    assert not lost


def test_a_crash_at_every_point_then_sent_thrice_more() -> None:
    async def main() -> None:
        for point in range(1, 80):
            rig = Rig()
            try:
                await send(rig.worker(gate=DiesAt(point)))
            except Killed:
                pass
            else:
                assert point > 30
                return
            ids_told = set()
            for _ in range(3):
                if rig.service.all_rows(TABLE):
                    with pytest.raises(KeyReuseError):
                        await send(rig.worker(), b"another")
                try:
                    ids_told.add((await send(rig.worker())).id)
                except KeyBusyError as error:
                    await asyncio.sleep(error.retry_after)
                    await asyncio.sleep(110.0)
            assert ids_told == {record(rig).submission}, point
            await at_rest(rig, record(rig).submission)
        raise AssertionError("it never ends")

    virtual.run(main())


def test_twice_at_once_wherever_the_first_stands() -> None:
    """The first stands at its point p while the second goes to its point q; then the first ends, then the second."""

    async def one(p: int, q: int) -> tuple[bool, bool]:
        rig = Rig()
        stop = asyncio.Event()
        reached = asyncio.Event()
        first_done = asyncio.Event()
        points = [p, q]

        def gate_of(number: int) -> object:
            async def gate(when: str, what: str) -> None:
                points[number] -= 1
                if points[number] == 0:
                    (reached if number == 0 else stop).set()
                    await (stop if number == 0 else first_done).wait()

            return gate

        loop = asyncio.get_running_loop()
        first = loop.create_task(send(rig.worker(gate=gate_of(0))))  # type: ignore[arg-type]
        waiting = loop.create_task(reached.wait())
        await asyncio.wait([first, waiting], return_when=asyncio.FIRST_COMPLETED)
        second = loop.create_task(send(rig.worker(gate=gate_of(1))))  # type: ignore[arg-type]
        waiting_too = loop.create_task(stop.wait())
        # Where the second waits for the first, it is let go after five seconds.
        await asyncio.wait([second, waiting_too], return_when=asyncio.FIRST_COMPLETED, timeout=5.0)
        stop.set()
        try:
            one = await first
        except KeyBusyError:
            # It was overtaken, and the second stands still.
            first_done.set()
            await second
            one = await send(rig.worker())
        first_done.set()
        other = await second
        waiting.cancel()
        waiting_too.cancel()
        assert one.id == other.id and one.items == other.items
        assert [one.repeated, other.repeated].count(False) == 1
        await at_rest(rig, one.id)
        return points[0] <= 0, points[1] <= 0

    async def main() -> None:
        step = 1 if share.exhaustive() else 3
        for p in range(1, 100, step):
            hit = False
            for q in range(1, 100, step):
                hit, there = await one(p, q)
                if not there:
                    break
            if not hit:
                assert p > 30
                return
        raise AssertionError("it never ends")

    virtual.run(main())


@pytest.mark.parametrize("seed", range(1000 if share.exhaustive() else 60))
def test_a_crowd_with_pauses_deaths_and_failures_makes_one_submission(seed: int) -> None:
    async def main() -> None:
        rnd = random.Random(seed)
        rig = Rig()

        def gate_of() -> object:
            dead = False
            harm = rnd.choice(["", "kill", "fail"])
            at = rnd.randint(1, 40)

            async def gate(when: str, what: str) -> None:
                nonlocal dead, at
                if dead:
                    raise Killed
                at -= 1
                if at == 0 and harm == "kill":
                    dead = True
                    raise Killed
                if at == 0 and harm == "fail":
                    raise StorageError("storage did not answer")
                await asyncio.sleep(rnd.choice([0.0] * 20 + [0.01, 0.3, 5.0, 90.0, 150.0]))

            return gate

        async def client(delay: float) -> Taken | None:
            await asyncio.sleep(delay)
            for _ in range(40):
                try:
                    return await send(rig.worker(gate=gate_of()))  # type: ignore[arg-type]
                except KeyBusyError as error:
                    await asyncio.sleep(error.retry_after)
                except StorageError:
                    await asyncio.sleep(rnd.choice([0.0, 10.0]))
                except Killed:
                    await asyncio.sleep(rnd.choice([0.0, 60.0]))
            return None

        clients = [client(rnd.choice([0.0, 0.0, 0.1, 100.0, 130.0, 400.0])) for _ in range(4)]
        told = await asyncio.gather(*clients)
        answers = {(made.id, made.items) for made in told if made is not None}
        assert len(answers) == 1
        await at_rest(rig, answers.pop()[0])

    virtual.run(main())


@pytest.mark.parametrize("key", ["", KEY])
def test_a_pointer_that_comes_before_the_header_takes_nothing_from_the_door(key: str) -> None:
    async def main() -> None:
        rig = Rig()
        stopped, go = asyncio.Event(), asyncio.Event()

        async def gate(when: str, what: str) -> None:
            if (when, what) == ("before", "transact submissions"):
                stopped.set()
                await go.wait()

        slow = asyncio.get_running_loop().create_task(send(rig.worker(gate=gate), key=key))
        await stopped.wait()
        for early in (0.0, 300.0, 100.0):
            # Somebody points to all that is open.
            await asyncio.sleep(early)
            worker = rig.worker()
            for part in await worker.parts.all_open():
                assert await worker.parts.again(part, due_in=0.0, begun=True)
            await Host(rig, worker).drain()
            assert len(rig.service.all_rows("open")) == 2 and not rig.tenant.calls
        go.set()
        await at_rest(rig, (await slow).id)

    virtual.run(main())


def test_large_bodies_are_read_a_few_at_a_time_and_small_ones_do_not_wait_behind_them() -> None:
    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        large = BODY + b" " * (5 * 1024 * 1024)
        inside: list[int] = []
        most = 0
        read = worker.submitting.read_message

        async def slowly(data: bytes, *rest: object) -> object:
            nonlocal most
            inside.append(len(data))
            most = max(most, sum(inside))
            await asyncio.sleep(10.0)
            inside.remove(len(data))
            return await read(data, *rest)  # type: ignore[arg-type]

        worker.submitting.read_message = slowly  # type: ignore[assignment,method-assign]
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(send(worker, large, key=f"k{n}" if n % 2 else "")) for n in range(8)]
        await asyncio.sleep(1.0)
        await send(worker, BODY, key="")
        assert loop.time() < 15.0
        taken = await asyncio.gather(*tasks)
        assert len({made.id for made in taken}) == 8
        assert 2 * len(large) <= most <= 12 * 1024 * 1024 + 64 * 1024

    virtual.run(main())
