"""The native contract, schema 1: one indicator, a list of them, or a batch with defaults.

docs/queue-contract.md describes it for senders and docs/queue-contract.schema.json is generated from `schema.py`.
What is wrong with one item rejects that item; what is wrong with the envelope makes the whole message unreadable, so
that it is kept whole and can be sent again, instead of being half understood.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from shared import guard
from shared.errors import UnreadableError
from shared.indicators.fields import NESTING_MAX, Builder
from shared.indicators.model import Indicator
from shared.indicators.names import NOT_PERMITTED
from shared.indicators.problem import SHOWN_MAX, Problem, json_type, shorten
from shared.indicators.shapes import too_deep
from shared.intake.contract import Item, Message, Privilege
from shared.intake.detect import Repeated
from shared.settings import Settings

SCHEMA = 1
# Keys of the envelope, of a batch and of a single indicator alike; `defaults` and `indicators` only of a batch.
ENVELOPE = ("schema", "source", "incident", "correlationId")
INDEX_MAX = 400

_ENVELOPE = {name.lower(): name for name in (*ENVELOPE, "defaults", "indicators")}
_VALUE_NAMES = frozenset({"indicatorvalue", "value"})
_REMEDY = "Correct the message and send it again; docs/queue-contract.md has the fields and examples."


def read_native(
    value: Any,
    *,
    now: datetime,
    settings: Settings,
    privileges: frozenset[Privilege] = frozenset(),
    caller: str = "",
) -> Message:
    """The message in the JSON value `value`, an item for each indicator in the order they were sent.

    privileges: what its sender, `caller`, may do beyond others.

    Raises:
        UnreadableError: no indicator can be read from it, or its envelope is wrong.
    """
    envelope: dict[str, Any] = {}
    if isinstance(value, list):
        entries: list[Any] = value
    elif isinstance(value, dict):
        envelope, entries = _split(value)
    else:
        raise _unreadable(f"The message is {json_type(value)}, not an object or a list.", "not_a_message")
    if not entries:
        raise _unreadable("The message holds no indicators.", "empty")
    _check_schema(envelope.get("schema"))
    incident = _incident(envelope.get("incident"))
    builder = builder_for(settings, now, privileges, _defaults(envelope.get("defaults")), incident)
    return Message(
        items=tuple([read_item(builder, ordinal, entry, caller) for ordinal, entry in enumerate(entries)]),
        source=_index("source", envelope.get("source")),
        incident=incident,
        correlation_id=_index("correlationId", envelope.get("correlationId")),
    )


def builder_for(
    settings: Settings,
    now: datetime,
    privileges: frozenset[Privilege],
    defaults: Mapping[str, object] | None = None,
    incident: str = "",
) -> Builder:
    """A builder that grants what `privileges` say."""
    return Builder(
        settings=settings,
        now=now,
        defaults=defaults,
        incident=incident,
        allow_allowed=Privilege.ALLOW in privileges,
        allow_override=Privilege.OVERRIDE in privileges,
    )


def count(value: Any) -> int:
    """How many items the JSON value `value` holds, without reading them."""
    if isinstance(value, list):
        return len(value)
    if isinstance(value, dict):
        for key, entry in value.items():
            if key.lower() == "indicators" and isinstance(entry, list):
                return len(entry)
    return 1


def _split(value: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """The envelope's keys by their own names, and the entries."""
    names = {key.lower() for key in value}
    batch = "indicators" in names
    if not batch and not names & _VALUE_NAMES:
        raise _unreadable(
            "The message is an object with neither `indicatorValue` nor `indicators`; its fields are: "
            + ", ".join(shorten(key, 40) for key in list(value)[:8])
            + ".",
            "no_indicator",
        )
    if not batch and isinstance(value, Repeated):
        return {}, [value]
    if isinstance(value, Repeated):
        raise _unreadable("A field of the batch is given twice.", "duplicate_field")
    envelope: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for key, entry in value.items():
        name = _ENVELOPE.get(key.lower())
        if name is None or (not batch and name == "defaults"):
            rest[key] = entry
        elif name in envelope:
            raise _unreadable(f"{name} is given twice.", "duplicate_field")
        else:
            envelope[name] = entry
    if not batch:
        return envelope, [rest]
    for key, entry in rest.items():
        lowered = key.lower()
        if lowered.startswith("x-"):
            if too_deep(entry, NESTING_MAX):
                raise _unreadable(f"{shorten(key)} is nested more than {NESTING_MAX} levels deep.", "too_deep")
        elif lowered.startswith("@odata."):
            continue
        elif lowered in NOT_PERMITTED:
            raise _unreadable(f"The field {shorten(key)!r} is not for the sender to set.", "not_permitted")
        else:
            raise _unreadable(
                f"Unknown field {shorten(key)!r} beside `indicators`. Fields for all indicators go into `defaults`; "
                "your own are named x-...",
                "unknown_field",
            )
    entries = envelope["indicators"]
    if not isinstance(entries, list):
        raise _unreadable(f"`indicators` is {json_type(entries)}, not a list.", "wrong_type")
    return envelope, entries


def read_item(builder: Builder, ordinal: int, entry: Any, caller: str) -> Item:
    """The item that `entry`, the `ordinal`-th of its message, comes to: built and guarded, or the reason why not."""
    if type(entry) is str:
        entry = {"indicatorValue": entry}
    elif type(entry) is not dict:
        if type(entry) is Repeated:
            problem = Problem("duplicate_field", "A field is given twice, so that the item says two things.")
        else:
            problem = Problem("not_an_object", f"The item is {json_type(entry)}; write an object or a value as text.")
        return Item(ordinal, _shown(entry), None, problem)
    again = builder.again(entry)
    if again is not None:
        made, told, override = again
        if not override and guard.check(made) is None:
            value = made.value  # as it was sent, and nothing in it that could not be shown
            shown = value if len(value) <= SHOWN_MAX else shorten(value)
            return _tuple(Item, (ordinal, shown, made, None, told, ()))
    indicator, refused, notes, reason = builder.anew(entry)
    overridden: tuple[str, ...] = ()
    if indicator is not None:
        if reason:
            refused, overridden, told = _overridden(indicator, reason, caller)
            notes += told
        else:
            refused = guard.check(indicator)
        if refused is not None:
            indicator = None
    return Item(ordinal, _shown(entry), indicator, refused, notes, overridden)


def _overridden(
    indicator: Indicator, reason: str, caller: str
) -> tuple[Problem | None, tuple[str, ...], tuple[str, ...]]:
    """What stands against an indicator whose sender may override guards; which of them that did, and notes of it."""
    problems = guard.check_all(indicator)
    if not problems:
        return None, (), ("override was not needed: no guard stands against it",)
    if not problems[0].overridable:
        text = f"{problems[0].text} This cannot be overridden."
        return dataclasses.replace(problems[0], text=text), (), ()
    names = tuple(problem.reason for problem in problems)
    return None, names, tuple(f"guard {name} overridden by {caller}: {reason}" for name in names)


# What the constructor of a named tuple comes to, without the call of a Python function.
_tuple: Callable[[type[Item], tuple[Any, ...]], Item] = tuple.__new__


def _shown(entry: Any) -> str:
    if not isinstance(entry, dict):
        return shorten(entry)
    value = entry.get("indicatorValue")
    if value is None:
        value = next((entry[key] for key in entry if key.lower() in _VALUE_NAMES), "")
    return shorten(value)


def _check_schema(schema: Any) -> None:
    # 1.0 and true equal 1 in Python; neither is the schema's number.
    if schema is None or (type(schema) is int and schema == SCHEMA):
        return
    seen = str(schema)[:20] if type(schema) is int else shorten(schema)
    raise _unreadable(f"The schema is {seen}; this app reads schema {SCHEMA}.", "unknown_schema")


def _defaults(value: Any) -> Mapping[str, object]:
    if value is None:
        return {}
    if not isinstance(value, dict) or isinstance(value, Repeated):
        seen = "an object with a field twice" if isinstance(value, Repeated) else json_type(value)
        raise _unreadable(f"`defaults` is {seen}; write an object with fields of indicators.", "wrong_type")
    for key in value:
        if key.lower() in _VALUE_NAMES:
            raise _unreadable("`defaults` holds a value; each indicator has its own.", "wrong_type")
    return value


def _incident(value: Any) -> str:
    """The incident as text: a number, an id, or an object that has one of number, id, name, title (the first wins)."""
    if isinstance(value, dict):
        by_name = {key.lower(): entry for key, entry in value.items()}
        for name in ("number", "incidentnumber", "id", "name", "title"):
            if by_name.get(name) not in (None, ""):
                return _index(f"incident.{name}", by_name[name])
        raise _unreadable("`incident` is an object without number, id, name or title.", "wrong_type")
    return _index("incident", value)


def _index(name: str, value: Any) -> str:
    if value is None:
        return ""
    if type(value) is int and abs(value) < 10**18:
        return str(value)
    if type(value) is not str:
        raise _unreadable(f"`{name}` is {json_type(value)}; write text or a whole number.", "wrong_type")
    text = value.strip()
    if len(text) > INDEX_MAX or not text.isprintable():
        raise _unreadable(f"`{name}` is not one line of at most {INDEX_MAX} printable characters.", "wrong_type")
    return text


def _unreadable(text: str, reason: str) -> UnreadableError:
    return UnreadableError(text, reason=reason, remediation=_REMEDY)
