"""Tables, blobs and queue in memory, with the services' rules, and a point before and after every operation.

`gate` is awaited before and after each operation with its name: there a test lets another worker in, kills this one
by raising `Killed`, or fails the operation. An operation that was let through has happened, whatever comes after.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from sortedcontainers import SortedDict

from shared.storage.protocols import Op, Received, Row

Gate = Callable[[str, str], Awaitable[None]]


class Killed(BaseException):
    """The worker dies here. Not an Exception, so that no handler of the product sees it."""


async def open_gate(_when: str, _what: str) -> None:
    """Lets everything through."""


@dataclasses.dataclass
class Service:
    """What is stored, shared by all workers; `now` is the service's own clock."""

    now: Callable[[], float]
    tables: dict[str, dict[str, SortedDict]] = dataclasses.field(default_factory=dict)
    blobs: dict[tuple[str, str], bytes] = dataclasses.field(default_factory=dict)
    messages: dict[str, list[Any]] = dataclasses.field(default_factory=dict)  # visible_at, id, text, inserted, dequeues
    poison: list[Received] = dataclasses.field(default_factory=list)
    operations: int = 0
    answer: Any = None  # to the last operation
    versions: dict[tuple[str, str, str], int] = dataclasses.field(default_factory=dict)
    _ids: itertools.count[int] = dataclasses.field(default_factory=lambda: itertools.count(1))

    def rows(self, table: str, pk: str) -> SortedDict:
        """The rows of a partition by RowKey, in order."""
        partitions = self.tables.setdefault(table, {})
        rows = partitions.get(pk)
        if rows is None:
            rows = partitions[pk] = SortedDict()
        return rows

    def all_rows(self, table: str) -> list[Row]:
        return [row for rows in self.tables.get(table, {}).values() for row in rows.values()]

    def stamped(self, table: str, row: Row, data: dict[str, Any]) -> Row:
        # An etag counts its row's versions, so that equal histories have equal etags.
        version = self.versions[table, row.pk, row.rk] = self.versions.get((table, row.pk, row.rk), 0) + 1
        return Row(row.pk, row.rk, data, f"W/{version}", self.now())

    def next_message(self) -> str:
        return f"message-{next(self._ids)}"


class MemoryTables:
    """shared.storage.protocols.Tables for one worker."""

    def __init__(self, service: Service, gate: Gate = open_gate) -> None:
        self.service = service
        self.gate = gate

    async def _around[T](self, what: str, work: Callable[[], T]) -> T:
        await self.gate("before", what)
        self.service.operations += 1
        self.service.answer = result = work()
        await self.gate("after", what)
        return result

    async def get(self, table: str, pk: str, rk: str) -> Row | None:
        def work() -> Row | None:
            found: Row | None = self.service.rows(table, pk).get(rk)
            return found

        return await self._around(f"get {table}", work)

    async def query(
        self, table: str, *, pk: str = "", pk_to: str = "", rk: str = "", rk_to: str = "", top: int | None = None
    ) -> list[Row]:
        def work() -> list[Row]:
            partitions = self.service.tables.setdefault(table, {})
            names = sorted(name for name in partitions if pk <= name < pk_to) if pk_to else [pk]
            found: list[Row] = []
            for name in names:
                rows = self.service.rows(table, name)
                inside = rows.irange(rk, rk_to or None, inclusive=(True, False))
                found += [rows[key] for key in itertools.islice(inside, top)]
            return found if top is None else found[:top]

        return await self._around(f"query {table}", work)

    async def insert(self, table: str, row: Row) -> str | None:
        return await self._around(f"insert {table}", lambda: self._insert(table, row))

    def _insert(self, table: str, row: Row) -> str | None:
        if row.rk in self.service.rows(table, row.pk):
            return None
        return self._put(table, row, dict(row.data))

    def _put(self, table: str, row: Row, data: dict[str, Any]) -> str:
        stored = self.service.stamped(table, row, data)
        self.service.rows(table, row.pk)[row.rk] = stored
        return stored.etag

    def _merge(self, table: str, row: Row) -> str:
        known = self.service.rows(table, row.pk).get(row.rk)
        return self._put(table, row, {**(known.data if known else {}), **row.data})

    async def upsert(self, table: str, row: Row) -> None:
        await self._around(f"upsert {table}", lambda: self._merge(table, row))

    async def update(self, table: str, row: Row, *, replace: bool = False) -> str | None:
        def work() -> str | None:
            known = self.service.rows(table, row.pk).get(row.rk)
            if known is None or known.etag != row.etag:
                return None
            return self._put(table, row, dict(row.data)) if replace else self._merge(table, row)

        return await self._around(f"update {table}", work)

    async def delete(self, table: str, pk: str, rk: str, *, etag: str = "") -> bool:
        def work() -> bool:
            rows = self.service.rows(table, pk)
            if rk not in rows or (etag and rows[rk].etag != etag):
                return False
            del rows[rk]
            return True

        return await self._around(f"delete {table}", work)

    async def transact(self, table: str, operations: Sequence[Op]) -> list[str] | int:
        assert 0 < len(operations) <= 100, f"a transaction of {len(operations)} rows"
        assert len({op.row.pk for op in operations}) == 1, "a transaction over two partitions"
        keys = [op.row.rk for op in operations]
        assert len(set(keys)) == len(keys), "one row twice in a transaction"

        def work() -> list[str] | int:
            rows = self.service.rows(table, operations[0].row.pk)
            for index, op in enumerate(operations):
                known = rows.get(op.row.rk)
                if op.kind == "insert" and known is not None:
                    return index
                if op.kind in ("merge", "replace") and (known is None or known.etag != op.row.etag):
                    return index
                if op.kind == "delete" and known is None:
                    return index
            etags = []
            for op in operations:
                if op.kind == "delete":
                    rows.pop(op.row.rk)
                    etags.append("")
                elif op.kind in ("upsert", "merge"):
                    etags.append(self._merge(table, op.row))
                else:
                    etags.append(self._put(table, op.row, dict(op.row.data)))
            return etags

        return await self._around(f"transact {table}", work)


class MemoryBlobs:
    """shared.storage.protocols.Blobs for one worker."""

    def __init__(self, service: Service, gate: Gate = open_gate) -> None:
        self.service = service
        self.gate = gate

    async def _around[T](self, what: str, work: Callable[[], T]) -> T:
        await self.gate("before", what)
        self.service.operations += 1
        self.service.answer = result = work()
        await self.gate("after", what)
        return result

    async def put(self, container: str, name: str, data: bytes) -> None:
        await self._around(f"put {container}", lambda: self.service.blobs.__setitem__((container, name), data))

    async def get(self, container: str, name: str) -> bytes | None:
        return await self._around(f"read {container}", lambda: self.service.blobs.get((container, name)))

    async def delete(self, container: str, name: str) -> None:
        await self._around(f"remove {container}", lambda: self.service.blobs.pop((container, name), None))


class MemoryQueue:
    """shared.storage.protocols.Queue for one worker, and the host's side of it for tests."""

    def __init__(self, service: Service, gate: Gate = open_gate) -> None:
        self.service = service
        self.gate = gate

    async def send(self, text: str, *, visible_after: float = 0.0) -> None:
        await self.gate("before", "send")
        self.service.operations += 1
        self.put(text, visible_after)
        await self.gate("after", "send")

    def put(self, text: str, visible_after: float = 0.0) -> str:
        """A message from outside; its id."""
        now = self.service.now()
        inserted = datetime.fromtimestamp(int(now), UTC)
        name = self.service.next_message()
        self.service.messages[name] = [now + visible_after, name, text, inserted, 0]
        return name

    async def depth(self) -> int:
        return len(self.service.messages)

    async def poison_depth(self) -> int:
        return len(self.service.poison)

    async def oldest(self) -> float | None:
        now = self.service.now()
        return min((m[3].timestamp() for m in self.service.messages.values() if m[0] <= now), default=None)

    async def receive_poison(self, most: int, lease: float) -> list[Received]:
        return self.service.poison[:most]

    async def delete_poison(self, message: Received) -> None:
        self.service.poison.remove(message)
