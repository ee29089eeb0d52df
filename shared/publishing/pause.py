"""The stop button: a person's pause of every call that writes to Defender, until somebody resumes.

One row is the truth. It lies among the import permits, where every worker reads it with the look it takes before a
call; the routes that delete read it beside their own permits. Then each of these routes is fenced: its next permit is
used up, so a worker that looked before the pause cannot win one any more. What was won before is the permit under way.

A crash leaves it paused, or not begun. Before the fences: paused for everybody who looks, and repeating it sets them.
While resuming: the row is marked as ended first, then the waiting parts are pointed to; whoever finds it marked, a
repetition or the timer, finishes, and the timer forgets it half a minute later.

A pause and the hold of a 429 know nothing of each other.
"""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from shared.errors import OrderError
from shared.indicators.parse import NEVER, Context, Rejected, expiration
from shared.ledger.parts import OpenPart, Parts
from shared.publishing.budget import PAUSE_KEY, TABLE, Budget, pause_ends
from shared.publishing.ports import Tell
from shared.settings import Settings
from shared.storage.protocols import Clock, Row, Tables

LOG = "pauses"  # the partition of `permits` with one row per pause and resume
_TOP = 10**14
_REASON_MAX = 400
_FRESH = 2.0  # answers over HTTP may be so far behind
_AT_ONCE = 8
_LATE = 30.0  # so long after the end a worker may still put off what it took up before
_MOST = 1_000  # parts pointed to again when a pause ends; what lies behind them comes by itself
_SOON = 10.0  # due in less, a part is left to the pointer it has: longer than a call and the clocks' differences
_BY_ITSELF = "timer"
ROUTE = "import"


@dataclasses.dataclass(frozen=True, slots=True)
class Paused:
    """A pause that stands. Times are epoch seconds; until: None when it lasts until somebody resumes."""

    since: float
    by: str
    by_name: str
    reason: str
    until: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log: who paused or resumed, when and why. until: None for no end, or for a resume."""

    what: str
    at: float
    by: str
    by_name: str
    reason: str
    until: float | None


class Pauses:
    """Pauses and resumes; safe with any number of callers at once."""

    def __init__(
        self, tables: Tables, clock: Clock, settings: Settings, parts: Parts, fenced: Sequence[Budget], tell: Tell
    ) -> None:
        """`fenced`: the budgets of the routes that write to Defender."""
        self._tables = tables
        self._clock = clock
        self._settings = settings
        self._parts = parts
        self._fenced = fenced
        self._tell = tell
        self._seen: tuple[float, Paused | None] = (float("-inf"), None)

    async def standing(self, *, fresh: bool = False) -> Paused | None:
        """The pause that stands now, as of two seconds ago at most. Raises StorageError.

        fresh: as of now.
        """
        now = asyncio.get_running_loop().time()
        if fresh or now - self._seen[0] > _FRESH:
            row = await self._tables.get(TABLE, ROUTE, PAUSE_KEY)
            self._seen = (now, self._of(row))
        paused = self._seen[1]
        return None if paused and paused.until and paused.until <= self._clock.now() else paused

    def _of(self, row: Row | None) -> Paused | None:
        if row is None or pause_ends(row) <= self._clock.now():
            return None
        data = row.data
        return Paused(float(data["since"]), data["by"], data["by_name"], data["reason"], float(data["until"]) or None)

    async def pause(self, reason: str, until: float | None, by: str, by_name: str = "") -> tuple[Paused, bool]:
        """Stop all calls that write; when this returns, no permit can be won any more.

        `until`: epoch seconds, None until resumed. A pause that stands and ends no sooner is left as it is: nobody's
        pause is shortened by another's. Returns the pause that stands, and whether this call changed it.
        Raises OrderError when `until` is past, StorageError; repeating it is safe then.
        """
        logged = ""
        while True:
            if until is not None and until <= self._clock.now():
                raise OrderError("`until` is not in the future.", remediation="Give a later time, or none.")
            row = await self._tables.get(TABLE, ROUTE, PAUSE_KEY)
            standing = self._of(row)
            if standing is not None and row is not None and pause_ends(row) >= (until or float("inf")):
                break
            if not logged:
                # Before it is done: a stop that nobody gave must not be found, an order that was not carried out may.
                logged = await self._log("pause", reason, until, by, by_name)
            data = {
                "since": standing.since if standing else self._clock.now(),
                "by": by,
                "by_name": by_name,
                "reason": reason,
                "until": until or 0.0,
                "ended": False,
                "ended_at": 0.0,
                "hastened": False,
                "fenced": bool(standing and row and row.data["fenced"]),
                "log": logged,
            }
            fresh = Row(ROUTE, PAUSE_KEY, data, row.etag if row else "")
            if row is None:
                await self._tables.insert(TABLE, fresh)
            else:
                await self._tables.update(TABLE, fresh, replace=True)
            # Read again in any case: the answer of a write that was carried out may have been lost.
        assert standing is not None
        if not row.data["fenced"]:
            await self._fence(row)
        self._seen = (asyncio.get_running_loop().time(), standing)
        changed = bool(logged) and row.data["log"] == logged
        if changed:
            self._tell.event("paused", by=by, reason=reason, until=until)
            self._tell.alarm("paused", f"All calls that write to Defender are paused by {by}: {reason}")
        return standing, changed

    async def resume(self, reason: str, by: str, by_name: str = "") -> tuple[Paused | None, int]:
        """End the pause and point at once to what waits. Returns the pause that was ended and how many parts.

        None: there was none. Raises StorageError; repeating it is safe then.
        """
        logged = False
        ended: Paused | None = None
        while True:
            row = await self._tables.get(TABLE, ROUTE, PAUSE_KEY)
            standing = self._of(row)
            if row is None or standing is None:
                break
            if not logged:
                await self._log("resume", reason, None, by, by_name)
                logged = True
            ended = standing
            marked = await self._end(row)
            if marked is not None:
                row = marked
                break
        parts = await self._finish(row) if row is not None else 0
        self._seen = (asyncio.get_running_loop().time(), None)
        if ended is not None:
            self._tell.event("resumed", by=by, reason=reason, parts=parts)
        return ended, parts

    async def tend(self) -> Paused | None:
        """For a timer: finish a pause that was ended or has run out; the pause that stands."""
        row = await self._tables.get(TABLE, ROUTE, PAUSE_KEY)
        standing = self._of(row)
        if row is None:
            return None
        if standing is not None:
            if not row.data["fenced"]:
                await self._fence(row)
            return standing
        if not row.data["ended"]:
            ended = await self._end(row)
            if ended is None:
                return self._of(await self._tables.get(TABLE, ROUTE, PAUSE_KEY))
            row = ended
            await self._log("end", "its time was up", None, _BY_ITSELF, "")
        parts = await self._finish(row)
        if parts:
            self._tell.event("resumed", by=_BY_ITSELF, parts=parts)
        return None

    async def _fence(self, row: Row) -> None:
        for budget in self._fenced:
            await budget.fence()
        await self._tables.update(TABLE, Row(ROUTE, PAUSE_KEY, {"fenced": True}, row.etag))

    async def _end(self, row: Row) -> Row | None:
        """Mark a pause as ended; None when it was changed meanwhile."""
        data = {"ended": True, "ended_at": self._clock.now(), "hastened": False}
        etag = await self._tables.update(TABLE, Row(ROUTE, PAUSE_KEY, data, row.etag))
        return None if etag is None else Row(ROUTE, PAUSE_KEY, row.data | data | {"own": True}, etag)

    async def _finish(self, row: Row) -> int:
        """Point to what waits; how many parts. The row of an ended pause is forgotten a while later, by the timer.

        Until then the timer points again: a worker that saw the pause may have put something off after it.
        """
        ended_at = float(row.data["ended_at"])
        # Found as ended, and not done: whoever ended it died, maybe between a part's new date and its pointer.
        redo = not row.data["hastened"] and "own" not in row.data
        parts = await self._hasten(ended_at if redo else None)
        if not row.data["hastened"]:
            await self._tables.update(TABLE, Row(ROUTE, PAUSE_KEY, {"hastened": True}, row.etag))
        elif self._clock.now() - ended_at >= _LATE:
            await self._tables.delete(TABLE, ROUTE, PAUSE_KEY, etag=row.etag)
        return parts

    async def _hasten(self, since: float | None) -> int:
        """Give what waits for want of a call a pointer that is due at once, spread by what the budget lets through.

        Two thirds of the calls of a window at once, the next two thirds a window later, and so on: the rest is for what
        comes in meanwhile. What would hardly come sooner by this is left, and so is what waits because a call failed.
        The pointers they had are replaced: they would come while their part is in a call, and repeat it.
        since: an earlier try began then, and its dates may lack their pointers.
        """
        limit = self._fenced[0].limits[0]
        share = max(1, limit.calls * 2 // 3)
        waiting = [part for part in await self._parts.all_open() if not part.failed]
        waiting.sort(key=lambda part: (part.since, part.id))
        now = self._clock.now()
        todo: list[tuple[OpenPart, float]] = []
        items = 0
        for part in waiting[:_MOST]:
            due_in = items // self._settings.call_size // share * limit.seconds
            items += part.items
            if now + due_in + _SOON < part.due or (since is not None and part.due >= since):
                todo.append((part, due_in))
        pointed = 0
        left = iter(todo)

        async def some() -> None:
            nonlocal pointed
            for part, due_in in left:
                done = await self._parts.again(part, due_in=due_in, begun=since is not None)
                pointed += done  # not in one statement: that would add to what it was before the wait

        await asyncio.gather(*(some() for _ in range(_AT_ONCE)))
        return pointed

    # The log

    async def _log(self, what: str, reason: str, until: float | None, by: str, by_name: str) -> str:
        now = self._clock.now()
        # Keys count down, so that the newest come first.
        key = f"{_TOP - int(now * 1000):014d}-{secrets.token_hex(4)}"
        data = {"what": what, "at": now, "by": by, "by_name": by_name, "reason": reason, "until": until or 0.0}
        await self._tables.insert(TABLE, Row(LOG, key, data))
        return key

    async def log(self, most: int = 20) -> list[Entry]:
        """Who paused and resumed, newest first."""
        rows = await self._tables.query(TABLE, pk=LOG, top=most)
        return [
            Entry(
                row.data["what"],
                float(row.data["at"]),
                row.data["by"],
                row.data["by_name"],
                row.data["reason"],
                float(row.data["until"]) or None,
            )
            for row in rows
        ]

    async def forget_before(self, epoch: float) -> int:
        """Delete lines of the log older than this; how many."""
        rows = await self._tables.query(TABLE, pk=LOG, rk=f"{_TOP - int(epoch * 1000):014d}")
        for row in rows:
            await self._tables.delete(TABLE, LOG, row.rk)
        return len(rows)


def read_reason(given: Any) -> str:
    """The reason that a person must give. Raises OrderError."""
    text = given.strip() if isinstance(given, str) else ""
    if not 1 <= len(text) <= _REASON_MAX or not text.isprintable():
        raise OrderError(
            f"`reason` must be text of 1 to {_REASON_MAX} printable characters.",
            remediation='Say why, as in {"reason": "Maintenance of the tenant"}.',
        )
    return text


def read_until(given: Any, settings: Settings, now: float) -> float | None:
    """When a pause shall end: an ISO 8601 time or a duration such as PT30M; None for no end. Raises OrderError."""
    if given is None:
        return None
    moment = datetime.fromtimestamp(now, UTC)
    try:
        until = expiration("until", given, Context(settings, moment, []))
    except Rejected as error:
        raise OrderError(error.problem.text, remediation="Give a later time, or leave `until` out.") from None
    return None if until == NEVER or isinstance(until, str) else until.timestamp()
