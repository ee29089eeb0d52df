"""Anything at once, with undos and with people in the portal: two workers, faults, deaths, messages delivered twice.

At rest Defender holds what others made, and of ours what the newest intent says; an undo is right behind the undone.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.errors import UndoTooSoonError
from shared.indicators.model import Action
from shared.ledger.outcomes import FINAL
from shared.settings import Settings
from tests.support import share, virtual
from tests.support.crash import World
from tests.support.fakes import indicator
from tests.support.items import value
from tests.support.rig import Host
from tests.unit.test_publishing_model import VALUES, Sent, Trouble, a_host, messages, troubles

BEHIND = 10**9  # more than any ordinal


@dataclasses.dataclass(frozen=True)
class Undo:
    """DELETE of one of the submissions before it, so many back."""

    back: int
    pause: float


@dataclasses.dataclass(frozen=True)
class Portal:
    """A person makes or changes an indicator."""

    number: int
    action: Action
    pause: float


pauses = st.sampled_from([0.0, 0.05, 1.0, 40.0])
steps = st.one_of(
    messages,
    st.builds(Undo, st.integers(1, 3), pauses),
    st.builds(Portal, st.integers(0, VALUES - 1), st.sampled_from([Action.BLOCK, Action.AUDIT]), pauses),
)


class Model:
    """What is meant of each value, by (moment, submission, ordinal); an action of "" withdraws."""

    def __init__(self) -> None:
        self.newest: dict[int, tuple[tuple[float, str, int], str]] = {}
        self.sent: list[tuple[str, float, Sent]] = []

    def mean(self, n: int, order: tuple[float, str, int], action: str) -> None:
        if n not in self.newest or self.newest[n][0] < order:
            self.newest[n] = (order, action)


async def send(world: World, model: Model, message: Sent) -> None:
    items: list[dict[str, Any]] = [{"indicatorValue": value(n), "action": action} for n, action in message.items]
    body = {"indicators": items}
    if message.http:
        door = world.rig.worker()
        name = (await door.submitting.submit(json.dumps(body).encode(), caller="key")).id
        known = await door.submissions.read(name)
        assert known is not None
        at = known.header.intent_at
    else:
        name, at = world.rig.put(body), float(int(world.rig.service.now()))
    for ordinal, (n, action) in enumerate(message.items):
        model.mean(n, (at, name, ordinal), action)
    world.total[name] = len(items)
    model.sent.append((name, at, message))


async def undo(world: World, model: Model, step: Undo) -> None:
    if len(model.sent) < step.back:
        return
    name, at, message = model.sent[-step.back]
    try:
        undone = await world.rig.worker().undoing.undo(name, caller="key")
    except UndoTooSoonError:
        return
    if undone is None:
        return  # a message that nobody has read yet
    world.total[undone.undo.header.id] = undone.undo.header.submitted
    unknown = {left.ordinal for left in undone.left if left.state not in FINAL}
    for ordinal, (n, _) in enumerate(message.items):
        if ordinal not in unknown:
            model.mean(n, (at, name, BEHIND), "")


async def run(todo: list[Any], plan: list[Trouble]) -> None:
    world = World(Settings(overdue_after=700.0), "none", 0)
    rig = world.rig
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    hosts = [a_host(world, {t.point: t.kind for t in plan if t.worker == n}) for n in (0, 1)]
    serving = [asyncio.ensure_future(host.serve(900.0, poll=0.3)) for host in hosts]
    model = Model()
    for step in todo:
        if isinstance(step, Sent):
            await send(world, model, step)
        elif isinstance(step, Undo):
            await undo(world, model, step)
        else:
            rig.tenant.portal(indicator(value(step.number), step.action).payload())
        await asyncio.sleep(step.pause)
    await asyncio.gather(*serving)
    for host in hosts:
        host.die()
    world.hit = "troubles"
    world.first = Host(rig, rig.worker())
    await world.finish()
    world.check()
    rows = rig.tenant.held.values()
    theirs = {(row["indicatorValue"], row["action"]) for row in rows if row["id"] in rig.tenant.theirs}
    assert len(theirs) == len(rig.tenant.theirs), "somebody else's indicator was deleted"
    for n in range(VALUES):
        order, action = model.newest.get(n, (None, ""))
        wanted = {action for name, action in theirs if name == value(n)} | ({action} if action else set())
        assert set(rig.tenant.actions(value(n))) == wanted, (n, order, action)


@given(st.lists(steps, min_size=2, max_size=9), st.lists(troubles, max_size=6))
@settings(max_examples=600 if share.exhaustive() else 60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_at_rest_ours_is_what_was_meant_last_and_theirs_is_untouched(todo: list[Any], plan: list[Trouble]) -> None:
    virtual.run(run(todo, plan))
