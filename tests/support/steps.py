"""The steps of a random walk (tests/support/walk.py): made from a seed, and taken away while it still fails."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

VALUES = 5
ACTIONS = ("Block", "Audit", "Warn")


@dataclasses.dataclass(frozen=True)
class Step:
    """What is done, with what, and how many seconds pass after it.

    put, submit: items (value, action), by a foreign message, or over HTTP with a key; odd: a message with a refused, a
    guarded and soon expiring indicators; bad: one that is none; repeat, undo: of the submission `number` back; portal,
    portal_delete: by a person, of a value; replay, discard: of a dead letter; pause, resume; outage: of `number`
    seconds; trouble: `what` befalls worker `number % 2` at one of its next operations; restart: of that worker.
    """

    kind: str
    number: int = 0
    what: str = ""
    items: tuple[tuple[int, str], ...] = ()
    after: float = 0.0


_KINDS = {
    "put": 14,
    "submit": 14,
    "odd": 3,
    "bad": 1,
    "repeat": 3,
    "undo": 6,
    "portal": 3,
    "portal_delete": 3,
    "replay": 3,
    "discard": 1,
    "pause": 2,
    "resume": 3,
    "outage": 3,
    "trouble": 24,
    "restart": 3,
}
_AFTER = (0.0, 0.0, 0.05, 0.3, 1.0, 3.0, 40.0, 400.0)
_TROUBLES = ("kill", "fail", "fail", "fail", "slow", "again")


def steps_of(seed: int) -> list[Step]:
    """The walk of a seed."""
    rnd = random.Random(seed)
    kinds, weights = list(_KINDS), list(_KINDS.values())
    found = []
    for kind in rnd.choices(kinds, weights, k=rnd.randint(4, 30)):
        number = rnd.randint(1, 60) if kind == "trouble" else rnd.randint(0, 3)
        if kind == "outage":
            number = rnd.choice([20, 200, 2_000, 6_000])
        items = tuple((rnd.randrange(VALUES), rnd.choice(ACTIONS)) for _ in range(rnd.randint(1, 4)))
        what = rnd.choice(_TROUBLES) if kind == "trouble" else rnd.choice(ACTIONS)
        found.append(Step(kind, number, what, items if kind in ("put", "submit", "portal") else (), rnd.choice(_AFTER)))
    return found


def shorter(steps: list[Step], fails: Callable[[list[Step]], bool], most: int = 150) -> list[Step]:
    """Steps that still fail, with as few of these as are found in so many tries."""
    tries = 0
    size = max(1, len(steps) // 2)
    while size and tries < most:
        at = 0
        while at < len(steps) and tries < most:
            left = steps[:at] + steps[at + size :]
            tries += 1
            if fails(left):
                steps = left
            else:
                at += size
        size //= 2
    return steps
