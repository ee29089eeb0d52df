"""Indicators that Defender refused when sent alone, remembered for a day so that they sink no batch again.

Only what was refused while a control was accepted comes in here (see suspects.py).
"""

from __future__ import annotations

import asyncio
import json

from shared.indicators.model import Indicator
from shared.ledger import ids
from shared.storage.protocols import Clock, Row, Tables

TABLE = "suspects"
_PARTITION = "bad"
_FRESH = 60.0


def fingerprint(indicator: Indicator) -> str:
    """What is remembered: everything that is sent but for the expiration, which every resubmission renews."""
    body = indicator.payload() | {"expirationTime": None}
    return ids.digest(json.dumps(body, sort_keys=True).encode())


class KnownBad:
    """The memory; a copy in the worker is renewed once a minute."""

    def __init__(self, tables: Tables, clock: Clock, keep: float) -> None:
        self._tables = tables
        self._clock = clock
        self._keep = keep
        self._reasons: dict[str, str] = {}
        self._read_at = float("-inf")

    async def refresh(self) -> None:
        """Read the table when the copy is over a minute old. Raises StorageError."""
        now = asyncio.get_running_loop().time()
        if now - self._read_at < _FRESH:
            return
        oldest = self._clock.now() - self._keep
        rows = await self._tables.query(TABLE, pk=_PARTITION)
        self._reasons = {row.rk: str(row.data["reason"]) for row in rows if float(row.data["at"]) >= oldest}
        self._read_at = now

    def reason(self, indicator: Indicator) -> str | None:
        """Why Defender refused this very indicator within the last day; None when it did not."""
        return self._reasons.get(fingerprint(indicator)) if self._reasons else None

    async def remember(self, indicator: Indicator, reason: str) -> None:
        """Write down that Defender refused it."""
        name = fingerprint(indicator)
        self._reasons[name] = reason
        await self._tables.upsert(TABLE, Row(_PARTITION, name, {"reason": reason[:2000], "at": self._clock.now()}))

    async def forget_old(self) -> int:
        """Delete what is older than a day; how many."""
        oldest = self._clock.now() - self._keep
        old = [row for row in await self._tables.query(TABLE, pk=_PARTITION) if float(row.data["at"]) < oldest]
        for row in old:
            await self._tables.delete(TABLE, row.pk, row.rk)
        return len(old)
