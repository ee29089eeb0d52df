"""The rooms beside publishing, as publishing wants them: Defender's blocking client in the pool, and telemetry."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from typing import Any

from shared import telemetry
from shared.defender.answers import ImportResult
from shared.defender.client import DefenderClient
from shared.errors import DefenderError, RelayError, ThrottledError
from shared.identity.tokens import Token, TokenSource
from shared.publishing.ports import Held

_LEVELS = {"batch_refused": logging.WARNING, "call_failed": logging.WARNING, "abandoned_part": logging.WARNING}


_HELD = ("id", "indicatorType", "indicatorValue", "action", "createdBy")


def _kept(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row.get(name) for name in _HELD}


class PooledDefender:
    """shared.publishing.ports.Defender over the blocking client."""

    def __init__(self, client: DefenderClient[Token], tokens: TokenSource, pool: Executor) -> None:
        self._client = client
        self._tokens = tokens
        self._pool = pool

    async def call[T](self, route: str, work: Callable[[], T]) -> T:
        """One call of the client, counted by route and answer."""
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
        return await self.call("import", lambda: self._client.import_indicators(payloads, not_after=until))

    async def held(self, kind: str, value: str, *, within: float) -> list[Held]:
        """See Defender. With Ti.ReadWrite.All that is everyone's, with Ti.ReadWrite what this app created."""
        until = time.monotonic() + within
        return await self.call("list", lambda: self._held(self._client.by_value(kind, value, not_after=until)))

    async def all_held(self, cursor: str | None, *, within: float) -> tuple[list[Held], str | None]:
        """See Defender."""
        until = time.monotonic() + within

        def work() -> tuple[list[Held], str | None]:
            page = self._client.list_page(cursor=cursor, keep=_kept, not_after=until)
            return self._held(page.rows), page.cursor

        return await self.call("list", work)

    def _held(self, rows: Iterable[dict[str, Any]]) -> list[Held]:
        mine = self._tokens.get().app_id.casefold()
        return [
            Held(
                str(row.get("indicatorType")),
                str(row.get("indicatorValue")),
                str(row.get("action")),
                str(row["id"]),
                str(row.get("createdBy") or "").casefold() == mine,
            )
            for row in rows
        ]

    async def delete(self, id_: str, *, within: float) -> None:
        """See Defender."""
        until = time.monotonic() + within
        await self.call("delete", lambda: self._client.delete(id_, not_after=until))

    async def delete_many(self, ids: Sequence[str], *, within: float) -> None:
        """See Defender."""
        until = time.monotonic() + within
        await self.call("batch_delete", lambda: self._client.batch_delete(ids, not_after=until))

    async def run[T](self, work: Callable[[], T]) -> T:
        """Work that takes the processor for more than a moment, in the pool."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def probe(self, *, within: float) -> None:
        """One cheap authorised call."""
        until = time.monotonic() + within
        await self.call("list", lambda: self._client.probe(not_after=until))


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
