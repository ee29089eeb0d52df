"""A running relay before an update: paused, and nothing in flight that an update would kill; and going on afterwards.

A worker that is killed loses nothing, but its messages come back only after ten minutes, with one delivery less
(docs/operate.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from deploy.say import Failed
from deploy.web import Site, Unreachable

REASON = "scripts/deploy"
_PAUSE = "PT2H"  # it ends by itself, should nobody resume
#: An invocation takes 90 seconds at most, and a worker tells once a minute: one that has not for so long is gone.
_STALE = 150.0
_MOST = 240.0
_RETURN = 180.0


class Quiet:
    """The stop of one relay. `headers` must hold the master key, or a token with Operations.Manage."""

    def __init__(
        self, site: Site, headers: Mapping[str, str], say: Callable[[str], None], *, every: float = 5.0
    ) -> None:
        self._site = site
        self._headers = dict(headers)
        self._say = say
        self._every = every
        self.ours = False

    def begin(self) -> None:
        """Pause and wait. An app that does not answer is left alone, and that is said.

        Raises:
            Failed: it answers, but this caller may not pause it, or something stays in flight.
        """
        try:
            told = self._site.ask_patiently("GET", "/api/operations", self._headers, patience=30.0)
        except Unreachable as error:
            self._say(f"  the app does not answer ({error.what}) so nothing is paused")
            return
        if told.status in (401, 403):
            raise Failed(
                f"The app runs, and refuses to tell what is in flight: {told}.",
                "Key mode: your role must let you list the app's keys. Easy Auth mode: the role Operations.Manage. "
                "Or go on without a pause: --no-pause (what is in flight comes back after ten minutes).",
            )
        if told.status != 200:
            self._say(f"  the app is not at work (it answers {told}), so nothing is paused")
            return
        standing = told.told.get("paused") or {}
        if not standing:
            body = {"reason": REASON, "until": _PAUSE}
            answer = self._site.ask_patiently("POST", "/api/pause", self._headers, body)
            if answer.status != 200:
                raise Failed(f"The pause is answered with {answer}.", "Or go on without a pause: --no-pause")
            self.ours = True
            self._say("  paused")
        else:
            # One of ours that an earlier run has left; somebody else's stands after the deployment, too.
            self.ours = standing.get("reason") == REASON
            whose = (
                "by an earlier run" if self.ours else f"by {standing.get('by')}: {standing.get('reason')}; it stays so"
            )
            self._say(f"  it is paused already, {whose}")
        self._wait()

    def end(self) -> None:
        """Resume, if the pause is ours. Raises Failed."""
        if not self.ours:
            return
        until = time.monotonic() + _RETURN
        while True:  # an app that has just been published answers 404 until its functions are indexed
            answer = self._site.ask_patiently(
                "POST", "/api/resume", self._headers, {"reason": REASON}, patience=_RETURN
            )
            if answer.status in (200, 401, 403) or time.monotonic() + self._every >= until:
                break
            time.sleep(self._every)
        if answer.status != 200:
            raise Failed(
                f"The app is still paused: the resume is answered with {answer}.",
                "POST /api/resume when it answers again; the pause ends by itself after two hours.",
            )
        self.ours = False
        self._say("  resumed")

    def _wait(self) -> None:
        until, told_of = time.monotonic() + _MOST, -1
        while True:
            answer = self._site.ask_patiently("GET", "/api/operations", self._headers, patience=30.0)
            busy = in_flight(answer.told, datetime.now(UTC)) if answer.status == 200 else 0
            if not busy:
                self._say("  nothing is in flight")
                return
            if time.monotonic() >= until:
                raise Failed(
                    f"{busy} messages are still in flight after {_MOST:.0f} s.",
                    "Look at /api/operations; --no-pause goes on all the same (they come back after ten minutes).",
                )
            if busy != told_of:
                self._say(f"  {busy} messages in flight; waiting ...")
                told_of = busy
            time.sleep(self._every)


def in_flight(operations: Mapping[str, object], now: datetime) -> int:
    """Messages in flight by what the workers last said; what was said too long ago does not count."""
    found = 0
    workers = operations.get("workers")
    for worker in workers if isinstance(workers, list) else ():
        seen = datetime.fromisoformat(str(worker["lastSeen"]).replace("Z", "+00:00"))
        if (now - seen).total_seconds() < _STALE:
            found += int(worker["inFlight"])
    return found
