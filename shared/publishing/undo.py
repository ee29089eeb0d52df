"""Undo: withdraw what a submission published and still owns.

It is a submission itself, of one retraction for each (type, value). A retraction stands right behind the intent that it
undoes: whatever is newer stays, whatever is older or late loses to it (see PartItem.order). So nobody has to look
whether the submission still owns a value, and items on their way are undone before they arrive.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence

from shared.errors import StorageError, UndoOfUndoError, UndoTooSoonError
from shared.intake.contract import Door
from shared.ledger import ids
from shared.ledger.deadletters import DeadLetters
from shared.ledger.outcomes import Fold, Outcome, State
from shared.ledger.parts import UNDONE, PartItem, Parts
from shared.ledger.submissions import Header, Submission, Submissions, undo_row
from shared.ledger.view import stored_items
from shared.publishing.order import Order
from shared.publishing.ports import Tell
from shared.publishing.settle import PART_SIZE
from shared.publishing.submit import Submitting
from shared.storage.protocols import Clock

_LOOKS = 3  # items move from part to part while they are looked for
_PARTS_MOST = 1_000  # open parts that are looked through for items that are not where they were put first
_AT_ONCE = 16
_RETRY_AFTER = 30

Key = tuple[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Left:
    """An item of the submission that is left as it is, and why."""

    ordinal: int
    value: str
    state: State
    why: str


@dataclasses.dataclass(frozen=True, slots=True)
class Undone:
    """The undo as it stands, and what it leaves alone. fresh: whether it was made just now."""

    undo: Submission
    left: tuple[Left, ...]
    fresh: bool


@dataclasses.dataclass(slots=True)
class _Target:
    """A (type, value) to withdraw: the place of its newest intent in the submission, and its items' ordinals."""

    key: Key
    intent_at: float
    as_of: str
    ordinals: list[int]


class Undoing:
    """Makes undos of submissions."""

    def __init__(
        self,
        clock: Clock,
        submissions: Submissions,
        parts: Parts,
        letters: DeadLetters,
        order: Order,
        submitting: Submitting,
        tell: Tell,
    ) -> None:
        self._clock = clock
        self._submissions = submissions
        self._parts = parts
        self._letters = letters
        self._order = order
        self._submitting = submitting
        self._tell = tell

    async def undo(self, name: str, *, caller: str, caller_name: str = "") -> Undone | None:
        """Undo a submission; None when there is none of this name.

        What earlier undos of it cover is not undone again: when that is all, the newest of them is the answer. Two
        callers at the very same time make two undos, which say and do the same.

        Raises:
            UndoOfUndoError: it is an undo itself.
            UndoTooSoonError: nothing is known yet of what it holds.
            StorageError: it was not stored, or may not have been.
        """
        known = await self._submissions.read(name)
        if known is None:
            return None
        header = known.header
        if header.undo_of:
            text = f"{name} is itself an undo, of {header.undo_of}."
            raise UndoOfUndoError(text, remediation="Submit anew what shall stand.")
        if not header.decoded:
            # Announced by a delivery that has not read it yet: what an earlier one has stored of it may not be all.
            raise UndoTooSoonError(
                f"How much {name} holds is not known yet: its queue message has not been read to the end.",
                retry_after=_RETRY_AFTER,
                remediation="Ask again when it has been delivered once more; GET of the submission tells.",
            )
        known, found = await self._find(known)
        targets, left, on_its_way = await self._choose(known, found)
        before, covered = await self._earlier(name)
        rest = [target for target in targets if not covered.issuperset(target.ordinals)]
        if before is not None and not rest:
            if not before.finished:
                await self._submitting.point_again(before.header)  # its own door may have died before it did
            return Undone(before, left, fresh=False)
        if not rest and on_its_way:
            text = f"What {name} holds is not known yet: {on_its_way} of its items are on their way in a queue message."
            remedy = "Ask again when they have arrived."
            raise UndoTooSoonError(text, retry_after=_RETRY_AFTER, remediation=remedy)
        undo = await self._make(header, rest, caller, caller_name)
        self._tell.event("undo", submission=undo.header.id, of=name, retracting=len(rest), left=len(left))
        return Undone(undo, left, fresh=True)

    async def _make(self, header: Header, targets: Sequence[_Target], caller: str, caller_name: str) -> Submission:
        await self._submissions.touch()
        now = self._clock.now()
        made = Header(
            id=ids.new_submission(now),
            submitted=len(targets),
            intent_at=now,
            door=Door.HTTP.value,
            source=header.source,
            incident=header.incident,
            correlation_id=header.correlation_id,
            caller=caller,
            caller_name=caller_name,
            undo_of=header.id,
        )
        items = [
            PartItem(
                submission=made.id,
                origin=f"{position // PART_SIZE:04d}",
                ordinal=position,
                intent_at=target.intent_at,
                first_seen=now,
                key=target.key,
                indicator=None,
                incident=made.incident,
                as_of=target.as_of,
                step=UNDONE,
            )
            for position, target in enumerate(targets)
        ]
        row = undo_row(header.id, made.id, now, [target.ordinals for target in targets])
        await self._submitting.write(made, items, [], beside=row)
        return Submission(made, Fold(made.submitted, {}, {}))

    async def _earlier(self, name: str) -> tuple[Submission | None, set[int]]:
        """The newest undo of a submission, and which of its items they all cover but for what they failed to do."""
        newest: Submission | None = None
        covered: set[int] = set()
        for undo, covers in await self._submissions.undos(name):
            known = await self._submissions.read(undo)
            if known is None:
                continue  # its door died before the header
            newest = known
            for number, ordinals in enumerate(covers):
                if known.fold.state(number) is not State.REJECTED:
                    covered.update(ordinals)
        return newest, covered

    # What it holds

    async def _find(self, known: Submission) -> tuple[Submission, dict[int, PartItem]]:
        """The submission and those of its unsettled items that lie in parts, wherever they have moved to."""
        found: dict[int, PartItem] = {}
        for look in range(_LOOKS):
            wanted = [n for n in range(known.fold.submitted) if n not in known.fold.fates and n not in found]
            if not wanted:
                break
            if look:
                found |= await self._everywhere(known.header.id)
            else:
                found |= await stored_items(self._parts, known, wanted)
            known = await self._submissions.read(known.header.id) or known
        return known, found

    async def _everywhere(self, name: str) -> dict[int, PartItem]:
        """Its items in all open parts: only the first move of an item is written down."""
        found: dict[int, PartItem] = {}
        names = [part.id for part in await self._parts.all_open(_PARTS_MOST)]
        for at in range(0, len(names), _AT_ONCE):
            for part in await asyncio.gather(*map(self._parts.load, names[at : at + _AT_ONCE])):
                found |= {item.ordinal: item for item in part.items if item.submission == name} if part else {}
        return found

    async def _choose(
        self, known: Submission, found: Mapping[int, PartItem]
    ) -> tuple[list[_Target], tuple[Left, ...], int]:
        """What is to be withdrawn, what is left alone, and how much of that is on its way to where it can be read."""
        fates = known.fold.fates
        keys: dict[int, Key] = {}
        for ordinal in range(known.fold.submitted):
            fate, item = fates.get(ordinal), found.get(ordinal)
            if fate is None and item is not None:
                keys[ordinal] = item.key
            elif fate is not None and fate.type and _may_stand(fate):
                keys[ordinal] = (fate.type, fate.value)
        places = await self._places(known.header, keys, found)
        targets: dict[Key, _Target] = {}
        for ordinal, (intent_at, as_of) in places.items():
            target = targets.setdefault(keys[ordinal], _Target(keys[ordinal], intent_at, as_of, []))
            target.ordinals.append(ordinal)
            if (intent_at, as_of) > (target.intent_at, target.as_of):
                target.intent_at, target.as_of = intent_at, as_of
        left = []
        on_its_way = 0
        for ordinal in range(known.fold.submitted):
            fate = fates.get(ordinal)
            if ordinal in places or (fate is not None and (fate.type, fate.value) in targets):
                continue
            on_its_way += fate is None
            left.append(Left(ordinal, fate.value if fate else "", known.fold.state(ordinal), _why(fate)))
        return list(targets.values()), tuple(left), on_its_way

    async def _places(
        self, header: Header, keys: Mapping[int, Key], found: Mapping[int, PartItem]
    ) -> dict[int, tuple[float, str]]:
        """Where these items stand in the order of intents: (intent_at, as_of). Without those that stand no more."""
        places = {n: (found[n].intent_at, found[n].as_of or header.id) for n in keys if n in found}
        rest = [n for n in keys if n not in found]
        letter = await self._letters.get(header.replay_of) if header.replay_of else None
        if not header.replay_of or (letter is not None and letter.kind == "raw"):
            return dict(sorted((places | dict.fromkeys(rest, (header.intent_at, header.id))).items()))
        # The items of a replay take the places of those that they repeat.
        if letter is not None:
            try:
                kept = await self._letters.items(letter.id)
            except StorageError:
                kept = []  # gone by now: then the heads know, of what is still the newest
            places |= {n: (kept[n].intent_at, kept[n].as_of or kept[n].submission) for n in rest if n < len(kept)}
        rest = [n for n in rest if n not in places]
        for at in range(0, len(rest), _AT_ONCE):
            piece = rest[at : at + _AT_ONCE]
            heads = await asyncio.gather(*(self._order.read(keys[n]) for n in piece))
            for n, head in zip(piece, heads, strict=True):
                if head is not None and head.item.submission == header.id:
                    places[n] = (head.item.intent_at, head.item.as_of or header.id)
        return dict(sorted(places.items()))


def _may_stand(fate: Outcome) -> bool:
    """Whether something of this item may be at Defender, or get there."""
    if fate.state is State.REJECTED:
        return fate.reason == "exhausted"  # one of its attempts may have landed
    return fate.state is not State.SUPERSEDED


def _why(fate: Outcome | None) -> str:
    if fate is None:
        return "It is on its way in a queue message; ask again when the submission is finished."
    if fate.state is State.SUPERSEDED:
        return fate.text or "A newer intent for the same value stands."
    if fate.reason == "exhausted" and not fate.type:
        return f"It was given up before its value was known. {fate.text}".strip()
    if fate.state is State.REJECTED:
        return f"It was rejected ({fate.reason}): there is nothing to withdraw."
    return "A newer intent for the same value stands."
