"""The storage service's clock, told from the Date headers of its answers.

Permits of different workers are compared with each other, so "now" must not depend on a machine's clock. A Date
header has whole seconds: the service's time when it answered lies in [Date, Date + 1). Together with when we asked
and when the answer came, each answer bounds the offset to our monotonic clock; the bounds of several are
intersected, which soon tells the offset far better than to a second.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from shared.storage.protocols import Clock

_KEPT = 64
# What is learned moves the clock by no more than this; a larger step back is the service's own.
_LEARNED = 1.5
_TICK = 1e-6


class ServiceClock:
    """Thread-safe. Before the first answer it is the machine's own clock."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._monotonic = monotonic
        self._offset = wall() - monotonic()
        self._bounds: deque[tuple[float, float]] = deque(maxlen=_KEPT)
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        """The clock that `observe` is to be given times of, in seconds."""
        return self._monotonic()

    def observe(self, date: float, asked: float, answered: float) -> None:
        """Take in an answer: its Date header (epoch seconds), when it was asked for and when it came (monotonic)."""
        with self._lock:
            self._bounds.append((date - answered, date + 1.0 - asked))
            low = max(bound[0] for bound in self._bounds)
            high = min(bound[1] for bound in self._bounds)
            if low > high:
                # One of the clocks was set: what was known before no longer holds.
                low, high = self._bounds[-1]
                self._bounds.clear()
                self._bounds.append((low, high))
            self._offset = (low + high) / 2

    def now(self) -> float:
        """Epoch seconds by the service's clock."""
        return self._monotonic() + self._offset


class Onward:
    """Another clock, but each time it is asked it tells a later one, unless that clock was set back by seconds.

    For the moments at which senders meant something: what one worker takes in later must not count as meant earlier
    only because the service's clock is known better by then. Thread-safe.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told = float("-inf")
        self._lock = threading.Lock()

    def now(self) -> float:
        """Epoch seconds by the service's clock."""
        with self._lock:
            now = self._clock.now()
            if 0.0 <= self._told - now <= _LEARNED:
                now = self._told + _TICK
            self._told = now
            return now
