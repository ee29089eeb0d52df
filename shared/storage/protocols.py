"""The seams to storage: what the ledger and the publishing need of tables, blobs, queues and time.

Azure implementations are in this folder; the tests have in-memory ones with the same rules, whose every
operation is a point at which a crash or another worker can come in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, Protocol

OpKind = Literal["insert", "upsert", "merge", "replace", "delete"]


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A table row. `data` holds str, float, bool or bytes; `stamp` is the service's Timestamp, epoch seconds."""

    pk: str
    rk: str
    data: dict[str, Any]
    etag: str = ""
    stamp: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Op:
    """One operation of a transaction. `upsert` merges; `merge` and `replace` need an etag."""

    kind: OpKind
    row: Row


@dataclasses.dataclass(frozen=True, slots=True)
class Received:
    """A message taken from a queue under a lease."""

    id: str
    receipt: str
    body: bytes
    dequeue_count: int
    inserted: datetime


class Tables(Protocol):
    """Table storage. Every method raises StorageError when the service cannot be reached or refuses."""

    async def get(self, table: str, pk: str, rk: str) -> Row | None:
        """The row, or None."""
        ...

    async def query(
        self, table: str, *, pk: str = "", pk_to: str = "", rk: str = "", rk_to: str = "", top: int | None = None
    ) -> list[Row]:
        """Rows in key order with `pk` (or from `pk` up to, without, `pk_to`), and RowKey in [rk, rk_to)."""
        ...

    async def insert(self, table: str, row: Row) -> str | None:
        """Insert; the new etag, or None when the key exists already."""
        ...

    async def upsert(self, table: str, row: Row) -> None:
        """Insert or merge, whatever is there."""
        ...

    async def update(self, table: str, row: Row, *, replace: bool = False) -> str | None:
        """Merge (or replace) under `row.etag`; the new etag, or None when the row is gone or was changed."""
        ...

    async def delete(self, table: str, pk: str, rk: str, *, etag: str = "") -> bool:
        """Delete whatever is there, or only what has this etag still; False when nothing was deleted."""
        ...

    async def transact(self, table: str, operations: Sequence[Op]) -> list[str] | int:
        """All or nothing within one partition, at most 100 rows.

        Returns the new etags, or the index of the operation that conflicts (exists, gone or changed).
        """
        ...


class Blobs(Protocol):
    """Blob storage; raises StorageError as Tables does."""

    async def put(self, container: str, name: str, data: bytes) -> None:
        """Write, replacing what is there."""
        ...

    async def get(self, container: str, name: str) -> bytes | None:
        """The blob's bytes, or None."""
        ...

    async def delete(self, container: str, name: str) -> None:
        """Delete; nothing happens when it is gone."""
        ...


class Queue(Protocol):
    """One queue and its poison queue; raises StorageError as Tables does."""

    async def send(self, text: str, *, visible_after: float = 0.0) -> None:
        """Put a message that never expires; it shows after `visible_after` seconds."""
        ...

    async def depth(self) -> int:
        """About how many messages there are, invisible ones included."""
        ...

    async def poison_depth(self) -> int:
        """About how many messages the poison queue holds; 0 when there is none."""
        ...

    async def oldest(self) -> float | None:
        """When the oldest message in sight was inserted, epoch seconds; None when none is to be seen."""
        ...

    async def receive_poison(self, most: int, lease: float) -> list[Received]:
        """Take messages from the poison queue; none when there is no such queue."""
        ...

    async def delete_poison(self, message: Received) -> None:
        """Delete a message taken from the poison queue."""
        ...


class Clock(Protocol):
    """Epoch seconds by the storage service's clock."""

    def now(self) -> float:
        """Now, as the service would say."""
        ...
