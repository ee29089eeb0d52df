"""Retiring: Defender keeps one indicator per (type, value, action), so a changed action leaves the old one active.

What is of ours beside the newest intent is deleted, and nothing else ever is. The head's `landed` says what an intent
left there, but not whose it is: an import over somebody else's indicator updates theirs and returns its id. So nothing
is deleted that a listing made after the newest intent was written does not show as created by this app.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Iterable, Sequence

from shared.errors import BatchRefusedError, DeniedError, IdentityError, NotSentError, PausedError, RelayError
from shared.ledger.intents import Head, Landed
from shared.publishing.budget import AHEAD, GRACE, Budget
from shared.publishing.order import Order
from shared.publishing.ports import Defender, Held, Tell
from shared.storage.protocols import Clock

_BATCHES = 12  # batch deletes for the heads of one call; what they cannot settle is deleted one by one
_BATCH_MOST = 500
_HALF = 16  # smaller halves are not worth a batch delete
_AT_ONCE = 4
_MANY = 4  # from so many on one batch delete costs less of the budget than single ones
# So many values are looked up one by one, for more the whole list is read, page by page: one call for 10,000 rows. When
# there were more calls within a minute than an hour has minutes' worth of, calls are dearer than rows.
_FEW = 10
_CALM = 25

Key = tuple[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Retired:
    """What became of one head.

    error: why it is not done, None when it is; tried: whether a deletion for it may have been sent, done or not.
    deleted: how many of ours were; others: the actions of what somebody else made of the value, which was left.
    missing: the list does not show all that an import has answered for. It may be gone, or not be shown yet.
    """

    error: RelayError | None = None
    tried: bool = False
    deleted: int = 0
    others: tuple[str, ...] = ()
    missing: bool = False


@dataclasses.dataclass(slots=True)
class _Work:
    """One head in hand. names: ids to delete; gone: what of its `landed` is done with, once these are deleted."""

    head: Head
    sure: bool
    missing: bool = False
    gone: list[Landed] = dataclasses.field(default_factory=list)
    names: set[str] = dataclasses.field(default_factory=set)
    others: tuple[str, ...] = ()
    deleted: int = 0
    tried: bool = False
    error: RelayError | None = None

    def found(self, held: Iterable[Held]) -> None:
        """Choose what is to be deleted of what Defender holds for the value."""
        item = self.head.item
        held = list(held)
        shown = {one.id for one in held} | {one.action for one in held}
        landed = _gone(self.head)
        self.gone = [entry for entry in landed if self.sure or (entry.id or entry.action) in shown]
        self.missing = len(self.gone) < len(landed)
        # A retraction removes all that is ours, also what nobody knows of: the answer of its call was lost.
        former = None if item.indicator is None else {entry.action for entry in landed}
        wanted = [one for one in held if former is None or one.action in former]
        self.names = {one.id for one in wanted if one.ours}
        self.others = tuple(sorted({one.action for one in wanted if not one.ours}))


class Retirer:
    """Deletes indicators of ours that the newest intents have replaced."""

    def __init__(
        self,
        order: Order,
        defender: Defender,
        lists: Budget,
        deletes: Budget,
        batch_deletes: Budget,
        clock: Clock,
        tell: Tell,
    ) -> None:
        self._order = order
        self._defender = defender
        self._lists = lists
        self._deletes = deletes
        self._batch_deletes = batch_deletes
        self._clock = clock
        self._tell = tell
        self._listing = asyncio.Lock()
        self._asking = 0
        self._begun = 0  # listings of everything, the last one with what it found
        self._found: tuple[int, dict[Key, list[Held]], bool] | None = None

    async def retire(self, heads: Sequence[Head], patience: float, sure: Sequence[bool] = ()) -> list[Retired]:
        """Delete what of ours stands beside the newest intents; all of it for a retraction.

        `patience`: seconds it may take in all; what is not begun by then is not done, and is still in the head.
        `sure`, for each head (default: yes): whether what the list does not show is taken for gone. Nobody knows how
        soon the list shows what an import has taken; else it stays in the head, and `missing` says so.
        """
        until = self._clock.now() + patience
        works = [_Work(head, certain) for head, certain in zip(heads, sure or [True] * len(heads), strict=True)]
        await self._look(works, until)
        together = sorted(set().union(*(work.names for work in works)))
        tried, deleted = await self._delete_together(together, until)

        async def remove(work: _Work) -> None:
            work.tried = not tried.isdisjoint(work.names)
            for name in sorted(work.names - deleted):
                within = await self._permit(self._deletes, until)
                work.tried = True
                await self._defender.delete(name, within=within)
            work.deleted = len(work.names)
            if work.gone or work.names:
                await self._order.forget(work.head, work.gone)

        await self._each(works, remove)
        self._tell.event("retired", indicators=len(together))
        errors = [work.error for work in works]
        grave = next((error for error in errors if isinstance(error, DeniedError | IdentityError)), None)
        if grave is not None:
            self._tell.alarm("retiring", f"Indicators of ours cannot be deleted: {grave} {grave.remediation}".strip())
        return [Retired(work.error, work.tried, work.deleted, work.others, work.missing) for work in works]

    @staticmethod
    async def _each(works: Sequence[_Work], do: Callable[[_Work], Awaitable[None]]) -> None:
        """`do` it for each that has no error yet, a few at once; keep its error."""
        todo = iter([work for work in works if work.error is None])

        async def some() -> None:
            for work in todo:
                try:
                    await do(work)
                except RelayError as error:
                    work.error = error

        await asyncio.gather(*(some() for _ in range(_AT_ONCE)))

    async def _permit(self, budget: Budget, until: float) -> float:
        left = until - self._clock.now()
        if left <= 0:
            raise NotSentError("there was no time left for it", remediation="Nothing: it is tried again by itself.")
        return await win(budget, self._clock, left)

    # Whose it is

    async def _look(self, works: Sequence[_Work], until: float) -> None:
        """Find out what Defender holds for these values, and whose it is."""

        async def one(work: _Work) -> None:
            within = await self._permit(self._lists, until)
            work.found(await self._defender.held(*work.head.item.key, within=within))

        recent = sum(start > self._clock.now() - 60.0 for start in self._lists.seen.starts)
        if len(works) <= (_FEW if recent <= _CALM else 1):
            await self._each(works, one)
            return
        try:
            found, whole = await self._everything(until)
        except RelayError as error:
            for work in works:
                work.error = error
            return
        missing = []
        for work in works:
            work.found(found.get(_key(*work.head.item.key), ()))
            if not work.names and not whole:
                missing.append(work)
        await self._each(missing, one)

    async def _everything(self, until: float) -> tuple[dict[Key, list[Held]], bool]:
        """All that Defender holds, by value, read after this was called; and whether one page showed it.

        Rows move while several pages are read, so that one may be missed. Those who ask meanwhile share the next
        reading: two at once would be much memory for the same.
        """
        self._asking += 1
        asked = self._begun
        try:
            async with self._listing:
                if self._found is None or self._found[0] <= asked:
                    self._found = None
                    self._begun += 1
                    self._found = (self._begun, *await self._pages(until))
                return self._found[1:]
        finally:
            self._asking -= 1
            if not self._asking:
                self._found = None

    async def _pages(self, until: float) -> tuple[dict[Key, list[Held]], bool]:
        found: dict[Key, list[Held]] = {}
        cursor: str | None = None
        pages = 0
        while True:
            within = await self._permit(self._lists, until)
            rows, cursor = await self._defender.all_held(cursor, within=within)
            pages += 1
            for held in rows:
                found.setdefault(_key(held.kind, held.value), []).append(held)
            if cursor is None:
                return found, pages == 1

    # Deleting

    async def _delete_together(self, names: Sequence[str], until: float) -> tuple[set[str], set[str]]:
        """What a few batch deletes have tried, and what they have deleted.

        One is refused when any of its ids is gone already: then halves.
        """
        tried: set[str] = set()
        deleted: set[str] = set()
        pieces = [names[at : at + _BATCH_MOST] for at in range(0, len(names), _BATCH_MOST)]
        pieces = pieces if len(names) >= _MANY else []
        for _ in range(_BATCHES):
            if not pieces:
                break
            piece = pieces.pop(0)
            try:
                within = await self._permit(self._batch_deletes, until)
                tried.update(piece)
                await self._defender.delete_many(piece, within=within)
                deleted.update(piece)
            except (DeniedError, BatchRefusedError) as error:
                half = len(piece) // 2
                if error.status in (400, 404) and half >= _HALF:
                    pieces += [piece[:half], piece[half:]]
            except RelayError:
                break
        return tried, deleted


def _gone(head: Head) -> list[Landed]:
    newest = head.item.action if head.item.indicator else None
    return [entry for entry in head.landed if entry.action != newest]


def _key(kind: str, value: str) -> Key:
    """Defender keeps the case in which a hash was first submitted; only in a URL does it mean anything."""
    return kind.casefold(), value if kind.casefold() == "url" else value.casefold()


async def win(budget: Budget, clock: Clock, patience: float) -> float:
    """Win a permit of any route, waiting at most `patience` seconds; returns the seconds it may be used within.

    Raises NotSentError when none was to be had in time, PausedError when that is because of a pause.
    """
    give_up = clock.now() + patience
    while True:
        view = await budget.look()
        now = clock.now()
        if view.opens_at - now <= AHEAD:
            permit = await budget.take(view)
            if permit is not None:
                await asyncio.sleep(max(0.0, permit.starts_at - clock.now()))
                return permit.starts_at + GRACE - clock.now()
        elif view.paused_until > give_up:
            raise PausedError("calls to Defender are paused", remediation="POST /api/resume when the reason is gone.")
        elif view.opens_at > give_up:
            raise NotSentError(
                f"the budget of {budget.route} calls is used up", remediation="Nothing: it is tried again by itself."
            )
        else:
            await asyncio.sleep(min(view.opens_at - now, 5.0))
