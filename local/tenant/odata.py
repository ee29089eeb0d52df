"""The part of OData that the list understands: $filter with comparisons, in, and, or, not and brackets."""

from __future__ import annotations

import dataclasses
import operator
import re
from collections.abc import Callable
from typing import Any

from local.tenant import clock

Row = dict[str, Any]
Predicate = Callable[[Row], bool]

FILTERABLE = frozenset(
    {
        "application",
        "createdByDisplayName",
        "expirationTime",
        "generateAlert",
        "title",
        "rbacGroupNames",
        "rbacGroupIds",
        "indicatorValue",
        "indicatorType",
        "creationTimeDateTimeUtc",
        "createdBy",
        "action",
        "severity",
    }
)
_DATES = ("expirationTime", "creationTimeDateTimeUtc")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}
_TOKEN = re.compile(
    r"\s*(?:'(?P<text>(?:[^']|'')*)'|(?P<date>\d{4}-\d\d-\d\dT[0-9:.]+(?:Z|[+-]\d\d:\d\d))|(?P<number>-?\d+)"
    r"|(?P<word>[A-Za-z@_][\w.]*)|(?P<mark>[()\[\],]))"
)


class ODataError(Exception):
    """The query cannot be understood; the text is what the service's error says."""


@dataclasses.dataclass(frozen=True)
class Filter:
    """A parsed $filter. `value` is set when only indicators of this very value can match."""

    matches: Predicate
    value: str | None = None


def parse_filter(text: str) -> Filter:
    """Parse a $filter.

    Raises:
        ODataError: it is not one, or it names a property that cannot be filtered by.
    """
    parser = _Parser(_tokens(text))
    found = parser.either()
    if parser.peek() is not None:
        raise ODataError(f"Syntax error at position {len(text)} in '{text}'.")
    return found


def parse_count(text: str | None, name: str, most: int | None) -> int | None:
    """The number of $top or $skip, None when it is not given.

    Raises:
        ODataError: not a number, negative, or over `most`.
    """
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,9}", text):
        raise ODataError(f"Invalid value '{text}' for ${name} query option found. It requires a non-negative integer.")
    if most is not None and int(text) > most:
        raise ODataError(
            f"The limit of '{most}' for {name.capitalize()} query has been exceeded. The value from the incoming "
            f"request is '{text}'."
        )
    return int(text)


def _tokens(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    position = 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None:
            if text[position:].lstrip().startswith("'"):
                raise ODataError(f"There is an unterminated string literal at position {len(text)} in '{text}'.")
            raise ODataError(f"Syntax error at position {position} in '{text}'.")
        kind = match.lastgroup or ""
        found.append((kind, match[kind].replace("''", "'") if kind == "text" else match[kind]))
        position = match.end()
    return found


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._at = 0

    def peek(self) -> tuple[str, str] | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _next(self) -> tuple[str, str]:
        token = self.peek()
        if token is None:
            raise ODataError("Syntax error: the expression ends too early.")
        self._at += 1
        return token

    def _accept(self, *wanted: tuple[str, str]) -> bool:
        if self.peek() in wanted:
            self._at += 1
            return True
        return False

    def either(self) -> Filter:
        left = self.both()
        while self._accept(("word", "or")):
            first, second = left.matches, self.both().matches
            left = Filter(lambda row, a=first, b=second: a(row) or b(row))  # type: ignore[misc]
        return left

    def both(self) -> Filter:
        left = self.one()
        while self._accept(("word", "and")):
            right = self.one()
            first, second = left.matches, right.matches
            left = Filter(
                lambda row, a=first, b=second: a(row) and b(row),  # type: ignore[misc]
                left.value if left.value is not None else right.value,
            )
        return left

    def one(self) -> Filter:
        if self._accept(("word", "not")):
            inner = self.one().matches
            return Filter(lambda row: not inner(row))
        if self._accept(("mark", "(")):
            found = self.either()
            if not self._accept(("mark", ")")):
                raise ODataError("Syntax error: ')' expected.")
            return found
        return self._comparison()

    def _comparison(self) -> Filter:
        kind, name = self._next()
        if kind != "word":
            raise ODataError(f"Syntax error: a property is expected, not '{name}'.")
        if name not in FILTERABLE:
            raise ODataError(f"The property '{name}' cannot be used in the $filter query option.")
        word = self._next()[1]
        if word == "in":
            wanted = self._list(name)
            return Filter(lambda row: _value(row, name) in wanted)
        if word not in _COMPARE:
            raise ODataError(f"Syntax error: '{word}' is no operator.")
        against = self._literal(name)
        compare = _COMPARE[word]
        if word in ("eq", "ne"):
            only = against if name == "indicatorValue" and word == "eq" and isinstance(against, str) else None
            return Filter(lambda row: compare(_value(row, name), against), only)
        return Filter(lambda row: (left := _value(row, name)) is not None and compare(left, against))

    def _list(self, name: str) -> list[Any]:
        opening = self._next()
        closing = {("mark", "("): ")", ("mark", "["): "]"}.get(opening)
        if closing is None:
            raise ODataError("Syntax error: '(' or '[' expected after 'in'.")
        found = [self._literal(name)]
        while self._accept(("mark", ",")):
            found.append(self._literal(name))
        if not self._accept(("mark", closing)):
            raise ODataError(f"Syntax error: '{closing}' expected.")
        return found

    def _literal(self, name: str) -> Any:
        kind, text = self._next()
        literal: Any
        match kind, text:
            case "word", "null":
                return None
            case "word", ("true" | "false"):
                literal = text == "true"
            case "number", _:
                literal = int(text)
            case "date", _:
                literal = clock.parse(text)
            case "text", _:
                literal = text
            case _:
                raise ODataError(f"Could not find a property named '{text}'.")
        if (name in _DATES) != (kind == "date") or (name == "generateAlert") != isinstance(literal, bool):
            raise ODataError(f"A binary operator with incompatible types was detected, for the property '{name}'.")
        return literal


def _value(row: Row, name: str) -> Any:
    value = row[name]
    return clock.parse(value) if value is not None and name in _DATES else value
