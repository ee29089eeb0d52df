"""When to call: the rule by which a worker with items in hand makes one import call now, or waits.

Pure, and asked again at every arrival, wake-up and lost race. It is chosen so that a lone indicator does not wait, a
trickle leaves a third of the budget for a burst, full calls go at once, and nobody starves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

GATHER = 0.02  # what arrives together in one batch of messages should share a call
PATIENCE = 10.0  # nobody waits longer than this while there is budget
FEW = 32  # up to so many are not worth waiting for more
_EPSILON = 1e-9


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """The import budget that the rule is applied to: `limit` calls in any `window` seconds, `full` items a call."""

    limit: int = 30
    window: float = 63.0
    full: int = 500

    @property
    def pace(self) -> float:
        """Seconds between calls that are not full: two thirds of the budget."""
        return self.window * 1.5 / self.limit


def decide(
    now: float, ready: int, oldest_wait: float, permits: Sequence[float], hold_until: float, rule: Rule
) -> float | None:
    """None: call now; otherwise the time (epoch seconds) to ask again.

    Args:
        now: epoch seconds, on the clock the permits are on.
        ready: items in hand; at least one.
        oldest_wait: seconds the oldest of them has waited.
        permits: start times of the newest permits of all workers, oldest first; `limit` of them suffice.
        hold_until: no call before this (a 429, or a person's pause).
    """
    if hold_until > now:
        return hold_until
    if len(permits) >= rule.limit and permits[-rule.limit] + rule.window > now:
        return permits[-rule.limit] + rule.window
    if ready >= rule.full:
        return None
    if oldest_wait < GATHER - _EPSILON:
        return now + GATHER - oldest_wait
    if oldest_wait >= PATIENCE - _EPSILON:
        return None
    if ready < FEW and sum(start > now - rule.window for start in permits) < max(1, rule.limit // 10):
        return None
    earliest = (permits[-1] if permits else float("-inf")) + rule.pace
    if now >= earliest - _EPSILON:
        return None
    return min(earliest, now + PATIENCE - oldest_wait)
