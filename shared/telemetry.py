"""What the app says of itself: structured log lines, counts and durations, alarms.

Metrics live in this process (`Metrics.snapshot`); `shared/telemetry_export.py` hands them to Application Insights when
its connection string is set. Nothing heavy is imported here.
"""

from __future__ import annotations

import functools
import json
import logging
import re
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from shared.redaction import redact

ROOT = "relay"
_FIELDS = "relay_fields"
_TEXT_MAX = 2000
_TALKATIVE = ("azure", "msal", "urllib3")

# --- Logs ------------------------------------------------------------------------------------------------------------


def get_logger(name: str) -> logging.Logger:
    """The logger `relay.<name>`; the level of all of them is RELAY_LOG_LEVEL."""
    return logging.getLogger(f"{ROOT}.{name}")


def log_event(logger: logging.Logger, level: int, event: str, /, *, exc_info: bool = False, **fields: Any) -> None:
    """One structured line: `event` is a short stable name, `fields` are ids, counts and codes. None is left out.

    The message itself is a JSON object, because the Functions host keeps nothing of a record but its text. Strings
    are cut at 2,000 characters and cleared of what looks like a credential.
    """
    if not logger.isEnabledFor(level):
        return
    line = {"event": event}
    line |= {
        name if name != "event" else "event_": _clean(value) for name, value in fields.items() if value is not None
    }
    text = json.dumps(line, default=str, ensure_ascii=False)
    logger.log(level, "%s", text, exc_info=exc_info, extra={_FIELDS: line})


def _clean(value: Any) -> Any:
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {str(name): _clean(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(inner) for inner in value]
    text = redact(str(value))
    return text if len(text) <= _TEXT_MAX else text[: _TEXT_MAX - 3] + "..."


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, and the event's fields or the message."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
        }
        fields = getattr(record, _FIELDS, None)
        if isinstance(fields, dict):
            # The names above are the line's own.
            line |= {name if name not in line else f"{name}_": value for name, value in fields.items()}
        else:
            line["message"] = redact(record.getMessage())
        if record.exc_info:
            line["error"] = record.exc_text or redact(self.formatException(record.exc_info))
        return json.dumps(line, default=str, ensure_ascii=False)


def configure_logging(level: str = "INFO", *, stderr: bool = False) -> None:
    """Set the level of the relay's own lines and put the redaction in place, for all loggers of this process.

    stderr: also write every line to stderr as JSON; in Azure the Functions host listens already.

    Raises:
        ValueError: `level` is no name of a level.
    """
    logging.getLogger(ROOT).setLevel(level.upper())
    for name in _TALKATIVE:
        # Two lines and all headers for every request: more work than the request, and nobody reads them.
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger(name).level))
    install_redaction()
    root = logging.getLogger()
    if stderr and not any(isinstance(handler.formatter, JsonFormatter) for handler in root.handlers):
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonFormatter())
        root.addHandler(handler)


def install_redaction() -> None:
    """Clear every log record of this process of what looks like a credential, whoever made it. May be called again.

    In the record factory and not as a filter: a filter of a logger does not see the records of the loggers below it,
    and a filter of a handler misses the handlers that the Functions worker adds later.
    """
    inner = logging.getLogRecordFactory()
    if getattr(inner, "clears_credentials", False):
        return

    def make(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = inner(*args, **kwargs)
        try:
            text = record.getMessage()
        except (TypeError, ValueError, KeyError):
            # Arguments that do not fit the format: logging reports that itself when the record is written.
            return record
        cleared = redact(text)
        if cleared != text:
            record.msg, record.args = cleared, ()
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = redact("".join(traceback.format_exception(*record.exc_info)).rstrip("\n"))
        return record

    make.clears_credentials = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(make)


# --- Metrics ---------------------------------------------------------------------------------------------------------

Labels = tuple[tuple[str, str], ...]

COUNTERS = {
    "accepted": "Indicators that Defender accepted",
    "rejected": "Indicators rejected, by reason",
    "deferred": "Indicators deferred",
    "dead": "Dead letters made",
    "calls": "Calls of the indicators API, by route and outcome",
    "throttled": "Answers of 429, by route",
    "alarm": "Alarms, by kind",
    "heartbeat": "One each minute while the app lives",
}
HISTOGRAMS = {
    "batch_fill": ("Indicators in one import call", "{indicator}", (1, 5, 10, 32, 64, 125, 250, 375, 499, 500)),
    "permit_wait": ("Wait for a permit", "s", (0.01, 0.1, 0.5, 1, 2, 5, 10, 30, 60)),
    "time_to_publish": ("From receipt to Defender's answer", "s", (0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 3600, 86400)),
}
GAUGES = {
    "queue_depth": ("Messages on the queue, about", "{message}"),
    "oldest_pending": ("Age of the oldest indicator without an outcome", "s"),
    "paused": ("Since when somebody has paused the calls; 0 when nobody has", "s"),
    "held": ("For how long a 429 still holds the import calls", "s"),
    "capacity": ("Indicators of the tenant, as far as the app can see, in percent of what Defender takes", "%"),
    "secret_days": ("Days until the client secret expires", "d"),
}
# One that nobody has renewed for so long is told no more: another instance has taken over, and knows better.
_GAUGE_FRESH = 180.0

_LABEL = re.compile(r"[a-z0-9_.:-]{1,60}", re.IGNORECASE)
_LABELS_MAX = 60
# Kept for the exporter, which comes some seconds after the start.
_EARLY_MAX = 10_000


class _Histogram:
    __slots__ = ("buckets", "count", "highest", "lowest", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.count = 0
        self.total = 0.0
        self.lowest = float("inf")
        self.highest = float("-inf")
        self.buckets = dict.fromkeys(bounds, 0)

    def add(self, value: float) -> None:
        self.count += 1
        self.total += value
        self.lowest = min(self.lowest, value)
        self.highest = max(self.highest, value)
        for bound in self.buckets:
            if value <= bound:
                self.buckets[bound] += 1
                break

    def shown(self) -> dict[str, Any]:
        if not self.count:
            return {"count": 0, "sum": 0.0}
        return {
            "count": self.count,
            "sum": self.total,
            "min": self.lowest,
            "max": self.highest,
            "buckets": {f"{bound:g}": number for bound, number in self.buckets.items()},
        }


class Metrics:
    """The process's counts and durations. Thread safe, and cheap enough to be called for every indicator."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._counters: dict[str, dict[Labels, int]] = {name: {} for name in COUNTERS}
        self._histograms = {name: _Histogram(bounds) for name, (_, _, bounds) in HISTOGRAMS.items()}
        self._gauges: dict[str, tuple[float, float]] = {}  # the value, and when it was set
        self._last_heartbeat: float | None = None
        self._early: deque[tuple[str, float]] = deque(maxlen=_EARLY_MAX)
        self._record: Callable[[str, float], None] | None = None

    def accepted(self, count: int = 1) -> None:
        """Indicators that Defender accepted."""
        self._add("accepted", count)

    def rejected(self, reason: str, count: int = 1) -> None:
        """Indicators rejected; `reason` is a short code, never the service's own text."""
        self._add("rejected", count, reason=reason)

    def deferred(self, count: int = 1) -> None:
        """Indicators put off until later."""
        self._add("deferred", count)

    def dead(self, count: int = 1) -> None:
        """Dead letters made."""
        self._add("dead", count)

    def call(self, route: str, outcome: str) -> None:
        """A call of the API: `route` is a key of shared.defender.limits.CALLS, `outcome` a short code."""
        self._add("calls", 1, route=route, outcome=outcome)

    def throttled(self, route: str) -> None:
        """An answer of 429."""
        self._add("throttled", 1, route=route)

    def alarm(self, kind: str) -> None:
        """An alarm; use `alarm()` of this module, which also logs it."""
        self._add("alarm", 1, kind=kind)

    def heartbeat(self) -> None:
        """Once a minute, by a timer."""
        self._add("heartbeat", 1)
        self._last_heartbeat = self._clock()

    def batch_fill(self, indicators: int) -> None:
        """Indicators in one import call."""
        self._observe("batch_fill", float(indicators))

    def permit_wait(self, seconds: float) -> None:
        """From wanting a permit to having it."""
        self._observe("permit_wait", seconds)

    def time_to_publish(self, seconds: float) -> None:
        """From the receipt of an indicator to Defender's answer."""
        self._observe("time_to_publish", seconds)

    def queue_depth(self, messages: int) -> None:
        """Messages on the queue, as the service estimates them."""
        self._set("queue_depth", float(messages))

    def stopped(self, paused: float, held: float) -> None:
        """Seconds since a pause began, and seconds that a hold still lasts; 0 when there is none."""
        self._set("paused", paused)
        self._set("held", held)

    def oldest_pending(self, seconds: float) -> None:
        """Age of the oldest indicator without an outcome; 0 when there is none."""
        self._set("oldest_pending", seconds)

    def capacity(self, percent: float) -> None:
        """How full the tenant is, as far as the app can see."""
        self._set("capacity", percent)

    def secret_days(self, days: float) -> None:
        """Days until the client secret expires; negative when it has."""
        self._set("secret_days", days)

    def snapshot(self) -> dict[str, Any]:
        """Everything since the process started: counters with their labels, histograms, gauges, the last heartbeat."""
        with self._lock:
            return {
                "counters": {
                    name: {
                        "total": sum(values.values()),
                        "by": [{**dict(labels), "count": count} for labels, count in sorted(values.items()) if labels],
                    }
                    for name, values in self._counters.items()
                },
                "histograms": {name: histogram.shown() for name, histogram in self._histograms.items()},
                "gauges": {name: value for name, (value, _) in self._gauges.items()},
                "last_heartbeat": self._last_heartbeat,
            }

    def totals(self, name: str) -> dict[Labels, int]:
        """The values of one counter by label, for the exporter."""
        with self._lock:
            return dict(self._counters[name])

    def gauge(self, name: str) -> float | None:
        """The value of one gauge, for the exporter; None before it was first set, and when nobody has renewed it."""
        value, at = self._gauges.get(name, (0.0, float("-inf")))
        return value if self._clock() - at < _GAUGE_FRESH else None

    def attach(self, record: Callable[[str, float], None]) -> None:
        """From now on hand every histogram value to `record` too; it first gets those that came before it."""
        with self._lock:
            early, self._early = self._early, deque(maxlen=0)
            self._record = record
        for name, value in early:
            record(name, value)

    def _set(self, name: str, value: float) -> None:
        self._gauges[name] = (value, self._clock())

    def _add(self, name: str, count: int, **labels: str) -> None:
        key: Labels = tuple((label, value if _LABEL.fullmatch(value) else "other") for label, value in labels.items())
        with self._lock:
            values = self._counters[name]
            # A bound on distinct labels, should a caller pass free text that looks like a code.
            if key not in values and len(values) >= _LABELS_MAX:
                key = tuple((label, "other") for label, _ in key)
            values[key] = values.get(key, 0) + count

    def _observe(self, name: str, value: float) -> None:
        with self._lock:
            self._histograms[name].add(value)
            record = self._record
            if record is None:
                self._early.append((name, value))
        if record is not None:
            record(name, value)


@functools.cache
def metrics() -> Metrics:
    """The process's own Metrics; tests clear it with `metrics.cache_clear()`."""
    return Metrics()


def alarm(kind: str, detail: str, /, **fields: Any) -> None:
    """Something a person should look at: an ERROR line with event `alarm`, and a count.

    kind: a short stable code that alert rules look for; detail: one or two plain sentences.
    """
    log_event(get_logger("alarm"), logging.ERROR, "alarm", kind=kind, detail=detail, **fields)
    metrics().alarm(kind)
