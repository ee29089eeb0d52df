"""Undo: what a submission published and still owns is withdrawn, what is on its way never arrives, the rest is left."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import Any

import pytest

from shared.errors import UnavailableError
from shared.ledger import ids, intents
from shared.ledger.history import as_csv
from shared.ledger.outcomes import State
from shared.ledger.parts import UNDONE, PartItem
from shared.settings import Settings
from tests.support import virtual
from tests.support.fakes import indicator
from tests.support.items import value
from tests.support.rig import Host, Rig
from tests.support.undoing import counts, native, post, published, undo


def test_what_was_published_is_withdrawn() -> None:
    async def main() -> None:
        rig, host, name = await published(1, 2, 3, incident=4711, source="playbook")
        undone = await undo(rig, name)
        assert undone.fresh and not undone.left
        header = undone.undo.header
        assert (header.undo_of, header.incident, header.source) == (name, "4711", "playbook")
        assert (header.caller, header.caller_name, header.submitted) == ("person:1", "Ada", 3)
        await host.drain(60.0)
        assert not rig.tenant.held
        known = await rig.read(header.id)
        assert known.finished and known.fold.counts()["accepted"] == 3
        assert {fate.action for fate in known.fold.fates.values()} == {"Retraction"}
        assert await counts(rig, name) == {"accepted": 3}, "what became of it then is not rewritten"
        assert (await rig.read(name)).undone_by == (header.id,)
        told = await as_csv(rig.worker().submissions, rig.worker().parts, name)
        assert told is not None and f"Submission {header.id} undoes it." in told.decode("utf-8-sig")

    virtual.run(main())


@pytest.mark.parametrize("number", [3, 30])
def test_what_somebody_else_made_is_left_and_told(number: int) -> None:
    async def main() -> None:
        rig = Rig()
        host = Host(rig, rig.worker())
        theirs = rig.tenant.portal(indicator(value(1)).payload())
        beside = rig.tenant.portal({**indicator(value(2)).payload(), "action": "Audit"})
        name = await post(rig, *range(number))
        await host.drain(20.0)
        undone = await undo(rig, name)
        await host.drain(60.0)
        assert {row["id"] for row in rig.tenant.held.values()} == {theirs, beside}
        fates = (await rig.read(undone.undo.header.id)).fold.fates
        told = {fate.value: fate for fate in fates.values()}
        assert told[value(1)].state is State.UNCHANGED and told[value(1)].reason == "somebody_elses"
        assert "Somebody else's" in told[value(1)].text and "Block" in told[value(1)].text
        assert told[value(2)].state is State.ACCEPTED and "Audit" in told[value(2)].text
        assert await counts(rig, undone.undo.header.id) == {"accepted": number - 1, "unchanged": 1}

    virtual.run(main())


def test_what_a_newer_submission_renewed_is_left() -> None:
    async def main() -> None:
        rig, host, name = await published(1, 2)
        newer = await post(rig, 1)
        await host.drain(20.0)
        undone = await undo(rig, name)
        await host.drain(60.0)
        assert rig.tenant.actions(value(1)) == ["Block"] and rig.tenant.actions(value(2)) == []
        fates = {fate.value: fate for fate in (await rig.read(undone.undo.header.id)).fold.fates.values()}
        assert fates[value(1)].state is State.SUPERSEDED
        assert newer in fates[value(1)].text and "left alone" in fates[value(1)].text
        assert fates[value(2)].state is State.ACCEPTED

    virtual.run(main())


def test_of_two_messages_of_one_second_the_newer_survives_the_undo_of_the_older() -> None:
    async def main() -> None:
        rig = Rig()
        host = Host(rig, rig.worker())
        older, newer = sorted(rig.put(native(1)) for _ in range(2))
        for message in rig.service.messages.values():
            if ids.foreign_submission(message[1], message[3]) == newer:
                message[0] += 5.0  # each in a call of its own
        await host.drain(20.0)
        assert await counts(rig, older) == await counts(rig, newer) == {"accepted": 1}
        undone = await undo(rig, older)
        await host.drain(60.0)
        assert await counts(rig, undone.undo.header.id) == {"superseded": 1}
        assert rig.tenant.actions(value(1)) == ["Block"]
        item = PartItem(older, "m", 0, 5.0, 5.0, ("DomainName", value(1)), None)
        withdrawn = dataclasses.replace(item, submission="20991231f0000000000000000", as_of=older, step=UNDONE)
        beside = dataclasses.replace(item, submission=newer)
        assert item.order < withdrawn.order < beside.order
        assert PartItem.from_record(withdrawn.record()) == withdrawn
        assert PartItem.from_record(item.record()) == item

    virtual.run(main())


def test_items_on_their_way_are_undone_before_they_arrive() -> None:
    async def main() -> None:
        rig = Rig()
        host = Host(rig, rig.worker())
        name = await post(rig, *range(4))
        undone = await undo(rig, name)
        assert undone.undo.header.submitted == 4 and not undone.left
        await host.drain(200.0)
        assert not rig.tenant.held
        assert (await rig.read(name)).finished and (await rig.read(undone.undo.header.id)).finished

    virtual.run(main())


@pytest.mark.parametrize("moves", [1, 3])
@pytest.mark.parametrize("door", ["http", "queue"])
def test_what_an_outage_has_put_off_is_never_published(door: str, moves: int) -> None:
    async def main() -> None:
        rig = Rig(Settings(defer_first=10.0, defer_max=20.0))
        host = Host(rig, rig.worker())
        rig.tenant.fault = lambda _payloads: UnavailableError("down", status=503)
        name = rig.put(native(*range(4))) if door == "queue" else await post(rig, *range(4))
        await host.serve(5.0 + (moves - 1) * 40.0)
        assert await counts(rig, name) == {"deferred": 4}
        undone = await undo(rig, name)
        assert undone.undo.header.submitted == 4 and not undone.left
        rig.tenant.fault = None
        await host.drain(500.0)
        assert not rig.tenant.held
        assert await counts(rig, name) == {"superseded": 4}
        assert await counts(rig, undone.undo.header.id) == {"unchanged": 4}

    virtual.run(main())


def test_an_attempt_whose_answer_was_lost_is_withdrawn_too() -> None:
    async def main() -> None:
        rig = Rig()
        host = Host(rig, rig.worker())

        def lost(payloads: Any) -> UnavailableError:
            for payload in payloads:
                rig.tenant.put(payload)
            return UnavailableError("the answer was lost")

        rig.tenant.fault = lost
        name = await post(rig, 1, 2)
        await host.serve(5.0)
        assert len(rig.tenant.held) == 2 and await counts(rig, name) == {"deferred": 2}
        rig.tenant.fault = None
        undone = await undo(rig, name)
        await host.drain(500.0)
        assert not rig.tenant.held
        assert await counts(rig, undone.undo.header.id) == {"accepted": 2}

    virtual.run(main())


def test_rejected_items_are_left_and_exhausted_ones_are_not() -> None:
    async def main() -> None:
        rig = Rig(Settings(exhausted_after=300.0))
        host = Host(rig, rig.worker())
        rig.tenant.fault = lambda _payloads: UnavailableError("down", status=503)
        name = rig.put({"indicators": [*native(1)["indicators"], {"indicatorValue": "10.0.0.1", "action": "Block"}]})
        await host.drain(20_000.0)
        assert await counts(rig, name) == {"rejected": 2}
        undone = await undo(rig, name)
        assert [(left.value, left.state) for left in undone.left] == [("10.0.0.1", State.REJECTED)]
        assert "rejected" in undone.left[0].why
        rig.tenant.fault = None
        letter = (await rig.worker().letters.all())[0]
        replayed = await rig.worker().replays.replay(letter.id, caller="key")
        await host.drain(500.0)
        assert await counts(rig, replayed) == {"superseded": 1}, "a replay came back after the undo"
        assert not rig.tenant.held

    virtual.run(main())


def test_a_replay_is_undone_as_what_it_repeats() -> None:
    async def main(gone: bool) -> None:
        rig = Rig(Settings(exhausted_after=300.0))
        host = Host(rig, rig.worker())
        rig.tenant.fault = lambda _payloads: UnavailableError("down", status=503)
        rig.put(native(1))
        await asyncio.sleep(100.0)
        rig.put(native(2))
        await host.drain(20_000.0)
        rig.tenant.fault = None
        newer = await post(rig, 2)
        await host.drain(20.0)
        worker = rig.worker()
        names = [await worker.replays.replay(letter.id, caller="key") for letter in await worker.letters.all()]
        await host.drain(200.0)
        assert rig.tenant.actions(value(1)) == rig.tenant.actions(value(2)) == ["Block"]
        if gone:
            rig.service.blobs = {key: data for key, data in rig.service.blobs.items() if key[0] != "deadletters"}
        for name in names:
            await undo(rig, name)
        await host.drain(200.0)
        assert rig.tenant.actions(value(1)) == []
        assert rig.tenant.actions(value(2)) == ["Block"], f"{newer} was undone with them"

    virtual.run(main(gone=False))
    virtual.run(main(gone=True))


def test_one_value_twice_in_a_submission_is_withdrawn_once() -> None:
    async def main() -> None:
        rig = Rig()
        host = Host(rig, rig.worker())
        body = {"indicators": [*native(1)["indicators"], *native(1, action="Audit")["indicators"]]}
        name = (await rig.worker().submitting.submit(json.dumps(body).encode(), caller="key")).id
        await host.drain(20.0)
        assert await counts(rig, name) == {"accepted": 1, "superseded": 1}
        undone = await undo(rig, name)
        assert undone.undo.header.submitted == 1 and not undone.left
        await host.drain(20.0)
        assert not rig.tenant.held

    virtual.run(main())


def test_three_thousand_are_withdrawn_by_batches() -> None:
    async def main() -> None:
        rig = Rig()
        hosts = [Host(rig, rig.worker()) for _ in range(2)]
        name = await post(rig, *range(3000))
        await asyncio.gather(*(host.drain(300.0) for host in hosts))
        assert len(rig.tenant.held) == 3000
        undone = await undo(rig, name)
        await asyncio.gather(*(host.drain(300.0) for host in hosts))
        assert not rig.tenant.held
        assert await counts(rig, undone.undo.header.id) == {"accepted": 3000}
        assert rig.tenant.lists <= 12, "each part reads the list for itself at most"

    virtual.run(main())


def test_while_no_call_may_be_made_an_undo_waits_without_failing() -> None:
    async def main() -> None:
        rig = Rig(Settings(exhausted_after=300.0))
        worker = rig.worker()
        host = Host(rig, worker)
        name = await post(rig, *range(20))
        await host.drain(20.0)
        now = worker.stores.clock.now()
        for budget in (worker.lists, worker.deletes, worker.batch_deletes):
            await budget.hold(now + 3000.0, "held")
        undone = await undo(rig, name)
        await host.serve(asyncio.get_running_loop().time() + 2000.0, poll=5.0)
        assert await counts(rig, undone.undo.header.id) == {"pending": 20}
        await host.drain(5000.0)
        assert await counts(rig, undone.undo.header.id) == {"accepted": 20}
        assert not rig.tenant.held and not await worker.letters.all()

    virtual.run(main())


def test_a_deletion_that_fails_is_tried_again() -> None:
    async def main() -> None:
        rig, host, name = await published(1, 2, 3)
        worker = host.publishing
        honest = worker.retirer._defender.delete
        failed: list[str] = []

        async def delete(id_: str, *, within: float) -> None:
            if len(failed) < 2:
                failed.append(id_)
                raise UnavailableError("down", status=503)
            await honest(id_, within=within)

        worker.retirer._defender.delete = delete  # type: ignore[method-assign]
        undone = await undo(rig, name)
        await host.drain(500.0)
        assert not rig.tenant.held and len(failed) == 2
        told = (await rig.read(undone.undo.header.id)).fold
        assert told.counts()["accepted"] == 3

    virtual.run(main())


def test_the_newest_intent_of_an_undo_is_kept_by_its_own_age() -> None:
    async def main() -> None:
        rig, host, name = await published(1)
        worker = host.publishing
        await asyncio.sleep(80 * 86_400.0)
        undone = await undo(rig, name)
        await host.drain(60.0)
        await asyncio.sleep(20 * 86_400.0)
        await worker.sweeper.retention()
        head = await worker.order.read(("DomainName", value(1)))
        assert head is not None and head.item.submission == undone.undo.header.id
        await asyncio.sleep(80 * 86_400.0)
        await worker.sweeper.retention()
        assert await worker.order.read(("DomainName", value(1))) is None

    virtual.run(main())


def test_the_history_of_a_value_tells_when_it_was_undone_and_in_which_order() -> None:
    async def main() -> None:
        rig, host, name = await published(1)
        worker = host.publishing
        await asyncio.sleep(1000.0)
        at = worker.stores.clock.now()
        undone = await undo(rig, name)
        await host.drain(60.0)
        uses = await intents.history(worker.stores.tables, ("DomainName", value(1)), "", 10)
        assert [use.submission for use in uses] == [undone.undo.header.id, name]
        assert uses[0].action == "Retraction" and uses[0].at >= at > uses[1].at
        following = await intents.history(worker.stores.tables, ("DomainName", value(1)), uses[0].place, 10)
        assert [use.submission for use in following] == [name]

    virtual.run(main())
