"""One queue message, from its bytes to a written outcome for each of its items.

A pointer runs a stored part; anything else is a foreign message, which is its own part. `deliver` returns only when
every item has an outcome or lies in another part; until then the message is the queue's, and comes again.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Sequence
from datetime import datetime

from shared.errors import IntakeError, RelayError, StorageError, UnreadableError
from shared.intake import read
from shared.intake.contract import Door, Message, Pointer
from shared.ledger import ids
from shared.ledger.deadletters import DeadLetters
from shared.ledger.outcomes import Fold, Outcome, State
from shared.ledger.parts import FOREIGN, OpenPart, Part, PartItem, Parts
from shared.ledger.submissions import DOOR_CALL, Header, Submissions, outcome_rows
from shared.publishing.commit import Committer
from shared.publishing.gate import Gate, most_in
from shared.publishing.isolation import Isolation
from shared.publishing.ports import Tell
from shared.publishing.retraction import Retractions
from shared.publishing.settle import Deferral, Entry, Fate, Settler, outcome
from shared.publishing.suspects import Suspects
from shared.settings import Settings
from shared.storage.protocols import Clock


@dataclasses.dataclass(frozen=True, slots=True)
class Delivery:
    """A message as the queue trigger got it."""

    message_id: str
    inserted: datetime
    dequeue_count: int
    body: bytes

    @property
    def name(self) -> str:
        """The submission it is, were it a foreign message; the same for every delivery."""
        return ids.foreign_submission(self.message_id, self.inserted)


class Deliveries:
    """Takes deliveries of this worker's queue trigger; any number at once."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        submissions: Submissions,
        parts: Parts,
        letters: DeadLetters,
        committer: Committer,
        suspects: Suspects,
        retractions: Retractions,
        settler: Settler,
        tell: Tell,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._submissions = submissions
        self._parts = parts
        self._letters = letters
        self._committer = committer
        self._suspects = suspects
        self._retractions = retractions
        self._settler = settler
        self._tell = tell
        self._isolation = Isolation(submissions)
        self._gate = Gate(settings.decoded_max)

    async def deliver(self, delivery: Delivery) -> None:
        """Publish one message. Raises StorageError (the message must come again), and nothing else on purpose."""
        began = asyncio.get_running_loop().time()
        if delivery.dequeue_count >= self._settings.isolate_from:
            await self._isolation.attempt(
                delivery.name, lambda: self._alone(delivery, began), lambda: self._killer(delivery)
            )
            return
        async with self._gate.room_for(most_in(delivery.body)) as room:
            try:
                content = await self._read(delivery)
            except UnreadableError as error:
                await self.bury(delivery.name, delivery.body, delivery.inserted.timestamp(), error.reason, str(error))
                return
            if isinstance(content, Message):
                room.keep(len(content.items))
                await self._run_foreign(content, delivery, began)
                return
        # What a pointer points to is held back by a gate of its own size, not by the few bytes of the pointer.
        await self._run_part(content, delivery, began)

    async def _read(self, delivery: Delivery) -> Pointer | Message:
        announced = delivery.dequeue_count > 1 and read_pointer(delivery.body) is None
        if announced:
            await self._submissions.announce(self._announcement(delivery), delivery.dequeue_count)
        content = await self._content(delivery)
        if announced and isinstance(content, Pointer):
            # A pointer that is not written as ours are was taken for somebody's message.
            nothing = dataclasses.replace(self._announcement(delivery), submitted=0, decoded=True)
            await self._submissions.write([nothing], [])
        return content

    async def _content(self, delivery: Delivery) -> Pointer | Message:
        # As of when it was sent, so that every delivery reads the same; what expired since is found when it is sent.
        sent = delivery.inserted
        try:
            if len(delivery.body) > 4096:
                # Decoding much takes longer than the event loop should be away.
                return await asyncio.to_thread(read, delivery.body, door=Door.QUEUE, now=sent, settings=self._settings)
            return read(delivery.body, door=Door.QUEUE, now=sent, settings=self._settings)
        except UnreadableError:
            raise
        except IntakeError as error:
            raise UnreadableError(str(error), reason="too_large") from error

    def _announcement(self, delivery: Delivery) -> Header:
        return Header(
            id=delivery.name,
            submitted=1,
            intent_at=delivery.inserted.timestamp(),
            door=Door.QUEUE.value,
            body_sha256=ids.digest(delivery.body),
            decoded=False,
        )

    # A foreign message

    async def _run_foreign(self, message: Message, delivery: Delivery, began: float) -> None:
        entries = await self._foreign_entries(message, delivery, began)
        self._committer.add(entries)
        await self._results(entries)

    async def _foreign_entries(self, message: Message, delivery: Delivery, began: float) -> list[Entry]:
        """Entries of what is still to be done; what the door rejects is written down here."""
        header = foreign_header(message, delivery)
        known = await self._known(delivery, header)
        rejected = [
            Outcome(
                item.ordinal, State.REJECTED, item.shown, "", "", item.problem.reason, item.problem.text, item.notes
            )
            for item in message.items
            if item.problem is not None and not known.settled(item.ordinal)
        ]
        if rejected:
            # Another delivery may find others, when a setting has changed: a row is its own, by its name.
            call = f"{DOOR_CALL}{delivery.dequeue_count}"
            await self._submissions.write([header], outcome_rows(header.id, FOREIGN, call, rejected))
            for made in rejected:
                self._tell.rejected(made.reason)
            self._tell.event("rejected", submission=header.id, incident=header.incident, items=len(rejected))
        loop = asyncio.get_running_loop()
        # Not when it was sent: however long it lay in the queue, nothing of it has failed yet.
        seen = self._clock.now()
        return [
            Entry(
                PartItem(
                    submission=header.id,
                    origin=FOREIGN,
                    ordinal=item.ordinal,
                    intent_at=header.intent_at,
                    first_seen=seen,
                    key=item.indicator.key,
                    indicator=item.indicator,
                    notes=item.notes,
                    maybe_sent=delivery.dequeue_count > 1,
                    incident=header.incident,
                ),
                header,
                began,
                loop.create_future(),
            )
            for item in message.items
            if item.indicator is not None and known.state(item.ordinal) is State.PENDING
        ]

    async def _known(self, delivery: Delivery, header: Header) -> Fold:
        """What earlier deliveries of the same message have written."""
        if delivery.dequeue_count == 1:
            return Fold(0, {}, {})
        known = await self._submissions.read(header.id)
        if known is None or not known.header.decoded:
            # There may be nothing left to do that would bring the header along: see Submission.of.
            await self._submissions.write([header], [])
        return known.fold if known is not None else Fold(0, {}, {})

    # A stored part

    async def _run_part(self, pointer: Pointer, delivery: Delivery, began: float) -> None:
        opened = await self._parts.opened(pointer.part)
        if opened is None:
            return  # done already; a pointer to any part only makes it run again, which is harmless
        if delivery.dequeue_count == 1 and opened.overtaken(pointer.number):
            # Only at its first delivery: later ones may be of the very run that queued, or did not, the newer pointer.
            return
        # The first delivery of its first pointer, which was sent when the part was complete: nobody has run it.
        first = delivery.dequeue_count == 1 == pointer.number == opened.points
        begun = not first and (opened.begun or delivery.dequeue_count > 1 or not pointer.number)
        async with self._gate.room_for(opened.items):
            await self._run_opened(dataclasses.replace(opened, begun=begun), delivery, began)

    async def _run_opened(self, opened: OpenPart, delivery: Delivery, began: float) -> None:
        name = opened.id
        isolated = delivery.dequeue_count >= self._settings.isolate_from
        if await self._committer.paused(began):
            await self._parts.again(opened, due_in=self._settler.paused_delay())
            return
        if not isolated and asyncio.get_running_loop().time() - began >= self._settings.call_latest_start:
            # There was no room in time, and now there is no call for it any more: it need not be read.
            await self._parts.again(opened, due_in=await self._settler.unsent_delay())
            return
        part = await self._parts.load(name)
        if part is None:
            if await self._parts.opened(name) is not None:
                self._tell.alarm("part_lost", f"part {name} is open, but its blob is gone")
            return
        items = await self._unsettled(part, opened) if opened.begun else list(part.items)
        if items is None:
            return
        await self.run_items(part, items, opened, began, isolated=isolated)

    async def _unsettled(self, part: Part, opened: OpenPart) -> list[PartItem] | None:
        """The items that no earlier run has settled; None when the part is of a submission that is not there."""
        names = list(dict.fromkeys(item.submission for item in part.items))
        known = await asyncio.gather(*map(self._submissions.known, names))
        folds = {name: fold for name, (_, fold) in zip(names, known, strict=True)}
        header, run = known[0][0], ids.door_run(names[0], part.id)
        if run is not None and (header is None or header.run != run):
            # The HTTP door died before it wrote the header, and its caller never had an answer; or another run of the
            # same request wrote one, which has parts of its own.
            if header is None and self._clock.now() < opened.since + self._settings.overdue_after:
                return None  # it may be about to write it, and then points to the part
            self._tell.event("abandoned_part", part=part.id, submission=names[0])
            await self._parts.close(part.id)
            return None
        return [
            dataclasses.replace(item, maybe_sent=True)
            for item in part.items
            if item.reassert or not folds[item.submission].settled(item.ordinal)
        ]

    async def run_items(
        self, part: Part, items: Sequence[PartItem], opened: OpenPart, began: float, *, isolated: bool
    ) -> None:
        """Publish these items of a part, then close the part or point to it again."""
        loop = asyncio.get_running_loop()
        entries = [Entry(item, None, began, loop.create_future()) for item in items]
        retractions = [entry for entry in entries if entry.item.indicator is None]
        indicators = [entry for entry in entries if entry.item.indicator is not None]
        if retractions:
            await self._retractions.carry_out(retractions)
        if indicators and (isolated or part.kind != "plain"):
            await self._suspects.investigate(indicators, part.known_bad)
        elif indicators:
            self._committer.add(indicators)
        await self._results(entries)
        unsent = [entry for entry in entries if entry.result.result() is Fate.UNSENT]
        if unsent and len(unsent) == len(part.items):
            # Of indicators in shared calls, unsent means that; the other ways may have tried something first.
            tried = bool(retractions) or isolated or part.kind != "plain"
            await self._parts.again(opened, due_in=await self._settler.unsent_delay(), begun=tried)
            return
        if unsent:
            # The others are done or moved: a part of what is left, lest those that moved are run twice.
            left = [dataclasses.replace(entry, result=loop.create_future()) for entry in unsent]
            text = "No call to Defender was to be had in time; nothing was sent."
            delay = await self._settler.unsent_delay()
            deferral = Deferral(
                left, delay, "unsent", text, failed=False, sent=False, kind=part.kind, known_bad=part.known_bad
            )
            await self._settler.settle((), [deferral])
        await self._parts.close(part.id)

    async def _results(self, entries: Sequence[Entry]) -> None:
        """Wait until all are settled.

        Raises StorageError for what settling one of them raised, or at the deadline; RuntimeError for a fault of ours.
        """
        if not entries:
            return
        loop = asyncio.get_running_loop()
        left = entries[0].began + self._settings.invocation_deadline - loop.time()
        futures = [entry.result for entry in entries]
        done, waiting = await asyncio.wait(futures, timeout=max(left, 1.0))
        errors = [future.exception() for future in done]
        for error in errors:
            if error is None:
                continue
            # Never the one that all items of a call share: each message that raised it would add its frames to the
            # same traceback, and writing it down took a worker with some hundred messages over a minute.
            if isinstance(error, RelayError):
                raise StorageError(str(error), remediation=error.remediation) from error
            raise RuntimeError(repr(error)) from error
        if waiting:
            raise StorageError(f"{len(waiting)} items were not settled in time")

    # Alone

    async def _alone(self, delivery: Delivery, began: float) -> None:
        """A message in its fourth delivery: made into an ordinary part; a pointer's part is sent by itself."""
        try:
            content = await self._read(delivery)
        except UnreadableError as error:
            await self.bury(delivery.name, delivery.body, delivery.inserted.timestamp(), error.reason, str(error))
            return
        if isinstance(content, Pointer):
            await self._run_part(content, delivery, began)
            return
        entries = await self._foreign_entries(content, delivery, began)
        if entries:
            text = "Delivered several times without an end; stored, and tried again."
            deferral = Deferral(entries, 0.0, "isolated", text, failed=False)
            await self._settler.settle((), [deferral])

    async def _killer(self, delivery: Delivery) -> None:
        """It killed its worker twice while it was alone."""
        text = "Whatever worker took this message alone died, twice. It is kept here as it came."
        content = read_pointer(delivery.body)
        if content is None:
            await self.bury(delivery.name, delivery.body, delivery.inserted.timestamp(), "killed_its_worker", text)
            return
        opened = await self._parts.opened(content.part)
        part = await self._parts.load(content.part) if opened else None
        if opened is None or part is None:
            return
        items = await self._unsettled(part, opened)
        if not items:
            return
        loop = asyncio.get_running_loop()
        entries = [Entry(item, None, loop.time(), loop.create_future()) for item in items]
        if len(entries) > 1:
            half = len(entries) // 2
            deferrals = [
                Deferral(piece, 0.0, "isolated", text, failed=False, kind="lonely")
                for piece in (entries[:half], entries[half:])
            ]
            await self._settler.settle((), deferrals)
        else:
            letter = await self._letters.keep_items(items, "killed_its_worker", text)
            self._tell.count("dead")
            self._tell.alarm("killed_its_worker", f"dead letter {letter}")
            text = f"{text} Dead letter {letter}."
            await self._settler.settle(
                [(entry, outcome(entry.item, State.REJECTED, "exhausted", text)) for entry in entries]
            )
        await self._parts.close(part.id)

    async def bury(self, submission: str, body: bytes, intent_at: float, reason: str, text: str) -> str:
        """Keep a message as a dead letter, and reject what is left of its submission (or all of it, as one item)."""
        letter = await self._letters.keep_raw(submission, body, intent_at, reason, text)
        known = await self._submissions.read(submission)
        if known is None or not known.header.decoded:
            count = known.fold.submitted if known else 1
            header = Header(submission, count, intent_at, Door.QUEUE.value, body_sha256=ids.digest(body))
        else:
            header = known.header
        fates = known.fold if known else Fold(1, {}, {})
        ordinals = [n for n in range(header.submitted) if fates.state(n) is State.PENDING]
        told = f"{text} Kept as dead letter {letter}."
        outcomes = [Outcome(n, State.REJECTED, "", "", "", reason, told) for n in ordinals]
        if outcomes:
            await self._submissions.write([header], outcome_rows(submission, FOREIGN, "dead", outcomes))
            self._tell.rejected(reason, len(outcomes))
        elif known is not None and not known.header.decoded:
            await self._submissions.write([header], [])
        self._tell.count("dead")
        self._tell.event("dead_letter", submission=submission, letter=letter, reason=reason)
        return letter


_POINTER = re.compile(
    rb'\s*\{\s*"v"\s*:\s*1\s*,\s*"part"\s*:\s*"([0-9a-z][0-9a-z-]{9,79})"\s*'
    rb'(?:,\s*"n"\s*:\s*(0|[1-9][0-9]{0,8})\s*)?\}\s*'
)


def read_pointer(body: bytes) -> Pointer | None:
    """The pointer that these bytes are, looking at no more than that: they may be what kills a worker."""
    found = _POINTER.fullmatch(body) if len(body) < 300 else None
    return Pointer(found.group(1).decode(), int(found.group(2) or 0)) if found else None


def foreign_header(message: Message, delivery: Delivery) -> Header:
    """The header of a foreign message's submission."""
    return Header(
        id=delivery.name,
        submitted=len(message.items),
        intent_at=delivery.inserted.timestamp(),
        door=Door.QUEUE.value,
        source=message.source,
        incident=message.incident,
        correlation_id=message.correlation_id,
        body_sha256=ids.digest(delivery.body),
    )
