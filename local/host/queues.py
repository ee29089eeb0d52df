"""The storage-queue trigger: polling, leases, retries, the poison queue.

Rules as read in the storage extension (QueueListener, QueueProcessor, RandomizedExponentialBackoffStrategy): one
fetch of `batchSize` at a time; the next one as soon as no more than `newBatchThreshold` messages are being worked
on; an empty queue is asked again after a random, doubling delay from 100 ms to `maxPollingInterval`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

from local.host.hostjson import QueueOptions
from local.host.protos import TypedData
from local.host.queueservice import QueueService, QueueServiceError, ReceivedMessage
from local.host.runtime import Function, InvocationError, Result

log = logging.getLogger("host.queues")

#: Lease of the real host while a function runs, in seconds; renewed at half of it.
LEASE = 600.0
_POLL_MIN = 0.1
_POISON = "-poison"
_QUEUE_NAME_MAX = 63

Invoke = Callable[[Function, dict[str, TypedData], dict[str, TypedData]], Awaitable[Result]]


class Backoff:
    """Delays between looks at an empty queue, in seconds."""

    def __init__(self, longest: float) -> None:
        self._longest = max(longest, _POLL_MIN)
        self._exponent = 0

    def after(self, found: bool) -> float:
        """The next delay, after a look that found something or did not."""
        if found:
            self._exponent = 0
            return _POLL_MIN
        delay = _POLL_MIN
        if self._exponent > 0:
            delay += random.uniform(0.8, 1.2) * 2 ** (self._exponent - 1) * _POLL_MIN
        if delay >= self._longest:
            return self._longest
        self._exponent += 1
        return delay


class QueueListener:
    """Feeds one queue function."""

    def __init__(
        self,
        function: Function,
        queue: str,
        service: QueueService,
        options: QueueOptions,
        invoke: Invoke,
        *,
        lease: float = LEASE,
    ) -> None:
        self._function = function
        self._queue = queue
        self._service = service
        self._options = options
        self._invoke = invoke
        self._lease = lease
        self._argument = str(function.trigger["name"])
        has_poison = not queue.endswith(_POISON) and len(queue) + len(_POISON) <= _QUEUE_NAME_MAX
        self._poison = queue + _POISON if has_poison else None
        self._running: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()
        self._stopping = asyncio.Event()
        self.counts = {"received": 0, "succeeded": 0, "failed": 0, "poisoned": 0, "peak": 0}

    @property
    def in_flight(self) -> int:
        """Messages that are being worked on."""
        return len(self._running)

    async def run(self) -> None:
        """Poll until `stop`; errors of the queue service are logged and tried again."""
        backoff = Backoff(self._options.max_polling_interval)
        while not self._stopping.is_set():
            try:
                messages = await self._service.receive(self._queue, self._options.batch_size, self._lease)
            except (QueueServiceError, aiohttp.ClientError, TimeoutError, OSError) as error:
                log.warning("cannot receive from %s: %s", self._queue, error)
                messages = []
            self.counts["received"] += len(messages)
            for message in messages:
                task = asyncio.create_task(self._work(message))
                self._running.add(task)
                task.add_done_callback(self._done)
            self.counts["peak"] = max(self.counts["peak"], len(self._running))
            delay = backoff.after(bool(messages))
            if not messages:
                await self._pause(delay)
            while len(self._running) > self._options.new_batch_threshold and not self._stopping.is_set():
                self._ended.clear()
                await self._ended.wait()

    async def stop(self, grace: float) -> None:
        """Receive no more; wait up to `grace` seconds for what runs, then leave it to its lease."""
        self._stopping.set()
        self._ended.set()
        if self._running:
            await asyncio.wait(self._running, timeout=grace)
        for task in list(self._running):
            task.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._ended.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s: a message could not be settled: %r", self._queue, error)

    async def _pause(self, delay: float) -> None:
        try:
            async with asyncio.timeout(delay):
                await self._stopping.wait()
        except TimeoutError:
            pass

    async def _work(self, message: ReceivedMessage) -> None:
        if self._poison and message.dequeue_count > self._options.max_dequeue_count:
            await self._to_poison(message)  # the host runs it no more
            return
        loop = asyncio.get_running_loop()
        renewer: asyncio.Task[None] | None = None

        def renew() -> None:
            nonlocal renewer
            renewer = asyncio.ensure_future(self._keep(message))

        # A timer costs less than a task for each of a thousand messages; few live so long as half a lease.
        timer = loop.call_later(self._lease / 2, renew)
        try:
            ok = await self._call(message)
        finally:
            timer.cancel()
            if renewer is not None:
                renewer.cancel()
        if ok:
            self.counts["succeeded"] += 1
            await self._service.delete(self._queue, message.message_id, message.pop_receipt)
            return
        self.counts["failed"] += 1
        if self._poison and message.dequeue_count >= self._options.max_dequeue_count:
            await self._to_poison(message)
            return
        # Without a poison queue the host leaves the message to its lease.
        delay = self._options.visibility_timeout if self._poison else self._lease
        await self._service.renew(self._queue, message.message_id, message.pop_receipt, delay)

    async def _call(self, message: ReceivedMessage) -> bool:
        text = message.text
        if self._options.encoded:
            try:
                text = base64.b64decode(text, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError, ValueError):
                log.error("%s: message %s is not base64 of UTF-8 text", self._queue, message.message_id)
                return False
        try:
            await self._invoke(self._function, {self._argument: TypedData(string=text)}, metadata(message, text))
        except InvocationError as error:
            log.error("Executed 'Functions.%s' (Failed): %s", self._function.name, error.detail)
            return False
        return True

    async def _keep(self, message: ReceivedMessage) -> None:
        """Renew the lease at half its length for as long as the function runs."""
        while True:
            try:
                receipt = await self._service.renew(self._queue, message.message_id, message.pop_receipt, self._lease)
            except (QueueServiceError, aiohttp.ClientError, TimeoutError, OSError) as error:
                log.warning("%s: lease of %s not renewed: %s", self._queue, message.message_id, error)
                receipt = message.pop_receipt
            if receipt is None:
                log.warning("%s: lease of %s is lost", self._queue, message.message_id)
                return
            message.pop_receipt = receipt
            await asyncio.sleep(self._lease / 2)

    async def _to_poison(self, message: ReceivedMessage) -> None:
        """Copy, then delete: a death in between leaves two, never none. The copy has an id of its own."""
        assert self._poison is not None
        log.error("%s: message %s goes to %s", self._queue, message.message_id, self._poison)
        self.counts["poisoned"] += 1
        await self._service.put(self._poison, message.text)
        await self._service.delete(self._queue, message.message_id, message.pop_receipt)


def metadata(message: ReceivedMessage, text: str) -> dict[str, TypedData]:
    """Trigger metadata as the host sends it: dates are JSON strings, the count is a JSON number."""

    def as_json(value: Any) -> TypedData:
        return TypedData(json=json.dumps(value))

    return {
        "QueueTrigger": TypedData(string=text),
        "Id": TypedData(string=message.message_id),
        "PopReceipt": TypedData(string=message.pop_receipt),
        "DequeueCount": as_json(message.dequeue_count),
        "InsertionTime": as_json(message.inserted.isoformat()),
        "ExpirationTime": as_json(message.expires.isoformat()),
        "NextVisibleTime": as_json(message.next_visible.isoformat()),
    }
