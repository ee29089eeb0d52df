"""Waiting for one's turn is bounded: no invocation outlives the host's patience behind others."""

from __future__ import annotations

import asyncio

import pytest

from shared.errors import StorageError
from shared.ledger import ids
from shared.ledger.parts import Part, PartItem
from shared.ledger.submissions import Header
from shared.publishing.gate import Gate
from shared.publishing.isolation import PATIENCE
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
                inside += min(max(1, size // 100), 100)
                most = max(most, inside)
                await asyncio.sleep(1)
                inside -= min(max(1, size // 100), 100)
                passed += 1

        tasks = [asyncio.create_task(one(size)) for size in (50, 5_000, 20_000, 10, 9_999, 3_000) * 5]
        await asyncio.sleep(0.5)
        for task in tasks[7:11]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert most <= 100 and inside == 0 and passed == 26
        async with asyncio.timeout(1), gate.room_for(10_000):
            pass

    virtual.run(main())
