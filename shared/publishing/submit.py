"""The HTTP door: a body becomes stored parts of 500 items and pointers to them, with a verdict per item at once.

Order of writing: blobs and `open` rows, index, header with the door's own verdicts, pointers. A crash before the
header leaves parts that nobody was told of: they are dropped when the sweep comes to them. A crash after it loses
nothing: the sweep points to them.
"""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime

from shared.errors import StorageError
from shared.intake import read
from shared.intake.contract import Door, Item, Message
from shared.ledger import ids
from shared.ledger.deadletters import DeadLetter, DeadLetters
from shared.ledger.outcomes import Outcome, State
from shared.ledger.parts import Part, PartItem, Parts, split
from shared.ledger.submissions import Header, Submissions, outcome_rows
from shared.publishing.deliver import DOOR_CALL
from shared.publishing.ports import Tell
from shared.publishing.settle import PART_SIZE
from shared.settings import Settings
from shared.storage.protocols import Clock, Row

# A replay keeps the moment its sender meant it, so that it overtakes nothing newer; but it must stand before the
# original it repeats, whose intent may be the newest there is.
_REPLAYED = 1e-6


@dataclasses.dataclass(frozen=True, slots=True)
class Taken:
    """What the door answers: the submission's id ("" for a dry run) and its items with their verdicts."""

    id: str
    items: tuple[Item, ...]
    incident: str = ""
    source: str = ""


class Submitting:
    """Takes submissions over HTTP, and replays dead letters, which is the same with another origin."""

    def __init__(
        self, settings: Settings, clock: Clock, submissions: Submissions, parts: Parts, letters: DeadLetters, tell: Tell
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._submissions = submissions
        self._parts = parts
        self._letters = letters
        self._tell = tell

    async def submit(self, body: bytes, *, caller: str, dry_run: bool = False) -> Taken:
        """Read, judge and (unless it is a dry run) store a submission.

        Raises UnreadableError or TooLargeError for what cannot be taken, StorageError when it was not stored.
        """
        await self._submissions.touch()
        now = self._clock.now()
        message = await self._read(body, now)
        if dry_run:
            return Taken("", message.items, message.incident, message.source)
        header = Header(
            id=ids.new_submission(now),
            submitted=len(message.items),
            intent_at=now,
            door=Door.HTTP.value,
            source=message.source,
            incident=message.incident,
            correlation_id=message.correlation_id,
            caller=caller,
            body_sha256=ids.digest(body),
        )
        await self._store(header, message)
        return Taken(header.id, message.items, message.incident, message.source)

    async def _read(self, body: bytes, now: float) -> Message:
        moment = datetime.fromtimestamp(now, UTC)
        content = await asyncio.to_thread(read, body, door=Door.HTTP, now=moment, settings=self._settings)
        assert isinstance(content, Message)  # a pointer is refused at this door
        return content

    async def _store(self, header: Header, message: Message) -> None:
        items = [
            PartItem(
                submission=header.id,
                origin=f"{position // PART_SIZE:04d}",
                ordinal=item.ordinal,
                intent_at=header.intent_at,
                first_seen=header.intent_at,
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
        rows = [row for piece in split_outcomes(rejected) for row in outcome_rows(header.id, *piece)]
        await self._write(header, items, rows)
        for made in rejected:
            self._tell.rejected(made.reason)
        self._tell.event(
            "submitted", submission=header.id, incident=header.incident, items=header.submitted, rejected=len(rejected)
        )

    async def _write(self, header: Header, items: list[PartItem], rows: list[Row]) -> None:
        """Parts, header and verdicts, pointers, in that order."""
        parts = [
            Part(ids.door_part(header.id, number), tuple(piece)) for number, piece in enumerate(split(items, PART_SIZE))
        ]
        await asyncio.gather(*(self._parts.store(part, due_in=0.0) for part in parts))
        await self._submissions.write([header], rows)
        for part in parts:
            try:
                await self._parts.point(part.id)
            except StorageError as error:
                # The part is stored and open: the sweep will point to it. The caller's submission stands.
                self._tell.alarm("pointer_late", f"{part.id}: {error}")

    async def replay(self, letter: DeadLetter, *, caller: str) -> str:
        """Replay a dead letter as a new submission with its original intent_at; the new submission's id.

        Raises UnreadableError when a raw message still cannot be read; then nothing is changed.
        """
        if letter.kind == "raw":
            body = await self._letters.body(letter.id)
            if body is None:
                raise StorageError(f"the body of dead letter {letter.id} is gone")
            message = await self._read(body, self._clock.now())
            now = self._clock.now()
            header = Header(
                id=ids.new_submission(now),
                submitted=len(message.items),
                intent_at=letter.intent_at + _REPLAYED,
                made_at=now,
                door=Door.QUEUE.value,
                source=message.source,
                incident=message.incident,
                correlation_id=message.correlation_id,
                caller=caller,
                body_sha256=ids.digest(body),
                replay_of=letter.id,
            )
            await self._store(header, message)
        else:
            header = await self._replay_items(letter, caller)
        await self._letters.mark_replayed(letter, header.id)
        return header.id

    async def _replay_items(self, letter: DeadLetter, caller: str) -> Header:
        kept = await self._letters.items(letter.id)
        now = self._clock.now()
        header = Header(
            id=ids.new_submission(now),
            submitted=len(kept),
            intent_at=letter.intent_at,
            made_at=now,
            door=Door.HTTP.value,
            caller=caller,
            replay_of=letter.id,
        )
        items = [
            dataclasses.replace(
                item,
                submission=header.id,
                origin=f"{position // PART_SIZE:04d}",
                ordinal=position,
                intent_at=item.intent_at + _REPLAYED,
                first_seen=now,
                attempts=0,
                deferred=False,
                maybe_sent=True,
            )
            for position, item in enumerate(kept)
        ]
        await self._write(header, items, [])
        return header


def split_outcomes(outcomes: list[Outcome]) -> list[tuple[str, str, list[Outcome]]]:
    """The door's verdicts as (origin, call, outcomes) of one row each."""
    return [
        (f"v{number:03d}", DOOR_CALL, outcomes[at : at + PART_SIZE])
        for number, at in enumerate(range(0, len(outcomes), PART_SIZE))
    ]
