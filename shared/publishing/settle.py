"""Settling: writing down what became of items, in the order that loses nothing, then telling who waits for it.

Deferral writes blob, `open` row, rows of the ledger, pointer. At every crash point each item has an outcome, or lies
in a part with an `open` row, or is still owned by the message or part it came in.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
from collections import Counter
from collections.abc import Sequence
from enum import Enum

from shared.errors import StorageError
from shared.ledger import ids
from shared.ledger.deadletters import DeadLetters
from shared.ledger.outcomes import Outcome, State
from shared.ledger.parts import FOREIGN, Part, PartItem, PartKind, Parts, split
from shared.ledger.submissions import Header, Submissions, deferral_row, outcome_rows
from shared.publishing import failures
from shared.publishing.ports import Tell
from shared.settings import Settings
from shared.storage.protocols import Clock, Row

PART_SIZE = 500
_FAILURES_LEAST = 3  # failures before the one that may be the last


class Fate(Enum):
    """What an invocation is told of each of its items."""

    FINAL = "final"  # its outcome is written
    MOVED = "moved"  # it lies in a new part
    UNSENT = "unsent"  # nothing was done; the stored part it is of shall be pointed to again


@dataclasses.dataclass(slots=True, eq=False)
class Entry:
    """An item in a worker's hands.

    header: of the foreign message it came in, to be written with its first row; None when it is written already.
    began: when its invocation began, on the event loop's clock; `result` is set when it is settled.
    retries: calls beyond the first in the same invocation, where nothing was done; refused: calls of which Defender
    named another item as the bad one.
    """

    item: PartItem
    header: Header | None
    began: float
    result: asyncio.Future[Fate]
    retries: int = 0
    refused: int = 0

    @property
    def foreign(self) -> bool:
        """Whether it came in a foreign message, which is not stored."""
        return self.header is not None


@dataclasses.dataclass(frozen=True, slots=True)
class Deferral:
    """Items that move to new parts. `delay` in seconds; `failed` says that an attempt is counted."""

    entries: Sequence[Entry]
    delay: float
    reason: str
    text: str
    failed: bool = True
    sent: bool = True
    kind: PartKind = "plain"
    known_bad: bool = False


def outcome(item: PartItem, state: State, reason: str = "", text: str = "") -> Outcome:
    """The outcome of one item."""
    return Outcome(
        item.ordinal,
        state,
        item.key[1],
        item.key[0],
        item.action,
        reason,
        text,
        item.notes,
    )


class Settler:
    """Writes outcomes and deferrals."""

    def __init__(
        self,
        settings: Settings,
        submissions: Submissions,
        parts: Parts,
        letters: DeadLetters,
        clock: Clock,
        tell: Tell,
        rnd: random.Random,
    ) -> None:
        self._settings = settings
        self._submissions = submissions
        self._parts = parts
        self._letters = letters
        self._clock = clock
        self._tell = tell
        self._rnd = rnd

    async def settle(
        self, finals: Sequence[tuple[Entry, Outcome]], deferrals: Sequence[Deferral] = (), *, call: str = ""
    ) -> None:
        """Write all of it, then set the entries' results. Raises StorageError, and then sets none of them."""
        call = call or ids.new_call()
        ended, moving = await self._exhaust(deferrals)
        finals = [*finals, *ended]
        parts: list[tuple[Part, Deferral, str]] = []
        headers: dict[str, Header] = {}
        rows: list[Row] = []
        for deferral in moving:
            for entries in split_entries(deferral.entries):
                part = Part(
                    ids.new_part(self._clock.now()),
                    tuple(self._moved(entry.item, deferral) for entry in entries),
                    deferral.kind,
                    deferral.known_bad,
                )
                etag = await self._parts.store(part, due_in=deferral.delay, failed=deferral.failed)
                parts.append((part, deferral, etag))
                rows += _deferral_rows(entries, part.id, headers)
        rows += _outcome_rows(finals, call, headers)
        if rows:
            await self._submissions.write(headers.values(), rows)
        for part, deferral, etag in parts:
            await self._parts.point(part.id, visible_after=deferral.delay)
            if deferral.delay and not deferral.failed:  # else it is not hastened, and this is of no use
                with contextlib.suppress(StorageError):
                    await self._parts.alone(part.id, etag)
        self._count(finals, moving)
        self._log(finals, moving, call)
        for entry, _ in finals:
            _tell(entry, Fate.FINAL)
        for deferral in moving:
            for entry in deferral.entries:
                _tell(entry, Fate.MOVED)

    async def _exhaust(self, deferrals: Sequence[Deferral]) -> tuple[list[tuple[Entry, Outcome]], list[Deferral]]:
        """Take out what has failed for too long; it is kept as a dead letter before anything else is written.

        What merely was not sent, for however long, is not given up: neither then nor at its first failures.
        """
        oldest = self._clock.now() - self._settings.exhausted_after
        ended: list[tuple[Entry, Outcome]] = []
        moving: list[Deferral] = []
        for deferral in deferrals:
            tired = [
                entry
                for entry in deferral.entries
                if deferral.failed and entry.item.attempts >= _FAILURES_LEAST and entry.item.first_seen <= oldest
            ]
            if not tired:
                moving.append(deferral)
                continue
            text = f"Given up after {self._settings.exhausted_after / 86_400:g} days. Last: {deferral.text}"
            kept = [entry.item for entry in tired if not entry.item.reassert]
            if kept:
                letter = await self._letters.keep_items(kept, "exhausted", text)
                self._tell.count("dead", len(kept))
                self._tell.alarm("exhausted", f"{len(kept)} items are in dead letter {letter}: {deferral.text}")
            if len(kept) < len(tired):
                lost = [entry.item.key[1] for entry in tired if entry.item.reassert]
                self._tell.alarm("reassert_exhausted", f"Defender may hold an older intent for {', '.join(lost[:20])}")
            ended += [(entry, outcome(entry.item, State.REJECTED, "exhausted", text)) for entry in tired]
            gone = set(tired)
            left = [entry for entry in deferral.entries if entry not in gone]
            if left:
                moving.append(dataclasses.replace(deferral, entries=left))
        return ended, moving

    @staticmethod
    def _moved(item: PartItem, deferral: Deferral) -> PartItem:
        return dataclasses.replace(
            item,
            attempts=item.attempts + (1 if deferral.failed else 0),
            deferred=True,
            maybe_sent=item.maybe_sent or deferral.sent,
        )

    def _count(self, finals: Sequence[tuple[Entry, Outcome]], deferrals: Sequence[Deferral]) -> None:
        now = self._clock.now()
        for entry, made in finals:
            if not entry.item.reassert:
                if made.state is State.REJECTED:
                    self._tell.rejected(made.reason)
                    continue
                self._tell.count(made.state.value)
                if made.state is State.ACCEPTED and entry.item.indicator is not None:
                    self._tell.observe("time_to_publish", max(0.0, now - entry.item.intent_at))
        for deferral in deferrals:
            self._tell.count("deferred", len(deferral.entries))
            self._tell.event("deferred", items=len(deferral.entries), delay=deferral.delay, reason=deferral.reason)

    def _log(self, finals: Sequence[tuple[Entry, Outcome]], deferrals: Sequence[Deferral], call: str) -> None:
        """One line a submission: what became of its items in this call, and of which types and actions it was."""
        fates: dict[tuple[str, str], Counter[str]] = {}
        published: dict[str, Counter[tuple[str, str]]] = {}
        sources: dict[str, str] = {}
        for entry, made in finals:
            item = entry.item
            fates.setdefault((item.submission, item.incident), Counter())[made.state.value] += 1
            if made.state is State.ACCEPTED and not item.reassert:
                published.setdefault(item.submission, Counter())[(item.key[0], item.action)] += 1
            if entry.header is not None:
                sources[item.submission] = entry.header.source
        for deferral in deferrals:
            for entry in deferral.entries:
                fates.setdefault((entry.item.submission, entry.item.incident), Counter())["deferred"] += 1
                if entry.header is not None:
                    sources[entry.item.submission] = entry.header.source
        for (submission, incident), counts in fates.items():
            told = [
                {"type": kind, "action": action, "items": number}
                for (kind, action), number in published.get(submission, Counter()).items()
            ]
            self._tell.event(
                "outcome",
                submission=submission,
                incident=incident or None,
                source=sources.get(submission) or None,
                call=call,
                **counts,
                published=told or None,
            )

    def retry_delay(self, entries: Sequence[Entry], asked: float | None) -> float:
        """Seconds until items that failed are tried again: by the one that failed least."""
        attempts = min(entry.item.attempts for entry in entries) + 1
        return failures.delay(attempts, asked, self._settings.defer_first, self._settings.defer_max, self._rnd)

    async def delay(self, entries: Sequence[Entry], verdict: failures.Again) -> tuple[float, bool]:
        """Seconds until these are tried again, and whether that counts as a failure. A person's pause does not."""
        if verdict.reason == failures.PAUSED:
            return self.paused_delay(), False
        return self.retry_delay(entries, verdict.delay), True

    def paused_delay(self) -> float:
        """Seconds until a part comes back that a pause has stopped; the resume points to it sooner."""
        return self._settings.unsent_max * (0.9 + 0.2 * self._rnd.random())

    async def unsent_delay(self) -> float:
        """Seconds until items come back of which nothing was sent: the more parts wait, the longer."""
        most = int(30 * self._settings.unsent_max / self._settings.unsent_step) + 30
        waiting = len(await self._parts.all_open(most))
        step = self._settings.unsent_step
        return min(max(step * waiting / 30, step), self._settings.unsent_max) * (0.9 + 0.2 * self._rnd.random())


def split_entries(entries: Sequence[Entry]) -> list[Sequence[Entry]]:
    """Pieces that fit a part."""
    return [entries[at : at + PART_SIZE] for at in range(0, len(entries), PART_SIZE)]


def _tell(entry: Entry, fate: Fate) -> None:
    if not entry.result.done():
        entry.result.set_result(fate)


def _deferral_rows(entries: Sequence[Entry], new_part: str, headers: dict[str, Header]) -> list[Row]:
    """Rows for items deferred for the first time; later deferrals change nothing that is counted."""
    groups: dict[tuple[str, str], list[int]] = {}
    for entry in entries:
        if not entry.item.deferred and not entry.item.reassert:
            groups.setdefault((entry.item.submission, entry.item.origin), []).append(entry.item.ordinal)
            if entry.header is not None:
                headers[entry.header.id] = entry.header
    return [deferral_row(submission, origin, new_part, ordinals) for (submission, origin), ordinals in groups.items()]


def _outcome_rows(finals: Sequence[tuple[Entry, Outcome]], call: str, headers: dict[str, Header]) -> list[Row]:
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for entry, made in finals:
        if not entry.item.reassert:
            groups.setdefault((entry.item.submission, entry.item.origin), []).append(made)
            if entry.header is not None:
                headers[entry.header.id] = entry.header
    return [
        row
        for (submission, origin), outcomes in groups.items()
        for row in outcome_rows(submission, origin, call, outcomes)
    ]


__all__ = ["FOREIGN", "Deferral", "Entry", "Fate", "Settler", "outcome", "split"]
