"""A scenario run once for each point where its first worker may die, or an operation may fail, and what must then hold.

A point is the moment before or after an operation on storage or Defender. The first worker dies there, or the
operation fails (before: nothing was done; after: it was done and its answer lost). Then leases run out in virtual
time and a second worker finishes with the timers' help.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Literal

import pytest

from shared.errors import StorageError
from shared.ledger.intents import Head
from shared.ledger.parts import CONTAINER, Part
from shared.ledger.submissions import Header, Submission
from shared.publishing import settle, submit
from shared.settings import Settings
from tests.support import share, virtual
from tests.support.memory import Killed
from tests.support.rig import Host, Rig
from tests.support.summary import CRASHES
from tests.support.troubles import fail

Fault = Literal["none", "kill", "fail"]
_HORIZON = 60_000.0  # seconds of virtual time within which everything must be at rest
_TIMERS = 60.0
_LONG = 45  # points: of a scenario with no more all are taken
_ONE_IN = 5  # odd, so that it takes of both kinds of faults in turn


class World:
    """One run: the rig, its first worker behind a gate, and what is expected of the end."""

    def __init__(self, settings: Settings, fault: Fault, point: int) -> None:
        self.rig = Rig(settings, call_seconds=0.1)
        self.fault = fault
        self.point = point
        self.points = 0
        self.hit = ""
        self.log: list[str] = []
        self.armed = False
        self.first = Host(self.rig, self.rig.worker(gate=self._gate))
        self.expected: dict[str, dict[str, int]] = {}
        self.held: dict[str, list[str]] = {}
        self.letters: tuple[int, int] = (0, 0)  # least and most dead letters when nothing goes wrong
        self.total: dict[str, int] = {}  # of submissions of which only the number of items is known

    def expect(self, submission: str, **counts: int) -> str:
        """What the counts of a submission shall be in the end."""
        self.expected[submission] = counts
        return submission

    @property
    def rough(self) -> bool:
        """Whether something went wrong in this run."""
        return bool(self.hit)

    async def _gate(self, when: str, what: str) -> None:
        if self.first.dead:
            raise Killed
        if not self.armed:
            return
        self.points += 1
        self.log.append(f"{when} {what}")
        if when == "after" and what.endswith("submissions"):
            self.check_sums()
        if self.fault == "none" or self.points != self.point:
            return
        self.hit = f"{self.fault} {when} {what}"
        if self.fault == "kill":
            self.first.die()
            raise Killed
        fail(what)

    def submissions(self) -> Iterator[Submission]:
        """Every submission that has a header, from the rows themselves."""
        groups: dict[str, list[Any]] = {}
        for row in self.rig.service.all_rows("submissions"):
            groups.setdefault(row.rk.partition("|")[0], []).append(row)
        for rows in groups.values():
            header = next((Header.from_row(row) for row in rows if row.rk.endswith("|h")), None)
            if header is not None:
                yield Submission.of(header, rows)

    def check_sums(self) -> None:
        """submitted = accepted + ... + pending, with nothing below zero and no item that was never submitted."""
        for known in self.submissions():
            counts = known.fold.counts()
            assert min(counts.values()) >= 0, (known.header, counts)
            assert sum(counts.values()) == 2 * counts["submitted"], (known.header, counts)
            unknown = [n for n in known.fold.fates.keys() | known.fold.deferred.keys() if n >= known.fold.submitted]
            assert not unknown, (known.header, unknown)

    def busy(self, hosts: list[Host]) -> bool:
        service = self.rig.service
        open_parts = service.all_rows("open")
        return bool(service.messages or service.poison or open_parts or any(host.in_flight for host in hosts))

    async def finish(self) -> None:
        """Let a second worker and the timers bring everything to rest."""
        loop = asyncio.get_running_loop()
        second = Host(self.rig, self.rig.worker())
        hosts = [second] if self.first.dead else [self.first, second]
        sweeper = second.publishing.sweeper
        limit = loop.time() + _HORIZON
        while self.busy(hosts):
            assert loop.time() < limit, f"not at rest: {self.left()}"
            until = loop.time() + _TIMERS
            await asyncio.gather(*(host.serve(until, poll=4.0) for host in hosts if not host.dead))
            await sweeper.overdue()
            await sweeper.poison()
            self.check_sums()
        for host in (host for host in hosts if not host.dead):
            committer = host.publishing.committer
            assert committer.in_hand == 0, str(committer.staging)

    def left(self) -> str:
        service = self.rig.service
        return (
            f"messages {[m[2][:80] for m in service.messages.values()]}, poison {len(service.poison)}, "
            f"open {[row.rk for row in service.all_rows('open')]}, alarms {self.rig.tell.alarms[-5:]}"
        )

    def check(self) -> None:
        """What must hold at rest, whatever went wrong."""
        self.check_sums()
        found = {known.header.id: known for known in self.submissions()}
        for name, known in found.items():
            assert known.finished, (known.header, known.fold.counts())
            # A caller who had no answer does not know its submission.
            unknown = self.rough and (known.header.door == "http" or known.header.replay_of)
            assert name in self.expected or name in self.total or unknown, f"a submission nobody made: {known.header}"
        for name, number in self.total.items():
            assert found[name].fold.submitted == number, found[name].header
        for name, counts in self.expected.items():
            assert name in found, f"{name} has no header"
            self._check_counts(found[name], counts)
        for value, actions in self.held.items():
            assert self.rig.tenant.actions(value) == actions, (value, self.rig.tenant.actions(value))
        self._check_heads()
        self._check_parts(found)
        letters = self.rig.service.all_rows("deadletters")
        least, most = self.letters
        assert least <= len(letters) <= (most if not self.rough else max(most, 2 * most)), letters
        assert len({row.rk for row in letters}) == len(letters)
        strange = [alarm for alarm in self.rig.tell.alarms if alarm[0] in ("import_call", "part_lost")]
        assert not strange, strange

    @staticmethod
    def _check_counts(known: Submission, counts: dict[str, int]) -> None:
        told = {name: number for name, number in known.fold.counts().items() if number and name != "submitted"}
        assert told == counts, (known.header, told, counts, known.fold.fates)

    def _check_heads(self) -> None:
        """What Defender holds of ours is told by the heads."""
        for stored in self.rig.service.all_rows("intents"):
            if "|" in stored.rk:
                continue
            head = Head.from_row(stored)
            rows = self.rig.tenant.held.items()
            held = {key[2] for key, row in rows if key[:2] == head.item.key and row["id"] not in self.rig.tenant.theirs}
            assert held <= {landed.action for landed in head.landed}, (head, held)
            if head.item.indicator is None:
                assert not held
            else:
                assert held <= {head.item.action}, (head, held)

    def _check_parts(self, found: dict[str, Submission]) -> None:
        """No part without an `open` row (there is none any more) or an outcome of each of its items."""
        for (container, name), data in self.rig.service.blobs.items():
            if container != CONTAINER:
                continue
            assert self.rough, f"part {name} was left behind"
            for item in Part.decode(data).items:
                known = found.get(item.submission)
                if known is not None and not item.reassert:
                    assert known.fold.settled(item.ordinal), (name, item)


@dataclasses.dataclass(frozen=True)
class Scenario:
    """`begin` sets things up undisturbed and says what is expected; `act` is what the first worker does."""

    name: str
    begin: Callable[[World], Awaitable[None]]
    act: Callable[[World], Awaitable[None]]
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    after: Callable[[World], None] | None = None


def each_way(scenarios: Sequence[Scenario]) -> pytest.MarkDecorator:
    """A test's `scenario` and `fault`: each with each."""
    cases = [(scenario, fault) for fault in ("kill", "fail") for scenario in scenarios]
    return pytest.mark.parametrize(
        ("scenario", "fault"), cases, ids=[f"{fault}-{scenario.name}" for scenario, fault in cases]
    )


def small_parts(monkeypatch: pytest.MonkeyPatch, of_a_request: int) -> None:
    """Few items make a stored part."""
    monkeypatch.setattr(submit, "PART_SIZE", of_a_request)
    monkeypatch.setattr(settle, "PART_SIZE", 100)


async def quietly(world: World, seconds: float = 5.0) -> None:
    """Time passes with a worker that nothing happens to."""
    await Host(world.rig, world.rig.worker()).drain(seconds)


async def drain(world: World) -> None:
    """The first worker works until the queue is empty, or for a quarter of an hour."""
    loop = asyncio.get_running_loop()
    until = loop.time() + 900.0
    while world.busy([world.first]) and not world.first.dead and loop.time() < until:
        await world.first.serve(loop.time() + 5.0, poll=1.0)


def _unless_killed(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    if not isinstance(context.get("exception"), Killed):
        loop.default_exception_handler(context)


async def _one(scenario: Scenario, fault: Fault, point: int) -> World:
    asyncio.get_running_loop().set_exception_handler(_unless_killed)
    settings = dataclasses.replace(Settings(), **scenario.settings)
    world = World(settings, fault, point)
    await scenario.begin(world)
    world.armed = True
    act = asyncio.ensure_future(scenario.act(world))
    try:
        await act
    except (Killed, StorageError):
        if not world.rough:
            raise
    await world.finish()
    world.check()
    if scenario.after is not None:
        scenario.after(world)
    return world


def points_of(scenario: Scenario) -> list[str]:
    """The points of a scenario in which nothing goes wrong."""
    return virtual.run(_one(scenario, "none", 0)).log


def every_point(scenario: Scenario, fault: Fault) -> Counter[str]:
    """Run the scenario once for each of its points; what was hit, by name.

    The moment after something was read is left out: it is the moment before the next operation. Of a long scenario
    one case (a point and a fault) in _ONE_IN is taken, each day another one, and each operation's points at least once;
    all of them with TEST_EXHAUSTIVE.
    """
    hit: Counter[str] = Counter()
    log = points_of(scenario)
    points = [n for n, where in enumerate(log, 1) if not where.startswith(("after get", "after query", "after read"))]
    CRASHES["found"] += len(points)
    if len(points) > _LONG and not share.exhaustive():
        cases = [(point, each) for point in points for each in ("kill", "fail")]
        taken = share.chosen([log[point - 1] for point, _ in cases], _ONE_IN)
        points = [cases[n][0] for n in taken if cases[n][1] == fault]
    for point in points:
        where = log[point - 1]
        CRASHES["taken"] += 1

        async def main(point: int = point) -> World:
            return await _one(scenario, fault, point)

        try:
            world = virtual.run(main())
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            pytest.fail(f"{scenario.name}: {fault} at point {point} ({where}): {type(error).__name__}: {error}")
        CRASHES["passed"] += 1
        if world.rough:
            hit[world.hit] += 1
    return hit
