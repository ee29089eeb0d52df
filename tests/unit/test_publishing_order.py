"""Order: in every interleaving of workers' steps, with a crash and a redelivery anywhere, the newest intent stands."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from shared.errors import UnavailableError
from shared.indicators.model import Action, Indicator
from shared.ledger.parts import PartItem
from shared.publishing.answers import gather, send, stage
from shared.publishing.budget import Permit
from shared.publishing.order import fold
from shared.publishing.settle import Entry
from tests.support import virtual
from tests.support.explore import Body, explore
from tests.support.fakes import indicator
from tests.support.rig import Host, Rig

VALUE = "evil-domain.com"
KEY = ("DomainName", VALUE)


def item(at: float, what: Indicator | None, **fields: Any) -> PartItem:
    return PartItem(f"20261122a{int(at):016d}", "m", 0, at, at, KEY, what, **fields)


def body(what: PartItem) -> Body:
    """A worker that publishes one item as the group commit does; started again it knows that it may have sent."""

    async def publish(rig: Rig, gate: Any, start: int) -> None:
        worker = rig.worker(gate=gate)
        worker.control._written_at = float("inf")  # one write less to interleave; the control has tests of its own
        mine = dataclasses.replace(what, maybe_sent=start > 0)
        entry = Entry(mine, None, 0.0, asyncio.get_running_loop().create_future())
        if mine.indicator is None:
            await worker.retractions.carry_out([entry])
            return
        chosen = gather([entry])
        await stage(worker.order, chosen)
        if not chosen[0].staged.ours:
            await worker.settler.settle(chosen[0].superseded())
            return
        clock = worker.stores.clock
        defender = worker.retirer._defender
        verdicts = await send(defender, chosen, Permit(1, clock.now()), clock, rig.tell)
        await worker.answers.conclude(list(zip(chosen, verdicts, strict=True)), f"call{start}{what.submission}")

    return publish


def at_rest(newest: Indicator | None) -> Any:
    async def check(rig: Rig) -> None:
        await Host(rig, rig.worker()).drain(600.0, poll=5.0)
        held = [row for key, row in rig.tenant.held.items() if key[:2] == KEY]
        wanted = [] if newest is None else [newest.action.value]
        assert [row["action"] for row in held] == wanted, f"Defender holds {held}"
        if newest is not None:
            assert held[0]["title"] == newest.title, "an older intent's fields stand"
        head = await rig.worker().order.read(KEY)
        assert head is not None and head.item.indicator == newest
        assert not rig.service.messages

    return check


BLOCK = indicator(VALUE, title="older")
BLOCK_AGAIN = indicator(VALUE, title="newer")
AUDIT = indicator(VALUE, Action.AUDIT, title="newer")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("older", "newer"),
    [(BLOCK, BLOCK_AGAIN), (BLOCK, AUDIT), (BLOCK, None), (None, BLOCK_AGAIN)],
    ids=["renewed", "other action", "retracted", "put again"],
)
@pytest.mark.parametrize("crashes", [0, 1])
def test_two_workers_every_interleaving(older: Indicator | None, newer: Indicator | None, crashes: int) -> None:
    bodies = [body(item(1, older)), body(item(2, newer))]
    runs, all_of_them = explore(bodies, at_rest(newer), crashes=crashes, most=3000)
    assert all_of_them
    assert runs > (10 if not crashes else 50)


def test_the_same_item_delivered_twice_beside_a_newer_one() -> None:
    older = item(1, BLOCK)
    runs, _ = explore([body(older), body(older), body(item(2, AUDIT))], at_rest(AUDIT), crashes=0)
    assert runs > 50


def after(first: Indicator, then: Body) -> Body:
    """`then` on a head and a tenant where `first` has landed long ago."""

    async def publish(rig: Rig, gate: Any, start: int) -> None:
        if not rig.service.all_rows("intents"):
            rows = rig.worker().order
            staged = await rows.stage(fold([item(0, first)]))
            await rows.land([(staged[0], rig.tenant.put(first.payload()))])
        await then(rig, gate, start)

    return publish


@pytest.mark.parametrize("between", [AUDIT, None], ids=["other action", "retracted"])
@pytest.mark.parametrize("crashes", [0, 1])
def test_what_is_removed_for_an_older_intent_is_put_back_for_the_newest(
    between: Indicator | None, crashes: int
) -> None:
    bodies = [after(BLOCK, body(item(1, between))), after(BLOCK, body(item(2, BLOCK_AGAIN)))]
    runs, _ = explore(bodies, at_rest(BLOCK_AGAIN), crashes=crashes)
    assert runs > 10


def test_an_older_item_that_may_have_landed_is_removed_though_the_newest_took_its_call() -> None:
    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        older = item(1, BLOCK, maybe_sent=True)
        await worker.order.stage(fold([older]))
        rig.tenant.put(BLOCK.payload())  # its worker died before the answer
        loop = asyncio.get_running_loop()
        entries = [Entry(what, None, loop.time(), loop.create_future()) for what in (older, item(2, AUDIT))]
        worker.committer.add(entries)
        await asyncio.wait([entry.result for entry in entries])
        await at_rest(AUDIT)(rig)

    virtual.run(main())


def test_one_item_twice_in_a_call() -> None:
    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        body = b'{"indicatorValue": "evil-domain.com", "action": "Block", "title": "older"}'
        name = (await worker.submitting.submit(body, caller="key")).id
        for waiting in list(rig.service.messages.values()):
            rig.outside.put(waiting[2])
        await Host(rig, worker).drain(10.0)
        assert (await rig.read(name)).fold.counts()["accepted"] == 1
        assert len(rig.tenant.calls) == 1 and not rig.tell.alarms

    virtual.run(main())


def test_the_newest_is_not_deleted_under_the_id_it_shares_with_what_it_replaced() -> None:
    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        staged = await worker.order.stage(fold([item(1, BLOCK)]))
        await worker.order.land([(staged[0], "7")])
        staged = await worker.order.stage(fold([item(2, AUDIT)]))
        landed = await worker.order.land([(staged[0], "7")])
        rig.tenant.held[*KEY, "Audit"] = {**AUDIT.payload(), "id": "7"}
        assert [one.error for one in await worker.retirer.retire([landed[0].head], 5.0)] == [None]
        await at_rest(AUDIT)(rig)

    virtual.run(main())


def test_a_reassert_of_an_old_intent_outlives_an_outage() -> None:
    async def main() -> None:
        rig = Rig()
        host = Host(rig, rig.worker())
        loop = asyncio.get_running_loop()
        staged = await host.publishing.order.stage(fold([item(virtual.START - 30 * 86_400, AUDIT)]))
        rig.tenant.put(AUDIT.payload())
        over = loop.time() + 100.0
        rig.tenant.fault = lambda _payloads: UnavailableError("down", status=503) if loop.time() < over else None
        rig.tenant.held.clear()  # as a late call of an older intent would have left it
        await host.publishing.order.reassert([staged[0].head.item])
        await at_rest(AUDIT)(rig)

    virtual.run(main())


def test_folding_keeps_the_newest_and_shares_its_outcome_with_equals() -> None:
    equal = dataclasses.replace(item(2, BLOCK_AGAIN), submission="20261122b0000000000000000")
    groups = fold([item(1, BLOCK), item(3, BLOCK_AGAIN), equal, item(2, AUDIT)])
    assert len(groups) == 1
    assert groups[0].lead.intent_at == 3
    assert groups[0].equals == [equal]
    assert {older.action for older in groups[0].older} == {"Block", "Audit"}


def test_a_block_deferred_by_an_outage_and_then_changed_does_not_come_back() -> None:
    async def main(newer: str) -> None:
        rig = Rig()
        host = Host(rig, rig.worker())
        rig.tenant.fault = lambda _payloads: UnavailableError("down", status=503)
        old = rig.put({"indicatorValue": VALUE, "action": "Block"})
        await host.serve(5.0)
        counts = (await rig.read(old)).fold.counts()
        assert counts["deferred"] == 1 and counts["rejected"] == 0
        rig.tenant.fault = None
        worker = rig.worker()
        if newer == "Audit":
            rig.put({"indicatorValue": VALUE, "action": "Audit"})
        else:
            retraction = item(worker.stores.clock.now(), None)
            await worker.order.stage(fold([retraction]))
        await host.drain(4000.0)
        assert rig.tenant.actions(VALUE) == (["Audit"] if newer == "Audit" else [])
        counts = (await rig.read(old)).fold.counts()
        assert counts["superseded"] == 1 and counts["deferred"] == 0

    virtual.run(main("Audit"))
    virtual.run(main("Retraction"))
