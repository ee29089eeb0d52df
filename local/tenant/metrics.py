"""What the double has seen: answers by route and status, arrivals by route, and each import call."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any


@dataclasses.dataclass
class Call:
    """One request from its arrival on. `status` is 0 while it runs; `ended` tells how (a status or a fault)."""

    service: str
    route: str
    arrived: float = dataclasses.field(default_factory=time.monotonic)
    at: float = dataclasses.field(default_factory=time.time)
    app: str = ""
    items: int | None = None
    failed: int | None = None
    status: int = 0
    fault: str = ""
    ended: str = ""
    seconds: float = 0.0


class Metrics:
    """Counters and logs since the last `clear`."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.answers: dict[str, Counter[str]] = {}
        self.arrivals: dict[str, list[float]] = {}
        self.imports: list[Call] = []

    def arrived(self, call: Call) -> None:
        """A request has reached the double."""
        self.arrivals.setdefault(call.route, []).append(call.arrived)
        if call.route == "import":
            self.imports.append(call)

    def ended(self, call: Call, how: str) -> None:
        """A request has its answer (`how` is the status) or its fate (the name of a fault)."""
        call.ended = how
        call.seconds = round(time.monotonic() - call.arrived, 6)
        self.answers.setdefault(call.route, Counter())[how] += 1

    def as_json(self) -> dict[str, Any]:
        """The counters; `most_in_60s` is the largest number of arrivals in any 60 seconds, over all apps."""
        return {
            "answers": {route: dict(counted) for route, counted in sorted(self.answers.items())},
            "calls": {route: len(times) for route, times in sorted(self.arrivals.items())},
            "most_in_60s": {route: most_in(times, 60.0) for route, times in sorted(self.arrivals.items())},
            "throttled": sum(counted["429"] for counted in self.answers.values()),
        }


def most_in(times: Sequence[float], window: float) -> int:
    """The largest number of `times` (ascending) in any half-open window of so many seconds."""
    most = start = 0
    for end, moment in enumerate(times):
        while moment - times[start] >= window:
            start += 1
        most = max(most, end - start + 1)
    return most
