"""Trouble on demand: which requests are to fail, and how.

A fault names a route ("import"), a service ("defender") or "*", what happens, and for how many requests (`times`, None:
until cleared) after how many untouched ones (`skip`).
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from typing import Any, Literal, get_args

Kind = Literal[
    "status",  # answer with `status` and `body`; nothing is done
    "slow",  # wait `seconds` before the work
    "slow_answer",  # do the work, then wait `seconds` before the answer
    "hold",  # wait before the work until the fault is cleared
    "hold_answer",  # do the work, then wait until the fault is cleared
    "reset",  # cut the connection before the body is read
    "reset_mid",  # read a part of the body, then cut the connection
    "lost",  # do the work, then cut the connection without an answer
    "half",  # do the work, announce the whole answer, send half of it and close
    "garbage",  # answer 200 with something that is not JSON; nothing is done
    "garbled",  # do the work, then answer 200 with something that is not JSON
]

GARBAGE = b"<html><head><title>Gateway</title></head><body>\xff\xfe not the API</body></html>"


@dataclasses.dataclass
class Fault:
    """One instruction. `status` 500 without a body is what the documentation has for InternalServerError."""

    route: str
    kind: Kind
    times: int | None = 1
    skip: int = 0
    status: int = 500
    body: Any = None
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    id: int = 0
    used: int = 0

    def __post_init__(self) -> None:
        """Refuse what does not exist.

        Raises:
            ValueError: the kind is unknown or a number is out of range.
        """
        if self.kind not in get_args(Kind):
            raise ValueError(f"there is no fault {self.kind!r}; known: {', '.join(get_args(Kind))}")
        if self.times is not None and self.times < 1:
            raise ValueError("times is at least 1, or null")
        self.cleared = asyncio.Event()

    def as_json(self) -> dict[str, Any]:
        """All fields."""
        return dataclasses.asdict(self)


class FaultBook:
    """The faults that are in force, oldest first; the first that fits a request is used."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._ids = itertools.count(1)

    def add(self, fault: Fault) -> int:
        """Put a fault into force; its id is returned."""
        fault.id = next(self._ids)
        self._faults.append(fault)
        return fault.id

    def take(self, service: str, route: str) -> Fault | None:
        """The fault for this request, if any; it is counted as used."""
        for fault in self._faults:
            if fault.route not in (route, service, "*"):
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            fault.used += 1
            if fault.times is not None and fault.used >= fault.times:
                # It stays known to those whom it holds; only new requests pass it by.
                if fault.kind in ("hold", "hold_answer"):
                    fault.skip = 2**62
                else:
                    self._faults.remove(fault)
            return fault
        return None

    def clear(self, fault_id: int | None = None) -> int:
        """Lift one fault or all, letting go what they hold; says how many were lifted."""
        lifted = [fault for fault in self._faults if fault_id in (None, fault.id)]
        for fault in lifted:
            fault.cleared.set()
            self._faults.remove(fault)
        return len(lifted)

    def __iter__(self) -> Any:
        return iter(list(self._faults))
