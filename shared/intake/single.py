"""Messages of one indicator, which are read by a builder that an earlier one of the same moment has used.

Setting up a builder and finding out about fields that the last message had too would be most of their cost. Expirations
count from the moment of a message, which the queue tells in whole seconds; so those that were sent within one second
can share a builder.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from shared.indicators.fields import Builder
from shared.indicators.shapes import usual_fields
from shared.intake.contract import Message, Privilege
from shared.intake.native import builder_for, read_item
from shared.settings import Settings

# What a builder remembers is bounded by these three: less than 4 MB.
BODY_MAX = 4_096
_USES_MAX = 200
_SPARES_MAX = 4

type _Key = tuple[int, datetime, frozenset[Privilege]]

# Taken out while in use, so that no two threads have the same; the builder holds the settings that its key has the
# identity of. Single operations on a dict are atomic.
_spares: dict[_Key, tuple[Builder, int]] = {}


def is_single(value: Any) -> bool:
    """Whether the JSON value `value` is one indicator with nothing but fields of indicators, each there once."""
    if type(value) is not dict:
        return False
    usual = usual_fields(tuple(value))
    return usual is not None and usual[0] != ""


def read_single(
    value: dict[str, Any],
    *,
    now: datetime,
    settings: Settings,
    privileges: frozenset[Privilege] = frozenset(),
    caller: str = "",
) -> Message:
    """As `read_native`, for a value of which `is_single` is true and whose text was no longer than `BODY_MAX`."""
    key = (id(settings), now, privileges)
    spare = _spares.pop(key, None)
    if spare is None:
        builder, uses = builder_for(settings, now, privileges), 0
    else:
        builder, uses = spare
    item = read_item(builder, 0, value, caller)
    # One that refused something is dropped: suggestions for misspelt names are counted, and each message has its own.
    if item.indicator is not None and uses < _USES_MAX:
        if len(_spares) >= _SPARES_MAX:
            _spares.clear()
        _spares[key] = builder, uses + 1
    return Message((item,))
