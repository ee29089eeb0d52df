"""What the indicators API documents as its limits, as data, and how its texts are recognised."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Indicators in one import call, ids in one BatchDelete call (pages import-ti-indicators, batch-delete-ti-indicators).
IMPORT_MAX = 500
BATCH_DELETE_MAX = 500
# Rows in one answer of the list (page get-ti-indicators-collection).
TOP_MAX = 10_000
# Active indicators in one tenant; Microsoft does not raise it (page indicators-overview).
TENANT_MAX = 15_000
# Documented calls per route: (calls, seconds). Import names no hourly figure.
CALLS: dict[str, tuple[tuple[int, int], ...]] = {
    "import": ((30, 60),),
    "list": ((100, 60), (1500, 3600)),
    "submit": ((100, 60), (1500, 3600)),
    "delete": ((100, 60), (1500, 3600)),
    "batch_delete": ((30, 60), (1500, 3600)),
}
# How long to wait after a 429 that names no time: half a window of the import route.
RETRY_AFTER_UNKNOWN = 30.0
RETRY_AFTER_MAX = 3600.0

_OPENING = "([{<'\"`“‘«"
_CLOSING = ")]}>'\"`”’».,;:!?"


def is_capacity(reason: str) -> bool:
    """Whether a failure reason or an error text says that the tenant holds 15,000 indicators (recorded text)."""
    return "max capacity" in reason.casefold()


def seconds_named(text: str) -> float | None:
    """The wait in a throttling text such as `You can send requests again in 8 seconds.` (recorded), or None."""
    found = re.search(r"\bin (\d{1,6}(?:\.\d+)?) seconds?\b", text)
    return float(found.group(1)) if found else None


def named_value(message_text: str, values: Iterable[str]) -> str | None:
    """The one of `values` that an error text names, or None when it names none, or more than one.

    Only a whole word of the text counts, without the quotes, brackets and stops around it; letter case does not. A
    value that stands twice among `values` is nobody's in particular and is never returned.
    """
    words: set[str] = set()
    for word in message_text.split():
        bare = word.lstrip(_OPENING)
        words.add(bare.casefold())
        # A URL may itself end in what looks like punctuation, so each step of the peeling is a candidate.
        while bare and bare[-1] in _CLOSING:
            bare = bare[:-1]
            words.add(bare.casefold())
    named = [value for value in values if value.casefold() in words]
    return named[0] if len(named) == 1 else None
