"""The rooms beside publishing, as publishing wants them: Defender's blocking client in the pool, and telemetry."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any

from shared import telemetry
from shared.defender.answers import ImportResult
from shared.defender.client import DefenderClient
from shared.errors import DefenderError, RelayError, ThrottledError
from shared.identity.tokens import Token, TokenSource

_LEVELS = {"batch_refused": logging.WARNING, "call_failed": logging.WARNING, "abandoned_part": logging.WARNING}


class PooledDefender:
    """shared.publishing.ports.Defender over the blocking client."""

    def __init__(self, client: DefenderClient[Token], tokens: TokenSource, pool: Executor) -> None:
        self._client = client
        self._tokens = tokens
        self._pool = pool

    async def _run[T](self, route: str, work: Callable[[], T]) -> T:
        metrics = telemetry.metrics()
        try:
            result = await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except RelayError as error:
            status = str(error.status) if isinstance(error, DefenderError) else type(error).__name__
            metrics.call(route, status)
            if isinstance(error, ThrottledError):
                metrics.throttled(route)
            raise
        metrics.call(route, "200")
        return result

    async def prepare(self) -> None:
        """See Defender."""
        await asyncio.get_running_loop().run_in_executor(self._pool, self._client.prepare)

    async def import_indicators(self, payloads: Sequence[dict[str, Any]], *, within: float) -> Sequence[ImportResult]:
        """See Defender."""
        until = time.monotonic() + within
        return await self._run("import", lambda: self._client.import_indicators(payloads, not_after=until))

    async def ours(self, kind: str, value: str, *, within: float) -> list[tuple[str, str]]:
        """See Defender. With Ti.ReadWrite.All the list holds everyone's: only what this app created is ours."""
        until = time.monotonic() + within

        def work() -> list[tuple[str, str]]:
            rows = self._client.by_value(kind, value, not_after=until)
            mine = self._tokens.get().app_id.casefold()
            return [
                (str(row["action"]), str(row["id"])) for row in rows if str(row.get("createdBy", "")).casefold() == mine
            ]

        return await self._run("list", work)

    async def delete(self, id_: str, *, within: float) -> None:
        """See Defender."""
        until = time.monotonic() + within
        await self._run("delete", lambda: self._client.delete(id_, not_after=until))

    async def delete_many(self, ids: Sequence[str], *, within: float) -> None:
        """See Defender."""
        until = time.monotonic() + within
        await self._run("batch_delete", lambda: self._client.batch_delete(ids, not_after=until))

    async def probe(self, *, within: float) -> None:
        """One cheap authorised call."""
        until = time.monotonic() + within
        await self._run("list", lambda: self._client.probe(not_after=until))


class Telemetry:
    """shared.publishing.ports.Tell over shared.telemetry."""

    def __init__(self) -> None:
        self._metrics = telemetry.metrics()
        self._log = telemetry.get_logger("publishing")

    def count(self, name: str, number: int = 1) -> None:
        """See Tell."""
        if number < 1:
            return
        match name:
            case "accepted":
                self._metrics.accepted(number)
            case "deferred":
                self._metrics.deferred(number)
            case "dead":
                self._metrics.dead(number)

    def rejected(self, reason: str, number: int = 1) -> None:
        """See Tell."""
        self._metrics.rejected(reason, number)

    def observe(self, name: str, value: float) -> None:
        """See Tell."""
        match name:
            case "batch_fill":
                self._metrics.batch_fill(int(value))
            case "permit_wait":
                self._metrics.permit_wait(value)
            case "time_to_publish":
                self._metrics.time_to_publish(value)

    def event(self, name: str, **fields: Any) -> None:
        """See Tell."""
        telemetry.log_event(self._log, _LEVELS.get(name, logging.INFO), name, **fields)

    def alarm(self, kind: str, detail: str) -> None:
        """See Tell."""
        telemetry.alarm(kind, detail)
