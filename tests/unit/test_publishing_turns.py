"""Waiting for one's turn is bounded: no invocation outlives the host's patience behind others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import pytest

from shared.errors import StorageError
from shared.ledger import ids
from shared.ledger.parts import Part, PartItem
from shared.ledger.submissions import Header
from shared.publishing.gate import Gate
from shared.publishing.isolation import PATIENCE
from shared.publishing.settle import Entry
from shared.settings import Settings
from tests.support import virtual
from tests.support.fakes import indicator
from tests.support.rig import Host, Rig


def test_suspect_parts_behind_others_come_back_instead_of_waiting_for_ever() -> None:
    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        now = worker.stores.clock.now()
        for n in range(20):
            item = PartItem(
                ids.new_submission(now), "m", 0, now, now, ("DomainName", f"h{n}.com"), indicator(f"h{n}.com")
            )
            await worker.submissions.write([Header(item.submission, 1, now, "queue")], [])
            await worker.parts.store(Part(ids.new_part(now), (item,), "suspect"), due_in=0.0)
        for part in await worker.parts.all_open():
            await worker.parts.point(part.id)
        host = Host(rig, worker)
        longest = 0.0
        loop = asyncio.get_running_loop()
        inner = worker.deliveries.deliver

        async def timed(delivery: object) -> None:
            nonlocal longest
            began = loop.time()
            try:
                await inner(delivery)  # type: ignore[arg-type]
            finally:
                longest = max(longest, loop.time() - began)

        worker.deliveries.deliver = timed  # type: ignore[method-assign]
        await host.drain(3000.0)
        assert len(rig.tenant.held) == 20
        assert longest < 150.0

    virtual.run(main())


def test_a_lonely_attempt_gives_up_its_place_after_a_while() -> None:
    async def main() -> None:
        rig = Rig()
        isolation = rig.worker().deliveries._isolation

        async def for_ever() -> None:
            await asyncio.sleep(10 * PATIENCE)

        async def nothing() -> None:
            raise AssertionError("nobody died")

        first = asyncio.get_running_loop().create_task(
            isolation.attempt("20261122a0123456789abcdef", for_ever, nothing)
        )
        await asyncio.sleep(1)
        with pytest.raises(StorageError):
            await isolation.attempt("20261122b0123456789abcdef", nothing, nothing)
        first.cancel()

    virtual.run(main())


def test_the_gate_lets_in_what_fits_and_loses_nobody() -> None:
    async def main() -> None:
        gate = Gate(100)
        inside = 0
        most = 0
        passed = 0

        async def one(size: int) -> None:
            nonlocal inside, most, passed
            async with gate.room_for(size):
                inside += min(max(1, size), 100)
                most = max(most, inside)
                await asyncio.sleep(1)
                inside -= min(max(1, size), 100)
                passed += 1

        tasks = [asyncio.create_task(one(size)) for size in (0, 50, 200, 0, 99, 30) * 5]
        await asyncio.sleep(0.5)
        for task in tasks[7:11]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert most <= 100 and inside == 0 and passed == 26
        async with asyncio.timeout(1), gate.room_for(100):
            pass

    virtual.run(main())


def test_room_that_turns_out_not_to_be_needed_is_for_others() -> None:
    async def main() -> None:
        gate = Gate(100)
        async with gate.room_for(90) as room:
            waiting = [asyncio.create_task(enter(gate, 40)) for _ in range(2)]
            await asyncio.sleep(1)
            assert not any(task.done() for task in waiting)
            room.keep(60)
            await asyncio.sleep(1)
            assert [task.done() for task in waiting] == [True, True], "forty beside sixty, one after the other"
            room.keep(99)  # never more than was asked for
            async with asyncio.timeout(1), gate.room_for(40):
                pass
        async with asyncio.timeout(1), gate.room_for(100):
            pass

    async def enter(gate: Gate, size: int) -> None:
        async with gate.room_for(size):
            await asyncio.sleep(0.1)

    virtual.run(main())


def test_long_messages_of_one_indicator_share_calls() -> None:
    """Their bytes would have room for hundreds; seven at a time, each seven would take a call of its own."""

    async def main() -> None:
        rig = Rig()
        names = [
            rig.put({"indicatorValue": f"h{n}.evil-domain.com", "action": "Block", "x-note": "x" * 60_000})
            for n in range(300)
        ]
        await Host(rig, rig.worker()).drain(100.0)
        assert len(rig.tenant.calls) <= 5, rig.tenant.calls
        for name in names[::17]:
            assert (await rig.read(name)).fold.counts()["accepted"] == 1

    virtual.run(main())


def test_parts_are_decoded_only_as_there_is_room() -> None:
    async def main() -> None:
        rig = Rig(Settings(decoded_max=1000))
        worker = rig.worker()
        now = worker.stores.clock.now()
        await worker.imports.hold(now + 20.0, "paused")
        names = []
        for n in range(12):
            values = [f"h{n}-{m}.evil-domain.com" for m in range(400)]
            body = json.dumps({"indicators": [{"indicatorValue": value, "action": "Block"} for value in values]})
            names.append((await worker.submitting.submit(body.encode(), caller="key")).id)
        most = 0
        add = worker.committer.add

        def counted(entries: Sequence[Entry]) -> None:
            nonlocal most
            add(entries)
            most = max(most, worker.committer.in_hand)

        worker.committer.add = counted  # type: ignore[method-assign]
        await Host(rig, worker).drain(2000.0)
        assert most <= 1000, f"{most} items decoded at once"
        for name in names:
            assert (await rig.read(name)).fold.counts()["accepted"] == 400

    virtual.run(main())


def test_a_part_that_waited_too_long_for_room_comes_back() -> None:
    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        item = {"indicatorValue": "evil-domain.com", "action": "Block"}
        name = (await worker.submitting.submit(json.dumps(item).encode(), caller="key")).id
        async with worker.deliveries._gate.room_for(10**9):
            host = Host(rig, worker)
            await host.serve(100.0)
            assert not rig.tenant.calls and host.in_flight
        await host.drain(300.0)
        assert (await rig.read(name)).fold.counts()["accepted"] == 1
        assert [waiting[4] for waiting in rig.service.messages.values()] == []

    virtual.run(main())
