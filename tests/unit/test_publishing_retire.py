"""Retiring what newer intents have replaced: by its id, in bounded time, whatever is gone already."""

from __future__ import annotations

import asyncio

import pytest

from shared.indicators.model import Action
from shared.ledger.intents import Head
from shared.ledger.parts import PartItem
from shared.publishing.order import fold
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
    return heads


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
        undone = sum(error is not None for error in results)
        assert blocks <= undone
        if gone < 2:
            assert undone == 0
        else:
            assert undone <= COUNT - 95, "neither whole nor in halves nor one by one"
        assert sum(key[2] == "Audit" for key in rig.tenant.held) == COUNT

    virtual.run(main())


def test_many_of_unknown_id_are_looked_up_as_the_budget_allows() -> None:
    async def main() -> None:
        rig = Rig()
        heads = await replaced(rig, known=False)
        began = asyncio.get_running_loop().time()
        results = await rig.worker().retirer.retire(heads, 30.0)
        assert asyncio.get_running_loop().time() - began <= 35.0
        undone = sum(error is not None for error in results)
        assert undone == sum(key[2] == "Block" for key in rig.tenant.held) <= COUNT - 99
        assert undone >= COUNT - 100, "more list calls than the budget has"

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
        await host.drain(60.0)
        assert (await rig.read(name)).fold.counts()["accepted"] == COUNT
        assert {key[2] for key in rig.tenant.held} == {"Audit"}

    virtual.run(main())
