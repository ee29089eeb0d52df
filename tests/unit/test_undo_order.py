"""Undo against everything that can go on with the same value at the same moment, in every interleaving."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from shared.indicators.model import Action, Indicator
from shared.ledger.parts import UNDONE, PartItem
from tests.support.explore import Body, explore
from tests.support.fakes import indicator
from tests.support.rig import Host, Rig
from tests.unit.test_publishing_order import AUDIT, BLOCK, BLOCK_AGAIN, KEY, VALUE, after, at_rest, body, item

UNDONE_ITEM = item(1, BLOCK)


def undoing(what: PartItem, number: int = 7) -> PartItem:
    """The retraction that undoes an item."""
    name = f"20261123{number:x}0000000000000000"
    return dataclasses.replace(
        what, submission=name, origin="0000", indicator=None, as_of=what.submission, step=UNDONE, first_seen=50.0
    )


@pytest.mark.parametrize("crashes", [0, 1])
def test_published_in_this_very_moment(crashes: int) -> None:
    bodies = [body(UNDONE_ITEM), body(undoing(UNDONE_ITEM))]
    runs, all_of_them = explore(bodies, at_rest(None), crashes=crashes, most=3000)
    assert all_of_them
    assert runs > 10


def test_delivered_twice_beside_its_undo() -> None:
    bodies = [body(UNDONE_ITEM), body(UNDONE_ITEM), body(undoing(UNDONE_ITEM))]
    runs, _ = explore(bodies, at_rest(None), crashes=0)
    assert runs > 50


def test_two_undos_at_once() -> None:
    bodies = [after(BLOCK, body(undoing(item(0, BLOCK), n))) for n in (7, 8)]
    runs, _ = explore(bodies, at_rest(None), crashes=0)
    assert runs > 10


@pytest.mark.parametrize("newer", [BLOCK_AGAIN, AUDIT], ids=["renewed", "other action"])
@pytest.mark.parametrize("crashes", [0, 1])
def test_a_newer_intent_survives_the_undo_of_what_had_landed(newer: Indicator, crashes: int) -> None:
    bodies = [after(BLOCK, body(undoing(item(0, BLOCK)))), after(BLOCK, body(item(2, newer)))]
    runs, _ = explore(bodies, at_rest(newer), crashes=crashes)
    assert runs > 10


def test_a_newer_intent_survives_the_undo_of_what_is_on_its_way() -> None:
    bodies = [body(UNDONE_ITEM), body(undoing(UNDONE_ITEM)), body(item(2, AUDIT))]
    runs, _ = explore(bodies, at_rest(AUDIT), crashes=0)
    assert runs > 50


def test_an_older_one_that_arrives_late_does_not_stand() -> None:
    bodies = [body(item(0, indicator(VALUE, Action.WARN, title="older"))), body(undoing(UNDONE_ITEM))]
    runs, all_of_them = explore(bodies, at_rest(None), crashes=0)
    assert all_of_them and runs > 10


@pytest.mark.parametrize("crashes", [0, 1])
def test_what_somebody_else_made_is_never_deleted(crashes: int) -> None:
    """The submission's own call goes over somebody else's indicator, which is updated in place."""

    def beside_theirs(then: Body) -> Body:
        async def run(rig: Rig, gate: Any, start: int) -> None:
            if not rig.tenant.theirs:
                rig.tenant.portal(BLOCK.payload())
            await then(rig, gate, start)

        return run

    async def check(rig: Rig) -> None:
        await Host(rig, rig.worker()).drain(600.0, poll=5.0)
        held = {key: row["id"] for key, row in rig.tenant.held.items() if key[:2] == KEY}
        assert set(held.values()) == rig.tenant.theirs, held
        head = await rig.worker().order.read(KEY)
        assert head is not None and head.item.indicator is None and not head.landed

    bodies = [beside_theirs(body(UNDONE_ITEM)), beside_theirs(body(undoing(UNDONE_ITEM)))]
    runs, all_of_them = explore(bodies, check, crashes=crashes, most=3000)
    assert all_of_them
    assert runs > 10
