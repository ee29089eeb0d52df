"""Idempotency-Key when a request breaks off: the next one begins at once, resumes it, or is told to wait."""

from __future__ import annotations

import asyncio
import json

import pytest

from shared.errors import (
    KeyBusyError,
    KeyReuseError,
    StorageError,
)
from shared.settings import Settings
from tests.support import virtual
from tests.support.gates import DiesAt, FailsAt, dies_before
from tests.support.items import PRIVATE, value
from tests.support.keyed import ALL_DONE, body, finished, headers, record, send, small_parts
from tests.support.memory import Killed
from tests.support.rig import Rig

__all__ = ["small_parts"]


def test_a_failure_of_ours_lets_the_next_one_begin_at_once() -> None:
    async def main() -> None:
        for point in range(1, 40):
            rig = Rig()
            gate = FailsAt(point)
            try:
                await send(rig.worker(gate=gate))
            except StorageError:
                before = asyncio.get_running_loop().time()
                taken = await send(rig.worker())
                assert asyncio.get_running_loop().time() - before < 0.1
                assert await finished(rig, taken.id) == ALL_DONE
                assert len(headers(rig)) == 1
            if not gate.met:
                return
        raise AssertionError("it never ends")

    virtual.run(main())


def test_what_is_left_unfinished_is_resumed_as_the_same_submission() -> None:
    async def main() -> None:
        rig = Rig()
        with pytest.raises(Killed):
            await send(rig.worker(gate=dies_before("transact submissions")))
        begun = record(rig)
        with pytest.raises(KeyBusyError) as caught:
            await send(rig.worker())
        assert begun.submission in str(caught.value) and 1 <= caught.value.retry_after <= 10
        with pytest.raises(KeyReuseError):
            await send(rig.worker(), body(1))
        await asyncio.sleep(100.0)
        taken = await send(rig.worker())
        assert taken.id == begun.submission and not taken.repeated
        [header] = headers(rig)
        assert header.data["intent_at"] == begun.at == record(rig).at and record(rig).state == "done"
        # What the dead one stored is dropped by the sweep, and run by nobody.
        assert len(rig.service.all_rows("open")) == 4
        assert await finished(rig, taken.id) == ALL_DONE
        await asyncio.sleep(1000.0)
        assert await rig.worker().sweeper.overdue() == 2
        assert await finished(rig, taken.id) == ALL_DONE
        assert not rig.service.all_rows("open")
        assert sum(n for _, n in rig.tenant.calls) == 3
        assert [name for name, _ in rig.tell.events].count("abandoned_part") == 2
        assert [fields for name, fields in rig.tell.events if name == "resumed"] == [
            {"submission": taken.id, "runs": 2}
        ]

    virtual.run(main())


def test_the_header_being_there_nothing_is_stored_again_and_its_parts_are_pointed_to() -> None:
    async def main() -> None:
        rig = Rig()
        with pytest.raises(Killed):
            await send(rig.worker(gate=dies_before("send")))
        assert not rig.service.messages and len(headers(rig)) == 1
        early = await send(rig.worker())
        assert early.repeated and not rig.service.messages and record(rig).state == "started"
        await asyncio.sleep(121.0)
        blobs = sorted(rig.service.blobs)
        later = await send(rig.worker())
        assert later == early and sorted(rig.service.blobs) == blobs and len(rig.service.messages) == 2
        assert await send(rig.worker()) == early and len(rig.service.messages) == 2
        assert await finished(rig, later.id) == ALL_DONE

    virtual.run(main())


def test_a_run_taken_for_dead_loses_or_wins_whole() -> None:
    """The first stands still for three minutes at each of its points, and then goes on."""

    async def main() -> None:
        winners = set()
        for point in range(1, 60):
            rig = Rig()
            left = point

            async def gate(when: str, what: str) -> None:
                nonlocal left
                left -= 1
                if not left:
                    await asyncio.sleep(180.0)

            # Settings differ between the two, so that their verdicts do.
            slow = rig.worker(gate=gate)
            rig.settings = Settings(title_max=2)
            first = asyncio.get_running_loop().create_task(send(slow, body(0, 1, 2, title="title")))
            await asyncio.sleep(130.0)
            second = await send(rig.worker(), body(0, 1, 2, title="title"))
            slowly = await first
            assert slowly.id == second.id and slowly.items == second.items
            assert len(headers(rig)) == 1
            rejected = sum(bool(made.reason) for made in second.items)
            winners.add(rejected)
            counts = await finished(rig, second.id)
            assert counts == {
                k: n for k, n in {"submitted": 4, "accepted": 4 - rejected, "rejected": rejected}.items() if n
            }
            await asyncio.sleep(2000.0)
            await rig.worker().sweeper.overdue()
            assert await finished(rig, second.id) == counts
            assert not rig.service.all_rows("open")
            if left > 0:
                assert winners == {1, 4}
                return
        raise AssertionError("it never ends")

    virtual.run(main())


def test_verdicts_that_need_several_transactions_are_of_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that go before the header belong to nobody when another run's header wins."""
    from shared.ledger import packing

    monkeypatch.setattr(packing, "TRANSACTION_ROWS", 2)

    async def main() -> None:
        long = [{"indicatorValue": value(n), "action": "Block", "title": "title"} for n in range(5)]
        data = json.dumps({"indicators": [*long, *(PRIVATE for _ in range(5))]}).encode()
        seen = set()
        for point in range(1, 60):
            rig = Rig(Settings(title_max=2))
            try:
                await send(rig.worker(gate=DiesAt(point)), data)
            except Killed:
                pass
            else:
                assert seen == {(5, 5), (0, 10)}
                return
            rig.settings = Settings()
            await asyncio.sleep(130.0)
            taken = await send(rig.worker(), data)
            rejected = sum(bool(made.reason) for made in taken.items)
            await asyncio.sleep(2000.0)
            await rig.worker().sweeper.overdue()
            counts = await finished(rig, taken.id)
            assert (counts.get("accepted", 0), counts["rejected"]) == (10 - rejected, rejected)
            seen.add((10 - rejected, rejected))
            told = await rig.read(taken.id)
            assert {n for n, made in told.fold.fates.items() if made.reason} == {
                made.ordinal for made in taken.items if made.reason
            }
        raise AssertionError("it never ends")

    virtual.run(main())
