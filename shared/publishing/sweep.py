"""What timers do: point again to forgotten parts, empty the poison queue, forget what is past its time."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from shared.ledger import ids
from shared.ledger.idempotency import Idempotency
from shared.ledger.index import made_before, submission_of
from shared.ledger.intents import TABLE as INTENTS
from shared.ledger.packing import TRANSACTION_ROWS
from shared.ledger.parts import Parts
from shared.ledger.submissions import INDEX, Submissions
from shared.ledger.submissions import TABLE as SUBMISSIONS
from shared.ledger.verdicts import Verdicts
from shared.publishing.budget import Budget
from shared.publishing.deliver import Deliveries, read_pointer
from shared.publishing.known_bad import KnownBad
from shared.publishing.pause import Pauses
from shared.publishing.ports import Tell
from shared.publishing.presence import Presence
from shared.settings import Settings
from shared.storage.protocols import Clock, Op, Queue, Received, Row, Tables

_POISON_LEASE = 120.0


@dataclasses.dataclass(frozen=True, slots=True)
class Waiting:
    """What waits: messages in the queue, parts that are open, and how old the oldest of all is (seconds)."""

    depth: int
    open_parts: int
    oldest: float


class Sweeper:
    """The timers' work; safe when two run at once."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        tables: Tables,
        queue: Queue,
        parts: Parts,
        submissions: Submissions,
        deliveries: Deliveries,
        budgets: Sequence[Budget],
        known_bad: KnownBad,
        idempotency: Idempotency,
        verdicts: Verdicts,
        pauses: Pauses,
        presence: Presence,
        tell: Tell,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._tables = tables
        self._queue = queue
        self._parts = parts
        self._submissions = submissions
        self._deliveries = deliveries
        self._budgets = budgets
        self._known_bad = known_bad
        self._idempotency = idempotency
        self._verdicts = verdicts
        self._pauses = pauses
        self._presence = presence
        self._tell = tell

    async def overdue(self) -> int:
        """Give a new pointer to every open part whose pointer is overdue; how many got one.

        `due` is moved on under its etag first: of two sweeps only one sends, and a crash in between costs a round.
        """
        limit = self._clock.now() - self._settings.overdue_after
        late = [part for part in await self._parts.all_open() if part.due <= limit]
        pointed = 0
        for part in late:
            pointed += await self._parts.again(part, due_in=0.0, beside=True)
        if pointed:
            self._tell.event("overdue", parts=pointed)
        return pointed

    async def poison(self, most: int = 320) -> int:
        """Make dead letters of what is in the poison queue; how many messages were taken."""
        taken = 0
        while taken < most:
            messages = await self._queue.receive_poison(32, _POISON_LEASE)
            for message in messages:
                await self._bury(message)
                await self._queue.delete_poison(message)
            taken += len(messages)
            if not messages:
                break
        if taken:
            self._tell.alarm("poison", f"{taken} messages were in the poison queue")
        return taken

    async def _bury(self, message: Received) -> None:
        if read_pointer(message.body) is not None:
            return  # its part has an open row, and gets a new pointer when it is overdue
        text = f"Every delivery of this message failed, {message.dequeue_count} of the poison queue's included."
        # Decided once and written down: a second try must not find somebody else.
        copy = ids.foreign_submission(message.id, message.inserted)
        name = await self._submissions.buried_as(copy)
        if name is None:
            name = await self._whose(message) or copy
            await self._submissions.bury_as(copy, name)
        known = await self._submissions.read(name)
        intent_at = known.header.intent_at if known else message.inserted.timestamp()
        await self._deliveries.bury(name, message.body, intent_at, "exhausted", text)

    async def _whose(self, message: Received) -> str | None:
        """The host's copy has an id of its own; who it was is told by its bytes, and by what is still pending."""
        for name in await self._submissions.by_body(ids.digest(message.body)):
            known = await self._submissions.read(name)
            if known is not None and known.fold.counts()["pending"]:
                return name
        return None

    async def waiting(self) -> Waiting:
        """What waits now."""
        parts = await self._parts.all_open(1000)
        since = [part.since for part in parts]
        first = await self._queue.oldest()
        if first is not None:
            since.append(first)
        now = self._clock.now()
        return Waiting(await self._queue.depth(), len(parts), max(0.0, now - min(since, default=now)))

    async def retention(self) -> Mapping[str, int]:
        """Forget what is past its time; how many rows of each table."""
        now = self._clock.now()
        keep = self._settings.keep_outcomes_days
        first = (datetime.fromtimestamp(now, UTC) - timedelta(days=keep)).strftime("%Y%m%d")
        # Without its header a stored part would be taken for one that nobody was told of: see Deliveries.
        waiting = {part.id.rpartition("-")[0] for part in await self._parts.all_open()}
        old = [
            row
            for row in await self._tables.query(SUBMISSIONS, pk="0", pk_to=first)
            if row.rk.partition("|")[0] not in waiting
        ]
        forgotten = {"submissions": await self._delete(SUBMISSIONS, old)}
        indexed = await made_before(self._tables, first)
        forgotten["index"] = await self._delete(INDEX, [row for row in indexed if submission_of(row.rk) not in waiting])
        forgotten["permits"] = 0
        for budget in self._budgets:
            forgotten["permits"] += await budget.forget_before(now - self._settings.keep_permits_days * 86_400)
        # Of those who stop and start everything it is known for as long as of anything else.
        forgotten["permits"] += await self._pauses.forget_before(now - keep * 86_400)
        forgotten["permits"] += await self._presence.forget_before(now - self._settings.keep_permits_days * 86_400)
        forgotten["suspects"] = await self._known_bad.forget_old()
        forgotten["idempotency"] = await self._idempotency.forget_old(self._verdicts.forget)
        forgotten["intents"] = await self._forget_intents(now)
        self._tell.event("retention", **forgotten)
        return forgotten

    async def _forget_intents(self, now: float) -> int:
        """Intents whose newest one expired or was retracted long ago, with their history."""
        limit = now - self._settings.keep_intents_days * 86_400
        forgotten = 0
        for digit in "0123456789abcdef":
            rows = await self._tables.query(INTENTS, pk=digit)
            heads = [row for row in rows if "|" not in row.rk]
            past = [row for row in heads if 0.0 < max(float(row.data["expires"]), float(row.data["gone_at"])) < limit]
            # Somebody may mean it anew this very moment: then head and history stay.
            gone = {row.rk for row in past if await self._tables.delete(INTENTS, row.pk, row.rk, etag=row.etag)}
            # What was never staged has a history without a head.
            kept = {row.rk for row in heads} - gone
            history = [
                row
                for row in rows
                if "|" in row.rk
                and (name := row.rk.partition("|")[0]) not in kept
                and (name in gone or float(row.data["intent_at"]) < limit)
            ]
            forgotten += len(gone) + await self._delete(INTENTS, history)
        return forgotten

    async def _delete(self, table: str, rows: Sequence[Row]) -> int:
        """Delete these, by a hundred of a partition at once: there may be tens of thousands a day."""
        partitions: dict[str, list[Row]] = {}
        for row in rows:
            partitions.setdefault(row.pk, []).append(row)
        for members in partitions.values():
            for chunk in (members[at : at + TRANSACTION_ROWS] for at in range(0, len(members), TRANSACTION_ROWS)):
                operations = [Op("delete", row) for row in chunk]
                if len(chunk) > 1 and isinstance(await self._tables.transact(table, operations), list):
                    continue
                for row in chunk:  # a single one; or one of them is gone already, and so the others were left
                    await self._tables.delete(table, row.pk, row.rk)
        return len(rows)
