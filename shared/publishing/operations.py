"""How the app is doing, at one look: what waits, what stops it, who works, what came of the newest submissions.

Every part is asked by itself: one that fails is named among the problems, and the rest is told all the same.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from shared.errors import RelayError
from shared.finding.listing import hits_shown
from shared.finding.question import Question
from shared.finding.search import Search
from shared.ledger.deadletters import DeadLetters
from shared.ledger.parts import Parts
from shared.ledger.view import duration, moment, paused_sentence, paused_shown
from shared.publishing.budget import Budget
from shared.publishing.pause import Paused, Pauses
from shared.publishing.ports import Tell
from shared.publishing.presence import Presence
from shared.storage.protocols import Clock, Queue

_PARTS_MOST = 5_000
_NEWEST = 20
_WORKERS_MOST = 50
_SECONDS = 20.0
_LONG_HOLD = 300.0  # a 429 asks for seconds; who asks for more than this wants to be looked at
_REMIND = 3600.0
_ROUND = 60.0  # the timer's own


class Operations:
    """Looks at everything; and what the heartbeat does beside beating."""

    def __init__(
        self,
        clock: Clock,
        queue: Queue,
        parts: Parts,
        letters: DeadLetters,
        budgets: Sequence[Budget],
        pauses: Pauses,
        presence: Presence,
        search: Search,
        tell: Tell,
    ) -> None:
        self._clock = clock
        self._queue = queue
        self._parts = parts
        self._letters = letters
        self._budgets = budgets
        self._pauses = pauses
        self._presence = presence
        self._search = search
        self._tell = tell
        self._held_told = 0.0

    async def look(self, base: str = "", *, seconds: float = _SECONDS) -> dict[str, Any]:
        """Everything as JSON, with links below `base`; each part has `seconds`. Raises nothing that storage does."""
        problems: list[dict[str, str]] = []

        async def part(name: str, ask: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
            try:
                async with asyncio.timeout(seconds):
                    return await ask()
            except RelayError as error:
                problems.append({"part": name, "detail": str(error)})
            except TimeoutError:
                problems.append({"part": name, "detail": f"no answer within {seconds:g} s"})
            return {}

        standing: list[Paused] = []
        asked: dict[str, Callable[[], Awaitable[dict[str, Any]]]] = {
            "paused": lambda: self._paused(standing),
            "queue": self._queued,
            "openParts": self._open_parts,
            "holds": self._holds,
            "workers": self._workers,
            "timers": self._timers,
            "deadLetters": self._dead_letters,
            "submissions": lambda: self._submissions(base),
        }
        found = await asyncio.gather(*(part(name, ask) for name, ask in asked.items()))
        shown: dict[str, Any] = {"at": moment(self._clock.now()), "text": ""}
        for answers in found:
            shown |= answers
        shown["problems"] = problems
        shown["text"] = self._sentence(shown, standing)
        return shown

    @staticmethod
    def _sentence(shown: dict[str, Any], standing: Sequence[Paused]) -> str:
        told = [paused_sentence(paused) for paused in standing]
        for hold in shown.get("holds", ()):
            told.append(f"Calls of the route {hold['route']} are held until {hold['until']}: {hold['reason']}.")
        queue, opened = shown.get("queue"), shown.get("openParts")
        if queue is not None and opened is not None:
            told.append(f"About {queue['depth']} messages are queued; {opened['items']} items wait in open parts.")
        if queue is not None and queue["oldestPendingSeconds"] is not None:
            told.append(f"The oldest waits {duration(queue['oldestPendingSeconds'])}.")
        if shown["problems"]:
            told.append("Not told: " + ", ".join(problem["part"] for problem in shown["problems"]) + ".")
        return " ".join(told)

    async def _paused(self, standing: list[Paused]) -> dict[str, Any]:
        paused, log = await asyncio.gather(self._pauses.standing(fresh=True), self._pauses.log())
        lines = [
            {
                "what": entry.what,
                "at": moment(entry.at),
                "by": entry.by,
                **({"byName": entry.by_name} if entry.by_name else {}),
                "reason": entry.reason,
                **({"until": moment(entry.until)} if entry.until else {}),
            }
            for entry in log
        ]
        told: dict[str, Any] = {"pauses": lines}
        if paused is not None:
            standing.append(paused)
            told["paused"] = paused_shown(paused)
        return told

    async def _queued(self) -> dict[str, Any]:
        depth, poison, oldest, opened = await asyncio.gather(
            self._queue.depth(), self._queue.poison_depth(), self._queue.oldest(), self._parts.all_open(_PARTS_MOST)
        )
        since = [part.since for part in opened] + ([oldest] if oldest is not None else [])
        age = max(0.0, self._clock.now() - min(since)) if since else None
        return {"queue": {"depth": depth, "poison": poison, "oldestPendingSeconds": age and round(age, 1)}}

    async def _open_parts(self) -> dict[str, Any]:
        opened = await self._parts.all_open(_PARTS_MOST + 1)
        now = self._clock.now()
        later = [part.due for part in opened if part.due > now]
        told: dict[str, Any] = {
            "parts": min(len(opened), _PARTS_MOST),
            "items": sum(part.items for part in opened[:_PARTS_MOST]),
            "deferred": len(later),
            "afterFailure": sum(part.failed for part in opened[:_PARTS_MOST]),
            "complete": len(opened) <= _PARTS_MOST,
        }
        if later:
            told |= {"soonest": moment(min(later)), "latest": moment(max(later))}
        return {"openParts": told}

    async def _holds(self) -> dict[str, Any]:
        views = await asyncio.gather(*(budget.look() for budget in self._budgets))
        now = self._clock.now()
        return {
            "holds": [
                {"route": budget.route, "until": moment(view.hold_until), "reason": view.hold_reason}
                for budget, view in zip(self._budgets, views, strict=True)
                if view.hold_until > now
            ]
        }

    async def _workers(self) -> dict[str, Any]:
        seen = await self._presence.workers()
        return {
            "workers": [
                {
                    "id": one.id,
                    "host": one.host,
                    "version": one.version,
                    "begun": moment(one.begun),
                    "lastSeen": moment(one.at),
                    "inFlight": one.in_flight,
                    "messages": one.taken,
                    "calls": one.calls,
                }
                for one in seen[:_WORKERS_MOST]
            ]
        }

    async def _timers(self) -> dict[str, Any]:
        return {"timers": {name: moment(at) for name, at in (await self._presence.timers()).items()}}

    async def _dead_letters(self) -> dict[str, Any]:
        letters = await self._letters.all()
        waiting = Counter(letter.reason for letter in letters if letter.state in ("open", "replaying"))
        return {"deadLetters": {"open": waiting.total(), "byReason": dict(waiting)}}

    async def _submissions(self, base: str) -> dict[str, Any]:
        page = await self._search.find(Question.of(self._clock.now(), top=_NEWEST))
        return {"submissions": hits_shown(page.hits, base)}

    # The heartbeat

    async def stops(self) -> tuple[Paused | None, float]:
        """For the timer: finish a pause that was ended; tell of one that stands, and of a long hold.

        Returns the pause, and for how many seconds from now a 429 holds the import calls. Raises StorageError.
        """
        paused = await self._pauses.tend()
        now = self._clock.now()
        if paused is not None:
            age = now - paused.since
            if age >= _REMIND and age % _REMIND < _ROUND:
                self._tell.alarm("paused", f"Still: {paused_sentence(paused)}")
        view = await self._budgets[0].look()
        left = max(0.0, view.hold_until - now)
        if left > _LONG_HOLD and view.hold_until != self._held_told:
            self._held_told = view.hold_until
            self._tell.alarm("held", f"Import calls are held until {moment(view.hold_until)}: {view.hold_reason}")
        return paused, left
