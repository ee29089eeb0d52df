"""Workers of the real publishing code on memory stores in virtual time, with the host's rules for the queue."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
from typing import Any

from shared.ledger.ids import foreign_submission
from shared.ledger.submissions import Submission
from shared.publishing.deliver import Delivery
from shared.relay import Publishing, Stores
from shared.settings import Settings
from shared.storage.protocols import Received
from tests.support.fakes import FakeDefender, FakeTell, FakeTenant
from tests.support.memory import Gate, Killed, MemoryBlobs, MemoryQueue, MemoryTables, Service, open_gate
from tests.support.virtual import VirtualClock, service_now


class Rig:
    """Shared services and any number of workers. Use it inside `virtual.run`."""

    def __init__(self, settings: Settings | None = None, *, call_seconds: float = 0.3) -> None:
        self.settings = settings or Settings()
        self.service = Service(service_now)
        self.tenant = FakeTenant()
        self.tell = FakeTell()
        self.call_seconds = call_seconds
        self.outside = MemoryQueue(self.service)

    def worker(self, *, gate: Gate = open_gate, skew: float = 0.0, table_seconds: float = 0.0) -> Publishing:
        """A worker's publishing; `gate` stands before and after each of its operations."""

        async def slow(when: str, what: str) -> None:
            if when == "before" and table_seconds:
                await asyncio.sleep(table_seconds)
            await gate(when, what)

        stores = Stores(
            tables=MemoryTables(self.service, slow),
            blobs=MemoryBlobs(self.service, slow),
            queue=MemoryQueue(self.service, slow),
            clock=VirtualClock(skew),
        )
        defender = FakeDefender(self.tenant, seconds=self.call_seconds, gate=gate)
        return Publishing(self.settings, stores, defender, self.tell)

    def put(self, body: Any, visible_after: float = 0.0) -> str:
        """A message from outside; the submission it will be."""
        text = body if isinstance(body, str) else json.dumps(body)
        name = self.outside.put(text, visible_after)
        return foreign_submission(name, self.service.messages[name][3])

    async def read(self, submission: str) -> Submission:
        """A submission as anybody sees it."""
        known = await self.worker().submissions.read(submission)
        assert known is not None, submission
        return known


@dataclasses.dataclass
class Host:
    """The Functions host's rules for one worker: leases, retry delay, poison queue, death."""

    rig: Rig
    publishing: Publishing
    lease: float = 600.0
    retry: float = 30.0
    most: int = 1032
    max_dequeues: int = 10
    dead: bool = False
    in_flight: set[asyncio.Task[None]] = dataclasses.field(default_factory=set)

    async def serve(self, until: float, poll: float = 0.2) -> None:
        """Take messages until the virtual time `until`, or until the worker is dead."""
        loop = asyncio.get_running_loop()
        while loop.time() < until and not self.dead:
            now = self.rig.service.now()
            room = min(32, self.most - len(self.in_flight))
            ready = list(itertools.islice((m for m in self.rig.service.messages.values() if m[0] <= now), room))
            for message in ready:
                message[0] = now + self.lease
                message[4] += 1
                if message[4] > self.max_dequeues:
                    self._poison(message)
                    continue
                task = loop.create_task(self._invoke(message, message[4]))
                self.in_flight.add(task)
                task.add_done_callback(self.in_flight.discard)
            await asyncio.sleep(poll if len(ready) < 32 else 0.05)

    async def drain(self, most: float = 10_000.0, poll: float = 0.2) -> None:
        """Serve until the queue is empty and nothing is in flight; fails the test when that takes too long.

        A long `poll` costs less where it does not matter when what waits for minutes is taken.
        """
        loop = asyncio.get_running_loop()
        limit = loop.time() + most
        while (self.rig.service.messages or self.in_flight) and not self.dead:
            assert loop.time() < limit, f"still {len(self.rig.service.messages)} messages after {most} s"
            await self.serve(loop.time() + max(1.0, poll), poll)

    async def _invoke(self, message: list[Any], dequeues: int) -> None:
        delivery = Delivery(message[1], message[3], dequeues, message[2].encode())
        try:
            await self.publishing.deliveries.deliver(delivery)
        except Killed:
            self.die()
            return
        except Exception:
            if self.dead:
                return
            if dequeues >= self.max_dequeues:
                self._poison(message)
            else:
                message[0] = self.rig.service.now() + self.retry
            return
        if not self.dead:
            self.rig.service.messages.pop(message[1], None)

    def _poison(self, message: list[Any]) -> None:
        self.rig.service.messages.pop(message[1])
        copy = Received(self.rig.service.next_message(), "r", message[2].encode(), 1, message[3])
        self.rig.service.poison.append(copy)

    def die(self) -> None:
        """Everything this worker does ends here; its leases run out by themselves."""
        self.dead = True
        for task in self.in_flight:
            task.cancel()
        for task in (self.publishing.committer._task, *self.publishing.committer._calls):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        for task in self.publishing.committer.staging.background:
            task.cancel()
