"""Parts: at most 500 items in a blob that only the app writes, and what makes sure that none is forgotten.

Order of writing: blob, `open` row, rows of the ledger, pointer. A part with an `open` row gets a new pointer from
the sweep when it is overdue, so a crash between any two writes loses nothing; a part without one is done.

Pointers are numbered. Where a new one is due before an older one, as after a pause, the row says that the older counts
no more: it would come while the part is in a call, and another worker would repeat that call.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, Literal

from shared.indicators.model import Indicator
from shared.ledger import packing
from shared.storage.protocols import Blobs, Clock, Queue, Row, Tables

CONTAINER = "parts"
TABLE = "open"
PARTITION = "open"
FOREIGN = "m"  # the origin of items that came in a foreign message

PartKind = Literal["plain", "suspect", "lonely"]

UNDONE = 900  # the step of an undo: behind every replay
_STEP = 1_000_000  # more than there are items in a submission


@dataclasses.dataclass(frozen=True, slots=True)
class PartItem:
    """One item on its way. Identity is (submission, ordinal); `origin` names where its rows are kept.

    indicator: None for a retraction, whose `key` then says of what.
    intent_at, first_seen: epoch seconds; neither is ever renewed.
    attempts: calls that failed; deferred: whether its `d` row is written; maybe_sent: whether an earlier call may
    have reached Defender; reassert: sent again for a newer intent's sake, without rows of its own.
    incident: for the log lines alone.
    as_of, step: what repeats or undoes another submission stands right behind that one in the order of intents, and
    before all that is newer. `as_of` names it, `step` says how far behind: a replay 1, its replay 2, an undo UNDONE.
    """

    submission: str
    origin: str
    ordinal: int
    intent_at: float
    first_seen: float
    key: tuple[str, str]
    indicator: Indicator | None
    notes: tuple[str, ...] = ()
    attempts: int = 0
    deferred: bool = False
    maybe_sent: bool = False
    reassert: bool = False
    incident: str = ""
    as_of: str = ""
    step: int = 0

    @property
    def order(self) -> tuple[float, str, int]:
        """Which intent is newer: the greater."""
        return (self.intent_at, self.as_of or self.submission, self.step * _STEP + self.ordinal)

    @property
    def action(self) -> str:
        """The action asked for, or "Retraction"."""
        return self.indicator.action.value if self.indicator else "Retraction"

    def record(self, *, fresh: bool = False) -> list[Any]:
        """As a list for storage; `fresh`: without what became of it on its way, as if it had just come in."""
        body = self.indicator.payload() if self.indicator else None
        flags = 0 if fresh else self.deferred + 2 * self.maybe_sent + 4 * self.reassert
        behind = [self.as_of, self.step] if self.as_of else []
        return [
            self.submission,
            self.origin,
            self.ordinal,
            self.intent_at,
            self.first_seen,
            list(self.key),
            body,
            list(self.notes),
            0 if fresh else self.attempts,
            flags,
            self.incident,
            *behind,
        ]

    @classmethod
    def from_record(cls, fields: list[Any]) -> PartItem:
        """The inverse of `record`."""
        submission, origin, ordinal, intent_at, first_seen, key, body, notes, attempts, flags, incident = fields[:11]
        as_of, step = fields[11:] or ("", 0)
        return cls(
            submission=submission,
            origin=origin,
            ordinal=ordinal,
            intent_at=intent_at,
            first_seen=first_seen,
            key=(key[0], key[1]),
            indicator=Indicator.from_payload(body) if body is not None else None,
            notes=tuple(notes),
            attempts=attempts,
            deferred=bool(flags & 1),
            maybe_sent=bool(flags & 2),
            reassert=bool(flags & 4),
            incident=incident,
            as_of=as_of,
            step=step,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """Items that travel together.

    kind: `plain` shares calls with others; `suspect` is looked into after a 400 for a whole batch; `lonely` is sent
    alone because a worker died with it. known_bad: of a suspect part, that a call of exactly these items was refused.
    """

    id: str
    items: tuple[PartItem, ...]
    kind: PartKind = "plain"
    known_bad: bool = False

    def encode(self) -> bytes:
        """As a blob."""
        records = [item.record() for item in self.items]
        return packing.squeeze({"v": 1, "id": self.id, "kind": self.kind, "bad": self.known_bad, "items": records})

    @classmethod
    def decode(cls, data: bytes) -> Part:
        """The inverse of `encode`."""
        value = packing.unsqueeze(data)
        items = tuple(PartItem.from_record(fields) for fields in value["items"])
        return cls(value["id"], items, value["kind"], value["bad"])


@dataclasses.dataclass(frozen=True, slots=True)
class OpenPart:
    """The `open` row of a part: when its pointer is due, how many pointers it was given, since when its oldest item
    is on its way, how many items it holds. Times are epoch seconds.

    failed: it waits because a call failed, and not merely for want of one.
    replaced: the number of the last pointer that counts no more.
    begun: its items may have been sent, by a run of it or from where they were before, and have to be looked up first.
    """

    id: str
    due: float
    points: int
    since: float
    items: int
    etag: str
    failed: bool = False
    replaced: int = 0
    begun: bool = True

    def overtaken(self, number: int) -> bool:
        """Whether the pointer of this number may be dropped; 0, for one without a number, may not."""
        return 0 < number <= self.replaced


def pointer(part: str, number: int) -> str:
    """The message that says which part to run; the how manieth of this part it is."""
    return json.dumps({"v": 1, "part": part, "n": number})


class Parts:
    """Stores parts and keeps the table `open`."""

    def __init__(self, tables: Tables, blobs: Blobs, queue: Queue, clock: Clock) -> None:
        self._tables = tables
        self._blobs = blobs
        self._queue = queue
        self._clock = clock

    async def store(self, part: Part, *, due_in: float, failed: bool = False) -> str:
        """Write the blob, then its `open` row; the first pointer is to follow, due after `due_in` seconds.

        failed: it waits because a call failed. Returns what `alone` asks for.
        """
        await self._blobs.put(CONTAINER, part.id, part.encode())
        since = min(item.first_seen for item in part.items)
        due = self._clock.now() + due_in
        data = {"due": due, "points": "1", "kind": part.kind, "since": since, "items": str(len(part.items))}
        data |= {"failed": failed, "begun": True}
        row = Row(PARTITION, part.id, data)
        etag = await self._tables.insert(TABLE, row)
        if etag is None:
            await self._tables.upsert(TABLE, row)
        return etag or ""

    async def alone(self, part: str, etag: str) -> None:
        """Note that nothing else carries the part's items any more, unless its row has changed since `store`.

        Until then a message or another part may, should somebody die here: who runs this one has to look first.
        """
        if etag:
            await self._tables.update(TABLE, Row(PARTITION, part, {"begun": False}, etag))

    async def point(self, part: str, *, number: int = 1, visible_after: float = 0.0) -> None:
        """Queue a pointer to a stored part."""
        await self._queue.send(pointer(part, number), visible_after=visible_after)

    async def opened(self, part: str) -> OpenPart | None:
        """The part's `open` row; None when it is done (or never was)."""
        row = await self._tables.get(TABLE, PARTITION, part)
        return None if row is None else _open_part(row)

    async def load(self, part: str) -> Part | None:
        """The part itself; None when it is done."""
        data = await self._blobs.get(CONTAINER, part)
        return None if data is None else Part.decode(data)

    async def close(self, part: str) -> None:
        """All its items are final or moved: forget it. The row goes first, so that nobody runs a part half gone."""
        await self._tables.delete(TABLE, PARTITION, part)
        await self._blobs.delete(CONTAINER, part)

    async def again(self, opened: OpenPart, *, due_in: float, beside: bool = False, begun: bool = False) -> bool:
        """Give the part one more pointer after `due_in` seconds; False when somebody else did, or it is done.

        The earlier ones count no more: they are done, or due later. beside: they do, since they may only be late. Else
        a part in a queue so long that the sweep takes each of its pointers for lost would never come to its turn.
        begun: as of OpenPart; without it, what `opened` says stays.
        """
        number = opened.points + 1
        begun = begun or beside or opened.begun
        data = {"due": self._clock.now() + due_in, "points": str(number), "failed": False, "begun": begun}
        if not beside:
            data["replaced"] = str(opened.points)
        if await self._tables.update(TABLE, Row(PARTITION, opened.id, data, opened.etag)) is None:
            return False
        await self.point(opened.id, number=number, visible_after=due_in)
        return True

    async def all_open(self, most: int | None = None) -> list[OpenPart]:
        """The open parts, at most `most`."""
        return [_open_part(row) for row in await self._tables.query(TABLE, pk=PARTITION, top=most)]


def _open_part(row: Row) -> OpenPart:
    data = row.data
    return OpenPart(
        row.rk,
        float(data["due"]),
        int(data["points"]),
        float(data["since"]),
        int(data["items"]),
        row.etag,
        bool(data.get("failed", False)),
        int(data.get("replaced", 0)),
        bool(data.get("begun", True)),  # older rows say nothing of it
    )


def split(items: Sequence[PartItem], size: int) -> list[Sequence[PartItem]]:
    """Pieces of at most `size` items."""
    return [items[at : at + size] for at in range(0, len(items), size)]
