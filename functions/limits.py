"""How much one caller may ask of one instance, so that one tool cannot starve the rest."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from shared.settings import Limit

_ROUNDING = 1e-6  # seconds; more than adding and subtracting of times can be wrong by
_CALLERS = 500  # remembered at a time; the one that has not called for the longest goes first


class BusyError(Exception):
    """The caller has used up its share. `retry_after` in seconds."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class FullError(Exception):
    """The instance holds as many bytes of bodies as it may. `retry_after` in seconds."""

    retry_after = 5


class Held:
    """What one request holds of Bodies."""

    def __init__(self, bodies: Bodies, size: int) -> None:
        self._bodies = bodies
        self.size = size

    def now(self, size: int) -> None:
        """It is known by now to be this much, no more than was asked for."""
        self._bodies.held += size - self.size
        self.size = size


class Bodies:
    """Bytes of bodies in hand, of all callers together, so that they leave room for the work."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.held = 0

    @contextmanager
    def hold(self, size: int) -> Iterator[Held]:
        """Hold so many bytes; whatever one request has is taken when there is no other. Raises FullError."""
        if self.held and self.held + size > self._most:
            raise FullError(f"{self.held >> 20} MiB of bodies are being served; there is no room for {size} bytes")
        self.held += size
        held = Held(self, size)
        try:
            yield held
        finally:
            self.held -= held.size


class Share:
    """Requests of each caller: at most `at_once` at a time, and those of `limits` in any of their windows."""

    def __init__(self, at_once: int, limits: Sequence[Limit], clock: Callable[[], float] = time.monotonic) -> None:
        self._at_once = at_once
        self._limits = limits
        self._clock = clock
        self._busy: dict[str, int] = {}
        self._starts: OrderedDict[str, deque[float]] = OrderedDict()

    @contextmanager
    def of(self, caller: str) -> Iterator[None]:
        """Hold a place for one request. Raises BusyError."""
        now = self._clock()
        busy = self._busy.get(caller, 0)
        if busy >= self._at_once:
            raise BusyError(f"{busy} requests of yours are being served", 1)
        starts = self._starts.setdefault(caller, deque())
        self._starts.move_to_end(caller)
        longest = max((limit.seconds for limit in self._limits), default=0.0)
        while starts and starts[0] <= now - longest:
            starts.popleft()
        full = [
            (starts[-limit.calls] + limit.seconds - now, limit)
            for limit in self._limits
            if len(starts) >= limit.calls and starts[-limit.calls] > now - limit.seconds
        ]
        if full:
            wait, limit = max(full, key=lambda pair: pair[0])
            raise BusyError(f"more than {limit.calls} requests in {limit.seconds:g} s", int(wait + _ROUNDING) + 1)
        starts.append(now)
        while len(self._starts) > _CALLERS:
            self._starts.popitem(last=False)
        self._busy[caller] = busy + 1
        try:
            yield
        finally:
            left = self._busy[caller] - 1
            if left:
                self._busy[caller] = left
            else:
                del self._busy[caller]
