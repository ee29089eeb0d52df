"""How full the tenant is, and how much of each call budget is used.

The whole list is two calls and some 24 MB: it is folded while it is read, by one reader at a time, and the count
serves everybody for a minute.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from shared.defender.limits import TOP_MAX
from shared.errors import UnavailableError
from shared.ledger.view import moment
from shared.looking import walk
from shared.looking.permits import Looks
from shared.looking.ports import Who
from shared.looking.rows import sees_shown
from shared.looking.walk import Place
from shared.publishing.budget import Budget, Used, View

FRESH = 60.0
_DAY = 86_400.0
_PAGES = 40  # a service that gives short pages is still read whole; an endless one is not
_OWNERS = 50
_NEVER = 32_503_680_000.0  # the year 3000
_KEPT = ("id", "indicatorType", "action", "createdBy", "createdByDisplayName", "createdBySource", "expirationTime")


@dataclasses.dataclass(slots=True)
class Owner:
    """Who created so many indicators."""

    created_by: str
    name: str
    source: str
    mine: bool | None
    held: int = 0


@dataclasses.dataclass(slots=True)
class Count:
    """What Defender holds, counted from `at` (epoch seconds) on."""

    who: Who
    at: float
    held: int = 0
    types: Counter[str] = dataclasses.field(default_factory=Counter)
    actions: Counter[str] = dataclasses.field(default_factory=Counter)
    owners: dict[str, Owner] = dataclasses.field(default_factory=dict)
    never: int = 0
    day: int = 0
    week: int = 0
    first: float = 0.0
    _seen: set[str] = dataclasses.field(default_factory=set)

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Count rows; one that was counted already is not counted again."""
        for row in rows:
            name = walk.row_id(row)
            if name:
                if name in self._seen:
                    continue
                self._seen.add(name)
            self.held += 1
            self.types[str(row.get("indicatorType"))] += 1
            self.actions[str(row.get("action"))] += 1
            self._add_owner(row)
            self._add_expiry(row.get("expirationTime"))

    def done(self) -> None:
        """Forget what only the counting needed."""
        self._seen.clear()

    def _add_owner(self, row: dict[str, Any]) -> None:
        created_by = str(row.get("createdBy") or "")
        owner = self.owners.get(created_by)
        if owner is None:
            name, source = str(row.get("createdByDisplayName") or ""), str(row.get("createdBySource") or "")
            owner = self.owners[created_by] = Owner(created_by, name, source, self.who.mine(row))
        owner.held += 1

    def _add_expiry(self, text: Any) -> None:
        if text is None:
            self.never += 1
            return
        try:
            expires = datetime.fromisoformat(str(text)).timestamp()
        except ValueError:
            return
        self.first = min(self.first, expires) if self.first else expires
        self.day += expires <= self.at + _DAY
        self.week += expires <= self.at + 7 * _DAY


class Capacity:
    """Counts the whole list, at most once a minute."""

    def __init__(self, looks: Looks, most: int, budgets: Sequence[Budget]) -> None:
        self._looks = looks
        self._most = most
        self._budgets = budgets
        self._last: Count | None = None
        self._reading: asyncio.Task[Count] | None = None

    async def count(self) -> Count:
        """The count, at most a minute old. Who comes while it is being made waits for the same one.

        Raises:
            BudgetError, IdentityError, DefenderError: the list could not be read to its end.
        """
        if self._last is not None and 0 <= self._looks.now() - self._last.at < FRESH:
            return self._last
        if self._reading is None or self._reading.done():
            self._reading = asyncio.get_running_loop().create_task(self._read())
        # A caller that goes away must not end it for the others.
        return await asyncio.shield(self._reading)

    async def _read(self) -> Count:
        who = await self._looks.who()
        count = Count(who, self._looks.now())
        place = Place()
        for _ in range(_PAGES):
            page = await walk.read(self._looks, None, place, TOP_MAX - len(place.known), _kept)
            await self._looks.run(functools.partial(count.add, page.rows))
            if not page.more:
                break
            place = page.after(len(page.rows), place)
        else:
            raise UnavailableError(f"Defender's list did not end within {_PAGES} pages")
        count.done()
        self._last = count
        return count

    async def usage(self) -> dict[str, tuple[View, tuple[Used, ...]]]:
        """What is used of each budget now, by its route."""
        found = await asyncio.gather(*(budget.usage() for budget in self._budgets))
        return {budget.route: seen for budget, seen in zip(self._budgets, found, strict=True)}

    async def as_json(self) -> tuple[dict[str, Any], float]:
        """The answer, and the age of the count in seconds."""
        count, usage = await asyncio.gather(self.count(), self.usage())
        now = self._looks.now()
        return {**self._held(count), "calls": _calls(usage, now)}, max(0.0, now - count.at)

    def _held(self, count: Count) -> dict[str, Any]:
        # Of one's own alone there is no telling how full the tenant is.
        percent = round(100 * count.held / self._most, 1) if self._most and count.who.sees == "everyone" else None
        return {
            "asOf": moment(count.at),
            **sees_shown(count.who),
            "held": count.held,
            "most": self._most,
            "percent": percent,
            "text": _sentence(count, self._most, percent),
            "byType": dict(count.types.most_common()),
            "byAction": dict(count.actions.most_common()),
            "byOwner": _owners(count),
            "expiring": {
                "first": moment(count.first) if count.first else None,
                "withinDay": count.day,
                "withinWeek": count.week,
                "never": count.never,
            },
        }


def _kept(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row.get(name) for name in _KEPT}


def _sentence(count: Count, most: int, percent: float | None) -> str:
    if percent is not None:
        return f"Defender holds {count.held} of {most} indicators, {percent:g} %."
    seen = "of this app's own" if count.who.sees == "own" else "that this app can see"
    return f"Defender holds {count.held} indicators {seen}; {most} is the most for the whole tenant."


def _owners(count: Count) -> list[dict[str, Any]]:
    """The owners, the one with most first; what is beyond the first fifty is told as one."""
    ordered = sorted(count.owners.values(), key=lambda owner: (-owner.held, owner.created_by))
    shown: list[dict[str, Any]] = [
        {
            "createdBy": owner.created_by,
            "name": owner.name,
            "source": owner.source,
            "mine": owner.mine,
            "held": owner.held,
        }
        for owner in ordered[:_OWNERS]
    ]
    rest = ordered[_OWNERS:]
    if rest:
        held = sum(owner.held for owner in rest)
        name = f"{len(rest)} others"
        shown.append({"createdBy": None, "name": name, "source": None, "mine": None, "held": held})
    return shown


def _calls(usage: dict[str, tuple[View, tuple[Used, ...]]], now: float) -> dict[str, Any]:
    shown = {}
    for route, (view, windows) in usage.items():
        held = view.hold_until > now
        paused = view.paused_until > now
        shown[route] = {
            "windows": [
                {"used": one.used, "calls": one.limit.calls, "seconds": one.limit.seconds}
                for one in sorted(windows, key=lambda one: one.limit.seconds)
            ],
            "nextCall": _moment(max(now, view.opens_at)),
            "heldUntil": _moment(view.hold_until) if held else None,
            "heldReason": view.hold_reason if held else "",
            "paused": paused,
        }
    return shown


def _moment(epoch: float) -> str | None:
    """None for a pause without an end."""
    return moment(epoch) if epoch < _NEVER else None
