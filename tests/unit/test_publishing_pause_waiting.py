"""What waits under a pause: put off without a failure, however long it lasts, and going on when it ends."""

from __future__ import annotations

import asyncio
import json

import pytest

from shared.errors import UnavailableError
from shared.ledger.parts import OpenPart
from shared.relay import Publishing
from shared.settings import Settings
from tests.support import virtual
from tests.support.items import message
from tests.support.pausing import a_worker, starts
from tests.support.rig import Host, Rig


def test_a_pause_ends_by_itself_and_the_timer_points_to_what_waits() -> None:
    async def main() -> None:
        rig, worker, pauses = a_worker()
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
        rig, worker, pauses = a_worker(settings=Settings(exhausted_after=3600.0))
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
        rig, worker, pauses = a_worker()
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
        rig, worker, pauses = a_worker()
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
        rig, worker, pauses = a_worker(settings=Settings(unsent_step=600.0))
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


async def put_off(rig: Rig, worker: Publishing) -> OpenPart:
    """A part of 500 that a pause has put off."""
    host = Host(rig, worker)
    await worker.pauses.pause("stop", None, "key")
    rig.put({"indicators": [message(n) for n in range(500)]})
    while not (waiting := await worker.parts.all_open()):
        await host.serve(asyncio.get_running_loop().time() + 1.0)
    (part,) = waiting
    return part


def test_resuming_leaves_what_comes_by_itself_within_seconds() -> None:
    """A second pointer would meet the first while the part's call is under way, and another worker would repeat it."""

    async def main() -> None:
        rig, worker, pauses = a_worker(settings=Settings(unsent_step=60.0))
        others = [rig.worker(skew=0.5), rig.worker(skew=-0.5)]
        part = await put_off(rig, worker)
        # Its own pointer may come before a call that is begun at once is answered, whosever clock said when.
        await asyncio.sleep(part.due - worker.stores.clock.now() - 3.0)
        _, told = await pauses.resume("go", "key")
        assert told == 0
        await asyncio.gather(*(Host(rig, one).serve(asyncio.get_running_loop().time() + 15.0) for one in others))
        assert [items for _, items in rig.tenant.calls] == [500]
        assert not await worker.parts.all_open()

    virtual.run(main())


def test_the_pointer_that_a_resume_replaced_sends_nothing_beside_the_call_of_the_new_one() -> None:
    async def main() -> None:
        rig, worker, pauses = a_worker(settings=Settings(unsent_step=60.0))
        rig.call_seconds = 24.0
        others = [rig.worker(skew=0.5), rig.worker(skew=-0.5)]
        part = await put_off(rig, worker)
        await asyncio.sleep(part.due - worker.stores.clock.now() - 15.0)
        _, told = await pauses.resume("go", "key")
        assert told == 1
        await asyncio.gather(*(Host(rig, one).serve(asyncio.get_running_loop().time() + 45.0) for one in others))
        assert [items for _, items in rig.tenant.calls] == [500]
        assert not await worker.parts.all_open() and not rig.service.messages

    virtual.run(main())


def test_a_pointer_that_was_not_replaced_runs_its_part_however_many_the_sweep_has_added() -> None:
    """In a queue as long as this a pointer waits for more than what the sweep takes for overdue, each time."""

    async def main() -> None:
        rig, worker, _ = a_worker(settings=Settings(overdue_after=10.0))
        host = Host(rig, worker)
        until = asyncio.get_running_loop().time() + 1.0
        rig.tenant.fault = lambda _payloads: UnavailableError("down", status=503, retry_after=30.0)
        rig.put(message(1))
        await host.serve(until + 10.0)
        rig.tenant.fault = None
        (first,) = rig.service.messages.values()
        for _ in range(3):
            (part,) = await worker.parts.all_open()
            await asyncio.sleep(part.due + 11.0 - worker.stores.clock.now())
            assert await worker.sweeper.overdue() == 1
        for message_ in [one for one in rig.service.messages.values() if one is not first]:
            rig.service.messages.pop(message_[1])  # far behind in the queue
        await host.drain()
        assert rig.tenant.held and not await worker.parts.all_open()

    virtual.run(main())


def test_what_a_pause_has_put_off_is_sent_without_asking_what_became_of_each_item() -> None:
    """Nothing can have: and for messages of one indicator it is a read for each, before the first call is made."""

    async def main() -> None:
        rig, worker, pauses = a_worker()
        reads = 0

        async def gate(when: str, what: str) -> None:
            nonlocal reads
            reads += (when, what) in (("before", "query submissions"), ("before", "get submissions"))

        host = Host(rig, rig.worker(gate=gate))
        await pauses.pause("stop", None, "key")
        for n in range(400):
            rig.put(message(n))
        await host.serve(1500.0, poll=5.0)  # in which the part comes back twice, and is put off once more
        (part,) = await worker.parts.all_open()
        assert part.points >= 3 and not part.begun
        reads = 0
        await pauses.resume("go", "key")
        await host.serve(1510.0)
        assert [items for _, items in rig.tenant.calls] == [400] and reads < 20
        assert not await worker.parts.all_open()

    virtual.run(main())


def test_what_comes_right_after_the_resume_is_not_put_off_by_what_a_worker_saw_before_it() -> None:
    """Neither a stored part nor a message, one or a call's worth, and however short ago the worker looked."""

    async def main(pause: float, size: int) -> None:
        rig, worker, pauses = a_worker(settings=Settings(unsent_step=600.0))
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
