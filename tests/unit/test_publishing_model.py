"""Anything at once: two workers, values meant again and again, faults and deaths at any operation, messages delivered
twice. At rest the ledger is complete, and Defender holds what a model of three lines says.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.settings import Settings
from tests.support import share, virtual
from tests.support.crash import World
from tests.support.rig import Host
from tests.support.troubles import Troubled

VALUES = 4


@dataclasses.dataclass(frozen=True)
class Sent:
    """A message: (value, action) of its items, by which door, and seconds until the next one."""

    items: list[tuple[int, str]]
    http: bool
    pause: float


@dataclasses.dataclass(frozen=True)
class Trouble:
    """What happens to one of the two workers at its n-th point."""

    worker: int
    point: int
    kind: str


messages = st.builds(
    Sent,
    st.lists(
        st.tuples(st.integers(0, VALUES - 1), st.sampled_from(["Block", "Audit", "Warn"])), min_size=1, max_size=4
    ),
    st.booleans(),
    st.sampled_from([0.0, 0.05, 1.0, 3.0, 40.0]),
)
troubles = st.builds(
    Trouble,
    st.integers(0, 1),
    st.integers(1, 150),
    st.sampled_from(["kill", "fail", "fail", "slow", "again"]),
)


def a_host(world: World, plan: dict[int, str]) -> Host:
    gate = Troubled(world, plan)
    worker = world.rig.worker(gate=gate)
    worker.settler._rnd = random.Random(1)
    gate.host = Host(world.rig, worker)
    return gate.host


async def run(sent: list[Sent], plan: list[Trouble]) -> None:
    world = World(Settings(overdue_after=700.0), "none", 0)
    rig = world.rig
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    hosts = [a_host(world, {t.point: t.kind for t in plan if t.worker == n}) for n in (0, 1)]
    serving = [asyncio.ensure_future(host.serve(900.0, poll=0.3)) for host in hosts]
    newest: dict[int, tuple[tuple[float, str, int], str]] = {}
    door = rig.worker()
    for message in sent:
        items: list[dict[str, Any]] = [
            {"indicatorValue": f"h{n}.evil-domain.com", "action": action} for n, action in message.items
        ]
        body = {"indicators": items}
        if message.http:
            name = (await door.submitting.submit(json.dumps(body).encode(), caller="key")).id
            known = await door.submissions.read(name)
            assert known is not None
            at = known.header.intent_at
        else:
            name = rig.put(body)
            at = float(int(rig.service.now()))
        for ordinal, (n, action) in enumerate(message.items):
            order = (at, name, ordinal)
            if n not in newest or newest[n][0] < order:
                newest[n] = (order, action)
        world.total[name] = len(items)
        await asyncio.sleep(message.pause)
    await asyncio.gather(*serving)
    for host in hosts:
        host.die()  # the calm after it is another worker's
    world.hit = "troubles"
    world.first = Host(rig, rig.worker())
    await world.finish()
    world.check()
    for n, (_, action) in newest.items():
        assert rig.tenant.actions(f"h{n}.evil-domain.com") == [action], (n, newest[n])


@given(st.lists(messages, min_size=1, max_size=8), st.lists(troubles, max_size=6))
@settings(max_examples=600 if share.exhaustive() else 60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_at_rest_everything_is_told_and_the_newest_stands(sent: list[Sent], plan: list[Trouble]) -> None:
    virtual.run(run(sent, plan))
