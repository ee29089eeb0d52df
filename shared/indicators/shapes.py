"""What is found out once about objects that have the same names, or the same fields but for the value.

Most messages repeat themselves; see Builder in fields.py, which keeps these.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from shared.indicators.model import Action, IndicatorType
from shared.indicators.names import CANONICAL
from shared.indicators.problem import Problem

# Read item by item; the order is that of Shape.
SINGLE = ("indicatorValue", "title", "description", "externalId")

type Taking = Callable[[Mapping[str, Any]], tuple[Any, ...]]


class Template(NamedTuple):
    """All fields but the single ones: `before` and `after` lie around external_id in the order of the model."""

    action: Action
    before: tuple[Any, ...]
    after: tuple[Any, ...]
    notes: tuple[str, ...]


class Plan(NamedTuple):
    """What one combination of the fields that are not single comes to; a template for each type that occurs."""

    kind: IndicatorType | None
    fields: dict[str, Any]
    notes: tuple[str, ...]
    override: str
    templates: dict[IndicatorType, Template | Problem]


class Known(NamedTuple):
    """The plan of a combination, and where numbers and truths are among its values: true equals 1, types tell."""

    plan: Plan
    numbers: tuple[tuple[int, type], ...]


class Shape(NamedTuple):
    """Where the fields lie in the objects that have the same names: the sender's spellings, "" for what is absent.

    others: takes the values of `rest` out of such an object; known: what these come to, where they are plain values.
    """

    value: str
    title: str
    description: str
    external_id: str
    rest: tuple[tuple[str, str], ...]
    own: tuple[str, ...]
    notes: tuple[str, ...]
    plans: dict[object, Plan]
    others: Taking
    known: dict[tuple[Any, ...], Known]


@functools.lru_cache(maxsize=256)
def usual_fields(
    names: tuple[str, ...],
) -> tuple[tuple[str, str, str, str], tuple[tuple[str, str], ...], Taking] | None:
    """The parts of a shape of fields that are all known and each there once; None for any other.

    Kept from message to message: most hold one indicator, and finding out about its names would be half of its cost.
    """
    found = {CANONICAL.get(key.lower(), ""): key for key in names}
    if "" in found or len(found) < len(names):
        return None
    value, title, description, external_id = (found.pop(name, "") for name in SINGLE)
    rest = tuple((spelling, name) for name, spelling in found.items())
    return (value, title, description, external_id), rest, taking(rest)


def taking(rest: Sequence[tuple[str, str]]) -> Taking:
    """A function that takes these fields out of an object, in order."""
    spellings = [spelling for spelling, _ in rest]
    if len(spellings) > 1:
        return itemgetter(*spellings)
    return lambda raw: tuple([raw[spelling] for spelling in spellings])


def key_of(values: tuple[Any, ...]) -> object | None:
    """What tells a combination of JSON values from every other, None when that costs more than it saves.

    The types are part of it, since true equals 1. Lists of text stand in it as tuples, which JSON does not have.
    """
    types = tuple(map(type, values))
    if list in types or dict in types:
        frozen: list[object] = []
        for value in values:
            if type(value) is dict or (type(value) is list and not all(type(entry) is str for entry in value)):
                return None
            frozen.append(tuple(value) if type(value) is list else value)
        values = tuple(frozen)
    return values, types


def too_deep(value: object, levels: int) -> bool:
    """Whether lists and objects in `value` lie more than `levels` deep; not recursive."""
    layer = [value]
    for _ in range(levels + 1):
        inner: list[object] = []
        for entry in layer:
            if isinstance(entry, dict):
                inner.extend(entry.values())
            elif isinstance(entry, list):
                inner.extend(entry)
        if not inner:
            return False
        layer = inner
    return any(isinstance(entry, dict | list) for entry in layer)
