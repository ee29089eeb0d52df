"""Group commit from message to outcome, on memory stores in virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

from shared.ledger.outcomes import State
from tests.support import virtual
from tests.support.rig import Host, Rig


def message(n: int, **fields: Any) -> dict[str, Any]:
    return {"indicatorValue": f"h{n}.evil-domain.com", "action": "Block", **fields}


def test_a_lone_message_is_accepted_at_once() -> None:
    async def main() -> None:
        rig = Rig()
        host = Host(rig, rig.worker())
        name = rig.put(message(1))
        await host.drain(5.0)
        known = await rig.read(name)
        assert known.finished and known.fold.counts()["accepted"] == 1
        assert rig.tenant.actions("h1.evil-domain.com") == ["Block"]
        assert len(rig.tenant.calls) == 1

    virtual.run(main())


def test_thirteen_thousand_messages_with_three_workers_keep_to_the_budget() -> None:
    async def main() -> None:
        rig = Rig()
        names = [rig.put(message(n)) for n in range(13_000)]
        hosts = [Host(rig, rig.worker(skew=skew, table_seconds=0.01)) for skew in (0.0, 0.5, -0.5)]
        await asyncio.gather(*(host.drain(300.0) for host in hosts))
        assert rig.tenant.throttled == 0
        assert len(rig.tenant.calls) <= 33
        for name in names[::97]:
            known = await rig.read(name)
            assert known.fold.counts()["accepted"] == 1
        assert len(rig.tenant.held) == 13_000

    virtual.run(main())


def test_a_newer_action_replaces_the_older_at_defender() -> None:
    async def main() -> None:
        rig = Rig()
        host = Host(rig, rig.worker())
        first = rig.put(message(1))
        await host.drain(5.0)
        await asyncio.sleep(2)
        second = rig.put(message(1, action="Audit"))
        await host.drain(20.0)
        assert rig.tenant.actions("h1.evil-domain.com") == ["Audit"]
        for name in (first, second):
            assert (await rig.read(name)).fold.state(0) is State.ACCEPTED

    virtual.run(main())


def test_one_bad_item_among_five_hundred() -> None:
    async def main() -> None:
        for kind in ("refused", "sinking"):
            rig = Rig()
            host = Host(rig, rig.worker())
            good = rig.put(message(1000))
            await host.drain(5.0)
            getattr(rig.tenant, kind).add("h77.evil-domain.com")
            name = rig.put({"indicators": [message(n) for n in range(500)]})
            await host.drain(1200.0)
            known = await rig.read(name)
            counts = known.fold.counts()
            assert (counts["accepted"], counts["rejected"], counts["pending"]) == (499, 1, 0), (kind, counts)
            assert known.fold.state(77) is State.REJECTED
            assert "refused" in known.fold.fates[77].text.lower()
            assert (await rig.read(good)).finished

    virtual.run(main())


def test_each_submission_has_its_log_line_with_its_incident() -> None:
    async def main() -> None:
        rig = Rig()
        host = Host(rig, rig.worker())
        name = rig.put({"incident": 4711, "indicators": [message(1), message(2)]})
        await host.drain(10.0)
        lines = [fields for event, fields in rig.tell.events if event == "outcome"]
        assert [(line["submission"], line["incident"], line["accepted"]) for line in lines] == [(name, "4711", 2)]

    virtual.run(main())


def test_what_is_left_of_a_part_is_not_run_together_with_what_moved() -> None:
    """Some items of a stored part fail and move, some are not sent: each lies in one place afterwards."""
    from shared.errors import UnavailableError
    from shared.settings import Limit, Settings

    async def main() -> None:
        rig = Rig(Settings(limit_import=(Limit(1, 300.0),), call_size=3))
        worker = rig.worker()
        body = [message(n) for n in range(8)]
        import json

        taken = await worker.submitting.submit(json.dumps(body).encode(), caller="key")
        rig.tenant.fault = lambda _payloads: UnavailableError("down", status=503)
        host = Host(rig, worker)
        await host.serve(100.0)
        rig.tenant.fault = None
        parts = [await worker.parts.load(part.id) for part in await worker.parts.all_open()]
        ordinals = sorted(item.ordinal for part in parts if part for item in part.items)
        assert ordinals == list(range(8)), "an item lies in two parts, or in none"
        await host.drain(20_000.0)
        counts = (await rig.read(taken.id)).fold.counts()
        assert counts["accepted"] == 8

    virtual.run(main())


def test_under_a_hold_messages_do_not_stay_in_the_worker() -> None:
    """No call can start in time: the messages are made into parts within seconds, and come back afterwards."""

    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        await worker.imports.hold(worker.stores.clock.now() + 900.0, "paused")
        host = Host(rig, worker)
        names = [rig.put(message(n)) for n in range(40)]
        await host.serve(4.0)
        counts = [(await rig.read(name)).fold.counts() for name in names]
        assert all(count["deferred"] == 1 for count in counts)
        assert not rig.tenant.calls
        assert len(await worker.parts.all_open()) <= 3, "gathered, not one part each"
        await host.drain(3000.0)
        assert len(rig.tenant.held) == 40

    virtual.run(main())
