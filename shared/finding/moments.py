"""Moments that a question names: ISO 8601 with its zone, a date, or how long ago."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

from shared.errors import QuestionError
from shared.indicators.problem import shorten

# No months and years: how long they are depends on when they begin.
_AGO = re.compile(
    r"-?P(?:(\d{1,6})W)?(?:(\d{1,6})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{1,6})S)?)?|-?(\d{1,6}) ?([wdhms])",
    re.ASCII | re.IGNORECASE,
).fullmatch
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII).fullmatch
_UNITS = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
# What a plus becomes in a query that nobody has encoded.
_LOST_PLUS = re.compile(r" (?=\d{2}:?\d{2}$)", re.ASCII)
_REMEDY = "Write a time with its zone (2026-11-22T08:00:00Z), a date (2026-11-22, UTC), or how long ago (P7D, 24h)."


def moment(name: str, text: str, now: float, *, end: bool = False) -> float:
    """Epoch seconds of what `text` says as of `now`; a date is its first moment, or with `end` the one after its last.

    Raises QuestionError; `name` is the parameter's.
    """
    written = text.strip()
    try:
        if _DATE(written):
            day = datetime.combine(date.fromisoformat(written), datetime.min.time(), UTC)
            return (day + timedelta(days=1 if end else 0)).timestamp()
        ago = _ago(written)
        if ago is not None:
            return now - ago
        found = datetime.fromisoformat(_LOST_PLUS.sub("+", written))
    except (ValueError, OverflowError):
        raise QuestionError(f"{name}={shorten(text, 40)!r} is not a time.", remediation=_REMEDY) from None
    if found.tzinfo is None:
        raise QuestionError(f"{name}={shorten(text, 40)!r} does not say in which zone it is.", remediation=_REMEDY)
    return found.timestamp()


def _ago(written: str) -> float | None:
    match = _AGO(written)
    if match is None:
        return None
    *pieces, count, unit = match.groups()
    if count is not None:
        return timedelta(**{_UNITS[unit.lower()]: int(count)}).total_seconds()
    if not any(pieces):
        raise ValueError(written)
    names = ("weeks", "days", "hours", "minutes", "seconds")
    return timedelta(**{name: int(piece or 0) for name, piece in zip(names, pieces, strict=True)}).total_seconds()
