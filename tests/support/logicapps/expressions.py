"""Expressions of the Workflow Definition Language: `@f(x)?['y']`, and text with `@{...}` in it."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Iterator
from typing import Any, Protocol


class WorkflowError(Exception):
    """A definition that is wrong, does what the documentation leaves open, or uses what is not known here."""


@dataclasses.dataclass(frozen=True, slots=True)
class Literal:
    value: Any


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    name: str
    arguments: tuple[Node, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Access:
    """`target[key]`; `safe` with a question mark before it: null of null, and null when there is no such property."""

    target: Node
    key: Node
    safe: bool


type Node = Literal | Call | Access


class Context(Protocol):
    """What an expression may ask for."""

    def call(self, name: str, arguments: list[Any]) -> Any: ...


_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<number>-?\d+(?:\.\d+)?)|(?P<name>[A-Za-z_$][\w$]*)|(?P<mark>\?\.|\?\[|[().,\[\]]))"
)


class _Parser:
    def __init__(self, source: str) -> None:
        self.source, self.at = source, 0
        self.tokens: list[tuple[str, str]] = []
        place = 0
        while source[place:].strip():
            found = _TOKEN.match(source, place)
            if not found:
                raise WorkflowError(f"cannot read {source[place:]!r} in the expression {source!r}")
            kind = str(found.lastgroup)
            self.tokens.append((kind, found.group(kind)))
            place = found.end()

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def take(self, *expected: str) -> tuple[str, str]:
        token = self.peek()
        if expected and token[1] not in expected:
            raise WorkflowError(f"{expected} expected, not {token[1]!r}, in the expression {self.source!r}")
        self.at += 1
        return token

    def whole(self) -> Node:
        node = self.node()
        if self.peek()[0] != "end":
            raise WorkflowError(f"{self.peek()[1]!r} is left over in the expression {self.source!r}")
        return node

    def node(self) -> Node:
        kind, text = self.take()
        node: Node
        if kind == "text":
            node = Literal(text[1:-1].replace("''", "'"))
        elif kind == "number":
            node = Literal(float(text) if "." in text else int(text))
        elif kind == "name" and self.peek()[1] == "(":
            node = Call(text, tuple(self.arguments()))
        elif kind == "name" and text.lower() in ("true", "false", "null"):
            node = Literal({"true": True, "false": False, "null": None}[text.lower()])
        else:
            raise WorkflowError(f"{text!r} is no value, in the expression {self.source!r}")
        while self.peek()[1] in (".", "?.", "[", "?["):
            mark = self.take()[1]
            if mark.endswith("["):
                key = self.node()
                self.take("]")
            else:
                kind, name = self.take()
                if kind != "name":
                    raise WorkflowError(f"{name!r} is no property, in the expression {self.source!r}")
                key = Literal(name)
            node = Access(node, key, mark.startswith("?"))
        return node

    def arguments(self) -> Iterator[Node]:
        self.take("(")
        if self.peek()[1] == ")":
            self.take()
            return
        yield self.node()
        while self.take(",", ")")[1] == ",":
            yield self.node()


@functools.cache
def parse(source: str) -> Node:
    """The tree of an expression, written without its `@`. Raises WorkflowError."""
    return _Parser(source).whole()


@functools.cache
def pieces(text: str) -> str | Node | tuple[str | Node, ...]:
    """What a string of a definition is: text, one expression (its value keeps its type), or text with expressions."""
    if text.startswith("@") and not text.startswith(("@@", "@{")):
        return parse(text[1:])
    found: list[str | Node] = []
    plain, place = "", 0
    while place < len(text):
        if text.startswith("@@", place):
            plain, place = plain + "@", place + 2
        elif text.startswith("@{", place):
            end = _end(text, place + 2)
            if plain:
                found.append(plain)
            found.append(parse(text[place + 2 : end]))
            plain, place = "", end + 1
        else:
            plain, place = plain + text[place], place + 1
    if not found:
        return plain
    return (*found, plain) if plain else tuple(found)


def _end(text: str, place: int) -> int:
    quoted = False
    for at in range(place, len(text)):
        if text[at] == "'":
            quoted = not quoted
        elif text[at] == "}" and not quoted:
            return at
    raise WorkflowError(f"an expression in {text!r} has no end")


def evaluate(node: Node, context: Context) -> Any:
    """The value of a tree; arguments from left to right, those of `if`, `and` and `or` too. Raises WorkflowError."""
    match node:
        case Literal(value):
            return value
        case Call(name, arguments):
            return context.call(name, [evaluate(argument, context) for argument in arguments])
        case Access(target, key, safe):
            return _property(evaluate(target, context), evaluate(key, context), safe)


def _property(target: Any, key: Any, safe: bool) -> Any:
    if target is None and safe:
        return None
    if isinstance(target, dict) and isinstance(key, str):
        if key in target or safe:
            return target.get(key)
        raise WorkflowError(f"there is no property {key!r}, only {sorted(target)}")
    if isinstance(target, list) and type(key) is int:
        if 0 <= key < len(target):
            return target[key]
        raise WorkflowError(f"there is no item {key} of {len(target)}")
    raise WorkflowError(f"{key!r} cannot be selected from {type(target).__name__} {str(target)[:80]!r}")


def render(value: Any, context: Context) -> Any:
    """A part of a definition with its expressions evaluated. Raises WorkflowError."""
    match value:
        case str():
            parts = pieces(value)
            if isinstance(parts, tuple):
                return "".join(part if isinstance(part, str) else text_of(evaluate(part, context)) for part in parts)
            return parts if isinstance(parts, str) else evaluate(parts, context)
        case dict():
            return {name: render(inner, context) for name, inner in value.items()}
        case list():
            return [render(inner, context) for inner in value]
    return value


def trees(value: Any) -> Iterator[Node]:
    """Every expression in a part of a definition."""
    match value:
        case str():
            parts = pieces(value)
            for part in parts if isinstance(parts, tuple) else [parts]:
                if not isinstance(part, str):
                    yield part
        case dict():
            for inner in value.values():
                yield from trees(inner)
        case list():
            for inner in value:
                yield from trees(inner)


def calls(node: Node) -> Iterator[Call]:
    """Every call in a tree."""
    match node:
        case Call(_, arguments):
            yield node
            for argument in arguments:
                yield from calls(argument)
        case Access(target, key, _):
            yield from calls(target)
            yield from calls(key)


def text_of(value: Any) -> str:
    """What `string()` and `@{...}` make of a value: null is empty, objects are JSON without blanks."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "True" if value else "False"
    return to_json(value)


_MORE = {ord(mark): f"\\u{ord(mark):04x}" for mark in "\x85\u2028\u2029"}


def to_json(value: Any) -> str:
    """JSON as Newtonsoft writes it: no blanks, letters as they are, but for three that end lines."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_MORE)
