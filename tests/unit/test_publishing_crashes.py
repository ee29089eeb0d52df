"""A crash, or a failing operation, at every point of each way an indicator can go: nothing lost, nothing told wrong."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from shared.errors import UnavailableError
from shared.ledger import ids
from shared.ledger.parts import PartItem
from shared.ledger.submissions import Header
from shared.publishing import settle
from shared.storage.protocols import Received
from tests.support.crash import Fault, Scenario, World, drain, each_way, every_point, quietly, small_parts
from tests.support.fakes import indicator
from tests.support.items import PRIVATE, message, value
from tests.support.rig import Host


def hold(world: World, *numbers: int, action: str = "Block") -> None:
    world.held.update({value(n): [action] for n in numbers})


# What the first worker is given


async def good_and_bad(world: World) -> None:
    name = world.rig.put({"indicators": [message(1), {"indicatorValue": PRIVATE, "action": "Block"}]})
    world.expect(name, accepted=1, rejected=1)
    hold(world, 1)


async def several_in_one_call(world: World) -> None:
    for n in range(3):
        world.expect(world.rig.put({"indicators": [message(n), message(n + 10, source="a")]}), accepted=2)
        hold(world, n, n + 10)


async def same_value(world: World) -> None:
    first, second = sorted(world.rig.put(message(1, action=action)) for action in ("Audit", "Block"))
    world.expect(first, superseded=1)
    world.expect(second, accepted=1)
    text = {ids.foreign_submission(m[1], m[3]): json.loads(m[2]) for m in world.rig.service.messages.values()}
    hold(world, 1, action=text[second]["action"])


async def over_http(world: World) -> None:
    hold(world, *range(6))


async def submit_http(world: World) -> None:
    body = {"indicators": [*(message(n) for n in range(6)), {"indicatorValue": PRIVATE, "action": "Block"}]}
    try:
        taken = await world.first.publishing.submitting.submit(json.dumps(body).encode(), caller="key")
    except BaseException:
        if not list(world.submissions()):
            world.held = {value(n): [] for n in range(6)}  # nobody had an answer: nothing came to be
        raise
    world.expect(taken.id, accepted=6, rejected=1)
    await drain(world)


async def outage(world: World) -> None:
    over = asyncio.get_running_loop().time() + 100.0

    def fault(_payloads: Any) -> UnavailableError | None:
        return UnavailableError("down", status=503) if asyncio.get_running_loop().time() < over else None

    world.rig.tenant.fault = fault
    for n in range(2):
        world.expect(world.rig.put({"indicators": [message(n), message(n + 10)]}), accepted=2)
        hold(world, n, n + 10)


async def no_budget(world: World) -> None:
    await world.rig.worker().imports.hold(world.rig.worker().stores.clock.now() + 200.0, "paused")
    world.expect(world.rig.put({"indicators": [message(1), message(2)]}), accepted=2)
    world.expect(world.rig.put(message(3)), accepted=1)
    hold(world, 1, 2, 3)


async def no_budget_stored(world: World) -> None:
    worker = world.rig.worker()
    body = json.dumps({"indicators": [message(1), message(2)]}).encode()
    world.expect((await worker.submitting.submit(body, caller="key")).id, accepted=2)
    await worker.imports.hold(worker.stores.clock.now() + 200.0, "paused")
    hold(world, 1, 2)


async def paused(world: World) -> None:
    worker = world.rig.worker()
    await worker.pauses.pause("stop", worker.stores.clock.now() + 200.0, "key")
    world.expect(world.rig.put({"indicators": [message(1), message(2)]}), accepted=2)
    body = json.dumps({"indicators": [message(3)]}).encode()
    world.expect((await worker.submitting.submit(body, caller="key")).id, accepted=1)
    await Host(world.rig, worker).serve(asyncio.get_running_loop().time() + 5.0)
    # The second time round the worker knows of the pause, and puts the parts off unread.
    world.expect(world.rig.put(message(4)), accepted=1)
    hold(world, 1, 2, 3, 4)


async def resume(world: World) -> None:
    await world.first.serve(asyncio.get_running_loop().time() + 100.0, poll=1.0)
    await world.first.publishing.pauses.resume("go", "key")
    await drain(world)


async def a_control(world: World) -> None:
    world.expect(world.rig.put(message(1000)), accepted=1)
    await quietly(world)
    hold(world, 1000)


async def sinking(world: World) -> None:
    await a_control(world)
    world.rig.tenant.sinking.add(value(3))
    world.expect(world.rig.put({"indicators": [message(n) for n in range(10)]}), accepted=9, rejected=1)
    hold(world, *(n for n in range(10) if n != 3))
    world.held[value(3)] = []


async def sinking_without_control(world: World) -> None:
    await sinking(world)
    world.rig.service.rows("suspects", "control").clear()


async def unreadable(world: World) -> None:
    world.expect(world.rig.put("this is no JSON"), rejected=1)
    world.letters = (1, 1)


async def poisoned(world: World) -> None:
    """What the host put aside: a message that was announced, one that was not, and a pointer."""
    worker = world.rig.worker()
    body = json.dumps(message(1)).encode()
    announced = world.expect("20261122a0000000000000001", rejected=1)
    digest = ids.digest(body)
    header = Header(announced, 1, worker.stores.clock.now(), "queue", body_sha256=digest, decoded=False)
    await worker.submissions.announce(header, 10)
    # Others with the same body: one whose items have moved to a part, one that is still being delivered.
    at = worker.stores.clock.now()
    moved = world.expect("20260101a0000000000000001", accepted=1)
    await worker.submissions.announce(Header(moved, 1, at, "queue", body_sha256=digest), 9)
    made = indicator(value(3))
    item = PartItem(moved, "m", 0, at, at, made.key, made)
    entry = settle.Entry(item, Header(moved, 1, at, "queue"), 0.0, asyncio.get_running_loop().create_future())
    await worker.settler.settle((), [settle.Deferral([entry], 100.0, "error", "an outage")])
    world.rig.service.messages.clear()  # the sweep will point to it
    alive = world.expect(world.rig.put(message(1)), accepted=1)
    next(iter(world.rig.service.messages.values()))[4] = 2
    await worker.submissions.announce(Header(alive, 1, at, "queue", body_sha256=digest, decoded=False), 2)
    world.rig.service.messages[next(iter(world.rig.service.messages))][0] += 100.0
    http = await worker.submitting.submit(json.dumps(message(2)).encode(), caller="key")
    world.expect(http.id, accepted=1)
    hold(world, 1, 2, 3)
    pointer = world.rig.service.messages.popitem()[1]
    for n, text in enumerate((body, b"nobody knew of this", pointer[2].encode())):
        at = pointer[3]
        world.rig.service.poison.append(Received(f"copy-{n}", "r", text, 1, at))
        if n == 1:
            world.expect(ids.foreign_submission(f"copy-{n}", at), rejected=1)
    world.letters = (2, 2)


async def take_poison(world: World) -> None:
    await world.first.publishing.sweeper.poison()
    await drain(world)


async def exhausted(world: World) -> None:
    world.rig.tenant.fault = lambda _payloads: UnavailableError("down", status=503)
    world.expect(world.rig.put({"indicators": [message(1), message(2)]}), rejected=2)
    world.letters = (1, 1)


async def with_letter(world: World) -> None:
    await exhausted(world)
    await world.finish()
    world.rig.tenant.fault = None


async def replay(world: World) -> None:
    letters = await world.rig.worker().letters.all()
    name = await world.first.publishing.replays.replay(letters[0].id, caller="key")
    world.expect(name, accepted=2)
    hold(world, 1, 2)
    await drain(world)


async def other_action(world: World) -> None:
    for n in range(5):
        world.expect(world.rig.put(message(n)), accepted=1)
    await quietly(world)
    await asyncio.sleep(2.0)
    world.expect(world.rig.put({"indicators": [message(n, action="Audit") for n in range(5)]}), accepted=5)
    hold(world, *range(5), action="Audit")


async def back_and_forth(world: World) -> None:
    await other_action(world)
    await quietly(world)
    await asyncio.sleep(2.0)
    world.expect(world.rig.put({"indicators": [message(n) for n in range(5)]}), accepted=5)
    hold(world, *range(5))


async def isolated(world: World) -> None:
    name = world.rig.put({"indicators": [message(1), {"indicatorValue": PRIVATE}]})
    world.expect(name, accepted=1, rejected=1)
    world.expect(world.rig.put(message(2)), accepted=1)
    for waiting in world.rig.service.messages.values():
        waiting[4] = 3
    hold(world, 1, 2)


async def isolated_part(world: World) -> None:
    worker = world.rig.worker()
    body = json.dumps({"indicators": [message(1), message(2)]}).encode()
    world.expect((await worker.submitting.submit(body, caller="key")).id, accepted=2)
    for waiting in world.rig.service.messages.values():
        waiting[4] = 3
    hold(world, 1, 2)


async def redelivered(world: World) -> None:
    name = world.rig.put({"indicators": [message(1), message(2), {"indicatorValue": PRIVATE}]})
    world.expect(name, accepted=2, rejected=1)
    for waiting in world.rig.service.messages.values():
        waiting[4] = 1
    hold(world, 1, 2)


async def redelivered_pointer(world: World) -> None:
    await isolated_part(world)
    for waiting in world.rig.service.messages.values():
        waiting[4] = 1


async def redelivered_foreign_pointer(world: World) -> None:
    await redelivered_pointer(world)
    for waiting in world.rig.service.messages.values():
        waiting[2] = json.dumps({"part": json.loads(waiting[2])["part"], "v": 1})
        world.expect(ids.foreign_submission(waiting[1], waiting[3]))


SCENARIOS = [
    Scenario("one good and one bad item", good_and_bad, drain),
    Scenario("several messages in one call", several_in_one_call, drain),
    Scenario("one value twice", same_value, drain),
    Scenario("http in three parts", over_http, submit_http),
    Scenario("an outage", outage, drain),
    Scenario("an outage, swept before redelivered", outage, drain, {"overdue_after": 120.0}),
    Scenario("no budget", no_budget, drain),
    Scenario("no budget, swept before redelivered", no_budget, drain, {"overdue_after": 120.0}),
    Scenario("no budget for a stored part", no_budget_stored, drain),
    Scenario("paused", paused, drain),
    Scenario("paused and resumed", paused, resume),
    Scenario("one item sinks its call", sinking, drain),
    Scenario("one item sinks its call, and there is no control", sinking_without_control, drain),
    Scenario("unreadable", unreadable, drain),
    Scenario("poison", poisoned, take_poison),
    Scenario("exhausted", exhausted, drain, {"exhausted_after": 300.0}),
    Scenario("replay", with_letter, replay, {"exhausted_after": 300.0}),
    Scenario("another action", other_action, drain),
    Scenario("back to the first action", back_and_forth, drain),
    Scenario("isolated", isolated, drain),
    Scenario("isolated part", isolated_part, drain),
    Scenario("redelivered", redelivered, drain),
    Scenario("redelivered pointer", redelivered_pointer, drain),
    Scenario("redelivered pointer, not as ours are written", redelivered_foreign_pointer, drain),
]


@pytest.fixture(autouse=True)
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    small_parts(monkeypatch, 2)


@each_way(SCENARIOS)
def test_at_every_point(scenario: Scenario, fault: Fault) -> None:
    assert len(every_point(scenario, fault)) > 5
