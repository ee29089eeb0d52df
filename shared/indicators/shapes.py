"""What is found out once about objects that have the same names, or the same fields but for the value.

Most messages repeat themselves; see Builder in fields.py, which keeps these.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from shared.indicators.model import IndicatorType
from shared.indicators.names import CANONICAL
from shared.indicators.problem import Problem

# Read item by item; the order is that of Shape.
SINGLE = ("indicatorValue", "title", "description", "externalId")

type Taking = Callable[[Mapping[str, Any]], Any]


class Template(NamedTuple):
    """All fields but the single ones, and what is found out with them.

    `before` and `after` lie around external_id in the order of the model, and `whole` is all three where it is None.
    `plain` tells of a value that it is as it should be; `told` are the notes of the plan and of the template.
    """

    before: tuple[Any, ...]
    after: tuple[Any, ...]
    whole: tuple[Any, ...]
    notes: tuple[str, ...]
    told: tuple[str, ...]
    plain: Callable[[str], object]


class Plan(NamedTuple):
    """What one combination of the fields that are not single comes to; a template for each type that occurs."""

    kind: IndicatorType | None
    fields: dict[str, Any]
    notes: tuple[str, ...]
    override: str
    templates: dict[IndicatorType, Template | Problem]


class Known(NamedTuple):
    """What a combination of plain values came to; `template` is None where the type is seen from the value.

    numbers: by name, the numbers and truths among the values with their types: true equals 1, types tell.
    """

    plan: Plan
    template: Template | None
    numbers: tuple[tuple[str, type], ...]


type Head = tuple[str | None, str | None, str | None]
"""Title, description and external id as they will be sent."""

type Parts = tuple[str, str, str, str, tuple[tuple[str, str], ...], Taking, Taking]
"""The first seven fields of a Shape, which follow from the names alone."""


class Shape(NamedTuple):
    """Where the fields lie in the objects that have the same names: the sender's spellings, "" for what is absent.

    texts, others: take the texts and what is in `rest` out of such an object. heads, known: what these came to in items
    that were read without looking at more than that.
    """

    value: str
    title: str
    description: str
    external_id: str
    rest: tuple[tuple[str, str], ...]
    texts: Taking
    others: Taking
    own: tuple[str, ...]
    notes: tuple[str, ...]
    plans: dict[object, Plan]
    heads: dict[object, Head]
    known: dict[object, Known]


@functools.lru_cache(maxsize=256)
def usual_fields(names: tuple[str, ...]) -> Parts | None:
    """The parts of a shape of fields that are all known and each there once; None for any other.

    Kept from message to message: finding out about its names would be half of the cost of a message of one indicator.
    """
    found = {CANONICAL.get(key.lower(), ""): key for key in names}
    if "" in found or len(found) < len(names):
        return None
    return parts(found)


def parts(found: dict[str, str]) -> Parts:
    """The parts of a shape of the fields in `found`, which has the sender's spellings by name and is used up."""
    value, title, description, external_id = (found.pop(name, "") for name in SINGLE)
    rest = tuple((spelling, name) for name, spelling in found.items())
    texts = [spelling for spelling in (title, description, external_id) if spelling]
    return value, title, description, external_id, rest, taking(texts), taking([spelling for spelling, _ in rest])


def taking(spellings: Sequence[str]) -> Taking:
    """A function that takes these fields out of an object: a tuple of them, or the one by itself."""
    return itemgetter(*spellings) if spellings else _nothing


def _nothing(raw: Mapping[str, Any]) -> None:
    """What is taken out of an object when nothing is asked for."""


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
