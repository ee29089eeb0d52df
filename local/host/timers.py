"""The timer trigger: NCRONTAB schedules, and ways to make time pass faster."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Self

from local.host.hostjson import HostConfigError, expand
from local.host.protos import TypedData
from local.host.runtime import Function, InvocationError, Result

log = logging.getLogger("host.timers")

Invoke = Callable[[Function, dict[str, TypedData], dict[str, TypedData]], Awaitable[Result]]

_FIELDS = (("second", 0, 59), ("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 6))
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


@dataclasses.dataclass(frozen=True, slots=True)
class Schedule:
    """An NCRONTAB expression: {second} {minute} {hour} {day} {month} {day of week}, in UTC."""

    seconds: frozenset[int]
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Six fields, or five with the seconds left out. Raises HostConfigError."""
        pieces = text.split()
        if len(pieces) == 5:
            pieces.insert(0, "0")
        if len(pieces) != 6:
            raise HostConfigError(f"schedule {text!r} does not have six fields")
        return cls(*(_field(piece, *bounds) for piece, bounds in zip(pieces, _FIELDS, strict=True)))

    def after(self, moment: dt.datetime) -> dt.datetime:
        """The first time of the schedule that is later than `moment`. Raises HostConfigError when there is none."""
        start = moment.replace(microsecond=0) + dt.timedelta(seconds=1)
        day = start.date()
        for _ in range(366 * 8):  # eight years hold every 29 February on any weekday that comes soon
            if day.month in self.months and day.day in self.days and day.isoweekday() % 7 in self.weekdays:
                earliest = start.time() if day == start.date() else dt.time.min
                for hour in sorted(self.hours):
                    for minute in sorted(self.minutes):
                        if (hour, minute) < (earliest.hour, earliest.minute):
                            continue
                        for second in sorted(self.seconds):
                            time = dt.time(hour, minute, second)
                            if time >= earliest:
                                return dt.datetime.combine(day, time, tzinfo=moment.tzinfo)
            day += dt.timedelta(days=1)
        raise HostConfigError("the schedule has no next time")


def _field(text: str, name: str, low: int, high: int) -> frozenset[int]:
    names = {"month": {key: n + 1 for n, key in enumerate(_MONTHS)}, "weekday": {k: n for n, k in enumerate(_DAYS)}}

    def number(piece: str) -> int:
        value = names.get(name, {}).get(piece.lower()[:3])
        if value is None:
            value = int(piece)
        if name == "weekday" and value == 7:
            value = 0
        if not low <= value <= high:
            raise ValueError(piece)
        return value

    found: set[int] = set()
    try:
        for part in text.split(","):
            span, _, step = part.partition("/")
            if span == "*":
                first, last = low, high
            elif "-" in span:
                first, last = (number(piece) for piece in span.split("-"))
            else:
                first = number(span)
                last = high if step else first
            found.update(range(first, last + 1, int(step or 1)))
    except ValueError:
        raise HostConfigError(f"{text!r} is not a schedule's {name}") from None
    return frozenset(found)


class Timer:
    """Runs one timer function; never twice at the same time."""

    def __init__(self, function: Function, invoke: Invoke, *, speed: float = 1.0, every: float | None = None) -> None:
        """`speed` makes the schedule's clock run so much faster; `every` replaces it by an interval in seconds."""
        self._function = function
        self._invoke = invoke
        self._speed = speed
        self._every = every
        self._schedule = Schedule.parse(expand(str(function.trigger["schedule"])))
        self._stopping = asyncio.Event()
        self.runs = 0

    async def run(self) -> None:
        """Until `stop`."""
        loop = asyncio.get_running_loop()
        begun, real = dt.datetime.now(dt.UTC), loop.time()
        if self._function.trigger.get("runOnStartup"):
            await self._fire()
        while not self._stopping.is_set():
            now = begun + dt.timedelta(seconds=(loop.time() - real) * self._speed)
            wait = (
                self._every
                if self._every is not None
                else (self._schedule.after(now) - now).total_seconds() / self._speed
            )
            try:
                async with asyncio.timeout(wait):
                    await self._stopping.wait()
            except TimeoutError:
                await self._fire()

    def stop(self) -> None:
        """Fire no more."""
        self._stopping.set()

    async def _fire(self) -> None:
        self.runs += 1
        # Last and next are the service's own record, which the app does not use.
        data = json.dumps({"Schedule": {"AdjustForDST": True}, "ScheduleStatus": None, "IsPastDue": False})
        try:
            await self._invoke(self._function, {str(self._function.trigger["name"]): TypedData(json=data)}, {})
        except InvocationError as error:
            log.error("Executed 'Functions.%s' (Failed): %s", self._function.name, error.detail)


def intervals(pairs: list[str]) -> Mapping[str, float]:
    """`["Sweep=0.5"]` as a mapping. Raises HostConfigError."""
    found: dict[str, float] = {}
    for pair in pairs:
        match = re.fullmatch(r"(\w+)=(\d+(?:\.\d+)?)", pair)
        if match is None or float(match[2]) <= 0:
            raise HostConfigError(f"--timer takes NAME=SECONDS, not {pair!r}")
        found[match[1]] = float(match[2])
    return found
