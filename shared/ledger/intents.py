"""The table `intents`: for each (type, value) the newest indicator or retraction, and every one there ever was.

PartitionKey is the first hex digit of the key's SHA-256. RowKey `hash` is the head: the newest intent whole, and in
`landed` what of ours Defender may hold for the value. `hash|h|...` is the history, one insert-only row per intent.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from shared.ledger import ids, packing
from shared.ledger.parts import PartItem
from shared.storage.protocols import Row

TABLE = "intents"
RETRACTION = "Retraction"


def partition(key: tuple[str, str]) -> str:
    """The partition of a (type, value)."""
    return _hash(key)[0]


def row_key(key: tuple[str, str]) -> str:
    """The head's RowKey of a (type, value)."""
    return _hash(key)[:40]


def _hash(key: tuple[str, str]) -> str:
    return ids.digest(f"{key[0]}|{key[1]}".encode())


@dataclasses.dataclass(frozen=True, slots=True)
class Landed:
    """An indicator of ours that Defender holds, or may hold, for a value. `id` is "" when unknown."""

    action: str
    id: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
    """The newest intent of a (type, value), with the etag it was read or written under."""

    item: PartItem
    landed: tuple[Landed, ...]
    etag: str

    @property
    def order(self) -> tuple[float, str, int]:
        """The newest intent's order."""
        return self.item.order

    @classmethod
    def from_row(cls, row: Row) -> Head:
        """Read a head row."""
        landed = tuple(Landed(action, id_) for action, id_ in packing.unpack(row.data, "landed") or [])
        return cls(PartItem.from_record(packing.unpack(row.data)), landed, row.etag)


def head_row(item: PartItem, landed: tuple[Landed, ...], etag: str = "") -> Row:
    """The head row that makes `item` the newest intent; what had landed before is carried along."""
    expires = item.indicator.expiration if item.indicator else None
    data: dict[str, Any] = {
        **packing.pack(
            dataclasses.replace(item, attempts=0, deferred=False, maybe_sent=False, reassert=False).record()
        ),
        **landed_data(landed),
        "type": item.key[0],
        "value": item.key[1][:2000],
        "action": item.action,
        "intent_at": item.intent_at,
        "submission": item.submission,
        "expires": expires.timestamp() if expires else 0.0,
        "gone_at": item.intent_at if item.indicator is None else 0.0,
    }
    return Row(partition(item.key), row_key(item.key), data, etag)


def landed_data(landed: tuple[Landed, ...]) -> dict[str, Any]:
    """`landed` as properties of a head row."""
    return packing.pack([[entry.action, entry.id] for entry in landed], "landed")


def history_row(item: PartItem) -> Row:
    """The history row: who asked for this, when, and for what."""
    data: dict[str, Any] = {
        "type": item.key[0],
        "value": item.key[1][:2000],
        "action": item.action,
        "intent_at": item.intent_at,
        "submission": item.submission,
        "ordinal": str(item.ordinal),
    }
    name = f"{row_key(item.key)}|h|{item.intent_at:017.6f}|{item.submission}|{item.ordinal:05d}"
    return Row(partition(item.key), name, data)
