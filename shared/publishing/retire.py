"""Retiring: Defender keeps one indicator per (type, value, action), so a changed action leaves the old one active.

What is of ours beside the newest intent is deleted by its id, and nothing else ever is. The head's `landed` says
what there is; an entry without an id (a call whose answer nobody saw) is looked up by a list call first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from shared.errors import BatchRefusedError, DeniedError, IdentityError, NotSentError, RelayError
from shared.ledger.intents import Head, Landed
from shared.publishing.budget import AHEAD, GRACE, Budget
from shared.publishing.order import Order
from shared.publishing.ports import Defender, Tell
from shared.storage.protocols import Clock

_BATCHES = 12  # batch deletes for the heads of one call; what they cannot settle is deleted one by one
_HALF = 16  # smaller halves are not worth a batch delete
_AT_ONCE = 4
_MANY = 4  # from so many on one batch delete costs less of the budget than single ones


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

    async def retire(self, heads: Sequence[Head], patience: float) -> list[RelayError | None]:
        """Delete what of ours stands beside the newest intents; all of it for a retraction.

        Returns, for each head, None or why it is not done; then what is left is still in the head.
        `patience`: seconds it may take in all; what is not begun by then is not done.
        """
        until = self._clock.now() + patience
        results: list[RelayError | None] = [None] * len(heads)
        names: list[set[str]] = [set()] * len(heads)

        async def look(number: int) -> None:
            names[number] = await self._names(heads[number], until)

        await self._each(results, look)
        together = sorted(set().union(*names))
        deleted = await self._delete_together(together, until)

        async def remove(number: int) -> None:
            head = heads[number]
            for name in sorted(names[number] - deleted):
                within = await self._permit(self._deletes, until)
                await self._defender.delete(name, within=within)
            gone = _gone(head)
            if gone:
                await self._order.forget(head, gone)

        await self._each(results, remove)
        self._tell.event("retired", indicators=len(together))
        grave = next((error for error in results if isinstance(error, DeniedError | IdentityError)), None)
        if grave is not None:
            self._tell.alarm("retiring", f"Indicators of ours cannot be deleted: {grave} {grave.remediation}".strip())
        return results

    @staticmethod
    async def _each(results: list[RelayError | None], work: Callable[[int], Awaitable[None]]) -> None:
        """Do `work` for each head that has no error yet, a few at once; keep its error."""
        todo = iter([number for number, error in enumerate(results) if error is None])

        async def some() -> None:
            for number in todo:
                try:
                    await work(number)
                except RelayError as error:
                    results[number] = error

        await asyncio.gather(*(some() for _ in range(_AT_ONCE)))

    async def _permit(self, budget: Budget, until: float) -> float:
        left = until - self._clock.now()
        if left <= 0:
            raise NotSentError("there was no time left for it", remediation="Nothing: it is tried again by itself.")
        return await win(budget, self._clock, left)

    async def _names(self, head: Head, until: float) -> set[str]:
        gone = _gone(head)
        names = {entry.id for entry in gone if entry.id}
        unknown = {entry.action for entry in gone if not entry.id}
        if unknown:
            within = await self._permit(self._lists, until)
            held = await self._defender.ours(*head.item.key, within=within)
            names |= {name for action, name in held if action in unknown}
        # Should the service ever keep an indicator's id when its action changes, that one stays.
        return names - {entry.id for entry in head.landed if entry not in gone}

    async def _delete_together(self, names: Sequence[str], until: float) -> set[str]:
        """What a few batch deletes have deleted. One is refused when any of its ids is gone already: then halves."""
        deleted: set[str] = set()
        pieces = [names] if _MANY <= len(names) <= 500 else []
        for _ in range(_BATCHES):
            if not pieces:
                break
            piece = pieces.pop(0)
            try:
                within = await self._permit(self._batch_deletes, until)
                await self._defender.delete_many(piece, within=within)
                deleted.update(piece)
            except (DeniedError, BatchRefusedError) as error:
                half = len(piece) // 2
                if error.status in (400, 404) and half >= _HALF:
                    pieces += [piece[:half], piece[half:]]
            except RelayError:
                break
        return deleted


def _gone(head: Head) -> list[Landed]:
    newest = head.item.action if head.item.indicator else None
    return [entry for entry in head.landed if entry.action != newest]


async def win(budget: Budget, clock: Clock, patience: float) -> float:
    """Win a permit of any route, waiting at most `patience` seconds; returns the seconds it may be used within.

    Raises NotSentError when none was to be had in time.
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
        elif view.opens_at > give_up:
            raise NotSentError(
                f"the budget of {budget.route} calls is used up", remediation="Nothing: it is tried again by itself."
            )
        else:
            await asyncio.sleep(min(view.opens_at - now, 5.0))
