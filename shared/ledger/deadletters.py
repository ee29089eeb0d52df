"""Dead letters: what could not be read, killed its workers or was exhausted; kept whole, to be looked at and replayed.

The blob is written before the row, and both before the outcome that names it, so no rejected(exhausted) and no
unreadable message is ever without its letter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

from shared.errors import StorageError
from shared.ledger import ids, packing
from shared.ledger.parts import PartItem
from shared.storage.protocols import Blobs, Clock, Row, Tables

CONTAINER = "deadletters"
TABLE = "deadletters"
PARTITION = "dead"


LetterState = Literal["open", "replaying", "replayed", "discarded"]


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters are meant; what is empty excludes none. Times are epoch seconds; `until` itself is outside."""

    states: frozenset[str] = frozenset()
    reason: str = ""
    since: float = 0.0
    until: float = float("inf")
    submission: str = ""

    def fits(self, letter: DeadLetter) -> bool:
        """Whether this letter is meant."""
        return (
            (not self.states or letter.state in self.states)
            and self.reason in ("", letter.reason)
            and self.since <= letter.at < self.until
            and (not self.submission or self.submission in letter.submissions)
        )


@dataclasses.dataclass(frozen=True, slots=True)
class DeadLetter:
    """What the list shows. `kind`: `raw` is a message as it came, `items` are decoded items; `at` in epoch seconds.

    state: `replaying` while somebody makes the submission `replayed_as` of it, which whoever finds it finishes.
    by, by_name, changed_at: who replayed or discarded it, and when; note: why it was discarded.
    """

    id: str
    kind: Literal["raw", "items"]
    at: float
    reason: str
    text: str
    size: int
    count: int
    intent_at: float
    submissions: tuple[str, ...]
    state: LetterState = "open"
    replayed_as: str = ""
    by: str = ""
    by_name: str = ""
    changed_at: float = 0.0
    note: str = ""
    etag: str = dataclasses.field(default="", compare=False)

    def row(self) -> Row:
        """As a table row."""
        data = {
            "kind": self.kind,
            "at": self.at,
            "reason": self.reason,
            "text": self.text[:2000],
            "size": str(self.size),
            "count": str(self.count),
            "intent_at": self.intent_at,
            "state": self.state,
            "replayed_as": self.replayed_as,
            **packing.pack(list(self.submissions), "s"),
        }
        return Row(PARTITION, self.id, data)

    @classmethod
    def from_row(cls, row: Row) -> DeadLetter:
        """The inverse of `row`."""
        data = row.data
        return cls(
            id=row.rk,
            kind=data["kind"],
            at=float(data["at"]),
            reason=data["reason"],
            text=data["text"],
            size=int(data["size"]),
            count=int(data["count"]),
            intent_at=float(data["intent_at"]),
            submissions=tuple(packing.unpack(data, "s") or ()),
            state=data["state"],
            replayed_as=data["replayed_as"],
            by=data.get("by", ""),
            by_name=data.get("by_name", ""),
            changed_at=float(data.get("changed_at", 0.0)),
            note=data.get("note", ""),
            etag=row.etag,
        )


def letter_id(submission: str) -> str:
    """The name of the dead letter of one raw message: the same however often it is written."""
    return f"x{submission}"


class DeadLetters:
    """Keeps, lists and marks dead letters."""

    def __init__(self, tables: Tables, blobs: Blobs, clock: Clock) -> None:
        self._tables = tables
        self._blobs = blobs
        self._clock = clock

    async def keep_raw(self, submission: str, body: bytes, intent_at: float, reason: str, text: str) -> str:
        """Keep a message as it came; returns the letter's id."""
        name = letter_id(submission)
        await self._blobs.put(CONTAINER, name, body)
        letter = DeadLetter(name, "raw", self._clock.now(), reason, text, len(body), 1, intent_at, (submission,))
        await self._tables.insert(TABLE, letter.row())
        return name

    async def keep_items(self, items: Sequence[PartItem], reason: str, text: str) -> str:
        """Keep decoded items; returns the letter's id."""
        name = "x" + ids.new_part(self._clock.now())
        body = packing.squeeze([item.record() for item in items])
        await self._blobs.put(CONTAINER, name, body)
        submissions = tuple(dict.fromkeys(item.submission for item in items))
        oldest = min(item.intent_at for item in items)
        letter = DeadLetter(name, "items", self._clock.now(), reason, text, len(body), len(items), oldest, submissions)
        await self._tables.insert(TABLE, letter.row())
        return name

    async def all(self) -> list[DeadLetter]:
        """Every letter, newest first."""
        rows = await self._tables.query(TABLE, pk=PARTITION)
        return sorted((DeadLetter.from_row(row) for row in rows), key=lambda letter: (-letter.at, letter.id))

    async def get(self, name: str) -> DeadLetter | None:
        """One letter's row."""
        row = await self._tables.get(TABLE, PARTITION, name) if ids.is_part(name) else None
        return None if row is None else DeadLetter.from_row(row)

    async def body(self, name: str) -> bytes | None:
        """What was kept."""
        return await self._blobs.get(CONTAINER, name)

    async def items(self, name: str) -> list[PartItem]:
        """The items of a letter of kind `items`. Raises StorageError when they are gone."""
        data = await self.body(name)
        if data is None:
            raise StorageError(f"the items of dead letter {name} are gone")
        return [PartItem.from_record(fields) for fields in packing.unsqueeze(data)]

    async def claim(self, letter: DeadLetter, submission: str, by: str, by_name: str) -> DeadLetter | None:
        """Write down that it is being replayed, and as what; None when it was changed meanwhile: read it again."""
        data = {"state": "replaying", "replayed_as": submission, "by": by, "by_name": by_name}
        return await self._change(letter, data)

    async def discard(self, letter: DeadLetter, note: str, by: str, by_name: str) -> DeadLetter | None:
        """Put it aside for good; its body is kept. None when it was changed meanwhile: read it again."""
        return await self._change(letter, {"state": "discarded", "note": note, "by": by, "by_name": by_name})

    async def _change(self, letter: DeadLetter, data: dict[str, Any]) -> DeadLetter | None:
        data["changed_at"] = self._clock.now()
        if await self._tables.update(TABLE, Row(PARTITION, letter.id, data, letter.etag)) is None:
            return None
        return dataclasses.replace(letter, **data)

    async def mark_replayed(self, letter: DeadLetter) -> None:
        """The submission that it is replayed as is stored."""
        await self._tables.upsert(TABLE, Row(PARTITION, letter.id, {"state": "replayed"}))
