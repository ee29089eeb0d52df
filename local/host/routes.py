"""Route templates of HTTP functions: {x}, {x?}, {x:int}, {*rest}, with ASP.NET routing's matching.

But not its precedence: the host tries the functions by their names, alphabetically, whatever their templates (reported
in its issues 3153 and 9876). A catch-all with an early name swallows the routes of all later ones.
"""

from __future__ import annotations

import dataclasses
import re
import uuid
from collections.abc import Callable, Iterable
from typing import Self
from urllib.parse import unquote

from local.host.hostjson import HostConfigError
from local.host.runtime import Function

ALL_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"})


def _is_guid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _number(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d+(\.\d+)?", text) is not None


_PLAIN: dict[str, Callable[[str], bool]] = {
    "int": lambda text: re.fullmatch(r"[+-]?\d{1,10}", text) is not None and -(2**31) <= int(text) < 2**31,
    "long": lambda text: re.fullmatch(r"[+-]?\d{1,19}", text) is not None and -(2**63) <= int(text) < 2**63,
    "decimal": _number,
    "double": _number,
    "float": _number,
    "bool": lambda text: text.lower() in ("true", "false"),
    "guid": _is_guid,
    "alpha": lambda text: re.fullmatch(r"[A-Za-z]*", text) is not None,
    "required": bool,
}


def _constraint(text: str) -> Callable[[str], bool]:
    """A constraint such as `int`, `length(4,8)` or `regex(^a+$)` as a test. Raises HostConfigError."""
    name, _, rest = text.partition("(")
    argument = rest.removesuffix(")")
    if name in _PLAIN:
        return _PLAIN[name]
    if name == "regex":
        return lambda value: re.search(argument, value, re.IGNORECASE) is not None
    try:
        bounds = [int(piece) for piece in argument.split(",")]
    except ValueError:
        raise HostConfigError(f"route constraint {text!r} is not known") from None
    low, high = bounds[0], bounds[-1]
    tests: dict[str, Callable[[str], bool]] = {
        "minlength": lambda value: len(value) >= low,
        "maxlength": lambda value: len(value) <= low,
        "length": lambda value: low <= len(value) <= high,
        "min": lambda value: _PLAIN["long"](value) and int(value) >= low,
        "max": lambda value: _PLAIN["long"](value) and int(value) <= low,
        "range": lambda value: _PLAIN["long"](value) and low <= int(value) <= high,
    }
    if name not in tests:
        raise HostConfigError(f"route constraint {text!r} is not known")
    return tests[name]


@dataclasses.dataclass(frozen=True, slots=True)
class _Segment:
    literal: str | None
    name: str = ""
    optional: bool = False
    catch_all: bool = False
    tests: tuple[Callable[[str], bool], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        match = re.fullmatch(r"\{(\*{0,2})(\w+)((?::.*?)?)(\?)?\}", text)
        if match is None:
            if "{" in text or "}" in text:
                raise HostConfigError(f"route segment {text!r} mixes text and parameters, which is not supported here")
            return cls(text.lower())
        constraints = tuple(_constraint(piece) for piece in match[3].split(":")[1:])
        return cls(None, match[2], bool(match[4]), bool(match[1]), constraints)


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """One HTTP function's address."""

    function: Function
    segments: tuple[_Segment, ...]
    methods: frozenset[str]
    auth_level: str

    @classmethod
    def of(cls, function: Function) -> Self:
        """From the function's trigger binding. Raises HostConfigError for a template it cannot read."""
        template = str(function.trigger.get("route") or function.name).strip("/")
        methods = frozenset(str(method).upper() for method in function.trigger.get("methods") or ALL_METHODS)
        segments = tuple(_Segment.parse(piece) for piece in template.split("/"))
        return cls(function, segments, methods, str(function.trigger.get("authLevel") or "function").lower())

    def match(self, pieces: list[str]) -> dict[str, str] | None:
        """Parameters of a path below the route prefix, or None when it is another's."""
        found: dict[str, str] = {}
        for place, segment in enumerate(self.segments):
            if segment.catch_all:
                found[segment.name] = "/".join(pieces[place:])
                return found
            if place >= len(pieces):
                if segment.optional:
                    continue
                return None
            piece = pieces[place]
            if segment.literal is not None:
                if piece.lower() != segment.literal:
                    return None
            elif all(test(piece) for test in segment.tests):
                found[segment.name] = piece
            else:
                return None
        return found if len(pieces) <= len(self.segments) else None


class Router:
    """Finds the function for a request."""

    def __init__(self, functions: Iterable[Function], prefix: str) -> None:
        self._routes = [Route.of(function) for function in sorted(functions, key=lambda one: one.name.lower())]
        self._prefix = [piece.lower() for piece in prefix.split("/") if piece]

    def find(self, method: str, raw_path: str) -> tuple[Route, dict[str, str]] | None:
        """`raw_path` is still percent-encoded. A method that no route has is as unknown as a path: 404, not 405."""
        pieces = [_decode(piece) for piece in raw_path.strip("/").split("/")]
        depth = len(self._prefix)
        if [piece.lower() for piece in pieces[:depth]] != self._prefix:
            return None
        for route in self._routes:
            if method in route.methods and (found := route.match(pieces[depth:])) is not None:
                return route, found
        return None


def _decode(piece: str) -> str:
    """Percent-decoding that leaves an encoded slash alone."""
    return "%2F".join(unquote(part) for part in re.split("%2[Ff]", piece))
