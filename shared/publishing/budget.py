"""The call budget: never more calls in any window than the service allows, whoever makes them.

Each route of the API has a partition in the table `permits`. Row n is won by inserting it; its key counts down, so
one query reads the newest. A permit is never taken ahead of time: n may start when permit n - limit is a window old.
A worker that dies with a permit wastes that one and no more.

Two rows sort before the permits and so are read with them: the hold that a 429 writes, and a person's pause (see
pause.py). They are independent: neither shortens or ends the other. Routes that are not the pause's own read it beside.

Why it holds: start times never decrease from row to row, "now" is the service's clock to half a second, a call goes
out at most GRACE after its permit's start or not at all, and the window is 3 s longer than the service's own.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Sequence

from shared.ledger import ids
from shared.settings import Limit
from shared.storage.protocols import Clock, Row, Tables

TABLE = "permits"
HOLD_KEY = "hold"
PAUSE_KEY = "hold-pause"  # sorts after the hold and before the permits
GRACE = 1.0  # a call not on the wire this long after its permit's start is not sent
AHEAD = 0.5  # a permit may be taken so long before its start
_TOP = 10**10
# A start time may differ from the service's own Timestamp of the row by the clocks' error, and no more: beyond it a
# machine's clock is broken, and must not hold up (or let loose) everybody else.
_CLOCK_ERROR = 1.5


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """What one look at the table shows.

    starts: start times of the newest permits, oldest first; number: of the newest permit, 0 when there is none;
    hold_until: epoch seconds, 0 when there is no hold; paused_until: likewise of a pause, infinity when it has no end;
    opens_at: when the next permit may start, hold and pause included.
    """

    starts: tuple[float, ...]
    number: int
    hold_until: float
    hold_reason: str
    opens_at: float
    paused_until: float = 0.0

    @property
    def shut_until(self) -> float:
        """No call before this, for a hold or a pause; epoch seconds."""
        return max(self.hold_until, self.paused_until)


@dataclasses.dataclass(frozen=True, slots=True)
class Permit:
    """The right to one call, at `starts_at` (epoch seconds by the service's clock) and not GRACE later."""

    number: int
    starts_at: float

    def too_late(self, now: float) -> bool:
        """Whether the call may not be sent any more."""
        return now > self.starts_at + GRACE


@dataclasses.dataclass(frozen=True, slots=True)
class Used:
    """How much of a limit is used: so many of its calls within its seconds."""

    limit: Limit
    used: int


def _key(number: int) -> str:
    return f"p{_TOP - number:011d}"


def pause_ends(row: Row | None) -> float:
    """When the pause that this row tells of ends: epoch seconds, infinity when it has no end, 0 when it was ended."""
    if row is None or row.data["ended"]:
        return 0.0
    until = float(row.data["until"])
    return until or float("inf")


def _start(row: Row) -> float:
    start = float(row.data["starts_at"])
    return min(max(start, row.stamp - _CLOCK_ERROR), row.stamp + _CLOCK_ERROR) if row.stamp else start


class Budget:
    """The budget of one route. Safe with any number of workers; one object serves one event loop."""

    def __init__(
        self, tables: Tables, clock: Clock, route: str, limits: Sequence[Limit], *, paused_with: str = ""
    ) -> None:
        """`paused_with`: the route whose pause stops this one too; "": none does."""
        self._tables = tables
        self._clock = clock
        self.route = route
        self._paused_with = paused_with
        self.limits = tuple(sorted(limits, key=lambda limit: limit.calls))
        self.seen = View((), 0, 0.0, "", 0.0)

    async def look(self) -> View:
        """Read the hold, the pause and the newest permits; also kept in `seen`."""
        shortest = self.limits[0]
        rows = await self._tables.query(TABLE, pk=self.route, top=shortest.calls + 3)
        hold = next((row for row in rows if row.rk == HOLD_KEY), None)
        pause = next((row for row in rows if row.rk == PAUSE_KEY), None)
        if self._paused_with not in ("", self.route):
            # After the permits: who saw a pause's fence among them sees the pause; who did not cannot win a permit.
            pause = await self._tables.get(TABLE, self._paused_with, PAUSE_KEY)
        permits = [row for row in rows if row.rk not in (HOLD_KEY, PAUSE_KEY)][: shortest.calls + 1]
        number = _TOP - int(permits[0].rk[1:]) if permits else 0
        starts = tuple(_start(row) for row in reversed(permits))
        hold_until = float(hold.data["until"]) if hold else 0.0
        paused_until = pause_ends(pause)
        opens_at = max(hold_until, paused_until, starts[-1] if starts else 0.0)
        for limit in self.limits:
            if number >= limit.calls:
                opens_at = max(opens_at, await self._start_of(number - limit.calls + 1, number, starts) + limit.seconds)
        reason = str(hold.data["reason"]) if hold else ""
        self.seen = View(starts, number, hold_until, reason, opens_at, paused_until)
        return self.seen

    async def _start_of(self, wanted: int, newest: int, starts: Sequence[float]) -> float:
        """Start of permit `wanted`; 0 when it is so old that its row is gone."""
        back = newest - wanted
        if back < len(starts):
            return starts[-1 - back]
        row = await self._tables.get(TABLE, self.route, _key(wanted))
        return 0.0 if row is None else _start(row)

    async def usage(self) -> tuple[View, tuple[Used, ...]]:
        """What one look shows, and how many permits of each limit's window are taken now."""
        view = await self.look()
        now = self._clock.now()
        return view, tuple([Used(limit, await self._since(view, now - limit.seconds, limit)) for limit in self.limits])

    async def _since(self, view: View, edge: float, limit: Limit) -> int:
        """How many permits started after `edge`; start times never decrease, so halving finds the first of them."""
        first, end = max(1, view.number - limit.calls + 1), view.number + 1
        while first < end:
            middle = (first + end) // 2
            if await self._start_of(middle, view.number, view.starts) > edge:
                end = middle
            else:
                first = middle + 1
        return view.number + 1 - first

    async def take(self, view: View) -> Permit | None:
        """Try to win the permit after those in `view`. None: too early, or another worker won it; look again."""
        now = self._clock.now()
        starts_at = max(now, view.opens_at)
        if starts_at - now > AHEAD:
            return None
        nonce = secrets.token_hex(8)
        row = Row(self.route, _key(view.number + 1), {"starts_at": starts_at, "nonce": nonce})
        if await self._tables.insert(TABLE, row) is None:
            # Either another worker was first, or our own insert was carried out and its answer lost.
            winner = await self._tables.get(TABLE, self.route, row.rk)
            if winner is None or winner.data["nonce"] != nonce:
                return None
        return Permit(view.number + 1, starts_at)

    async def fence(self) -> None:
        """Use up the next permit: whoever looked before now cannot win one any more without looking again."""
        nonce = secrets.token_hex(8)
        while True:
            view = await self.look()
            starts_at = max([self._clock.now(), *view.starts[-1:]])  # start times never decrease
            row = Row(self.route, _key(view.number + 1), {"starts_at": starts_at, "nonce": nonce})
            if await self._tables.insert(TABLE, row) is not None:
                return
            winner = await self._tables.get(TABLE, self.route, row.rk)
            if winner is not None and winner.data["nonce"] == nonce:
                return

    async def hold(self, until: float, reason: str) -> None:
        """No permit before `until` (epoch seconds). A later hold that stands already is left as it is."""
        while True:
            row = await self._tables.get(TABLE, self.route, HOLD_KEY)
            fresh = Row(self.route, HOLD_KEY, {"until": until, "reason": reason}, row.etag if row else "")
            if row is None:
                if await self._tables.insert(TABLE, fresh) is not None:
                    return
            elif float(row.data["until"]) >= until or await self._tables.update(TABLE, fresh) is not None:
                return

    async def forget_before(self, epoch: float) -> int:
        """Delete permits that started before `epoch`, but for those a limit still looks back to; how many."""
        kept = max(limit.calls for limit in self.limits) + 1
        rows = await self._tables.query(TABLE, pk=self.route, rk="p")
        old = [row for row in rows[kept:] if _start(row) < epoch]
        for row in old:
            await self._tables.delete(TABLE, row.pk, row.rk)
        return len(old)


def call_name(permit: Permit) -> str:
    """A name for the call that a permit is used for; nobody else has it."""
    return f"{permit.number:010d}{ids.new_call()}"
