"""Undo with a crash or a failing operation at every point: what is withdrawn is gone, nothing else is, nothing lies."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from shared.errors import UnavailableError
from tests.support.crash import Fault, Scenario, World, drain, each_way, every_point, quietly, small_parts
from tests.support.fakes import indicator
from tests.support.items import message, value


async def submitted(world: World, *numbers: int, **counts: int) -> str:
    body = json.dumps({"indicators": [message(n) for n in numbers]}).encode()
    taken = await world.rig.worker().submitting.submit(body, caller="key")
    return world.expect(taken.id, **counts)


async def undo(world: World, name: str) -> str:
    """The first worker undoes it; whose answer is lost does it once more, as a caller would."""
    try:
        undone = await world.first.publishing.undoing.undo(name, caller="key")
    except BaseException:
        again = await world.rig.worker().undoing.undo(name, caller="key")
        assert again is not None
        raise
    assert undone is not None
    world.total[undone.undo.header.id] = undone.undo.header.submitted
    return undone.undo.header.id


async def published(world: World) -> None:
    await submitted(world, 0, 1, 2, accepted=3)
    await quietly(world)
    world.held.update({value(n): [] for n in range(3)})


async def undo_published(world: World) -> None:
    await undo(world, next(iter([*world.expected, *world.total])))
    await drain(world)


async def mixed(world: World) -> None:
    """Of one submission: a value of somebody else's, one that a newer submission renewed, and two that are its own."""
    world.rig.tenant.portal(indicator(value(0)).payload())
    await submitted(world, 0, 1, 2, 3, accepted=4)
    await quietly(world)
    await submitted(world, 1, accepted=1)
    await quietly(world)
    world.held.update({value(0): ["Block"], value(1): ["Block"], value(2): [], value(3): []})


async def many(world: World) -> None:
    await submitted(world, *range(12), accepted=12)
    await quietly(world)
    world.held.update({value(n): [] for n in range(12)})


async def put_off(world: World) -> None:
    over = asyncio.get_running_loop().time() + 100.0

    def fault(payloads: Any) -> UnavailableError | None:
        if asyncio.get_running_loop().time() >= over:
            return None
        for payload in payloads[:1]:
            world.rig.tenant.put(payload)  # and its answer is lost
        return UnavailableError("down", status=503)

    world.rig.tenant.fault = fault
    name = await submitted(world, 0, 1)
    del world.expected[name]  # when the undo comes late, it was accepted before
    world.total[name] = 2
    await world.first.serve(asyncio.get_running_loop().time() + 5.0)
    world.held.update({value(n): [] for n in range(2)})


async def not_yet_sent(world: World) -> None:
    name = await submitted(world, 0, 1, 2)
    del world.expected[name]
    world.total[name] = 3
    world.held.update({value(n): [] for n in range(3)})


SCENARIOS = [
    Scenario("what was published", published, undo_published),
    Scenario("mixed with what others own", mixed, undo_published),
    Scenario("more than are looked up one by one", many, undo_published),
    Scenario("what an outage has put off, with a lost answer", put_off, undo_published),
    Scenario("what is still on its way", not_yet_sent, undo_published),
]


@pytest.fixture(autouse=True)
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    small_parts(monkeypatch, 20)


@each_way(SCENARIOS)
def test_at_every_point(scenario: Scenario, fault: Fault) -> None:
    assert len(every_point(scenario, fault)) > 5
