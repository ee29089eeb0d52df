"""The HTTP door: a body becomes stored parts of 500 items and pointers to them, with a verdict per item at once.

Order of writing: blobs and `open` rows, index, header with the door's own verdicts, pointers. A crash before the
header leaves parts that nobody was told of: they are dropped when the sweep comes to them. A crash after it loses
nothing: the sweep points to them.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime

from shared.errors import StorageError
from shared.indicators.model import Action
from shared.intake import read
from shared.intake.contract import Door, Item, Message, Privilege
from shared.ledger import ids, verdicts
from shared.ledger.idempotency import Idempotency, Record, row_name
from shared.ledger.outcomes import Outcome, State
from shared.ledger.parts import Part, PartItem, Parts, split
from shared.ledger.submissions import Header, Submissions, door_call, outcome_rows
from shared.ledger.verdicts import Verdict, Verdicts
from shared.publishing.gate import Gate
from shared.publishing.keyed import Keyed
from shared.publishing.ports import Tell
from shared.publishing.settle import PART_SIZE
from shared.settings import Settings
from shared.storage.protocols import Clock, Row

# Bytes of bodies that are read and stored at a time: what they decode to takes some twenty times as much memory. Small
# bodies have a gate of their own, so that they do not stand in line behind large ones.
_SMALL = 64 * 1024
_SMALL_AT_ONCE = 2 * 1024 * 1024
_LARGE_AT_ONCE = 12 * 1024 * 1024
_NAMED = 20  # values that a log line names


@dataclasses.dataclass(frozen=True, slots=True)
class Taken:
    """What the door answers: the submission's id ("" for a dry run) and the verdict on each of its items.

    repeated: whether that is the answer to an earlier request with the same Idempotency-Key.
    """

    id: str
    items: tuple[Verdict, ...]
    repeated: bool = False


class Submitting:
    """Takes submissions over HTTP."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        submissions: Submissions,
        parts: Parts,
        idempotency: Idempotency,
        kept: Verdicts,
        tell: Tell,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._submissions = submissions
        self._parts = parts
        self._kept = kept
        self._tell = tell
        self._keyed = Keyed(idempotency, submissions, kept)
        self._small = Gate(_SMALL_AT_ONCE)
        self._large = Gate(_LARGE_AT_ONCE)

    async def submit(
        self,
        body: bytes,
        *,
        caller: str,
        caller_name: str = "",
        key: str = "",
        dry_run: bool = False,
        privileges: frozenset[Privilege] = frozenset(),
    ) -> Taken:
        """Read, judge and (unless it is a dry run) store a submission.

        Args:
            caller, caller_name: who sends it, for the ledger.
            key: of the Idempotency-Key header, scoped to the caller; "" when there is none.
            privileges: what the caller may do beyond others.

        Raises UnreadableError or TooLargeError for what cannot be taken, KeyReuseError or KeyBusyError for the key,
        StorageError when it was not stored, or may not have been.
        """
        digest = await asyncio.to_thread(ids.digest, body) if len(body) > _SMALL else ids.digest(body)
        plain = Header("", 0, 0.0, Door.HTTP.value, caller=caller, caller_name=caller_name, body_sha256=digest)
        if key and not dry_run:

            async def run(record: Record) -> tuple[Verdict, ...] | None:
                if len(record.runs) > 1:
                    self._tell.event("resumed", submission=record.submission, runs=len(record.runs))
                header = dataclasses.replace(plain, id=record.submission, intent_at=record.at, run=record.run)
                return await self._take(body, header, privileges)

            name, told, repeated = await self._keyed.take(
                row_name(caller, key), digest, room=lambda: self._room(body), run=run, point=self.point_again
            )
            return Taken(name, told, repeated)
        async with self._room(body):
            await self._submissions.touch()
            now = self._clock.now()
            if dry_run:
                message = await self.read_message(body, now, privileges, caller)
                return Taken("", tuple(map(Verdict.of, message.items)))
            header = dataclasses.replace(plain, id=ids.new_submission(now), intent_at=now)
            return Taken(header.id, await self._take(body, header, privileges) or ())

    def _room(self, body: bytes) -> AbstractAsyncContextManager[object]:
        return (self._small if len(body) <= _SMALL else self._large).room_for(len(body))

    async def read_message(
        self, body: bytes, now: float, privileges: frozenset[Privilege] = frozenset(), caller: str = ""
    ) -> Message:
        """Items and verdicts as of `now`. Raises UnreadableError, TooLargeError."""
        content = await asyncio.to_thread(
            read,
            body,
            door=Door.HTTP,
            now=datetime.fromtimestamp(now, UTC),
            settings=self._settings,
            privileges=privileges,
            caller=caller,
        )
        assert isinstance(content, Message)  # a pointer is refused at this door
        return content

    async def _take(self, body: bytes, header: Header, privileges: frozenset[Privilege]) -> tuple[Verdict, ...] | None:
        """Read and store what `header` is the beginning of; None when another run of it was stored before."""
        message = await self.read_message(body, header.intent_at, privileges, header.caller)
        header = dataclasses.replace(
            header,
            submitted=len(message.items),
            source=message.source,
            incident=message.incident,
            correlation_id=message.correlation_id,
        )
        told = tuple(map(Verdict.of, message.items))
        if header.run:
            await self._kept.keep(header.id, header.run, await asyncio.to_thread(verdicts.encode, told))
        return told if await self.store(header, message) else None

    async def store(self, header: Header, message: Message) -> bool:
        """Store a message that was read; False when another run's header was there before. Raises StorageError."""
        now = self._clock.now()
        items = [
            PartItem(
                submission=header.id,
                origin=origin_of(position),
                ordinal=item.ordinal,
                intent_at=header.intent_at,
                first_seen=now,
                key=item.indicator.key,
                indicator=item.indicator,
                notes=item.notes,
                incident=header.incident,
            )
            for position, item in enumerate(item for item in message.items if item.indicator is not None)
            if item.indicator is not None
        ]
        rejected = [
            Outcome(
                item.ordinal, State.REJECTED, item.shown, "", "", item.problem.reason, item.problem.text, item.notes
            )
            for item in message.items
            if item.problem is not None
        ]
        rows = [row for piece in split_outcomes(rejected, header.run) for row in outcome_rows(header.id, *piece)]
        if not await self.write(header, items, rows):
            return False
        for made in rejected:
            self._tell.rejected(made.reason)
        self._tell.event(
            "submitted",
            submission=header.id,
            incident=header.incident,
            source=header.source or None,
            caller=header.caller,
            items=header.submitted,
            rejected=len(rejected),
        )
        self._tell_privileged(header, message.items)
        return True

    def _tell_privileged(self, header: Header, items: Sequence[Item]) -> None:
        """A line for each guard and reason that was overridden, and one for what is allowed."""
        groups: dict[tuple[str, str], list[str]] = {}
        for item in items:
            if item.indicator is None:
                continue
            if item.overridden:
                for note in item.notes[-len(item.overridden) :]:
                    groups.setdefault(("guard_overridden", note), []).append(item.indicator.value)
            if item.indicator.action is Action.ALLOWED:
                groups.setdefault(("allowed", f"asked for by {header.caller}"), []).append(item.indicator.value)
        for (event, detail), values in groups.items():
            named = ", ".join(value[:100] for value in values[:_NAMED])
            fields = {"submission": header.id, "incident": header.incident, "caller": header.caller}
            self._tell.event(event, **fields, detail=detail, items=len(values), values=named)

    async def write(
        self, header: Header, items: Sequence[PartItem], rows: Sequence[Row], *, beside: Row | None = None
    ) -> bool:
        """Parts, header and verdicts, the row `beside` those of another submission, pointers, in that order.

        Returns False when another run's header was there before.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        parts = [
            Part(ids.door_part(header.id, number, header.run), tuple(piece))
            for number, piece in enumerate(split(items, PART_SIZE))
        ]
        await asyncio.gather(*(self._parts.store(part, due_in=0.0) for part in parts))
        if loop.time() - began > self._settings.overdue_after / 2:
            # The sweep may soon take them for parts that nobody was told of.
            raise StorageError("storing the parts of a submission took too long")
        if not await self._submissions.create(header, rows):
            await asyncio.gather(*(self._parts.close(part.id) for part in parts))
            return False
        if beside is not None:
            await self._submissions.note(beside)
        for part in parts:
            try:
                await self._parts.point(part.id)
            except StorageError as error:
                # The part is stored and open: the sweep will point to it. The caller's submission stands.
                self._tell.alarm("pointer_late", f"{part.id}: {error}")
        return True

    async def point_again(self, header: Header) -> None:
        """Point to the parts of a submission whose door died after the header, as far as they had one pointer at most.

        It may have died after the pointers: one more makes a part run again, which is harmless.
        """
        names = [ids.door_part(header.id, number, header.run) for number in range(-(-header.submitted // PART_SIZE))]
        try:
            for opened in await asyncio.gather(*map(self._parts.opened, names)):
                if opened is not None and opened.points == 1:
                    await self._parts.again(opened, due_in=0.0, begun=True)
        except StorageError as error:
            self._tell.alarm("pointer_late", f"{header.id}: {error}")


def origin_of(position: int) -> str:
    """Which of a submission's parts its n-th item lies in first."""
    return f"{position // PART_SIZE:04d}"


def split_outcomes(outcomes: list[Outcome], run: str = "") -> list[tuple[str, str, list[Outcome]]]:
    """The door's verdicts as (origin, call, outcomes) of one row each."""
    return [
        (f"v{number:03d}", door_call(run), outcomes[at : at + PART_SIZE])
        for number, at in enumerate(range(0, len(outcomes), PART_SIZE))
    ]
