"""A running stack in a benchmark's hands: messages that appear all at once, what was done by whom, and how much."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import http.client
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from local.client import AppClient
from local.host.queueservice import QueueService
from local.stack import HostOptions, Stack, StackOptions
from local.workers import Worker
from shared.ledger import ids
from shared.ledger.outcomes import fold
from shared.ledger.parts import Parts
from shared.ledger.submissions import TABLE, Header
from shared.publishing.budget import TABLE as PERMITS
from shared.storage.azure import AzureBlobs, AzureQueue, AzureTables
from shared.storage.clock import ServiceClock
from shared.storage.connection import POISON, QUEUE, StorageConnection
from shared.storage.protocols import Row

PROBE = "probe"  # a queue that nobody reads
_PROBES = 200  # messages by which the pace of inserting is found


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    rounds: int = 0
    quick: bool = False

    def times(self, usual: int) -> int:
        """How many rounds of something that is usually measured so many times."""
        return self.rounds or (1 if self.quick else usual)

    def size(self, usual: int, quick: int) -> int:
        """How much of something."""
        return quick if self.quick else usual


def message(value: str, action: str = "Audit", **fields: Any) -> str:
    """A native message of one indicator, as a playbook sends it."""
    named = {"title": "Seen in an incident", "description": "From a playbook"}
    return json.dumps({"indicatorValue": value, "action": action, **named, **fields})


def batch(values: Sequence[str]) -> bytes:
    """A native batch for the HTTP door."""
    items = [{"indicatorValue": value, "title": "Seen in an incident"} for value in values]
    return json.dumps({"defaults": {"action": "Audit"}, "indicators": items}).encode()


def until(look: Callable[[], bool], what: str, timeout: float, every: float = 0.1) -> float:
    """The moment (monotonic) at which it is first seen to be true. Raises RuntimeError when it never is."""
    limit = time.monotonic() + timeout
    while not look():
        if time.monotonic() > limit:
            raise RuntimeError(f"did not happen within {timeout:g} s: {what}")
        time.sleep(every)
    return time.monotonic()


@dataclasses.dataclass(slots=True)
class Span:
    """What passed between two moments: CPU seconds and peak memory by process, storage operations by name."""

    wall: float = 0.0
    cpu: dict[str, float] = dataclasses.field(default_factory=dict)
    operations: Counter[str] = dataclasses.field(default_factory=Counter)

    @property
    def total(self) -> int:
        """Storage operations of all kinds."""
        return self.operations.total()


class Running:
    """A stack that serves, and the means to ask it. Made by `running`."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.admin = stack.admin
        self.app = AppClient(stack)
        self.connection = StorageConnection(connection_string=stack.connection_string)
        self._pool = ThreadPoolExecutor(16, thread_name_prefix="bench")
        self.clock = ServiceClock()
        self.tables = AzureTables(self.connection, self._pool, self.clock)
        self.blobs = AzureBlobs(self.connection, self._pool)
        self.queue = AzureQueue(self.connection, self._pool)
        self.parts = Parts(self.tables, self.blobs, self.queue, self.clock)

    def close(self) -> None:
        """Close the clients."""
        for client in (self.connection.tables, self.connection.blobs, self.connection.queues):
            client.close()
        self._pool.shutdown()

    # Before a round

    def warm(self) -> None:
        """Let every worker have its SDKs, its token and its connections; leaves nothing behind in the budget."""
        for number in range(len(self.stack.queue_workers)):
            before = self.succeeded()
            self.put([message(f"warm{number}-{n}.warm-up.example") for n in range(4)])
            until(lambda before=before: self.succeeded() >= before + 4, "the worker is warm", 90)  # type: ignore[misc]
        self.empty()

    def empty(self) -> None:
        """Empty the double, and the table of permits: as if nothing had been sent for 63 s."""

        async def forget() -> None:
            rows = await self.tables.query(PERMITS)
            await asyncio.gather(*(self.tables.delete(PERMITS, row.pk, row.rk) for row in rows))

        asyncio.run(forget())
        self.admin.reset()

    # Sending

    def put(self, texts: Sequence[str], *, together: bool = False) -> float:
        """Put messages on the queue; `together`: none is visible before all are in. The time.time() of visibility."""
        shown_at = time.time()

        async def work(queue: str, texts: Sequence[str]) -> None:
            left = iter(texts)
            async with QueueService(self.stack.connection_string, connections=16) as service:

                async def some() -> None:
                    for text in left:
                        await service.put(queue, text, max(0, math.ceil(shown_at - time.time())))

                await asyncio.gather(*(some() for _ in range(16)))

        if together:
            asyncio.run(work(PROBE, texts[:_PROBES]))
            pace = (time.time() - shown_at) / min(_PROBES, len(texts))
            shown_at = time.time() + 2 * pace * len(texts) + 3
        asyncio.run(work(QUEUE, texts))
        if together and time.time() > shown_at:
            raise RuntimeError(f"{len(texts)} messages were not inserted in time; the machine is too busy")
        return shown_at

    def submit(self, values: Sequence[str]) -> str:
        """One HTTP submission; its id."""
        return str(self.app.submit(batch(values))["id"])

    def finished(self, submission: str, timeout: float = 600.0) -> float:
        """The moment at which a submission is seen to be finished."""

        def look() -> bool:
            told = self.app.submission(submission)
            return told is not None and told["state"] == "finished"

        return until(look, f"{submission} is finished", timeout)

    # Looking

    def status(self, worker: Worker) -> dict[str, int]:
        """What the host says of a worker's queue: received, succeeded, failed, poisoned, in_flight, peak."""
        connection = http.client.HTTPConnection("127.0.0.1", worker.port, timeout=60)
        try:
            connection.request("GET", "/admin/host/status", headers={"x-functions-key": self.stack.keys["master"]})
            found: dict[str, int] = json.loads(connection.getresponse().read())["queues"][0]
        finally:
            connection.close()
        return found

    def told(self, name: str) -> int:
        """One number of all queue workers' status together."""
        return sum(self.status(worker)[name] for worker in self.stack.queue_workers)

    def succeeded(self) -> int:
        """Messages whose function has returned."""
        return self.told("succeeded")

    def lost(self, messages: int) -> int:
        """How many of so many messages of one indicator have no accepted outcome in the ledger; none may."""

        async def read() -> list[Row]:
            return await self.tables.query(TABLE)

        groups: dict[str, list[Row]] = {}
        for row in asyncio.run(read()):
            groups.setdefault(row.rk.partition("|")[0], []).append(row)
        accepted = 0
        for rows in groups.values():
            header = next((Header.from_row(row) for row in rows if row.rk.endswith("|h")), None)
            if header is not None:
                accepted += fold(header.submitted, rows).counts()["accepted"]
        return messages - accepted

    def poisoned(self) -> int:
        """Messages in the poison queue."""
        from azure.core.exceptions import ResourceNotFoundError

        try:
            found = self.connection.queues.get_queue_client(POISON).get_queue_properties()
        except ResourceNotFoundError:
            return 0
        return int(found.approximate_message_count or 0)

    # Measuring

    @contextlib.contextmanager
    def span(self) -> Iterator[Span]:
        """Wall time, CPU and storage operations of what happens inside."""
        span = Span()
        operations = self.stack.azurite.counts()
        usage = {name: used.cpu for name, used in self.stack.usage().items()}
        begun = time.monotonic()
        try:
            yield span
        finally:
            span.wall = time.monotonic() - begun
            span.cpu = {name: used.cpu - usage.get(name, 0.0) for name, used in self.stack.usage().items()}
            span.operations = Counter(self.stack.azurite.counts())
            span.operations.subtract(operations)

    def peak_memory(self, worker: Worker) -> int:
        """The most resident memory that a worker ever had, in bytes. Linux only."""
        if worker.child is None:
            return 0
        status = Path(f"/proc/{worker.child.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))

    def token(self) -> str:
        """A token for the double's Defender, of the app that needs no vault."""
        tenant = self.stack.tenant
        form = {
            "grant_type": "client_credentials",
            "client_id": tenant["direct_client_id"],
            "client_secret": tenant["direct_client_secret"],
            "scope": "https://api.securitycenter.microsoft.com/.default",
        }
        import requests

        address = f"{tenant['entra']}/{tenant['tenant_id']}/oauth2/v2.0/token"
        answer = requests.post(address, data=form, verify=tenant["ca_file"], timeout=30)
        answer.raise_for_status()
        return str(answer.json()["access_token"])


@contextlib.contextmanager
def running(
    *,
    workers: int = 1,
    settings: Mapping[str, str] | None = None,
    host: Mapping[str, Any] | None = None,
    arguments: Sequence[str] = (),
) -> Iterator[Running]:
    """A fresh stack without timers, unless `host` (HostOptions) names their periods; nobody's work is in it."""
    never = dict.fromkeys(("Sweep", "Poison", "Heartbeat", "Retention"), 86_400.0)
    options = StackOptions(
        workers=workers,
        settings=settings or {},
        host=HostOptions(**({"timers": never} | dict(host or {})), fresh=True),
        tenant_arguments=arguments,
    )
    with Stack(options) as stack:
        here = Running(stack)
        try:
            yield here
        finally:
            here.close()


WIDE = {"RELAY_LIMIT_IMPORT": "6000/63"}
"""A budget that is no bound, for what is to be measured without it; `widen` lifts the double's own."""


def widen(here: Running, capacity: int = 15_000) -> None:
    """Lift the double's limits: of import calls, and of what a tenant holds."""
    here.admin.rules(limits={"import": [[6000, 60]]}, capacity=max(15_000, capacity))


def values(kind: str, count: int) -> list[str]:
    """Different domain names."""
    return [f"n{n}.{kind}.example" for n in range(count)]


__all__ = [
    "PROBE",
    "WIDE",
    "Options",
    "Running",
    "Span",
    "batch",
    "ids",
    "message",
    "running",
    "until",
    "values",
    "widen",
]
