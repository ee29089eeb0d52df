"""Retiring what newer intents have replaced: only what is ours, in bounded time, whatever is gone already."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.indicators.model import Action
from shared.ledger.intents import Head
from shared.ledger.outcomes import State
from shared.ledger.parts import PartItem
from shared.publishing.order import fold
from shared.publishing.retire import _key
from tests.support import virtual
from tests.support.fakes import indicator
from tests.support.rig import Host, Rig

COUNT = 500


def names(n: int) -> str:
    return f"h{n}.evil-domain.com"


async def replaced(rig: Rig, *, known: bool = True) -> list[Head]:
    """Heads whose newest intent is Audit and beside which a Block of ours stands; its id is `known` or not."""
    order = rig.worker().order
    heads = []
    for at, action in enumerate((Action.BLOCK, Action.AUDIT)):
        made = [indicator(names(n), action) for n in range(COUNT)]
        items = [PartItem("20261122a0000000000000000", "m", n, at, at, made[n].key, made[n]) for n in range(COUNT)]
        staged = await order.stage(fold(items))
        ids = [rig.tenant.put(one.payload()) for one in made]
        landed = await order.land(
            [(one, ids[n] if known or action is Action.AUDIT else "") for n, one in enumerate(staged)]
        )
        heads = [one.head for one in landed]
    return sorted(heads, key=lambda head: head.item.ordinal)


@pytest.mark.parametrize("gone", [0, 1, 3, COUNT])
def test_a_whole_call_is_retired_in_bounded_time(gone: int) -> None:
    async def main() -> None:
        rig = Rig()
        heads = await replaced(rig)
        for n in range(gone):
            del rig.tenant.held["DomainName", names(n * (COUNT // gone)), "Block"]
        began = asyncio.get_running_loop().time()
        results = await rig.worker().retirer.retire(heads, 30.0)
        assert asyncio.get_running_loop().time() - began <= 35.0
        blocks = sum(key[2] == "Block" for key in rig.tenant.held)
        assert [one.error for one in results] == [None] * COUNT
        assert blocks == 0
        assert sum(key[2] == "Audit" for key in rig.tenant.held) == COUNT

    virtual.run(main())


def test_many_of_unknown_id_are_found_by_reading_the_whole_list_once() -> None:
    async def main() -> None:
        rig = Rig()
        heads = await replaced(rig, known=False)
        results = await rig.worker().retirer.retire(heads, 30.0)
        assert [one.error for one in results] == [None] * COUNT
        assert {key[2] for key in rig.tenant.held} == {"Audit"}
        assert rig.tenant.lists == 1

    virtual.run(main())


@pytest.mark.parametrize("number", [1, 10, 11, COUNT])
def test_only_what_this_app_created_is_deleted(number: int) -> None:
    """An import over somebody else's indicator updates theirs in place, and its answer is their id."""

    async def main() -> None:
        rig = Rig()
        theirs = [rig.tenant.portal(indicator(names(n)).payload()) for n in range(0, COUNT, 2)]
        heads = (await replaced(rig))[:number]
        results = await rig.worker().retirer.retire(heads, 30.0)
        assert [one.error for one in results] == [None] * number
        assert [one.deleted for one in results] == [n % 2 for n in range(number)]
        assert [one.others for one in results] == [("Block",) if n % 2 == 0 else () for n in range(number)]
        left = {row["id"] for row in rig.tenant.held.values()}
        assert left >= set(theirs), "somebody else's indicator was deleted"
        assert sum(key[2] == "Block" for key in rig.tenant.held) == COUNT - number // 2
        for head in heads:
            newest = await rig.worker().order.read(head.item.key)
            assert newest is not None and [entry.action for entry in newest.landed] == ["Audit"]

    virtual.run(main())


def test_a_row_that_two_pages_missed_is_looked_up_by_its_value() -> None:
    async def main() -> None:
        rig = Rig()
        rig.tenant.page = 300
        heads = (await replaced(rig))[300:340]
        worker = rig.worker()
        honest = worker.retirer._defender.all_held

        async def moving(cursor: str | None, *, within: float) -> Any:
            page = await honest(cursor, within=within)
            if cursor is None:
                # Somebody deletes what stands before: the rows after it move up, behind the reader's back.
                for n in range(40):
                    del rig.tenant.held["DomainName", names(n), "Block"]
            return page

        worker.retirer._defender.all_held = moving  # type: ignore[method-assign]
        results = await worker.retirer.retire(heads, 30.0)
        assert [one.error for one in results] == [None] * 40
        assert not [n for n in range(300, 340) if "Block" in rig.tenant.actions(names(n))]

    virtual.run(main())


def test_those_who_ask_while_the_list_is_read_share_the_next_reading() -> None:
    async def main() -> None:
        rig = Rig()
        heads = await replaced(rig)
        worker = rig.worker()
        pieces = [heads[at : at + 50] for at in range(0, COUNT, 50)]
        results = await asyncio.gather(*(worker.retirer.retire(piece, 30.0) for piece in pieces))
        assert all(one.error is None for piece in results for one in piece)
        assert {key[2] for key in rig.tenant.held} == {"Audit"}
        assert rig.tenant.lists == 2, "the first reads for itself, the others together"
        assert worker.retirer._found is None, "what was found is kept for nobody"

    virtual.run(main())


def test_the_case_of_a_hash_is_not_what_tells_indicators_apart() -> None:
    assert _key("FileSha1", "ABC") == _key("FileSha1", "abc")
    assert _key("Url", "https://a.example/B") != _key("Url", "https://a.example/b")


def test_what_is_said_of_an_accepted_change_beside_somebody_elses_indicator() -> None:
    async def main() -> None:
        rig = Rig()
        host = Host(rig, rig.worker())
        rig.tenant.portal(indicator(names(1)).payload())
        rig.put({"indicatorValue": names(1), "action": "Block"})
        await host.drain(20.0)
        await asyncio.sleep(2.0)
        name = rig.put({"indicatorValue": names(1), "action": "Audit"})
        await host.drain(20.0)
        told = (await rig.read(name)).fold.fates[0]
        assert told.state is State.ACCEPTED and "Somebody else's indicator" in told.text and "Block" in told.text
        assert rig.tenant.actions(names(1)) == ["Audit", "Block"]

    virtual.run(main())


def test_a_change_of_action_of_a_whole_call_ends_within_the_deadline() -> None:
    async def main() -> None:
        rig = Rig()
        host = Host(rig, rig.worker())
        rig.put({"indicators": [{"indicatorValue": names(n), "action": "Block"} for n in range(COUNT)]})
        await host.drain(20.0)
        await asyncio.sleep(2.0)
        del rig.tenant.held["DomainName", names(7), "Block"]
        name = rig.put({"indicators": [{"indicatorValue": names(n), "action": "Audit"} for n in range(COUNT)]})
        await host.serve(asyncio.get_running_loop().time() + 30.0)
        counts = (await rig.read(name)).fold.counts()
        assert (counts["accepted"], counts["deferred"]) == (COUNT - 1, 1), (
            "what the list does not show is looked for again"
        )
        await host.drain(100.0)
        assert (await rig.read(name)).fold.counts()["accepted"] == COUNT
        assert {key[2] for key in rig.tenant.held} == {"Audit"}

    virtual.run(main())


def test_when_list_calls_are_many_the_whole_list_is_read_for_a_few_values_too() -> None:
    async def main() -> None:
        rig = Rig()
        heads = await replaced(rig)
        worker = rig.worker()
        for at in range(0, 60, 5):
            assert [one.error for one in await worker.retirer.retire(heads[at : at + 5], 30.0)] == [None] * 5
        assert rig.tenant.lists <= 6 * 5 + 6, "five calls each time"
        assert sum(key[2] == "Block" for key in rig.tenant.held) == COUNT - 60

    virtual.run(main())


@pytest.mark.parametrize("newer", ["Audit", "undo"])
def test_what_the_list_shows_late_is_removed_all_the_same(newer: str) -> None:
    """Nobody knows how soon Defender's list shows what an import has taken."""

    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        host = Host(rig, worker)
        name = rig.put({"indicatorValue": names(1), "action": "Block"})
        await host.drain(20.0)
        await asyncio.sleep(2.0)
        honest = worker.retirer._defender.held
        late = asyncio.get_running_loop().time() + 30.0

        async def held(kind: str, value: str, *, within: float) -> Any:
            shown = await honest(kind, value, within=within)
            return shown if asyncio.get_running_loop().time() > late else []

        worker.retirer._defender.held = held  # type: ignore[method-assign]
        if newer == "undo":
            assert await worker.undoing.undo(name, caller="key")
        else:
            rig.put({"indicatorValue": names(1), "action": newer})
        await host.drain(200.0)
        assert rig.tenant.actions(names(1)) == ([] if newer == "undo" else [newer])

    virtual.run(main())
