"""Every interleaving of a few workers' steps, with a crash anywhere: stateless exploration with states remembered.

A step is one operation on storage or Defender. At each point any worker may take its next step, or one of them may
be killed there and start over. Two ways to the same state of the services, with each worker having seen the same,
are the same from there on, so only the first is followed. Of two steps that come to the same in either order one order
is taken: after the second way round has been left for later, a step sleeps until one comes that it depends on (sleep
sets with states remembered: Godefroid, Partial-Order Methods for the Verification of Concurrent Systems, chapter 5).
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable
from typing import Any

from tests.support import share, virtual
from tests.support.memory import Killed
from tests.support.rig import Rig
from tests.support.summary import INTERLEAVINGS

# What a worker does from its start; told its own gate, and which start this is (0 the first).
Body = Callable[[Rig, Any, int], Awaitable[None]]


# Numbers of workers whose next step need not be taken now: it comes, or came, on another way.
Sleep = frozenset[int]
_READS = ("get", "query", "read", "list")


def _place(step: str) -> tuple[str, bool]:
    """What a step works on, and whether it only reads: `get intents`, `send` (the queue), `import` (Defender)."""
    verb, _, place = step.partition(" ")
    return place or ("queue" if verb == "send" else "defender"), verb in _READS


def independent(one: str, other: str) -> bool:
    """Whether two workers' steps come to the same in either order."""
    (where, reads), (elsewhere, reads_too) = _place(one), _place(other)
    return where != elsewhere or (reads and reads_too)


class _Pruned(Exception):
    pass


class _Run:
    def __init__(
        self, rig: Rig, bodies: list[Body], way: tuple[list[int], Sleep], seen: dict[bytes, Sleep], crashes: int
    ) -> None:
        self.rig = rig
        self.bodies = bodies
        self.prefix, self.sleep = way
        self.seen = seen
        self.crashes = crashes
        self.crashed = 0
        self.taken: list[int] = []
        self.others: list[tuple[list[int], Sleep]] = []  # ways that branch off this one
        self.waiting: dict[int, tuple[str, asyncio.Future[None]]] = {}
        self.history: dict[int, list[str]] = {number: [] for number in range(len(bodies))}
        self.starts: dict[int, int] = {}
        self.tasks: dict[int, asyncio.Task[None]] = {}

    def gate(self, number: int, start: int) -> Any:
        async def gate(when: str, what: str) -> None:
            if when == "before":
                turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self.waiting[number] = (what, turn)
                await turn
            else:
                answers = {"defender": self.rig.tenant.answer, "queue": None}
                answer = answers.get(_place(what)[0], self.rig.service.answer)
                self.history[number].append(f"{start} {what} {answer!r}")

        return gate

    def begin(self, number: int) -> None:
        start = self.starts[number] = self.starts.get(number, -1) + 1
        body = self.bodies[number](self.rig, self.gate(number, start), start)
        self.tasks[number] = asyncio.get_running_loop().create_task(body)  # type: ignore[arg-type]

    def _digest(self) -> bytes:
        service, tenant = self.rig.service, self.rig.tenant
        # Names of calls are random and mean nothing.
        rows = {
            f"{table} {row.pk} {row.rk.rpartition('|')[0] if table == 'submissions' else row.rk} {row.etag} "
            f"{sorted(row.data.items())!r}"
            for table in ("intents", "submissions")
            for row in service.all_rows(table)
        }
        state = (sorted(rows), sorted(tenant.held.items(), key=str), len(service.messages))
        return hashlib.sha256(repr(state).encode()).digest()

    def key(self) -> bytes:
        # What a worker saw before it was killed is forgotten with it.
        saw = {
            n: [step for step in steps if step.startswith(f"{self.starts[n]} ")] for n, steps in self.history.items()
        }
        whole = (self._digest(), saw, sorted(self.starts.items()), sorted((n, w) for n, (w, _) in self.waiting.items()))
        return hashlib.sha256(repr(whole).encode()).digest()

    async def quiet(self) -> None:
        """Until every worker stands at its gate or has ended."""
        for _ in range(200):
            live = [number for number, task in self.tasks.items() if not task.done()]
            if all(number in self.waiting for number in live):
                return
            await asyncio.sleep(0)
        raise AssertionError("a worker neither stands at a gate nor ends")

    def _branch(self, choices: list[tuple[int, bool]]) -> int:
        """The choice to take here; the others are left for later. Raises _Pruned when there is none left."""
        key = self.key()
        known = self.seen.get(key)
        if known is None:
            open_ = [pick for pick, (number, crash) in enumerate(choices) if crash or number not in self.sleep]
        else:
            # Whoever was here before let these sleep, and now they are awake.
            open_ = [pick for pick, (number, crash) in enumerate(choices) if not crash and number in known - self.sleep]
            self.sleep &= known
        self.seen[key] = self.sleep
        if not open_:
            raise _Pruned
        steps = {number: what for number, (what, _) in self.waiting.items()}
        asleep, ways = self.sleep, []
        for pick in open_:
            number, crash = choices[pick]
            # The death of one worker changes nothing for the others.
            then = frozenset(n for n in asleep if n != number and (crash or independent(steps[n], steps[number])))
            ways.append(([*self.taken, pick], then))
            if not crash:
                asleep |= {number}
        self.others += ways[1:]
        self.sleep = ways[0][1]
        return open_[0]

    async def go(self) -> None:
        for number in range(len(self.bodies)):
            self.begin(number)
        while True:
            await self.quiet()
            for task in self.tasks.values():
                if task.done() and not task.cancelled():
                    task.result()
            ready = sorted(self.waiting)
            if not ready:
                return
            choices = [(number, False) for number in ready]
            if self.crashed < self.crashes:
                choices += [(number, True) for number in ready]
            position = len(self.taken)
            pick = self.prefix[position] if position < len(self.prefix) else self._branch(choices)
            self.taken.append(pick)
            number, crash = choices[pick]
            _, turn = self.waiting.pop(number)
            if crash:
                self.crashed += 1
                turn.set_exception(Killed())
                task = self.tasks[number]
                await asyncio.wait([task])
                task.exception()
                self.begin(number)
            else:
                turn.set_result(None)


def explore(
    bodies: list[Body], check: Callable[[Rig], Awaitable[None]], *, crashes: int, most: int = 250
) -> tuple[int, bool]:
    """Run every interleaving, `check` at the end of each; how many runs it took, and whether that was all.

    Beyond `most` runs the rest is left out, unless TEST_EXHAUSTIVE is set: each day another random part (TEST_SEED).
    """
    seen: dict[bytes, Sleep] = {}
    todo: list[tuple[list[int], Sleep]] = [([], frozenset())]
    rnd = random.Random(share.seed())
    runs = 0
    while todo:
        if runs >= most and not share.exhaustive():
            INTERLEAVINGS["random"] += runs
            return runs, False
        way = todo.pop(rnd.randrange(len(todo)))

        async def main(way: tuple[list[int], Sleep] = way) -> _Run:
            rig = Rig(call_seconds=0.0)
            run = _Run(rig, bodies, way, seen, crashes)
            try:
                await run.go()
            except _Pruned:
                for task in run.tasks.values():
                    task.cancel()
                return run
            try:
                await check(rig)
            except AssertionError as error:
                steps = "\n".join(f"  {n}: {what[:60]}" for n, h in run.history.items() for what in h)
                raise AssertionError(f"{error}\nchoices {run.taken}\n{steps}") from error
            return run

        run = virtual.run(main())
        runs += 1
        INTERLEAVINGS["taken"] += 1
        todo += run.others
    return runs, True
