"""The functions of the language that depend on nothing but their arguments, as they are documented.

Source: Microsoft's reference guide to expression functions. Strings are .NET's: counted and cut in UTF-16.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote

from tests.support.logicapps.expressions import WorkflowError, text_of, to_json


def _is(value: Any, *kinds: type) -> Any:
    if type(value) not in kinds:
        names = " or ".join(kind.__name__ for kind in kinds)
        raise WorkflowError(f"{names} expected, not {type(value).__name__} {str(value)[:80]!r}")
    return value


def units(text: str) -> list[str]:
    """The UTF-16 code units of a text; two for what lies beyond the first plane."""
    data = text.encode("utf-16-le", "surrogatepass")
    return [data[at : at + 2].decode("utf-16-le", "surrogatepass") for at in range(0, len(data), 2)]


def joined(parts: list[str]) -> str:
    """The text of such units; half of a pair stays half."""
    return "".join(parts).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def to_bytes(text: str) -> bytes:
    """UTF-8 as .NET writes it: half of a pair becomes the replacement character."""
    return "".join("\ufffd" if "\ud800" <= one <= "\udfff" else one for one in text).encode()


def _equals(left: Any, right: Any) -> bool:
    if left is None or right is None:
        raise WorkflowError(
            "equals() with null: the documentation has null as an empty text; use coalesce() or empty()"
        )
    if type(left) is not type(right):
        raise WorkflowError(f"equals() of {type(left).__name__} and {type(right).__name__}")
    return bool(left == right)


def _greater(left: Any, right: Any) -> bool:
    return bool(_is(left, int) > _is(right, int))


def _length(value: Any) -> int:
    return len(units(value)) if isinstance(value, str) else len(_is(value, list))


def _take(value: Any, count: Any) -> Any:
    if _is(count, int) <= 0:
        raise WorkflowError("take() wants a positive number")
    return joined(units(value)[:count]) if isinstance(value, str) else _is(value, list)[:count]


def _empty(value: Any) -> bool:
    return not len(_is(value, str, list, dict))


def _contains(collection: Any, value: Any) -> bool:
    if isinstance(collection, str | dict):
        return _is(value, str) in collection
    return any(type(one) is type(value) and one == value for one in _is(collection, list))


def _coalesce(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _if(condition: Any, yes: Any, no: Any) -> Any:
    return yes if _is(condition, bool) else no


def _int(value: Any) -> int:
    if type(value) is int:
        return value
    if not re.fullmatch(r"[+-]?[0-9]{1,10}", _is(value, str).strip()):
        raise WorkflowError(f"int() of {value!r}")
    return int(value)


def _is_int(value: Any) -> bool:
    return re.fullmatch(r"[+-]?[0-9]{1,9}", _is(value, str).strip()) is not None


def _union(*collections: Any) -> list[Any]:
    found: dict[str, Any] = {}
    for collection in collections:
        for one in _is(collection, list):
            found.setdefault(to_json(one), one)
    return list(found.values())


def _chunk(value: Any, size: Any) -> list[Any]:
    if _is(size, int) <= 0 or not _is(value, list):
        raise WorkflowError("chunk() of nothing: what comes of that is not documented")
    return [value[at : at + size] for at in range(0, len(value), size)]


def _join(values: Any, delimiter: Any) -> str:
    return _is(delimiter, str).join(_is(one, str) for one in _is(values, list))


def _json(text: Any) -> Any:
    try:
        return json.loads(_is(text, str))
    except ValueError:
        raise WorkflowError(f"json() of {text[:80]!r}") from None


def _last(value: Any) -> Any:
    if not _is(value, list):
        raise WorkflowError("last() of an empty array")
    return value[-1]


def _replace(text: Any, old: Any, new: Any) -> str:
    if not _is(old, str):
        raise WorkflowError("replace() of an empty text")
    return str(_is(text, str).replace(old, _is(new, str)))


def _decode64(text: Any) -> str:
    return base64.b64decode(_is(text, str), validate=True).decode()


PURE: dict[str, tuple[int, int, Callable[..., Any]]] = {
    # name: fewest arguments, most, what it does
    "and": (2, 99, lambda *values: all(_is(value, bool) for value in values)),
    "base64": (1, 1, lambda text: base64.b64encode(to_bytes(_is(text, str))).decode()),
    "base64tostring": (1, 1, _decode64),
    "chunk": (2, 2, _chunk),
    "coalesce": (1, 99, _coalesce),
    "concat": (2, 99, lambda *values: "".join(_is(value, str) for value in values)),
    "contains": (2, 2, _contains),
    "createarray": (2, 99, lambda *values: list(values)),
    "decodeuricomponent": (1, 1, lambda text: unquote(_is(text, str), errors="strict")),
    "empty": (1, 1, _empty),
    "encodeuricomponent": (1, 1, lambda text: quote(_is(text, str), safe="-_.!~*'()")),
    "equals": (2, 2, _equals),
    "greater": (2, 2, _greater),
    "if": (3, 3, _if),
    "int": (1, 1, _int),
    "isint": (1, 1, _is_int),
    "join": (2, 2, _join),
    "json": (1, 1, _json),
    "last": (1, 1, _last),
    "length": (1, 1, _length),
    "lessorequals": (2, 2, lambda left, right: not _greater(left, right)),
    "max": (2, 99, lambda *values: max(_is(value, int) for value in values)),
    "min": (2, 99, lambda *values: min(_is(value, int) for value in values)),
    "mul": (2, 2, lambda left, right: _is(left, int) * _is(right, int)),
    "not": (1, 1, lambda value: not _is(value, bool)),
    "or": (2, 99, lambda *values: any(_is(value, bool) for value in values)),
    "replace": (3, 3, _replace),
    "split": (2, 2, lambda text, by: _is(text, str).split(_is(by, str))),
    "startswith": (2, 2, lambda text, begin: _is(text, str).lower().startswith(_is(begin, str).lower())),
    "string": (1, 1, text_of),
    "sub": (2, 2, lambda left, right: _is(left, int) - _is(right, int)),
    "take": (2, 2, _take),
    "tolower": (1, 1, lambda text: _is(text, str).lower()),
    "trim": (1, 1, lambda text: _is(text, str).strip()),
    "union": (2, 99, _union),
}
