"""The worker protocol's messages, as far as the runtime looks at them: bags of attributes."""

from __future__ import annotations

import types
from types import SimpleNamespace
from typing import Any


class Message:
    """A protocol message reduced to its attributes."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.__dict__)})"  # names only: values may be anybody's data


class TypedData(Message):
    """Exactly one of: http, string, bytes, json."""

    def WhichOneof(self, _group: str) -> str | None:
        return next(iter(self.__dict__), None)


class ParameterBinding(Message):
    """A named value that goes into a function or comes out of it."""

    def WhichOneof(self, _group: str) -> str:
        return "data"


class BindingInfo(Message):
    """Directions of a binding."""

    out = 1
    inout = 2
    undefined = 0


setattr(BindingInfo, "in", 0)  # a keyword: it cannot be assigned in the class body


class StatusResult(Message):
    """How an invocation ended."""

    Failure = 0
    Success = 1
    Cancelled = 2


class _Protos(types.ModuleType):
    """Namespace of message classes; one that nobody declared is made on first use."""

    def __getattr__(self, name: str) -> type[Message]:
        if name.startswith("__"):
            raise AttributeError(name)
        made = type(name, (Message,), {})
        setattr(self, name, made)
        return made


PROTOS = _Protos("protos")
for _declared in (TypedData, ParameterBinding, BindingInfo, StatusResult):
    setattr(PROTOS, _declared.__name__, _declared)


def envelope(kind: str, message: Any) -> SimpleNamespace:
    """Wrap a message the way the proxy worker hands it to the runtime."""
    return SimpleNamespace(
        request=SimpleNamespace(**{kind: message}), properties={"host": "127.0.0.1", "protos": PROTOS}
    )
