"""Signs of life: one small row for each worker of the queue and for each timer, for people to look at.

A worker writes its row when it begins to work, then once a minute for as long as anything changes. Nothing depends on
these rows: one that cannot be written is left out, and no message waits for it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shared.errors import RelayError
from shared.storage.protocols import Clock, Row, Tables

TABLE = "permits"
WORKERS = "workers"
TIMERS = "timers"
VERSION = "0.1.0"  # pyproject.toml has the same; a test holds them together
_EVERY = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """A worker as it last said. Times are epoch seconds; taken: messages; calls: import calls of its group commit."""

    id: str
    host: str
    version: str
    begun: float
    at: float
    in_flight: int
    taken: int
    calls: int


class Presence:
    """This process's own rows, and a look at everybody's."""

    def __init__(self, tables: Tables, clock: Clock, calls: Callable[[], int]) -> None:
        self._tables = tables
        self._clock = clock
        self._calls = calls
        self._host = (os.environ.get("WEBSITE_INSTANCE_ID") or socket.gethostname())[:64]
        self.id = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._begun = 0.0
        self._in_flight = 0
        self._taken = 0
        self._telling: asyncio.Task[None] | None = None

    @contextmanager
    def working(self) -> Iterator[None]:
        """Around each message; costs nothing but a number."""
        self._in_flight += 1
        self._taken += 1
        if self._telling is None or self._telling.done():
            self._telling = asyncio.get_running_loop().create_task(self._tell(), name="presence")
        try:
            yield
        finally:
            self._in_flight -= 1

    async def _tell(self) -> None:
        told: tuple[int, int, int] | None = None
        while (now := (self._in_flight, self._taken, self._calls())) != told:
            told = now
            try:
                await self._write(*now)
            except RelayError:
                told = None  # what follows is more up to date anyway
            await asyncio.sleep(_EVERY)

    async def _write(self, in_flight: int, taken: int, calls: int) -> None:
        at = self._clock.now()
        self._begun = self._begun or at
        data = {
            "host": self._host,
            "version": VERSION,
            "begun": self._begun,
            "at": at,
            "in_flight": str(in_flight),
            "taken": str(taken),
            "calls": str(calls),
        }
        await self._tables.upsert(TABLE, Row(WORKERS, self.id, data))

    async def ran(self, timer: str) -> None:
        """A timer has done its work. Raises nothing."""
        try:
            await self._tables.upsert(TABLE, Row(TIMERS, timer, {"at": self._clock.now(), "host": self._host}))
        except RelayError:
            pass

    async def workers(self) -> list[Seen]:
        """The workers that were seen, the last one first. Raises StorageError."""
        rows = await self._tables.query(TABLE, pk=WORKERS)
        found = [
            Seen(
                row.rk,
                row.data["host"],
                row.data["version"],
                float(row.data["begun"]),
                float(row.data["at"]),
                int(row.data["in_flight"]),
                int(row.data["taken"]),
                int(row.data["calls"]),
            )
            for row in rows
        ]
        return sorted(found, key=lambda seen: (-seen.at, seen.id))

    async def timers(self) -> dict[str, float]:
        """When each timer last did its work, epoch seconds. Raises StorageError."""
        return {row.rk: float(row.data["at"]) for row in await self._tables.query(TABLE, pk=TIMERS)}

    async def forget_before(self, epoch: float) -> int:
        """Delete the rows of workers not seen since; how many."""
        old = [seen for seen in await self.workers() if seen.at < epoch]
        for seen in old:
            await self._tables.delete(TABLE, WORKERS, seen.id)
        return len(old)
