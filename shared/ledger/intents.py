"""The table `intents`: for each (type, value) the newest indicator or retraction, and every one there ever was.

PartitionKey is the first hex digit of the key's SHA-256. RowKey `hash` is the head: the newest intent whole, and in
`landed` what of ours Defender may hold for the value. `hash|h|...` is the history, one insert-only row per intent,
newest first: its RowKey counts microseconds down. (Former rows count up, in seconds with a point; they lie before.)
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from shared.ledger import ids, packing
from shared.ledger.parts import PartItem
from shared.storage.protocols import Row, Tables

TABLE = "intents"
RETRACTION = "Retraction"
_LAST = 99_999_999_999_999_999
_ORDINALS = 999_999_999
_DOWN = str.maketrans("0123456789abcdef", "fedcba9876543210")
# Former rows begin with seconds (1 until 2033), those of today with what is left of the microseconds (9).
_FORMER_END = "5"


def partition(key: tuple[str, str]) -> str:
    """The partition of a (type, value)."""
    return _hash(key)[0]


def row_key(key: tuple[str, str]) -> str:
    """The head's RowKey of a (type, value)."""
    return _hash(key)[:40]


@functools.lru_cache(maxsize=4096)  # each row asks for it twice, and a key has three rows in one call
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
        **packing.pack(item.record(fresh=True)),
        **landed_data(landed),
        "type": item.key[0],
        "value": item.key[1][:2000],
        "action": item.action,
        "intent_at": item.intent_at,
        "submission": item.submission,
        "expires": expires.timestamp() if expires else 0.0,
        # An undo takes the place of what it undoes, but is as old as it is: it must outlive that one's replays.
        "gone_at": max(item.intent_at, item.first_seen) if item.indicator is None else 0.0,
    }
    return Row(partition(item.key), row_key(item.key), data, etag)


def landed_data(landed: tuple[Landed, ...]) -> dict[str, Any]:
    """`landed` as properties of a head row."""
    return packing.pack([[entry.action, entry.id] for entry in landed], "landed")


def history_row(item: PartItem) -> Row:
    """The history row: who asked for this, when, for what, and until when (`expires`: epoch seconds, 0 is never)."""
    expires = item.indicator.expiration if item.indicator else None
    data: dict[str, Any] = {
        "type": item.key[0],
        "value": item.key[1][:2000],
        "action": item.action,
        "intent_at": item.intent_at,
        "submission": item.submission,
        "ordinal": str(item.ordinal),
        "expires": expires.timestamp() if expires else 0.0,
        "title": item.indicator.title if item.indicator else "",
    }
    name = place(item.order)
    if item.as_of:
        data |= {"as_of": item.as_of, "place": str(item.order[2]), "at": item.first_seen}
        name += f"-{item.submission}"  # two may have one place
    return Row(partition(item.key), f"{row_key(item.key)}|h|{name}", data)


def moment_place(at: float) -> str:
    """The place before all intents of this moment (epoch seconds) and of earlier ones."""
    return f"{_LAST - round(min(at * 1_000_000, _LAST)):017d}"


def place(order: tuple[float, str, int]) -> str:
    """Where an intent is in the history of its (type, value): the newer, the less."""
    moment, submission, ordinal = order
    return f"{moment_place(moment)}|{submission.translate(_DOWN)}|{_ORDINALS - ordinal:09d}"


@dataclasses.dataclass(frozen=True, slots=True)
class Use:
    """One intent for a (type, value), as the history has it. `expires` and `title` are None in former rows.

    at: when it was made, in epoch seconds; a replay or an undo takes an older place in the order.
    place: where it is in the history, for going on behind it.
    """

    type: str
    value: str
    action: str
    intent_at: float
    submission: str
    ordinal: int
    expires: float | None
    title: str | None
    at: float
    order: tuple[float, str, int]
    place: str

    @classmethod
    def from_row(cls, row: Row) -> Use:
        """Read a history row."""
        data = row.data
        intent_at, submission, ordinal = float(data["intent_at"]), data["submission"], int(data["ordinal"])
        order = (intent_at, data.get("as_of", submission), int(data.get("place", ordinal)))
        _, _, name = row.rk.partition("|h|")
        return cls(
            type=data["type"],
            value=data["value"],
            action=data["action"],
            intent_at=intent_at,
            submission=submission,
            ordinal=ordinal,
            expires=float(data["expires"]) if "expires" in data else None,
            title=data.get("title"),
            at=float(data.get("at", intent_at)),
            order=order,
            place=name if name >= _FORMER_END else place(order),
        )


async def history(tables: Tables, key: tuple[str, str], after: str, most: int) -> list[Use]:
    """At most `most` uses of a (type, value), newest first, behind the place `after` ("": from the beginning)."""
    pk, name = partition(key), f"{row_key(key)}|h|"
    begin = max(f"{after} ", _FORMER_END)  # a blank is less than whatever a RowKey goes on with
    rows = await tables.query(TABLE, pk=pk, rk=f"{name}{begin}", rk_to=f"{name}:", top=most)
    uses = [Use.from_row(row) for row in rows]
    if len(uses) < most:
        former = await tables.query(TABLE, pk=pk, rk=name, rk_to=f"{name}{_FORMER_END}")
        known = [Use.from_row(row) for row in former]
        uses += [use for use in sorted(known, key=lambda use: use.place) if use.place > after]
    return uses[:most]


async def used(tables: Tables, item: PartItem) -> bool:
    """Whether the history has this intent already: its item was chosen for a call before."""
    row = history_row(item)
    if await tables.get(TABLE, row.pk, row.rk) is not None:
        return True
    name = f"{row_key(item.key)}|h|{item.intent_at:017.6f}|{item.submission}|{item.ordinal:05d}"
    return await tables.get(TABLE, row.pk, name) is not None
