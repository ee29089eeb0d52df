"""The quota of the service: a sliding log of arrivals for each (route, tenant, app)."""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Sequence

Key = tuple[str, str, str]


class Throttle:
    """Arrivals by key, and the verdict on each. Real (monotonic) time, whatever the tenant's wall clock says."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._log: dict[Key, list[float]] = {}

    def arrive(
        self, key: Key, limits: Sequence[tuple[int, float]], *, count_refused: bool = True
    ) -> tuple[int, float, float] | None:
        """Record an arrival; None lets it pass, else (calls, seconds, wait) of the limit which is exceeded.

        A window is half open: of `calls` arrivals at t the next may come at t + seconds exactly. A refused arrival
        counts as well, so that early retries earn more refusals (documented).
        """
        now = self._now()
        log = self._log.setdefault(key, [])
        longest = max((seconds for _, seconds in limits), default=0.0)
        del log[: bisect.bisect_right(log, now - longest)]
        verdict: tuple[int, float, float] | None = None
        for calls, seconds in limits:
            if len(log) - bisect.bisect_right(log, now - seconds) >= calls:
                # It opens when fewer than `calls` arrivals, this one included when it counts, are left in the window.
                kept = log[-calls:] + ([now] if count_refused else [])
                wait = kept[-calls] + seconds - now
                if verdict is None or wait > verdict[2]:
                    verdict = (calls, seconds, wait)
        if verdict is None or count_refused:
            log.append(now)
        return verdict

    def clear(self) -> None:
        """Forget every arrival."""
        self._log.clear()
