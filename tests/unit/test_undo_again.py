"""Undo asked twice, too soon, of an undo or of nothing; and what is submitted anew after it."""

from __future__ import annotations

import asyncio
import json

import pytest

from shared.errors import UndoOfUndoError, UndoTooSoonError
from shared.indicators.model import Action
from shared.ledger.outcomes import State
from shared.ledger.parts import Part, PartItem
from shared.ledger.submissions import Header
from shared.publishing.settle import Entry
from tests.support import virtual
from tests.support.fakes import indicator
from tests.support.items import value
from tests.support.rig import Host, Rig
from tests.support.undoing import counts, post, published, undo


def test_the_same_value_submitted_anew_is_published_again() -> None:
    async def main() -> None:
        rig, host, name = await published(1)
        await undo(rig, name)
        await host.drain(20.0)
        assert not rig.tenant.held
        again = await post(rig, 1)
        await host.drain(20.0)
        assert await counts(rig, again) == {"accepted": 1}
        assert rig.tenant.actions(value(1)) == ["Block"]
        second = await undo(rig, name)
        assert not second.fresh
        await host.drain(20.0)
        assert rig.tenant.actions(value(1)) == ["Block"]

    virtual.run(main())


def test_asked_twice_it_is_done_once() -> None:
    async def main() -> None:
        rig, host, name = await published(1, 2)
        first = await undo(rig, name)
        second = await undo(rig, name)
        assert (second.fresh, second.undo.header.id) == (False, first.undo.header.id)
        await host.drain(20.0)
        third = await undo(rig, name)
        assert third.undo.finished and third.undo.header.id == first.undo.header.id

    virtual.run(main())


def test_asked_twice_at_once_both_say_the_same() -> None:
    async def main() -> None:
        rig, host, name = await published(*range(20))
        first, second = await asyncio.gather(undo(rig, name), undo(rig, name))
        await host.drain(100.0)
        assert not rig.tenant.held
        known = await rig.read(name)
        assert set(known.undone_by) == {first.undo.header.id, second.undo.header.id}
        for one in (first, second):
            assert (await rig.read(one.undo.header.id)).finished
        assert (await undo(rig, name)).undo.header.id == known.undone_by[-1]

    virtual.run(main())


def test_what_arrived_since_is_undone_by_a_second_one() -> None:
    """A queue message whose first item was accepted by an earlier delivery, and whose second is still in it."""

    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        host = Host(rig, worker)
        done, waits = indicator(value(1)), indicator(value(2))
        at = worker.stores.clock.now() - 10.0
        header = Header("20261122a0000000000000001", 2, at, "queue")
        items = [PartItem(header.id, "m", n, at, at, made.key, made) for n, made in enumerate((done, waits))]
        loop = asyncio.get_running_loop()
        entries = [Entry(item, header, loop.time(), loop.create_future()) for item in items]
        worker.committer.add(entries[:1])
        await entries[0].result
        first = await undo(rig, header.id)
        assert [(left.ordinal, left.state) for left in first.left] == [(1, State.PENDING)]
        assert "on its way" in first.left[0].why and first.undo.header.submitted == 1
        worker.committer.add(entries[1:])
        await entries[1].result
        second = await undo(rig, header.id)
        assert second.fresh and not second.left and second.undo.header.submitted == 1
        await host.drain(60.0)
        assert not rig.tenant.held
        assert not (await undo(rig, header.id)).fresh

    virtual.run(main())


def test_what_another_item_of_it_has_superseded_is_left_until_that_one_has_arrived() -> None:
    """One value twice in a queue message, under two actions: the second is in a call while it is undone."""

    async def main() -> None:
        rig = Rig()
        calling, go_on = asyncio.Event(), asyncio.Event()

        async def gate(when: str, what: str) -> None:
            if (when, what) == ("after", "import") and rig.tenant.actions(value(1)):
                calling.set()
                await go_on.wait()

        worker = rig.worker(gate=gate)
        host = Host(rig, worker)
        at = worker.stores.clock.now() - 10.0
        header = Header("20261122a0000000000000001", 3, at, "queue")
        made = [indicator(value(n), action) for n, action in ((1, Action.BLOCK), (2, Action.AUDIT), (1, Action.WARN))]
        items = [PartItem(header.id, "m", n, at, at, one.key, one) for n, one in enumerate(made)]
        loop = asyncio.get_running_loop()
        entries = [Entry(item, header, loop.time(), loop.create_future()) for item in items]
        worker.committer.add(entries[1:2])
        await entries[1].result
        worker.committer.add([entries[0], entries[2]])
        await asyncio.gather(calling.wait(), entries[0].result)
        first = await undo(rig, header.id)
        assert [(left.ordinal, left.state) for left in first.left] == [(0, State.SUPERSEDED), (2, State.PENDING)]
        go_on.set()
        await entries[2].result
        await host.drain(60.0)
        assert rig.tenant.actions(value(1)) == ["Warn"] and not rig.tenant.actions(value(2))
        second = await undo(rig, header.id)
        assert second.fresh and [left.ordinal for left in second.left] == []
        await host.drain(60.0)
        assert not rig.tenant.held

    virtual.run(main())


def test_nothing_known_yet_is_told_and_not_taken_for_nothing() -> None:
    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        header = Header("20261122a0000000000000001", 1, worker.stores.clock.now(), "queue", decoded=False)
        await worker.submissions.announce(header, 2)
        with pytest.raises(UndoTooSoonError) as told:
            await worker.undoing.undo(header.id, caller="key")
        assert told.value.retry_after > 0 and told.value.remediation
        assert await worker.undoing.undo("20261122a0000000000000002", caller="key") is None

    virtual.run(main())


def test_what_nobody_has_read_to_its_end_is_not_undone_in_part() -> None:
    """A delivery died after it had stored what it deferred; the next announced the message, and then failed.

    The items lie in a part whose pointer was never sent, and how many there are is told by nobody.
    """

    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        at = worker.stores.clock.now()
        name = rig.put({"indicators": [{"indicatorValue": value(n), "action": "Block"} for n in range(3)]})
        indicators = [indicator(value(n)) for n in range(3)]
        items = [PartItem(name, "m", n, float(int(at)), at, made.key, made) for n, made in enumerate(indicators)]
        await worker.parts.store(Part("d20260921-aaaaaaaaaaaaaaaaaaaa", tuple(items)), due_in=60.0)
        await worker.submissions.announce(Header(name, 1, float(int(at)), "queue", decoded=False), 2)
        with pytest.raises(UndoTooSoonError):
            await worker.undoing.undo(name, caller="key")
        await Host(rig, worker).drain(60.0)
        undone = await undo(rig, name)
        assert undone.undo.header.submitted == 3 and not undone.left
        await Host(rig, worker).drain(60.0)
        assert not rig.tenant.held

    virtual.run(main())


def test_an_undo_is_not_undone() -> None:
    async def main() -> None:
        rig = Rig()
        name = await post(rig, 1)
        undone = await undo(rig, name)
        with pytest.raises(UndoOfUndoError) as told:
            await undo(rig, undone.undo.header.id)
        assert name in str(told.value) and "anew" in told.value.remediation

    virtual.run(main())


def test_of_a_submission_with_nothing_to_withdraw_the_undo_is_empty_and_finished() -> None:
    async def main() -> None:
        rig = Rig()
        body = json.dumps({"indicatorValue": "10.0.0.1", "action": "Block"}).encode()
        name = (await rig.worker().submitting.submit(body, caller="key")).id
        undone = await undo(rig, name)
        assert undone.undo.finished and [left.value for left in undone.left] == ["10.0.0.1"]
        again = await undo(rig, name)
        assert (again.fresh, again.undo.header.id) == (False, undone.undo.header.id)

    virtual.run(main())


def test_asked_again_the_pointers_that_a_dead_door_did_not_send_are_sent() -> None:
    async def main() -> None:
        rig, host, name = await published(1)
        first = await undo(rig, name)
        rig.service.messages.clear()
        second = await undo(rig, name)
        assert not second.fresh and len(rig.service.messages) == 1
        await undo(rig, name)
        assert len(rig.service.messages) == 1, "one more each time it is asked"
        await host.drain(20.0)
        assert not rig.tenant.held and await counts(rig, first.undo.header.id) == {"accepted": 1}

    virtual.run(main())
