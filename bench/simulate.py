"""`simulate`: the rule of calling, over rates and workers: the real group commit on memory stores in virtual time.

No machine is measured here, so it says the same everywhere: a call takes 0.3 s, an operation of a table 5 ms, clocks
are up to half a second off. What it answers is how many calls there are, and how long an indicator waits for its own.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import random
from collections.abc import Sequence
from typing import Any

from bench.figure import Figure, percentile
from bench.run import Options
from local.virtual.loop import VirtualClock, run, service_now
from local.virtual.stores import MemoryBlobs, MemoryQueue, MemoryTables, Service
from shared.publishing.deliver import Delivery
from shared.publishing.ports import Held
from shared.relay import Publishing, Stores
from shared.settings import Settings

CALL_SECONDS = 0.3
TABLE_SECONDS = 0.005
IN_FLIGHT = 1_032
#: rate a second, workers, messages
CASES = (
    (0.2, 1, 60),
    (1.0, 1, 300),
    (10.0, 1, 3_000),
    (10.0, 2, 3_000),
    (10.0, 4, 3_000),
    (100.0, 1, 6_000),
    (100.0, 4, 6_000),
    (600.0, 1, 13_000),
    (600.0, 2, 13_000),
    (600.0, 3, 13_000),
    (600.0, 4, 13_000),
)
QUICK = ((0.2, 1, 12), (10.0, 1, 300), (600.0, 1, 1_500))
#: What the design says of three of them: calls, p50, p95.
GOALS: dict[tuple[float, int, int], tuple[float | None, float | None, float | None]] = {
    (600.0, 1, 13_000): (28, None, 1.1),
    (600.0, 3, 13_000): (29, None, 3.5),
    (10.0, 1, 3_000): (None, 2.0, 3.5),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """Defender's answer to one item: accepted."""

    id: str | None
    failed: bool = False
    reason: str = ""


class SimulatedDefender:
    """Answers after CALL_SECONDS; knows when each value was first answered, and how many calls began when."""

    def __init__(self, limit: int = 30, window: float = 60.0) -> None:
        self.answered: dict[str, float] = {}
        self.calls: list[float] = []
        self.throttled = 0
        self._limit, self._window = limit, window

    async def prepare(self) -> None:
        """Nothing to prepare."""

    async def import_indicators(self, payloads: Sequence[dict[str, Any]], *, within: float) -> list[Answer]:
        """Accept all of them."""
        now = asyncio.get_running_loop().time()
        self.throttled += sum(at > now - self._window for at in self.calls) >= self._limit
        self.calls.append(now)
        await asyncio.sleep(CALL_SECONDS)
        for payload in payloads:
            self.answered.setdefault(payload["indicatorValue"], asyncio.get_running_loop().time())
        return [Answer(str(number)) for number, _ in enumerate(payloads)]

    async def held(self, kind: str, value: str, *, within: float) -> list[Held]:
        """Nothing: no indicator here is retracted or retired."""
        return []

    async def all_held(self, cursor: str | None, *, within: float) -> tuple[list[Held], str | None]:
        """Nothing, for the same reason."""
        return [], None

    async def delete(self, id_: str, *, within: float) -> None:
        """Nothing to delete."""

    async def delete_many(self, ids: Sequence[str], *, within: float) -> None:
        """Nothing to delete."""


class Silence:
    """shared.publishing.ports.Tell, kept to itself; alarms are remembered."""

    def __init__(self) -> None:
        self.alarms: list[str] = []

    def count(self, name: str, number: int = 1) -> None:
        """Not needed."""

    def rejected(self, reason: str, number: int = 1) -> None:
        """A benchmark's indicators are fine."""
        self.alarms.append(reason)

    def observe(self, name: str, value: float) -> None:
        """Not needed."""

    def event(self, name: str, **fields: Any) -> None:
        """Not needed."""

    def alarm(self, kind: str, detail: str) -> None:
        """Something went wrong."""
        self.alarms.append(f"{kind}: {detail}")


@dataclasses.dataclass(frozen=True, slots=True)
class Simulated:
    """What came of one case: calls, and each message's wait from insertion to answer, in seconds."""

    calls: int
    throttled: int
    waits: list[float]


class _World:
    """One queue, its senders and its workers."""

    def __init__(self, workers: int, seed: int) -> None:
        rnd = random.Random(seed)
        self.service = Service(service_now)
        self.defender = SimulatedDefender()
        self.tell = Silence()
        self.queue = MemoryQueue(self.service)
        self.sent: dict[str, float] = {}
        self.workers = [self._worker(rnd.uniform(-0.5, 0.5)) for _ in range(workers)]

    def _worker(self, skew: float) -> Publishing:
        async def gate(when: str, _what: str) -> None:
            if when == "before":
                await asyncio.sleep(TABLE_SECONDS)

        stores = Stores(
            tables=MemoryTables(self.service, gate),
            blobs=MemoryBlobs(self.service, gate),
            queue=MemoryQueue(self.service, gate),
            clock=VirtualClock(skew),
        )
        return Publishing(Settings(), stores, self.defender, self.tell)

    async def send(self, rate: float, messages: int) -> None:
        """At this rate, in bundles that come every 33 ms at most."""
        loop = asyncio.get_running_loop()
        bundle = max(1, round(rate / 30))
        for number in range(messages):
            value = f"h{number}.simulated.example"
            self.sent[value] = loop.time()
            self.queue.put(json.dumps({"indicatorValue": value, "action": "Block"}))
            if number % bundle == bundle - 1:
                await asyncio.sleep(bundle / rate)

    async def serve(self, publishing: Publishing, messages: int) -> None:
        """The trigger's rules: 32 at a time, IN_FLIGHT at most, a delay when the queue is found empty."""
        loop = asyncio.get_running_loop()
        flying: set[asyncio.Task[None]] = set()
        pause = 0.1
        while len(self.defender.answered) < messages:
            now, room = self.service.now(), min(32, IN_FLIGHT - len(flying))
            visible = (one for one in self.service.messages.values() if one[0] <= now)
            taken = list(itertools.islice(visible, room))
            for one in taken:
                one[0] = now + 600.0
                one[4] += 1
                task = loop.create_task(self._deliver(publishing, one))
                flying.add(task)
                task.add_done_callback(flying.discard)
            pause = 0.02 if taken else min(2.0, 2 * pause)
            await asyncio.sleep(pause)
        await asyncio.gather(*flying)

    async def _deliver(self, publishing: Publishing, one: list[Any]) -> None:
        delivery = Delivery(one[1], one[3], one[4], one[2].encode())
        await publishing.deliveries.deliver(delivery)
        self.service.messages.pop(one[1], None)


def simulate(rate: float, workers: int, messages: int, seed: int = 1) -> Simulated:
    """One case in virtual time. Raises RuntimeError when anything but accepting happened."""

    async def main() -> Simulated:
        world = _World(workers, seed)
        sending = asyncio.get_running_loop().create_task(world.send(rate, messages))
        await asyncio.gather(sending, *(world.serve(worker, messages) for worker in world.workers))
        if world.tell.alarms:
            raise RuntimeError(f"the simulation went wrong: {world.tell.alarms[0]}")
        waits = [world.defender.answered[value] - at for value, at in world.sent.items()]
        return Simulated(len(world.defender.calls), world.defender.throttled, waits)

    return run(main())


def measure(options: Options) -> list[Figure]:
    """A line for each case, p95 as its value; rounds differ in how far the workers' clocks are off."""
    figures = []
    for rate, workers, messages in QUICK if options.quick else CASES:
        found = [simulate(rate, workers, messages, seed + 1) for seed in range(options.times(1))]
        calls = max(one.calls for one in found)
        middle = max(percentile(one.waits, 0.5) for one in found)
        worst = max(max(one.waits) for one in found)
        refused = sum(one.throttled for one in found)
        goal = GOALS.get((rate, workers, messages), (None, None, None))
        hoped = "".join(
            f"{name} {number:g}; " for name, number in (("calls", goal[0]), ("p50", goal[1])) if number is not None
        )
        figures.append(
            Figure(
                f"{messages:,} messages at {rate:g} a second, {workers} worker{'s' if workers > 1 else ''}: p95",
                "s",
                [percentile(one.waits, 0.95) for one in found],
                f"{-(-messages // 500)} calls, were all full",
                goal[2],
                note=f"{calls} calls, p50 {middle:.2f} s, worst {worst:.2f} s, {refused} over the service's limit"
                + (f" (design: {hoped.removesuffix('; ')})" if hoped else ""),
                lost=refused,
            )
        )
    return figures
