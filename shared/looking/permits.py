"""The share of looking: a call needs a permit of `look` and one of `list`, so that looks never use up what retiring
needs. One that cannot be had within a few seconds is refused with the time to wait, not queued for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from shared.defender.answers import Keep
from shared.defender.client import Page
from shared.errors import BudgetError, NotSentError, ThrottledError
from shared.looking.ports import Lister, Who
from shared.publishing.budget import Budget
from shared.publishing.retire import win
from shared.storage.protocols import Clock

PATIENCE = 10.0
_RETRY_MAX = 3600.0
_BIG = 1100  # rows; a page of more is read while at most one other is: some 40 MB each
_BIG_AT_ONCE = 2


class Looks:
    """Calls of the list within the share of looking."""

    def __init__(self, lister: Lister, looks: Budget, lists: Budget, clock: Clock) -> None:
        self._lister = lister
        self._looks = looks
        self._lists = lists
        self._clock = clock
        self._big = asyncio.Semaphore(_BIG_AT_ONCE)

    def now(self) -> float:
        """Epoch seconds, by the storage service's clock."""
        return self._clock.now()

    async def who(self) -> Who:
        """Have token and connection ready; who we are to Defender. Raises IdentityError, NotSentError."""
        await self._lister.prepare()
        return await self._lister.who()

    async def page(self, filter: str | None, top: int, skip: int = 0, keep: Keep | None = None) -> Page:
        """One page of the list under its two permits.

        Raises:
            BudgetError: no permit is to be had within ten seconds.
            DefenderError: what became of the call; after a 429 all list calls are held for as long as it says.
        """
        if top <= _BIG:
            return await self._page(filter, top, skip, keep)
        try:
            async with asyncio.timeout(PATIENCE):
                await self._big.acquire()
        except TimeoutError:
            raise BudgetError(
                "Others are reading the whole list just now.",
                retry_after=PATIENCE,
                remediation="Ask again a little later.",
            ) from None
        try:
            return await self._page(filter, top, skip, keep)
        finally:
            self._big.release()

    async def _page(self, filter: str | None, top: int, skip: int, keep: Keep | None) -> Page:
        within = await self._permit()
        try:
            return await self._lister.list_page(filter, top, skip, keep, within=within)
        except ThrottledError as error:
            await self._lists.hold(self._clock.now() + error.retry_after, "Defender answered 429 to a list call")
            raise

    async def run[T](self, work: Callable[[], T]) -> T:
        """See Lister."""
        return await self._lister.run(work)

    async def _permit(self) -> float:
        """The seconds within which the call may be sent."""
        until = self._clock.now() + PATIENCE
        # Both are looked at first: a permit of the one is wasted when there is none of the other.
        for budget in (self._looks, self._lists):
            await budget.look()
        if self._opens_at() > until:
            raise self._refused()
        try:
            await win(self._looks, self._clock, until - self._clock.now())
            return await win(self._lists, self._clock, until - self._clock.now())
        except NotSentError:
            refused = self._refused()
        raise refused

    def _opens_at(self) -> float:
        return max(self._looks.seen.opens_at, self._lists.seen.opens_at)

    def _refused(self) -> BudgetError:
        wait = min(self._opens_at() - self._clock.now(), _RETRY_MAX)
        held = self._lists.seen.hold_until > self._clock.now()
        reason = f"; list calls are held: {self._lists.seen.hold_reason}" if held else ""
        return BudgetError(
            f"The calls for looking are used up for the next {max(1.0, wait):.0f} seconds{reason}.",
            retry_after=wait,
            remediation="Ask again after Retry-After, or less often; RELAY_LIMIT_LOOK is the share of looking.",
        )
