"""The control: an indicator of ours that Defender accepted and holds.

Sent alone it tells whether Defender refuses an item or everything (see suspects.py). Sending it again is harmless: it
is the newest intent of its value.
"""

from __future__ import annotations

import json

from shared.ledger.intents import Head
from shared.ledger.parts import PartItem
from shared.publishing.order import Order
from shared.storage.protocols import Clock, Row, Tables

TABLE = "suspects"
_CONTROL = ("control", "import")
_CONTROL_LIFE = 300.0  # a control must not expire while it is being used
_WRITE_EVERY = 600.0


class Control:
    """Remembers one indicator of ours that Defender accepted."""

    def __init__(self, tables: Tables, order: Order, clock: Clock) -> None:
        self._tables = tables
        self._order = order
        self._clock = clock
        self._written_at = float("-inf")

    async def remember(self, item: PartItem) -> None:
        """Write down an accepted indicator, at most every ten minutes."""
        now = self._clock.now()
        if now - self._written_at < _WRITE_EVERY:
            return
        key = json.dumps(list(item.key))
        await self._tables.upsert(TABLE, Row(*_CONTROL, {"key": key, "at": now}))
        self._written_at = now

    async def find(self) -> Head | None:
        """The newest intent of the remembered key, if Defender accepted it and it stands a while longer."""
        row = await self._tables.get(TABLE, *_CONTROL)
        if row is None:
            return None
        kind, value = json.loads(row.data["key"])
        head = await self._order.read((kind, value))
        if head is None or head.item.indicator is None:
            return None
        indicator = head.item.indicator
        expires = indicator.expiration.timestamp() if indicator.expiration else float("inf")
        landed = any(entry.action == indicator.action.value for entry in head.landed)
        return head if landed and expires > self._clock.now() + _CONTROL_LIFE else None
