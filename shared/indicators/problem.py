"""Why an item is rejected, and how foreign text is shown in such a reason."""

from __future__ import annotations

import dataclasses

SHOWN_MAX = 80


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """Why an item is rejected.

    reason: a short stable code for counting ("private_address", "unknown_field", "action_not_for_type", ...).
    text: one or two plain sentences: the field, the value (shortened), what is wrong, what to do.
    overridable: of a guard, that a sender with the right to do so may have the item published nonetheless.
    """

    reason: str
    text: str
    overridable: bool = False


def shorten(value: object, limit: int = SHOWN_MAX) -> str:
    """`value` for people: at most `limit` characters, one line, always encodable as UTF-8.

    What is not text is named by its JSON type, so that no container is ever written out.
    """
    if not isinstance(value, str):
        return json_type(value)
    if len(value) <= limit and value.isprintable():
        return value
    text = value if len(value) <= limit else value[: limit - 3] + "..."
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)[: 2 * limit]


def json_type(value: object) -> str:
    """The JSON name of the type of `value`: null, true, false, a number, text, a list, an object."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "an object"
