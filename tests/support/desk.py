"""The product as a worker composes it, in this process and on real sockets, with a host of a few lines for its queue.

Azurite stands behind a proxy that breaks requests, the tenant double breaks its own. What is looked at afterwards is
read past the proxy.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from azure.core.exceptions import ResourceNotFoundError

from local.tenant import RunningTenant
from shared.errors import KeyBusyError, RelayError, StorageError
from shared.identity import tokens
from shared.identity.tokens import Identity
from shared.ledger import ids
from shared.ledger.outcomes import fold
from shared.ledger.parts import PARTITION
from shared.ledger.parts import TABLE as OPEN
from shared.ledger.submissions import TABLE as SUBMISSIONS
from shared.ledger.submissions import Header
from shared.publishing.deliver import Delivery
from shared.relay import Relay
from shared.storage.azure import AzureTables
from shared.storage.clock import ServiceClock
from shared.storage.connection import POISON, QUEUE, TABLES, StorageConnection
from shared.storage.protocols import Row
from shared.telemetry import configure_logging
from tests.support.proxy import StorageProxy
from tests.support.stacklab import Books, Known

LEASE = 60
MAX_DEQUEUES = 10
_PATIENCE = 60.0  # only keeps a failing cell from hanging

# Short delays, and a wide budget: by settings, as everybody would set them.
SETTINGS = {
    "RELAY_LIMIT_IMPORT": "60/1",
    "RELAY_LIMIT_SUSPECT": "30/1",
    "RELAY_LIMIT_LIST": "60/1",
    "RELAY_LIMIT_DELETE": "60/1",
    "RELAY_LIMIT_BATCH_DELETE": "60/1",
    "RELAY_CALL_TIMEOUT": "10",
    "RELAY_CALL_LATEST_START": "20",
    "RELAY_INVOCATION_DEADLINE": "40",
    "RELAY_DEFER_FIRST": "0.2",
    "RELAY_DEFER_MAX": "2",
    "RELAY_UNSENT_STEP": "0.2",
    "RELAY_UNSENT_MAX": "0.4",
    "RELAY_OVERDUE_AFTER": "60",
    "RELAY_KEY_RESUME_AFTER": "0.5",
    "RELAY_TOKEN_PAUSE": "0.05",
    "RELAY_STORAGE_TIMEOUT": "10",
    "RELAY_STORAGE_BACKOFF": "0.01",
    "RELAY_POOL_THREADS": "8",
}
# Where something is to be slower than that; elsewhere a busy machine must not look like it.
IMPATIENT = {"RELAY_CALL_TIMEOUT": "1", "RELAY_STORAGE_TIMEOUT": "0.5"}


class Backdoor:
    """Storage as it is, past the proxy: for the host, the sender and whoever looks."""

    def __init__(self, connection_string: str) -> None:
        self.connection = StorageConnection(connection_string=connection_string)
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="backdoor")
        self.tables = AzureTables(self.connection, self._pool, ServiceClock())
        self.queue = self.connection.queues.get_queue_client(QUEUE)
        self.poison = self.connection.queues.get_queue_client(POISON)

    def close(self) -> None:
        """Close the clients."""
        for client in (self.connection.tables, self.connection.blobs, self.connection.queues):
            client.close()
        self._pool.shutdown()

    def empty(self) -> None:
        """Nothing is stored, but for blobs, which nobody lists."""
        self.queue.clear_messages()
        try:
            self.poison.clear_messages()
        except ResourceNotFoundError:
            self.poison.create_queue()
        tables = self.connection.tables
        for name in TABLES:
            tables.delete_table(name)
            tables.create_table(name)

    async def run[T](self, work: Callable[[], T]) -> T:
        """Blocking work in a thread of its own pool."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def rows(self, table: str) -> list[Row]:
        """All rows of a table."""
        return await self.tables.query(table)

    def depth(self) -> int:
        """Messages in the queue and its poison queue, visible or not."""
        return sum(
            int(queue.get_queue_properties().approximate_message_count or 0) for queue in (self.queue, self.poison)
        )


class Desk:
    """A worker, a sender and a host, for the time of one trouble."""

    def __init__(
        self,
        proxy: StorageProxy,
        back: Backdoor,
        tenant: RunningTenant,
        *,
        identity: Identity | None = None,
        queue_offset: float = 0.0,
        impatient: bool = False,
    ) -> None:
        """`identity`: of somebody with a token already; `queue_offset`: seconds by which the queue's clock is off."""
        self.back = back
        self.queue_offset = timedelta(seconds=queue_offset)
        self.tenant = tenant
        self.books = Books()
        self.log = io.StringIO()
        self.seen: Counter[str] = Counter()
        self._handler = logging.StreamHandler(self.log)
        logging.getLogger().addHandler(self._handler)
        configure_logging("DEBUG")
        self._patch = pytest.MonkeyPatch()
        environ = {**tenant.environment(), **SETTINGS, **(IMPATIENT if impatient else {})}
        for name, text in {**environ, "RelayStorage": proxy.connection_string}.items():
            self._patch.setenv(name, text)
        with pytest.MonkeyPatch.context() as patch:
            if identity is not None:
                patch.setattr(tokens, "build_identity", lambda settings: identity)
            self.relay = Relay()

    async def close(self) -> None:
        """End the worker."""
        committer = self.relay.publishing.committer
        for task in (committer._task, *committer._calls, *committer.staging.background):
            if task is not None:
                task.cancel()
        logging.getLogger().removeHandler(self._handler)
        self.relay.pool.shutdown(wait=True, cancel_futures=True)
        self.relay.defender._client.close()
        for client in (self.relay.connection.tables, self.relay.connection.blobs, self.relay.connection.queues):
            client.close()
        self._patch.undo()

    # The sender

    async def put(self, body: Any) -> str:
        """A message on the queue from outside; the submission it will be."""
        text = body if isinstance(body, str) else json.dumps(body)
        sent = await self.back.run(lambda: self.back.queue.send_message(text, time_to_live=-1))
        assert sent.inserted_on is not None
        return ids.foreign_submission(sent.id, sent.inserted_on + self.queue_offset)

    async def submit(self, key: str, items: list[dict[str, Any]], **fields: Any) -> str:
        """A caller at the HTTP door who sends the same request with the same key until there is an answer."""
        body = json.dumps({"indicators": items, **fields}).encode()
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                return (await self.relay.publishing.submitting.submit(body, caller="key", key=key)).id
            except (StorageError, KeyBusyError) as error:
                self.seen["asked again"] += 1
                assert time.monotonic() < until, error
                await asyncio.sleep(0.1)

    # The host

    async def round(self) -> int:
        """Deliver what is visible, all at once, by the host's rules; how many messages there were."""
        messages = await self.back.run(
            lambda: list(self.back.queue.receive_messages(max_messages=32, visibility_timeout=LEASE))
        )
        await asyncio.gather(*map(self._deliver, messages))
        return len(messages)

    async def _deliver(self, message: Any) -> None:
        text, count = str(message.content), int(message.dequeue_count)
        if count > MAX_DEQUEUES:
            await self._poison(message)
            return
        try:
            await self.relay.publishing.deliveries.deliver(
                Delivery(message.id, message.inserted_on + self.queue_offset, count, text.encode())
            )
        except Exception as error:
            # Anything else than the product's own errors is a fault of ours, though nothing is lost by it.
            self.seen["redelivered" if isinstance(error, RelayError) else f"unexpected {error!r}"] += 1
            if count == MAX_DEQUEUES:
                await self._poison(message)
            else:
                await self.back.run(lambda: self.back.queue.update_message(message, visibility_timeout=0))
            return
        await self.back.run(lambda: self.back.queue.delete_message(message))

    async def _poison(self, message: Any) -> None:
        self.seen["poisoned"] += 1
        await self.back.run(lambda: self.back.poison.send_message(message.content, time_to_live=-1))
        await self.back.run(lambda: self.back.queue.delete_message(message))

    async def timers(self) -> None:
        """What the timers do, as often as a loop asks; one that fails comes again."""
        for work in (self.relay.publishing.sweeper.overdue, self.relay.publishing.sweeper.poison):
            try:
                await work()
            except RelayError:
                self.seen["timer failed"] += 1

    # Whoever looks

    async def ledger(self) -> dict[str, Known]:
        """Every submission that has a header; the sums are checked, and held against those read before."""
        groups: dict[str, list[Row]] = {}
        for row in await self.back.rows(SUBMISSIONS):
            groups.setdefault(row.rk.partition("|")[0], []).append(row)
        known = {}
        for name, rows in groups.items():
            header = next((Header.from_row(row) for row in rows if row.rk.endswith("|h")), None)
            if header is not None:
                known[name] = Known(header, fold(header.submitted, rows))
        self.books.check(known.values())
        return known

    async def at_rest(self) -> bool:
        """Whether nothing is left to be done."""
        if await self.back.run(self.back.depth):
            return False
        return not await self.back.tables.query(OPEN, pk=PARTITION)

    async def settle(self, *beside: Awaitable[Any]) -> dict[str, Known]:
        """Rounds and timers until everything is at rest; the ledger then. `beside` goes on meanwhile."""
        others = [asyncio.ensure_future(one) for one in beside]
        until = time.monotonic() + _PATIENCE
        while True:
            found = await self.round()
            if found:
                await self.ledger()
                continue
            if all(one.done() for one in others) and await self.at_rest():
                for one in others:
                    await one
                return await self.ledger()
            assert time.monotonic() < until, f"not at rest: {await self.left()}"
            await asyncio.sleep(0.1)
            if all(one.done() for one in others) and not await self.back.run(self.back.depth):
                await self._let_time_pass()
            await self.timers()

    async def _let_time_pass(self) -> None:
        """What lies open without a pointer becomes overdue now, and not in a minute: then it is the sweep's."""
        for row in await self.back.tables.query(OPEN, pk=PARTITION):
            await self.back.tables.update(OPEN, Row(row.pk, row.rk, {"due": 0.0}, row.etag))

    async def left(self) -> str:
        """What has not come to rest."""
        parts = [row.rk for row in await self.back.tables.query(OPEN, pk=PARTITION)]
        depth = await self.back.run(self.back.depth)
        return f"{depth} messages, open parts {parts}, seen {dict(self.seen)}, log {self.log.getvalue()[-2000:]}"
