"""Time as the tenant sees it, and the way .NET writes it."""

from __future__ import annotations

import email.utils
import functools
import time
from datetime import UTC, datetime, timedelta

TICKS = 10_000_000  # a .NET tick is 100 ns
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock:
    """Wall clock with an offset, in seconds, which the admin endpoint may set; the throttle never uses it."""

    def __init__(self) -> None:
        self.offset = 0.0

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time() + self.offset

    def ticks(self) -> int:
        """.NET ticks (100 ns) since 1970."""
        return time.time_ns() // 100 + round(self.offset * TICKS)

    def http_date(self) -> str:
        """The time as a Date header says it."""
        return email.utils.formatdate(self.now(), usegmt=True)


@functools.lru_cache(4096)
def dotnet(ticks: int) -> str:
    """Ticks since 1970 as .NET writes them: up to seven digits of fraction, trailing zeros trimmed (recorded)."""
    seconds, fraction = divmod(ticks, TICKS)
    moment = time.gmtime(seconds)
    whole = (
        f"{moment.tm_year:04d}-{moment.tm_mon:02d}-{moment.tm_mday:02d}T"
        f"{moment.tm_hour:02d}:{moment.tm_min:02d}:{moment.tm_sec:02d}"
    )
    return f"{whole}.{fraction:07d}".rstrip("0") + "Z" if fraction else whole + "Z"


@functools.lru_cache(4096)
def parse(text: str) -> int:
    """An ISO 8601 date and time as ticks since 1970; without a zone it counts as UTC.

    Raises:
        ValueError: it is not such a time.
    """
    if "T" not in text:
        raise ValueError("a date and time is wanted")
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1) * 10
