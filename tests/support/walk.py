"""A random walk through everything that can happen, against a small model of what the tenant should hold at rest.

A walk is a list of steps made from a seed (tests/support/steps.py). Two workers serve meanwhile; each of their
operations may fail, be slow, be the last thing the worker does, or come while its messages are delivered once more.
Virtual time; the same seed is the same walk, and a walk that fails is made shorter before it is shown.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
import secrets
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

import shared.relay
from shared.errors import ConflictError, KeyBusyError, StorageError, UnavailableError, UndoTooSoonError, UnreadableError
from shared.indicators.model import Action
from shared.ledger.outcomes import FINAL, State
from shared.ledger.submissions import Submission
from shared.relay import Publishing
from shared.settings import Settings
from tests.support import virtual
from tests.support.crash import World
from tests.support.fakes import indicator
from tests.support.items import PRIVATE as GUARDED
from tests.support.items import value
from tests.support.memory import Killed
from tests.support.rig import Host
from tests.support.steps import VALUES, Step
from tests.support.troubles import Troubled

REFUSED = "refused.evil-domain.com"  # Defender says no to this one, for good
_BEHIND = 900_000_000  # an undo stands behind whatever repeats the submission
_STEP = 1_000_000

Order = tuple[float, str, int]


@dataclasses.dataclass
class Sent:
    """A submission of the walk; `items` by ordinal, None for what no value of the model is meant by."""

    name: str
    at: float
    items: list[tuple[int, str] | None]
    body: bytes = b""
    key: str = ""


class Gate(Troubled):
    """The gate of a walk's worker; operations and troubles are counted."""

    def __init__(self, walk: Walk) -> None:
        super().__init__(walk.world, {})
        self.walk = walk

    async def __call__(self, when: str, what: str) -> None:
        self.walk.operations += when == "before"
        await super().__call__(when, what)

    def met(self, trouble: str, what: str) -> None:
        self.walk.hits[f"{trouble} {what}"] += 1


class Walk:
    """One walk, in a world of its own; use it inside `virtual.run`."""

    def __init__(self, steps: list[Step], seed: int) -> None:
        self.steps = steps
        self.rnd = random.Random(seed)
        self.world = World(Settings(overdue_after=700.0, exhausted_after=1_800.0, defer_max=600.0), "none", 0)
        self.world.hit = "a walk"
        self.rig = self.world.rig
        self.hosts: list[Host] = []
        self.serving: list[asyncio.Task[None]] = []
        self.gates: list[Gate] = []
        self.sent: list[Sent] = []
        self.meant: dict[
            int, list[tuple[Order, str, str, int]]
        ] = {}  # value -> (order, action or "", submission, ordinal)
        self.undone: set[str] = set()  # undos and what they undid
        self.operations = 0
        self.hits: Counter[str] = Counter()
        self.touched: dict[tuple[str, str, str], str] = {}  # who was the last to change an indicator
        self.numbers = 0
        self.down_until = 0.0

    async def go(self) -> None:
        """Take all steps, then let everything come to rest and look."""
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        tenant = self.rig.tenant
        tenant.refused.add(REFUSED)
        put = tenant.put

        def noted(payload: dict[str, Any]) -> str:
            self.touched[payload["indicatorType"], payload["indicatorValue"], payload["action"]] = "put"
            return put(payload)

        tenant.put = noted  # type: ignore[method-assign]
        tenant.fault = lambda _: UnavailableError("down", status=503) if self._time() < self.down_until else None
        for n in range(2):
            self._start(n)
        for step in self.steps:
            await getattr(self, f"_{step.kind}")(step)
            await asyncio.sleep(step.after)
        await asyncio.sleep(60.0)
        for task in self.serving:
            task.cancel()
        await asyncio.gather(*self.serving, return_exceptions=True)
        for host in self.hosts:
            host.die()  # the calm after it is another worker's
        await self.rig.worker().pauses.resume("the end", "walk")
        self.world.first = Host(self.rig, self.rig.worker())
        await self.world.finish()
        await self._check()

    def _time(self) -> float:
        return asyncio.get_running_loop().time()

    def _start(self, n: int) -> None:
        gate = Gate(self)
        worker = self.rig.worker(gate=gate)
        gate.host = host = Host(self.rig, worker)
        task = asyncio.ensure_future(host.serve(1e9, poll=0.5))
        timers = asyncio.ensure_future(self._timers(host))
        if n < len(self.hosts):
            self.hosts[n], self.gates[n], self.serving[2 * n : 2 * n + 2] = host, gate, [task, timers]
        else:
            self.hosts.append(host)
            self.gates.append(gate)
            self.serving += [task, timers]

    async def _timers(self, host: Host) -> None:
        while not host.dead:
            await asyncio.sleep(60.0)
            for work in (host.publishing.sweeper.overdue, host.publishing.sweeper.poison, host.publishing.pauses.tend):
                try:
                    await work()
                except StorageError:
                    pass
                except Killed:
                    return

    # Steps

    def _mean(self, n: int, order: Order, action: str, submission: str, ordinal: int) -> None:
        self.meant.setdefault(n, []).append((order, action, submission, ordinal))

    def _note(self, sent: Sent) -> None:
        self.sent.append(sent)
        self.world.total[sent.name] = len(sent.items)
        for ordinal, item in enumerate(sent.items):
            if item is not None:
                self._mean(item[0], (sent.at, sent.name, ordinal), item[1], sent.name, ordinal)

    async def _put(self, step: Step) -> None:
        body = {"indicators": [{"indicatorValue": value(n), "action": action} for n, action in step.items]}
        at = float(int(self.rig.service.now()))
        self._note(Sent(self.rig.put(body), at, list(step.items)))

    async def _submit(self, step: Step) -> None:
        body = {"indicators": [{"indicatorValue": value(n), "action": action} for n, action in step.items]}
        await self._over_http(
            Sent("", 0.0, list(step.items), json.dumps(body).encode(), f"k{self._next()}"), first=True
        )

    async def _repeat(self, step: Step) -> None:
        keyed = [sent for sent in self.sent if sent.key]
        if keyed:
            await self._over_http(keyed[-1 - step.number % len(keyed)], first=False)

    def _next(self) -> int:
        self.numbers += 1
        return self.numbers

    async def _over_http(self, sent: Sent, *, first: bool) -> None:
        """A caller who has no answer sends the same again, to another worker."""
        while True:
            try:
                taken = await self._flaky().submitting.submit(sent.body, caller="key", key=sent.key)
                break
            except (StorageError, KeyBusyError):
                await asyncio.sleep(1.0)
        if not first:
            assert taken.repeated and taken.id == sent.name
            return
        sent.name = taken.id
        known = await self.rig.worker().submissions.read(taken.id)
        assert known is not None
        sent.at = known.header.intent_at
        self._note(sent)

    def _flaky(self) -> Publishing:
        """A worker of the door some of whose operations fail."""

        async def gate(when: str, what: str) -> None:
            self.operations += when == "before"
            if self.rnd.random() < 0.02:
                self.hits[f"fail {what}"] += 1
                raise StorageError("storage did not answer")

        return self.rig.worker(gate=gate)

    async def _odd(self, step: Step) -> None:
        soon = [{"indicatorValue": f"soon{self._next()}.evil-domain.com", "action": "Block", "expirationTime": "PT3M"}]
        items = [{"indicatorValue": text, "action": "Block"} for text in (REFUSED, GUARDED)] + soon
        self._note(Sent(self.rig.put({"indicators": items}), float(int(self.rig.service.now())), [None] * 3))

    async def _bad(self, step: Step) -> None:
        self._note(Sent(self.rig.put("this is no JSON"), float(int(self.rig.service.now())), [None]))

    async def _undo(self, step: Step) -> None:
        if not self.sent:
            return
        sent = self.sent[-1 - step.number % len(self.sent)]
        try:
            undone = await self.rig.worker().undoing.undo(sent.name, caller="key")
        except UndoTooSoonError:
            return
        if undone is None:
            return  # a message that nobody has read yet
        undo = undone.undo.header
        self.undone |= {undo.id, sent.name}
        self.world.total[undo.id] = undo.submitted
        unknown = {left.ordinal for left in undone.left if left.state not in FINAL}
        # What such a one has superseded is left with it: it says so, and to ask again.
        theirs = {item[0] for ordinal in unknown if (item := sent.items[ordinal]) is not None}
        unknown |= {left.ordinal for left in undone.left if (item := sent.items[left.ordinal]) and item[0] in theirs}
        for ordinal, item in enumerate(sent.items):
            if item is not None and ordinal not in unknown:
                self._mean(item[0], (sent.at, sent.name, _BEHIND), "", undo.id, -1)

    async def _portal(self, step: Step) -> None:
        n, action = step.items[0]
        self.rig.tenant.portal(indicator(value(n), Action(action)).payload())

    async def _portal_delete(self, step: Step) -> None:
        tenant = self.rig.tenant
        for key, row in list(tenant.held.items()):
            if key[1] == value(step.number) and row["id"] not in tenant.theirs:
                del tenant.held[key]
                self.touched[key] = "deleted by a person"

    async def _replay(self, step: Step) -> None:
        worker = self.rig.worker()
        letters = [letter for letter in await worker.letters.all() if letter.state == "open"]
        if not letters:
            return
        letter = letters[step.number % len(letters)]
        kept = await worker.letters.items(letter.id) if letter.kind == "items" else []
        try:
            name = await worker.replays.replay(letter.id, caller="key")
        except (UnreadableError, ConflictError):
            return
        assert name is not None
        self.world.total[name] = len(kept)
        for ordinal, item in enumerate(kept):
            for n in range(VALUES):
                if item.key[1] == value(n):
                    order = (item.intent_at, item.as_of or item.submission, (item.step + 1) * _STEP + ordinal)
                    self._mean(n, order, item.action if item.indicator else "", name, ordinal)

    async def _discard(self, step: Step) -> None:
        worker = self.rig.worker()
        letters = [letter for letter in await worker.letters.all() if letter.state == "open"]
        if letters:
            await worker.replays.discard(letters[0].id, "not wanted", by="walk")

    async def _pause(self, step: Step) -> None:
        until = self.rig.service.now() + 500.0 if step.number % 2 else None
        await self.rig.worker().pauses.pause("a walk", until, "walk")

    async def _resume(self, step: Step) -> None:
        await self.rig.worker().pauses.resume("a walk", "walk")

    async def _outage(self, step: Step) -> None:
        self.down_until = max(self.down_until, self._time() + step.number)

    async def _trouble(self, step: Step) -> None:
        gate = self.gates[step.number % 2]
        gate.plan[gate.points + step.number] = step.what

    async def _restart(self, step: Step) -> None:
        n = step.number % 2
        self.hosts[n].die()
        for task in self.serving[2 * n : 2 * n + 2]:
            task.cancel()
        self._start(n)

    # At rest

    async def _check(self) -> None:
        world = self.world
        world.check_sums()
        found = {known.header.id: known for known in world.submissions()}
        for name, known in found.items():
            assert known.finished, (known.header, known.fold.counts())
            nobody = known.header.door == "http" or known.header.replay_of or known.header.undo_of
            assert name in world.total or nobody, f"a submission nobody made: {known.header}"
        for name, number in world.total.items():
            assert name in found, f"{name} has no header"
            assert found[name].fold.submitted == number, found[name].header
        keys = [sent.key for sent in self.sent if sent.key]
        http = [known for known in found.values() if known.header.door == "http" and not known.header.undo_of]
        assert len([known for known in http if not known.header.replay_of]) == len(keys), "not one submission a key"
        world._check_parts(found)
        strange = [alarm for alarm in self.rig.tell.alarms if alarm[0] in ("import_call", "part_lost", "prepare")]
        assert not strange, strange
        rejected = {known.header.replay_of or name for name, known in found.items() if known.fold.counts()["rejected"]}
        letters = {name for letter in await self.rig.worker().letters.all() for name in letter.submissions}
        for name, known in found.items():
            lost = [fate for fate in known.fold.fates.values() if fate.reason in ("exhausted", "not_json")]
            assert not lost or name in letters, (known.header, lost, rejected)
        self._check_tenant(found)

    def _check_tenant(self, found: dict[str, Submission]) -> None:
        tenant = self.rig.tenant
        theirs = {key for key, row in tenant.held.items() if row["id"] in tenant.theirs}
        assert len(theirs) == len(tenant.theirs), "somebody else's indicator was deleted"
        told = " ".join(text for kind, text in self.rig.tell.alarms if kind == "reassert_exhausted")
        for n in range(VALUES):
            kind = "DomainName"
            if value(n) in told:
                continue  # an outage outlasted the care for an older intent, and an alarm names the values
            ours = {key[2] for key in tenant.held if key[1] == value(n) and key not in theirs}
            if not self.meant.get(n):
                assert not ours, (n, ours)
                continue
            order, action, name, ordinal = max(self.meant[n])
            fates = found[name].fold.fates
            given_up = [fate for fate in fates.values() if fate.state is State.REJECTED]
            if (given_up if ordinal < 0 else fates[ordinal].state is State.REJECTED) and (
                ordinal < 0 or fates[ordinal].reason == "exhausted"
            ):
                continue  # nobody knows whether one of its attempts has landed; a person has it as a dead letter
            wanted = {action} - {""} - {key[2] for key in theirs if key[1] == value(n)}
            if any(self.touched.get((kind, value(n), one)) == "deleted by a person" for one in wanted):
                assert not ours, (n, ours, "was deleted by a person after the last import")
                continue
            assert ours == wanted, (value(n), ours, wanted, order, self.meant[n])
        held = {key[1] for key in tenant.held}
        for known in found.values():
            for fate in known.fold.fates.values():
                if fate.value.startswith("soon") and known.header.id not in self.undone:
                    assert (fate.value in held) or fate.state is State.REJECTED, fate
        assert GUARDED not in held
        assert REFUSED not in held


def take(steps: list[Step], seed: int) -> Walk:
    """Take the steps; raises what goes wrong."""
    rnd = random.Random(seed)
    with pytest.MonkeyPatch.context() as patch:
        # The same seed is the same walk: names and jitter included.
        patch.setattr(secrets, "token_hex", lambda size=16: rnd.randbytes(size).hex())
        patch.setattr(shared.relay, "random", SimpleNamespace(Random=lambda: random.Random(seed)))

        async def main() -> Walk:
            walk = Walk(steps, seed)
            await walk.go()
            return walk

        return virtual.run(main())


def fails(steps: list[Step], seed: int) -> bool:
    """Whether these steps go wrong."""
    try:
        take(steps, seed)
    except Exception:
        return True
    return False
