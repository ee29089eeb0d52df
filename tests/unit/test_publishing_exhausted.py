"""Giving up: only what has failed for long, never what was merely not sent or lay in the queue; always told."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.errors import StorageError, UnavailableError
from shared.indicators.model import Action
from shared.ledger.ids import foreign_submission
from shared.ledger.parts import PartItem
from shared.publishing.order import fold
from shared.settings import Settings
from tests.support import virtual
from tests.support.fakes import indicator
from tests.support.rig import Host, Rig

SETTINGS = Settings(exhausted_after=600.0)
MESSAGE = {"indicatorValue": "evil-domain.com", "action": "Block"}


def down(_payloads: Any) -> UnavailableError:
    return UnavailableError("down", status=503)


def old_message(rig: Rig, seconds: float) -> str:
    """A message that has lain in the queue for so long."""
    rig.put(MESSAGE)
    waiting = next(iter(rig.service.messages.values()))
    waiting[3] = datetime.fromtimestamp(int(rig.service.now() - seconds), UTC)
    return foreign_submission(waiting[1], waiting[3])


def test_what_lay_in_the_queue_for_long_is_not_given_up_at_its_first_failure() -> None:
    async def main() -> None:
        rig = Rig(SETTINGS)
        host = Host(rig, rig.worker())
        rig.tenant.fault = down
        name = old_message(rig, 5000.0)
        await host.serve(5.0)
        assert (await rig.read(name)).fold.counts()["deferred"] == 1
        rig.tenant.fault = None
        await host.drain(600.0)
        assert (await rig.read(name)).fold.counts()["accepted"] == 1

    virtual.run(main())


def test_what_was_not_sent_is_never_given_up() -> None:
    async def main() -> None:
        rig = Rig(SETTINGS)
        worker = rig.worker()
        await worker.imports.hold(worker.stores.clock.now() + 3000.0, "paused")
        host = Host(rig, worker)
        name = old_message(rig, 5000.0)
        over = asyncio.get_running_loop().time() + 3100.0
        rig.tenant.fault = lambda _payloads: down(_payloads) if asyncio.get_running_loop().time() < over else None
        await host.drain(6000.0)
        assert (await rig.read(name)).fold.counts()["accepted"] == 1
        assert rig.tell.counters["deferred"] > 1, "it failed, when it was sent at last"
        assert not rig.service.all_rows("deadletters")

    virtual.run(main())


def test_what_has_failed_for_long_is_given_up_and_kept() -> None:
    async def main() -> None:
        rig = Rig(SETTINGS)
        host = Host(rig, rig.worker())
        rig.tenant.fault = down
        name = rig.put(MESSAGE)
        await host.drain(6000.0)
        known = await rig.read(name)
        assert known.fold.reasons() == {"exhausted": 1}
        assert len(await host.publishing.letters.all()) == 1

    virtual.run(main())


def test_a_reassert_that_is_given_up_raises_an_alarm() -> None:
    async def main() -> None:
        rig = Rig(SETTINGS)
        host = Host(rig, rig.worker())
        made = indicator("evil-domain.com", Action.AUDIT)
        item = PartItem("20261122a0000000000000000", "m", 0, 1.0, 1.0, made.key, made)
        staged = await host.publishing.order.stage(fold([item]))
        rig.tenant.fault = down
        await host.publishing.order.reassert([staged[0].head.item])
        await host.drain(6000.0)
        assert [kind for kind, _ in rig.tell.alarms].count("reassert_exhausted") == 1
        assert not await host.publishing.letters.all()

    virtual.run(main())


def test_a_letter_whose_items_are_gone_is_not_replayed_as_nothing() -> None:
    async def main() -> None:
        rig = Rig(SETTINGS)
        host = Host(rig, rig.worker())
        rig.tenant.fault = down
        rig.put(MESSAGE)
        await host.drain(6000.0)
        (letter,) = await host.publishing.letters.all()
        rig.service.blobs.clear()
        with pytest.raises(StorageError):
            await host.publishing.replays.replay(letter.id, caller="key")
        (still,) = await host.publishing.letters.all()
        assert still == letter

    virtual.run(main())
