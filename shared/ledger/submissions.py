"""The table `submissions`: headers, outcomes and deferrals, insert-only.

PartitionKey is date and shard of the submission's id, so that many small submissions share transactions. RowKeys:
`id|h` header, `id|o|part|call` outcomes, `id|d|part|newpart` items deferred for the first time, `id|s|n`, `id|e|n`
start and end of a lonely attempt (see publishing/isolation.py), `id|u|undo` that another submission undoes it.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from shared.errors import StorageError
from shared.ledger import ids, index, packing
from shared.ledger.outcomes import Fold, Outcome, fold
from shared.storage.protocols import Op, Row, Tables

TABLE = "submissions"
INDEX = index.TABLE
DOOR_CALL = "door"  # the name under which a door writes its own verdicts


@dataclasses.dataclass(frozen=True, slots=True)
class Header:
    """What is known of a submission but for its items' fates. Times are epoch seconds.

    `decoded` is False while a message was announced but not yet read: it then counts as one pending item.
    caller, caller_name: who sent it over HTTP (identity/caller.py); undo_of: the submission that it undoes.
    made_at: when it was made, where that is not `intent_at`: a replay keeps the moment its sender meant it.
    run: which run of a request with an Idempotency-Key wrote it; that run's parts and rows are the submission's.
    """

    id: str
    submitted: int
    intent_at: float
    door: str
    source: str = ""
    incident: str = ""
    correlation_id: str = ""
    caller: str = ""
    caller_name: str = ""
    body_sha256: str = ""
    replay_of: str = ""
    undo_of: str = ""
    run: str = ""
    made_at: float = 0.0
    decoded: bool = True

    @property
    def at(self) -> float:
        """When it was made, which it is listed by."""
        return self.made_at or self.intent_at

    def row(self) -> Row:
        """As a table row."""
        data = {name: getattr(self, name) for name in _HEADER_FIELDS}
        data["submitted"] = str(self.submitted)
        return Row(ids.partition(self.id), f"{self.id}|h", data)

    @classmethod
    def from_row(cls, row: Row) -> Header:
        """The inverse of `row`."""
        data = {name: row.data[name] for name in _HEADER_FIELDS if name in row.data}
        data["submitted"] = int(data["submitted"])
        return cls(id=row.rk.partition("|")[0], **data)


_HEADER_FIELDS = tuple(field.name for field in dataclasses.fields(Header) if field.name != "id")


@dataclasses.dataclass(frozen=True, slots=True)
class Submission:
    """A header with its items folded."""

    header: Header
    fold: Fold
    undone_by: tuple[str, ...] = ()

    @classmethod
    def of(cls, header: Header, rows: Sequence[Row]) -> Submission:
        """Fold a submission's rows.

        An announced header says one item. There may be rows of more by then: of items that moved to a part, whose
        first rows in the ledger were not written when their worker died.
        """
        known = fold(header.submitted, _of_run(header, rows))
        if not header.decoded:
            known = dataclasses.replace(known, submitted=max([0, *known.fates, *known.deferred]) + 1)
        return cls(header, known, tuple(name for name, _ in _undos(rows)))

    @property
    def finished(self) -> bool:
        """Whether nothing is held, deferred or pending any more."""
        counts = self.fold.counts()
        return self.header.decoded and not (counts["held"] or counts["deferred"] or counts["pending"])


def outcome_rows(submission: str, part: str, call: str, outcomes: Sequence[Outcome]) -> list[Row]:
    """Outcomes of one part in one call as rows; more than one only when they would not fit an entity."""
    properties = packing.pack([outcome.record() for outcome in outcomes])
    if packing.packed_size(properties) > packing.ENTITY_LIMIT and len(outcomes) > 1:
        half = len(outcomes) // 2
        first = outcome_rows(submission, part, call + "0", outcomes[:half])
        return first + outcome_rows(submission, part, call + "1", outcomes[half:])
    return [Row(ids.partition(submission), f"{submission}|o|{part}|{call}", properties)]


def deferral_row(submission: str, part: str, new_part: str, ordinals: Sequence[int]) -> Row:
    """That these items wait in `new_part`."""
    return Row(ids.partition(submission), f"{submission}|d|{part}|{new_part}", packing.pack(list(ordinals)))


def undo_row(submission: str, undo: str, at: float, covers: Sequence[Sequence[int]]) -> Row:
    """That `undo` undoes a submission; `covers` names, for each item of the undo, those of the submission's items."""
    data = {"at": at, **packing.pack([list(ordinals) for ordinals in covers])}
    return Row(ids.partition(submission), f"{submission}|u|{undo}", data)


def _undos(rows: Iterable[Row]) -> list[tuple[str, list[list[int]]]]:
    """The undos that these rows tell of, oldest first, each with what it covers."""
    found = sorted((float(row.data["at"]), row.rk, row) for row in rows if "|u|" in row.rk)
    return [(name.rpartition("|")[2], packing.unpack(row.data) or []) for _, name, row in found]


def door_call(run: str) -> str:
    """The name of the call under which the HTTP door, in this run, writes its own verdicts."""
    return f"{DOOR_CALL}-{run}" if run else DOOR_CALL


def _of_run(header: Header | None, rows: Iterable[Row]) -> Iterable[Row]:
    """Without the verdicts of runs that lost the submission to another."""
    if header is None or not header.run:
        return rows
    own, door = f"|{door_call(header.run)}", f"|{DOOR_CALL}-"
    return (row for row in rows if door not in row.rk or own in row.rk)


def _chunks(rows: Sequence[Row]) -> Iterable[list[Row]]:
    """At most 100 rows and 3 MiB each; rows of one submission stay in order, header first."""
    chunk: list[Row] = []
    size = 0
    for row in rows:
        weight = packing.packed_size(row.data)
        if chunk and (len(chunk) == packing.TRANSACTION_ROWS or size + weight > packing.TRANSACTION_LIMIT):
            yield chunk
            chunk, size = [], 0
        chunk.append(row)
        size += weight
    if chunk:
        yield chunk


class Submissions:
    """Reads and writes the ledger of submissions."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def touch(self) -> None:
        """One cheap read, whose answer sets the service clock right: a moment taken after it is by that clock."""
        await self._tables.get(TABLE, "clock", "clock")

    async def announce(self, header: Header, deliveries: int) -> None:
        """Write a header unless there is one: for a message from its second delivery on, before it is decoded."""
        key = index.partition("body", header.body_sha256)
        await self._tables.upsert(INDEX, Row(key, header.id, {"deliveries": str(deliveries)}))
        await self.index([header])
        await self._tables.insert(TABLE, header.row())

    async def index(self, headers: Iterable[Header]) -> None:
        """Write the rows that list these submissions."""
        groups = index.rows(headers)
        await asyncio.gather(*(self._write(INDEX, "upsert", rows) for rows in groups.values()))

    async def write(self, headers: Iterable[Header], rows: Sequence[Row]) -> None:
        """Write outcome and deferral rows, with the headers of submissions that may have none yet.

        Raises StorageError when any of it could not be written; what was written stays and does no harm.
        """
        headers = list(headers)
        await self.index(headers)
        groups: dict[str, list[Row]] = {}
        by_submission = {header.id: header.row() for header in headers}
        for row in rows:
            group = groups.setdefault(row.pk, [])
            header_row = by_submission.pop(row.rk.partition("|")[0], None)
            if header_row is not None:
                group.append(header_row)
            group.append(row)
        for header_row in by_submission.values():
            groups.setdefault(header_row.pk, []).append(header_row)
        await asyncio.gather(*(self._write(TABLE, "insert", group) for group in groups.values()))

    async def create(self, header: Header, rows: Sequence[Row]) -> bool:
        """Write the header of an HTTP submission with the door's verdicts; False when another run of it has done so.

        The header goes last: what does not fit into one transaction with it is seen by nobody until it is there.
        Raises StorageError when it may not have been written.
        """
        await self.index([header])
        for chunk in _chunks([*rows, header.row()]):
            if len(chunk) == 1:
                fine = await self._tables.insert(TABLE, chunk[0]) is not None
            else:
                fine = not isinstance(await self._tables.transact(TABLE, [Op("insert", row) for row in chunk]), int)
            # Names of rows are this run's own: a conflict is with another run's header, or with our own write.
            if not fine and chunk[-1].rk.endswith("|h"):
                found = await self.header(header.id)
                return found is not None and found.run == header.run
        return True

    async def _write(self, table: str, kind: str, rows: Sequence[Row]) -> None:
        for chunk in _chunks(rows):
            # Headers are upserted: an announcement may be there. The other rows carry the name of a call nobody
            # else has, so a conflict says that this very transaction was carried out and its answer lost.
            operations = [Op("upsert" if kind == "upsert" or row.rk.endswith("|h") else "insert", row) for row in chunk]
            if len(operations) == 1 and operations[0].kind == "upsert":
                await self._tables.upsert(table, operations[0].row)
            else:
                await self._tables.transact(table, operations)

    async def read(self, submission: str) -> Submission | None:
        """The submission as its rows tell it now; None when there is no header."""
        rows = await self.rows(submission)
        header = next((Header.from_row(row) for row in rows if row.rk.endswith("|h")), None)
        return None if header is None else Submission.of(header, rows)

    async def whole(self, submission: str) -> tuple[Submission, list[Row]] | None:
        """The submission with the rows that it was folded from; None when there is no header."""
        rows = await self.rows(submission)
        header = next((Header.from_row(row) for row in rows if row.rk.endswith("|h")), None)
        return None if header is None else (Submission.of(header, rows), list(_of_run(header, rows)))

    async def undos(self, submission: str) -> list[tuple[str, list[list[int]]]]:
        """The undos of a submission, oldest first, each with what it covers (see `undo_row`)."""
        prefix = f"{submission}|u|"
        return _undos(await self._tables.query(TABLE, pk=ids.partition(submission), rk=prefix, rk_to=f"{prefix}g"))

    async def note(self, row: Row) -> None:
        """Write one row whose key nobody else has."""
        await self._tables.insert(TABLE, row)

    async def rows(self, submission: str) -> list[Row]:
        """All rows of one submission."""
        return await self._tables.query(
            TABLE, pk=ids.partition(submission), rk=f"{submission}|", rk_to=f"{submission}}}"
        )

    async def header(self, submission: str) -> Header | None:
        """The header alone; None when there is none."""
        row = await self._tables.get(TABLE, ids.partition(submission), f"{submission}|h")
        return None if row is None else Header.from_row(row)

    async def known(self, submission: str) -> tuple[Header | None, Fold]:
        """The header, if there is one, and the fates known so far."""
        rows = await self.rows(submission)
        header = next((Header.from_row(row) for row in rows if row.rk.endswith("|h")), None)
        return header, fold(header.submitted if header else 0, _of_run(header, rows))

    async def by_body(self, body_sha256: str) -> list[str]:
        """Ids of the submissions announced with this body, the one delivered most often first, then the oldest."""
        rows = await self._tables.query(INDEX, pk=index.partition("body", body_sha256))
        return [row.rk for row in sorted(rows, key=lambda row: (-int(row.data["deliveries"]), row.rk))]

    async def buried_as(self, copy: str) -> str | None:
        """As which submission this message of the poison queue is being buried, once that is decided."""
        rows = await self._tables.query(INDEX, pk=index.partition("poison", copy))
        return rows[0].rk if rows else None

    async def bury_as(self, copy: str, submission: str) -> None:
        """Decide it."""
        await self._tables.upsert(INDEX, Row(index.partition("poison", copy), submission, {}))

    async def attempts(self, submission: str) -> tuple[int, int]:
        """How many lonely attempts were started, and how many ended."""
        rows = await self.rows(submission)
        return sum("|s|" in row.rk for row in rows), sum("|e|" in row.rk for row in rows)

    async def mark(self, submission: str, kind: str, number: int, data: dict[str, Any] | None = None) -> None:
        """Write the start (`s`) or end (`e`) of the n-th lonely attempt."""
        row = Row(ids.partition(submission), f"{submission}|{kind}|{number:04d}", data or {})
        if await self._tables.insert(TABLE, row) is None and kind == "s":
            raise StorageError(f"attempt {number} of {submission} was started by somebody else")
