"""What a what-if says, in a few lines."""

from __future__ import annotations

import dataclasses
from typing import Any

#: Kinds of change that mean that something is not as the files have it.
_REAL = ("Create", "Modify", "Delete", "Deploy")
_WORDS = {"Create": "+", "Modify": "~", "Delete": "-", "Deploy": "!"}
_MOST = 60


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """One resource: kind as Resource Manager names it, and the properties that differ."""

    kind: str
    resource: str
    properties: tuple[str, ...]

    def __str__(self) -> str:
        more = f"  ({', '.join(self.properties[:6])}{', ...' if len(self.properties) > 6 else ''})"
        return f"    {_WORDS[self.kind]} {self.resource}{more if self.properties else ''}"


def read(answer: Any) -> list[Change]:
    """The real changes of a what-if's JSON, by resource. What it ignores or cannot tell is not among them."""
    found = []
    for one in (answer or {}).get("changes") or ():
        kind = str(one.get("changeType", ""))
        if kind in _REAL:
            paths = tuple(dict.fromkeys(_paths(one.get("delta"), "")))
            found.append(Change(kind, _short(str(one.get("resourceId", ""))), paths))
    return sorted(found, key=lambda change: (_REAL.index(change.kind), change.resource))


def lines(changes: list[Change]) -> list[str]:
    """For people."""
    if not changes:
        return ["    nothing changes"]
    told = [str(change) for change in changes[:_MOST]]
    return told + ([f"    ... and {len(changes) - _MOST} more"] if len(changes) > _MOST else [])


def _paths(delta: Any, before: str) -> list[str]:
    found: list[str] = []
    for one in delta or ():
        if one.get("propertyChangeType") == "NoEffect":
            continue
        path = f"{before}{one.get('path', '')}"
        found += _paths(one.get("children"), f"{path}.") or [path]
    return found


def _short(identifier: str) -> str:
    """A resource id from its provider on; scopes inside it are kept."""
    rest = identifier.split("/providers/", 1)
    return rest[1] if len(rest) == 2 else identifier.rsplit("/", 1)[-1]
