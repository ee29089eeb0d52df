"""Replaying dead letters: each as a new submission that keeps the moment its sender meant it.

The letter is claimed first, under its etag and with the name that the submission will have. So two replays at once, or
one after a crash, make the same submission: whoever comes to a claimed letter finishes it, and one header is written.
"""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from collections.abc import Sequence

from shared.errors import ConflictError, RelayError, StorageError, UnreadableError
from shared.intake.contract import Door, Message
from shared.ledger import ids
from shared.ledger.deadletters import DeadLetter, DeadLetters, Wanted
from shared.ledger.parts import PartItem
from shared.ledger.submissions import Header, Submissions
from shared.publishing.ports import Tell
from shared.publishing.submit import Submitting, origin_of
from shared.storage.protocols import Clock

# A replay keeps the moment its sender meant it, so that it overtakes nothing newer; but it must stand before the
# original it repeats, whose intent may be the newest there is.
_REPLAYED = 1e-6
OPEN = frozenset({"open", "replaying"})
_AT_ONCE = 4
_SECONDS = 100.0  # a request over HTTP has 230


@dataclasses.dataclass(frozen=True, slots=True)
class Fate:
    """What became of one letter: the submission it was replayed as ("" in a dry run), or why it was not."""

    letter: str
    submission: str = ""
    problem: RelayError | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """What became of several letters, the oldest first. after: the last of them, to go on from when there is `more`."""

    fates: tuple[Fate, ...]
    matching: int
    more: bool
    after: str


class Replays:
    """Replays and discards dead letters; safe with any number of callers at once."""

    def __init__(
        self, clock: Clock, submissions: Submissions, letters: DeadLetters, submitting: Submitting, tell: Tell
    ) -> None:
        self._clock = clock
        self._submissions = submissions
        self._letters = letters
        self._submitting = submitting
        self._tell = tell

    async def replay(self, name: str, *, caller: str, caller_name: str = "") -> str | None:
        """Replay one letter; the id of the submission it has become. None: there is no such letter.

        Raises UnreadableError when a raw message still cannot be read (then nothing is changed), ConflictError when it
        was replayed or discarded before, StorageError; repeating it then finishes the same submission.
        """
        while True:
            letter = await self._letters.get(name)
            if letter is None:
                return None
            _check(letter, "replayed")
            content = await self._content(letter)
            if letter.state == "open":
                planned = ids.new_submission(self._clock.now())
                claimed = await self._letters.claim(letter, planned, caller, caller_name)
                if claimed is None:
                    continue
                letter = claimed
            await self._make(letter, content)
            await self._letters.mark_replayed(letter)
            self._tell.event("replayed", letter=letter.id, submission=letter.replayed_as, by=caller)
            return letter.replayed_as

    async def _content(self, letter: DeadLetter) -> tuple[bytes, Message] | list[PartItem]:
        if letter.kind == "items":
            return await self._letters.items(letter.id)
        body = await self._letters.body(letter.id)
        if body is None:
            raise StorageError(f"the body of dead letter {letter.id} is gone")
        return body, await self._submitting.read_message(body, self._clock.now())

    async def _make(self, letter: DeadLetter, content: tuple[bytes, Message] | list[PartItem]) -> None:
        """Store the submission, unless somebody has done it."""
        if await self._submissions.header(letter.replayed_as) is not None:
            return
        now = self._clock.now()
        header = Header(
            id=letter.replayed_as,
            submitted=0,
            intent_at=letter.intent_at,
            made_at=now,
            door=Door.HTTP.value,
            caller=letter.by,
            caller_name=letter.by_name,
            replay_of=letter.id,
            run=secrets.token_hex(5),
        )
        if isinstance(content, list):
            await self._make_of_items(header, content)
            return
        body, message = content
        header = dataclasses.replace(
            header,
            submitted=len(message.items),
            intent_at=letter.intent_at + _REPLAYED,
            door=Door.QUEUE.value,
            source=message.source,
            incident=message.incident,
            correlation_id=message.correlation_id,
            body_sha256=ids.digest(body),
        )
        await self._submitting.store(header, message)

    async def _make_of_items(self, header: Header, kept: Sequence[PartItem]) -> None:
        items = [
            dataclasses.replace(
                item,
                submission=header.id,
                origin=origin_of(position),
                ordinal=position,
                as_of=item.as_of or item.submission,
                step=item.step + 1,
                first_seen=header.made_at,
                attempts=0,
                deferred=False,
                maybe_sent=True,
            )
            for position, item in enumerate(kept)
        ]
        await self._submitting.write(dataclasses.replace(header, submitted=len(kept)), items, [])

    async def replay_many(
        self, wanted: Wanted, *, most: int, after: str = "", dry_run: bool = False, caller: str, caller_name: str = ""
    ) -> Batch:
        """Replay up to `most` open letters that are meant, the oldest first; one that cannot be changes no other.

        after: the last letter of the batch before. Raises StorageError when the list cannot be read.
        """
        wanted = dataclasses.replace(wanted, states=OPEN)
        matching = sorted(filter(wanted.fits, await self._letters.all()), key=lambda letter: (letter.at, letter.id))
        if after:
            last = await self._letters.get(after)
            place = (last.at, last.id) if last else (0.0, "")
            matching = [letter for letter in matching if (letter.at, letter.id) > place]
        chosen = matching[:most]
        if dry_run:
            fates = [Fate(letter.id) for letter in chosen]
        else:
            fates = await self._each(chosen, caller, caller_name)
        last_done = fates[-1].letter if fates else ""
        return Batch(tuple(fates), len(matching), len(fates) < len(matching), last_done)

    async def _each(self, letters: Sequence[DeadLetter], caller: str, caller_name: str) -> list[Fate]:
        """Replay them, a few at a time and for a bounded time; what became of those that were begun, in order."""
        until = asyncio.get_running_loop().time() + _SECONDS
        fates: dict[str, Fate] = {}
        left = iter(letters)

        async def some() -> None:
            for letter in left:
                if asyncio.get_running_loop().time() > until:
                    return
                fates[letter.id] = await self._one(letter, caller, caller_name)

        await asyncio.gather(*(some() for _ in range(_AT_ONCE)))
        done = []
        for letter in letters:
            # One that was taken from the list and not begun ends it: the next call goes on there.
            if letter.id not in fates:
                break
            done.append(fates[letter.id])
        return done

    async def _one(self, letter: DeadLetter, caller: str, caller_name: str) -> Fate:
        try:
            submission = await self.replay(letter.id, caller=caller, caller_name=caller_name)
        except (UnreadableError, ConflictError, StorageError) as error:
            return Fate(letter.id, problem=error)
        if submission is None:
            return Fate(letter.id, problem=ConflictError("It is gone.", kind="gone"))
        return Fate(letter.id, submission)

    async def discard(self, name: str, reason: str, *, by: str, by_name: str = "") -> DeadLetter | None:
        """Put a letter aside for good, with the reason; its body is kept. None: there is no such letter.

        Discarding it once more changes nothing. Raises ConflictError when it was replayed or is being replayed.
        """
        while True:
            letter = await self._letters.get(name)
            if letter is None or letter.state == "discarded":
                return letter
            if letter.state == "replaying":
                raise ConflictError(
                    f"It is being replayed as submission {letter.replayed_as}.",
                    kind="not-open",
                    remediation="Replay it once more to finish that, then undo the submission if need be.",
                )
            _check(letter, "discarded")
            gone = await self._letters.discard(letter, reason, by, by_name)
            if gone is not None:
                self._tell.event("discarded", letter=name, by=by, reason=reason)
                return gone


def _check(letter: DeadLetter, what: str) -> None:
    """Raise ConflictError when it was replayed or discarded."""
    if letter.state == "replayed":
        raise ConflictError(
            f"It was replayed as submission {letter.replayed_as} and cannot be {what} again."
            if what == "replayed"
            else f"It was replayed as submission {letter.replayed_as} and cannot be {what}.",
            kind="not-open",
            remediation="Look at that submission.",
        )
    if letter.state == "discarded":
        raise ConflictError(
            f"It was discarded by {letter.by} and cannot be {what}.",
            kind="not-open",
            remediation="Its body is kept: read it, and submit anew what it meant.",
        )
