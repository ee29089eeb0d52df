"""Deliveries of one message that do not see the same, and what retention must leave alone."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import Any

from shared.errors import UnavailableError
from shared.settings import Settings
from tests.support import virtual
from tests.support.rig import Host, Rig


def message(n: int, **fields: Any) -> dict[str, Any]:
    return {"indicatorValue": f"h{n}.evil-domain.com", "action": "Block", **fields}


def test_a_setting_that_changes_between_two_deliveries_loses_no_verdict() -> None:
    async def main() -> None:
        rig = Rig()

        async def gate(when: str, what: str) -> None:
            if (when, what) == ("after", "transact submissions"):
                host.die()

        host = Host(rig, rig.worker(gate=gate))
        rejected = message(1, title="x" * 300)
        name = rig.put({"indicators": [rejected, message(2, title="y" * 150), message(3)]})
        await host.serve(30.0)
        assert (await rig.read(name)).fold.counts()["rejected"] == 1
        rig.settings = dataclasses.replace(rig.settings, title_max=100)
        await Host(rig, rig.worker()).drain(2000.0)
        counts = (await rig.read(name)).fold.counts()
        assert (counts["rejected"], counts["accepted"], counts["pending"]) == (2, 1, 0)

    virtual.run(main())


def test_retention_leaves_what_still_waits() -> None:
    """A submission whose part was held back for longer than outcomes are kept is not taken for an abandoned one."""

    async def main() -> None:
        rig = Rig(Settings(keep_outcomes_days=1.0))
        worker = rig.worker()
        await worker.imports.hold(worker.stores.clock.now() + 3 * 86_400.0, "paused")
        body = json.dumps({"indicators": [message(1), message(2, title="x" * 300)]}).encode()
        name = (await worker.submitting.submit(body, caller="key")).id
        done = (await worker.submitting.submit(json.dumps(message(3, title="x" * 300)).encode(), caller="key")).id
        rig.service.messages.clear()
        await asyncio.sleep(2 * 86_400.0)
        await worker.sweeper.retention()
        assert await worker.submissions.read(done) is None
        await asyncio.sleep(86_400.0 + 100.0)
        await worker.sweeper.overdue()
        await Host(rig, worker).drain(1000.0)
        assert (await rig.read(name)).fold.counts()["accepted"] == 1
        await worker.sweeper.retention()
        assert await worker.submissions.read(name) is None

    virtual.run(main())


def test_retention_does_not_delete_an_intent_that_is_renewed_meanwhile() -> None:
    async def main() -> None:
        rig = Rig(Settings(keep_intents_days=1.0))
        host = Host(rig, rig.worker())
        rig.put(message(1, expirationTime="2026-09-22T00:00:00Z"))
        await host.drain(10.0)
        await asyncio.sleep(4 * 86_400.0)
        armed = True

        async def gate(when: str, what: str) -> None:
            nonlocal armed
            if armed and (when, what) == ("after", "query intents") and rig.service.answer:
                armed = False
                rig.tenant.fault = lambda _payloads: UnavailableError("down", status=503)
                rig.put(message(1))
                await Host(rig, rig.worker()).serve(asyncio.get_running_loop().time() + 10.0)
                rig.tenant.fault = None

        await rig.worker(gate=gate).sweeper.retention()
        assert not armed
        head = await host.publishing.order.read(("DomainName", "h1.evil-domain.com"))
        assert head is not None, "the newest intent was forgotten while it was on its way"
        await host.drain(1000.0)
        assert rig.tenant.actions("h1.evil-domain.com") == ["Block"]
        await asyncio.sleep(200 * 86_400.0)
        await rig.worker().sweeper.retention()
        assert not rig.service.all_rows("intents")

    virtual.run(main())
