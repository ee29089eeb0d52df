"""Gates for the memory stores and Defender that let an operation fail, or its worker die, at a point."""

from __future__ import annotations

from shared.errors import StorageError
from tests.support.memory import Gate, Killed


class FailsAt:
    """The operation at the n-th point (0: none) fails, and none after it. `met`: whether it came to that."""

    def __init__(self, point: int) -> None:
        self._point = point
        self.points = 0
        self.met = False

    async def __call__(self, when: str, what: str) -> None:
        self.points += 1
        if self._here():
            self.met = True
            raise self._error(f"{when} {what}")

    def _here(self) -> bool:
        return self.points == self._point

    def _error(self, where: str) -> BaseException:
        return StorageError(where)


class DiesAt(FailsAt):
    """The worker is dead from its n-th point (0: never) on."""

    def _here(self) -> bool:
        return 0 < self._point <= self.points

    def _error(self, where: str) -> BaseException:
        return Killed(where)


def dies_before(operation: str) -> Gate:
    """The worker is dead from before the first operation of this name on."""
    dead = False

    async def gate(when: str, what: str) -> None:
        nonlocal dead
        if dead or (when, what) == ("before", operation):
            dead = True
            raise Killed

    return gate
