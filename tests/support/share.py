"""Which share of very many cases a run of all tests takes: another one each day, and the same again by TEST_SEED."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence

import pytest

SEED = "TEST_SEED"
EXHAUSTIVE = "TEST_EXHAUSTIVE"


def begin() -> None:
    """Choose for this process and all that it starts: one run is one share, past midnight too."""
    os.environ.setdefault(SEED, str(datetime.datetime.now(datetime.UTC).date().toordinal()))
    seed()


def seed() -> int:
    """The number that chooses. Raises pytest.UsageError when somebody has set it to what is none."""
    text = os.environ.get(SEED, "0")
    if not text.isdecimal():
        raise pytest.UsageError(f"{SEED} is {text!r}: a whole number is needed")
    return int(text)


def exhaustive() -> bool:
    """Whether all cases are asked for."""
    return bool(os.environ.get(EXHAUSTIVE))


def chosen(kinds: Sequence[str], one_in: int) -> list[int]:
    """One case in so many, by number from 0, and of each kind at least one; `kinds` has the kind of each case.

    So many runs with seeds in a row take every case.
    """
    start = seed()
    taken = {n for n in range(len(kinds)) if (n + start) % one_in == 0}
    met = {kinds[n] for n in taken}
    by_kind: dict[str, list[int]] = {}
    for n, kind in enumerate(kinds):
        by_kind.setdefault(kind, []).append(n)
    for at, (kind, numbers) in enumerate(by_kind.items(), start):
        if kind not in met:
            taken.add(numbers[at % len(numbers)])
    return sorted(taken)
