"""Pausing and resuming with a crash or a failing operation at every point, and by several people at once."""

from __future__ import annotations

import asyncio
import random

import pytest

from shared.errors import StorageError
from shared.publishing.budget import PAUSE_KEY, TABLE
from shared.publishing.pause import LOG
from shared.settings import Settings
from tests.support import virtual
from tests.support.gates import DiesAt, FailsAt
from tests.support.items import message
from tests.support.memory import Killed
from tests.support.rig import Host, Rig


@pytest.mark.parametrize("fault", ["kill", "fail"])
@pytest.mark.parametrize("order", ["pause", "resume", "tend"])
@pytest.mark.parametrize("mended_by", ["repetition", "timer"])
def test_at_every_point_it_is_paused_or_not_and_repeating_mends_it(order: str, fault: str, mended_by: str) -> None:
    async def once(point: int) -> int:
        rig = Rig(Settings(unsent_step=600.0))
        gate = (DiesAt if fault == "kill" else FailsAt)(point)
        steady = rig.worker()
        begun = steady.stores.clock.now()
        if order != "pause":
            await steady.pauses.pause("stop", begun + 100.0 if order == "tend" else None, "key")
            host = Host(rig, steady)
            rig.put({"indicators": [message(n) for n in range(3)]})
            await host.serve(40.0)
            assert not rig.tenant.calls and await steady.parts.all_open()
            await asyncio.sleep(70.0)
        crashing = rig.worker(gate=gate).pauses
        broke = False
        try:
            if order == "pause":
                await crashing.pause("stop", None, "key")
            elif order == "resume":
                await crashing.resume("go", "key")
            else:
                await crashing.tend()
        except (Killed, StorageError):
            broke = True
        assert broke == gate.met == bool(point)
        views = [await one.look() for one in (steady.imports, steady.deletes, steady.batch_deletes)]
        shut = {view.paused_until > steady.stores.clock.now() for view in views}
        assert len(shut) == 1, "some routes are paused and others are not"
        fresh = rig.worker()
        assert (await fresh.pauses.standing() is not None) in shut, "what is told is what is so"
        if mended_by == "timer":
            stands = await fresh.pauses.tend()
            assert (stands is not None) in shut
        if order == "pause":
            stale = views[0]
            await fresh.pauses.pause("stop", None, "key")
            assert all(view.paused_until for view in [await fresh.imports.look(), await fresh.deletes.look()])
            assert (await fresh.imports.look()).number in ((1, 2) if point else (1,))
            assert await steady.imports.take(type(stale)((), 0, 0.0, "", 0.0)) is None
        else:
            if mended_by == "repetition" or True in shut:
                await fresh.pauses.resume("go", "key")
            assert await fresh.pauses.standing(fresh=True) is None
            assert all(part.due <= steady.stores.clock.now() for part in await fresh.parts.all_open())
            loop = asyncio.get_running_loop()
            await Host(rig, fresh).serve(loop.time() + 10.0)
            assert len(rig.tenant.held) == 3 and len(rig.tenant.calls) == 1
            await fresh.pauses.tend()
            await asyncio.sleep(60.0)
            await fresh.pauses.tend()
            assert not rig.service.rows(TABLE, "import").get(PAUSE_KEY)
        entries = rig.service.rows(TABLE, LOG)
        assert len(entries) <= 3 + (mended_by == "timer")
        return gate.points

    points = virtual.run(once(0))
    assert points > 6
    for point in range(1, points + 1):
        virtual.run(once(point))


def test_two_who_resume_and_one_who_pauses_leave_one_state() -> None:
    """Whoever comes last, what stands is what all routes do, and no part is pointed to twice."""

    async def main(seed: int) -> None:
        rnd = random.Random(seed)
        rig = Rig()

        async def slow(_when: str, _what: str) -> None:
            await asyncio.sleep(rnd.choice((0.0, 0.01, 0.02, 0.1)))

        await rig.worker().pauses.pause("first", None, "key")
        rig.put(message(1))
        await Host(rig, rig.worker()).serve(10.0)
        people = [rig.worker(gate=slow).pauses for _ in range(4)]
        await asyncio.gather(
            people[0].resume("go", "a"),
            people[1].resume("go", "b"),
            people[2].pause("stop", None, "c"),
            people[3].tend(),
        )
        worker = rig.worker()
        stands = await worker.pauses.standing()
        views = [await one.look() for one in (worker.imports, worker.deletes, worker.batch_deletes)]
        assert {view.paused_until > 0 for view in views} == {stands is not None}
        [opened] = await worker.parts.all_open()
        assert opened.points <= 1 + len(people) - 1
        if stands:
            assert stands.by == "c"
            await worker.pauses.resume("go", "d")
        await Host(rig, worker).serve(asyncio.get_running_loop().time() + 10.0)
        assert len(rig.tenant.held) == 1

    for seed in range(60):
        virtual.run(main(seed))
