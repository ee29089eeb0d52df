"""Order: the newest intent of a (type, value) stands, whatever is delivered twice, late, or by two workers at once.

1. Items of one key in one call are folded: only the newest is sent.
2. Before a call its items are written to `intents` (`stage`); older ones there are replaced, newer ones win.
3. After the answer the heads are merged under our etag (`land`). Where that fails somebody newer wrote meanwhile, and
   our late call may have overwritten theirs at Defender: the newest intent is queued once more, as a re-assert.
At rest the newest intent stands; a wrong order lasts at most one call.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable, Sequence

from shared.errors import StorageError
from shared.ledger import ids, intents
from shared.ledger.intents import Head, Landed
from shared.ledger.parts import Part, PartItem, Parts, split
from shared.storage.protocols import Clock, Op, Row, Tables

# Two rows an item, at most 100 in a transaction.
_ITEMS_A_TRANSACTION = 45
_TRIES = 8


@dataclasses.dataclass(slots=True)
class Group:
    """Items of one (type, value) that meet in one call: the newest, those equal to it, and the older ones."""

    lead: PartItem
    equals: list[PartItem] = dataclasses.field(default_factory=list)
    older: list[PartItem] = dataclasses.field(default_factory=list)

    def members(self) -> list[PartItem]:
        """All items of the group, the lead first."""
        return [self.lead, *self.equals, *self.older]


def fold(items: Iterable[PartItem]) -> list[Group]:
    """Group items by key, in the order of each key's first appearance."""
    groups: dict[tuple[str, str], list[PartItem]] = {}
    for item in items:
        groups.setdefault(item.key, []).append(item)
    folded = []
    for members in groups.values():
        lead = max(members, key=lambda item: item.order)
        group = Group(lead)
        for item in members:
            if item is not lead:
                (group.equals if item.indicator == lead.indicator else group.older).append(item)
        folded.append(group)
    return folded


@dataclasses.dataclass(slots=True)
class Staged:
    """A group after staging: `head` is the newest intent now, `ours` whether that is the group's lead."""

    group: Group
    head: Head
    ours: bool


class Order:
    """Keeps the table `intents`."""

    def __init__(self, tables: Tables, parts: Parts, clock: Clock) -> None:
        self._tables = tables
        self._parts = parts
        self._clock = clock

    async def stage(self, groups: Sequence[Group]) -> list[Staged]:
        """Write each group's lead as the newest intent of its key, unless a newer one is there.

        Where an item that may have been sent before turns out to be superseded, its own call may have landed after
        the newer one's: the newest intent is queued as a re-assert before this returns.
        """
        by_partition: dict[str, list[Group]] = {}
        for group in groups:
            by_partition.setdefault(intents.partition(group.lead.key), []).append(group)
        pieces = [
            members[at : at + _ITEMS_A_TRANSACTION]
            for members in by_partition.values()
            for at in range(0, len(members), _ITEMS_A_TRANSACTION)
        ]
        results = await asyncio.gather(*(self._stage_piece(piece) for piece in pieces))
        staged = {id(entry.group): entry for result in results for entry in result}
        await self._note_older([entry for entry in staged.values() if entry.ours])
        late = [entry for entry in staged.values() if not entry.ours]
        await self._after_superseded(late)
        return [staged[id(group)] for group in groups]

    async def _stage_piece(self, groups: Sequence[Group]) -> list[Staged]:
        heads: dict[tuple[str, str], Head | None] = {group.lead.key: None for group in groups}
        for _ in range(_TRIES):
            operations: list[Op] = []
            writers: list[Group] = []
            for group in groups:
                head = heads[group.lead.key]
                if head is not None and head.order >= group.lead.order:
                    continue
                landed = head.landed if head else ()
                row = intents.head_row(group.lead, landed, head.etag if head else "")
                operations.append(Op("replace" if head else "insert", row))
                writers.append(group)
            kept = len(operations)
            # An intent is in the history whether it stood or not. In the heads' transaction, so that it costs nothing.
            # One item may be here twice: run from a part and from the message it came in, or as its own re-assert.
            rows_ = [intents.history_row(item) for group in groups for item in group.members()]
            history = list({row.rk: row for row in rows_}.values())
            room = 100 - kept
            operations += [Op("upsert", row) for row in history[:room]]
            answer = await self._tables.transact(intents.TABLE, operations) if operations else []
            if isinstance(answer, list):
                for extra in range(room, len(history), 100):
                    rest = [Op("upsert", row) for row in history[extra : extra + 100]]
                    await self._tables.transact(intents.TABLE, rest)
                etags = dict(zip((group.lead.key for group in writers), answer, strict=False))
                return [self._staged(group, heads[group.lead.key], etags) for group in groups]
            rows = await asyncio.gather(
                *(self._tables.get(intents.TABLE, intents.partition(key), intents.row_key(key)) for key in heads)
            )
            heads = {key: Head.from_row(row) if row else None for key, row in zip(heads, rows, strict=True)}
        raise StorageError("the newest intents changed faster than they could be written")

    async def note(self, items: Sequence[PartItem]) -> None:
        """Write items that will never be staged into the history: whoever asks for their value is to hear of them."""
        by_partition: dict[str, dict[str, Row]] = {}
        for item in items:
            row = intents.history_row(item)
            by_partition.setdefault(row.pk, {})[row.rk] = row
        operations = [[Op("upsert", row) for row in rows.values()] for rows in by_partition.values()]
        pieces = [ops[at : at + 100] for ops in operations for at in range(0, len(ops), 100)]
        await asyncio.gather(*(self._tables.transact(intents.TABLE, piece) for piece in pieces))

    @staticmethod
    def _staged(group: Group, head: Head | None, etags: dict[tuple[str, str], str]) -> Staged:
        etag = etags.get(group.lead.key)
        if etag is not None:
            return Staged(group, Head(group.lead, head.landed if head else (), etag), ours=True)
        if head is None:
            raise StorageError("an intent was neither written nor found")
        return Staged(group, head, ours=head.order == group.lead.order)

    async def _note_older(self, ours: Sequence[Staged]) -> None:
        """An older item of a group may have landed by an earlier call: the head must know, so that it is removed."""
        for entry in ours:
            known = {landed.action for landed in entry.head.landed} | {entry.group.lead.action}
            sent = [item for item in entry.group.older if item.maybe_sent and item.indicator is not None]
            for action in sorted({item.action for item in sent} - known):
                written = await self._note_landed(entry.head, Landed(action))
                if written is not None:
                    entry.head = written
                    entry.ours = written.order == entry.group.lead.order

    async def _after_superseded(self, late: Sequence[Staged]) -> None:
        newest: list[PartItem] = []
        for entry in late:
            sent = [item for item in entry.group.members() if item.maybe_sent]
            if not sent:
                continue
            for item in sent:
                # What a retraction may have removed late is not there, and needs the re-assert all the more.
                if item.indicator is not None:
                    await self._note_landed(entry.head, Landed(item.action))
            newest.append(entry.head.item)
        await self.reassert(newest)

    async def _note_landed(self, head: Head, landed: Landed) -> Head | None:
        """Write into the newest head that Defender may hold `landed` of ours too; returns the head written to."""
        current: Head | None = head
        for _ in range(_TRIES):
            if current is None:
                return None
            known = tuple(entry for entry in current.landed if entry.action != landed.action)
            merged = (*known, landed)
            if merged == current.landed:
                return current
            row = Row(
                intents.partition(current.item.key),
                intents.row_key(current.item.key),
                intents.landed_data(merged),
                current.etag,
            )
            etag = await self._tables.update(intents.TABLE, row)
            if etag is not None:
                return Head(current.item, merged, etag)
            current = await self.read(current.item.key)
        raise StorageError("an intent changed faster than it could be merged")

    async def read(self, key: tuple[str, str]) -> Head | None:
        """The newest intent of a (type, value)."""
        row = await self._tables.get(intents.TABLE, intents.partition(key), intents.row_key(key))
        return None if row is None else Head.from_row(row)

    async def land(self, accepted: Sequence[tuple[Staged, str]]) -> list[Staged]:
        """Merge what Defender accepted, (staged, id given by Defender); returns the heads as they are then.

        A head that somebody newer wrote meanwhile keeps its place, learns what of ours Defender now holds beside it,
        and is queued as a re-assert.
        """
        by_partition: dict[str, list[tuple[Staged, Landed]]] = {}
        for entry, name in accepted:
            landed = Landed(entry.group.lead.action, name)
            by_partition.setdefault(intents.partition(entry.group.lead.key), []).append((entry, landed))
        results = await asyncio.gather(*(self._land_partition(entries) for entries in by_partition.values()))
        overtaken = [entry for result in results for entry in result if not entry.ours]
        await self.reassert([entry.head.item for entry in overtaken])
        return [entry for result in results for entry in result]

    async def _land_partition(self, entries: Sequence[tuple[Staged, Landed]]) -> list[Staged]:
        done: list[Staged] = []
        for at in range(0, len(entries), 100):
            todo = list(entries[at : at + 100])
            while todo:
                merged = [_with(entry.head.landed, landed) for entry, landed in todo]
                operations = [
                    Op("merge", _landed_row(entry.head, landed))
                    for (entry, _), landed in zip(todo, merged, strict=True)
                ]
                answer = await self._tables.transact(intents.TABLE, operations)
                if isinstance(answer, list):
                    for (entry, _), landed, etag in zip(todo, merged, answer, strict=True):
                        entry.head = Head(entry.head.item, landed, etag)
                        done.append(entry)
                    break
                done.append(await self._land_one(*todo.pop(answer)))
        return done

    async def _land_one(self, entry: Staged, landed: Landed) -> Staged:
        """The head is not as we wrote it: ours still (another delivery merged it), or somebody newer's."""
        head = await self.read(entry.group.lead.key)
        if head is None:
            return entry  # kept past its time and cleaned up: nothing to hold on to
        written = await self._note_landed(head, landed)
        if written is not None:
            entry.head = written
            entry.ours = written.order == entry.group.lead.order
        return entry

    async def forget(self, head: Head, gone: Sequence[Landed]) -> None:
        """Defender holds these of ours no more: take them out of the head, unless it has changed.

        Where somebody newer wrote meanwhile, what was deleted may have been theirs, under the same action: the newest
        intent is queued as a re-assert.
        """
        left = tuple(entry for entry in head.landed if entry not in gone)
        row = Row(
            intents.partition(head.item.key), intents.row_key(head.item.key), intents.landed_data(left), head.etag
        )
        if await self._tables.update(intents.TABLE, row) is None:
            newest = await self.read(head.item.key)
            if newest is not None and newest.order > head.order:
                await self.reassert([newest.item])

    async def reassert(self, newest: Sequence[PartItem]) -> None:
        """Queue these intents once more: the same items, no new submission, no rows of their own.

        They are seen for the first time now: an intent may be months old, and must not be given up for that.
        """
        unique = {item.key: item for item in newest}
        now = self._clock.now()
        for items in split(list(unique.values()), 500):
            again = (
                dataclasses.replace(item, reassert=True, maybe_sent=True, attempts=0, first_seen=now) for item in items
            )
            part = Part(ids.new_part(now), tuple(again))
            await self._parts.store(part, due_in=0.0)
            await self._parts.point(part.id)


def _with(landed: tuple[Landed, ...], fresh: Landed) -> tuple[Landed, ...]:
    return (*(entry for entry in landed if entry.action != fresh.action), fresh)


def _landed_row(head: Head, landed: tuple[Landed, ...]) -> Row:
    return Row(intents.partition(head.item.key), intents.row_key(head.item.key), intents.landed_data(landed), head.etag)
