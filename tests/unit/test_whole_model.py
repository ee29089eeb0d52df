"""Random walks through everything at once; at rest the ledger is complete and Defender holds what was meant last.

TEST_MODEL_SECONDS says for how long (an hour: 3600), TEST_MODEL_SEED which walk is the first.
"""

from __future__ import annotations

import os
import time
from collections import Counter

import pytest

from tests.support.steps import shorter, steps_of
from tests.support.summary import LINES
from tests.support.walk import fails, take

SECONDS = float(os.environ.get("TEST_MODEL_SECONDS", "10"))
LEAST = 30  # however slow the machine is


@pytest.mark.slow
@pytest.mark.timeout(SECONDS * 1.5 + 280)
def test_whatever_happens_all_is_told_and_the_newest_stands() -> None:
    seed = first = int(os.environ.get("TEST_MODEL_SEED", "1"))
    until = time.monotonic() + SECONDS
    steps = operations = 0
    hits: Counter[str] = Counter()
    while time.monotonic() < until or seed - first < LEAST:
        todo = steps_of(seed)
        try:
            walk = take(todo, seed)
        except Exception as error:
            left = "\n".join(map(str, shorter(todo, lambda steps, seed=seed: fails(steps, seed))))
            pytest.fail(f"TEST_MODEL_SEED={seed}: {type(error).__name__}: {error}\nas few steps as were found:\n{left}")
        steps += len(todo)
        operations += walk.operations
        hits += walk.hits
        seed += 1
    LINES.append(
        f"model walks: seeds {first} to {seed - 1}, {steps} steps, {operations} operations, {hits.total()} troubles met"
    )
    assert hits.total() > seed - first
