"""Going through Defender's list by $skip, although rows come and go while it is read.

`$skip` counts rows: when one before the place expires between two calls, all move up and the next page leaves one
out. So each page is asked for from a little before its place, and goes on behind the last row that was seen.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from shared.defender.answers import Keep
from shared.defender.limits import TOP_MAX
from shared.errors import UnavailableError
from shared.looking.permits import Looks

OVERLAP = 20  # so many rows may go between two pages of one reader before any is missed


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where a reader stands: so many rows are behind it, the last of them with the ids `known`."""

    skip: int = 0
    known: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Stretch:
    """Rows from a place on. `start` is where the first of them lies; more: whether the list goes on behind them."""

    rows: tuple[dict[str, Any], ...]
    start: int
    more: bool

    def after(self, count: int, before: Place) -> Place:
        """The place behind the first `count` of these rows."""
        last = [row_id(row) for row in self.rows[max(0, count - OVERLAP) : count]]
        seen = before.known + tuple([one for one in last if one])
        return Place(self.start + count, seen[-OVERLAP:])


def row_id(row: dict[str, Any]) -> str:
    """An indicator's id; "" when it has none."""
    return str(row.get("id") or "")


async def read(looks: Looks, filter: str | None, place: Place, size: int, keep: Keep | None = None) -> Stretch:
    """Up to `size` rows from `place` on, or a few more; fewer do not mean that it is the end. One call, rarely two.

    keep: see DefenderClient.list_page; it must keep the id.

    Raises:
        BudgetError: no permit. DefenderError: what became of the call.
    """
    start = max(0, place.skip - len(place.known))
    page = await looks.page(filter, min(TOP_MAX, size + place.skip - start), start, keep)
    known = set(place.known)
    fresh = max((at + 1 for at, row in enumerate(page.rows) if row_id(row) in known), default=0)
    if fresh == len(page.rows) and page.cursor is not None and start < place.skip:
        # The service's pages are so short that this one holds nothing new.
        start, fresh = place.skip, 0
        page = await looks.page(filter, min(TOP_MAX, size), start, keep)
    if not page.rows and page.cursor is not None:
        raise UnavailableError("Defender's list goes on behind an empty page")
    return Stretch(page.rows[fresh:], start + fresh, page.cursor is not None)
