"""What slowly runs full or out: the tenant, and the client secret's days. Asked for once an hour, told each minute.

The heartbeat tells it, so that an alert comes before somebody looks. Reading the whole list costs two calls of the
share of looking and some seconds of a processor.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from shared.errors import RelayError
from shared.identity.vault import Secret, SecretSource
from shared.looking.capacity import Capacity
from shared.storage.protocols import Clock
from shared.telemetry import Metrics, get_logger, log_event

# What has just been started has better things to do, and may not live long.
FIRST_AFTER = 300.0
EVERY = 3600.0
AGAIN = 600.0
_OLDEST = 3 * EVERY  # a count older than this is told no more
_SECONDS = 40.0
_DAY = 86_400.0


class Run(Protocol):
    """Runs a blocking function in the app's pool of threads."""

    def __call__[T](self, work: Callable[[], T], /) -> Awaitable[T]: ...


class Levels:
    """Of one process. `secrets` is None where no secret is used; `most` is what the tenant may hold."""

    def __init__(self, clock: Clock, capacity: Capacity, most: int, secrets: SecretSource | None, run: Run) -> None:
        self._clock = clock
        self._capacity = capacity
        self._most = most
        self._secrets = secrets
        self._run = run
        self._next = clock.now() + FIRST_AFTER
        self._percent: float | None = None
        self._counted = 0.0

    async def tell(self, metrics: Metrics) -> None:
        """Set the gauges `capacity` and `secret_days`. What cannot be told is left out, logged, and tried again.

        With Ti.ReadWrite the list shows this app's own indicators only: then the tenant is fuller than the gauge says.
        """
        await self._tell_secret(metrics)
        await self._tell_capacity(metrics)

    async def _tell_secret(self, metrics: Metrics) -> None:
        if self._secrets is None:
            return
        try:
            async with asyncio.timeout(_SECONDS):
                # From memory; the vault is asked again when that is older than RELAY_SECRET_MAX_AGE.
                secret: Secret = await self._run(self._secrets.get)
        except (RelayError, TimeoutError) as error:
            self._missed("secret", error)
            return
        if secret.expires_on is not None:
            metrics.secret_days((secret.expires_on - self._clock.now()) / _DAY)

    async def _tell_capacity(self, metrics: Metrics) -> None:
        now = self._clock.now()
        if now >= self._next and self._most:
            self._next = now + AGAIN
            try:
                async with asyncio.timeout(_SECONDS):
                    count = await self._capacity.count()
            except (RelayError, TimeoutError) as error:
                self._missed("capacity", error)
            else:
                self._percent, self._counted = 100 * count.held / self._most, count.at
                self._next = now + EVERY
        if self._percent is not None and self._clock.now() - self._counted < _OLDEST:
            metrics.capacity(self._percent)

    @staticmethod
    def _missed(what: str, error: Exception) -> None:
        detail = str(error) or f"no answer within {_SECONDS:g} s"
        log_event(get_logger("levels"), logging.WARNING, "level_not_known", what=what, detail=detail[:300])
