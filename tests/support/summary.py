"""What long tests have covered, for the end of a run: pytest shows what passing tests print only with -s."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.support import share

CRASHES: Counter[str] = Counter()  # "found", "taken", "passed": points of the crash scenarios
SHARES: dict[str, str] = {}  # what a part was taken of, and how large it was
INTERLEAVINGS: Counter[str] = Counter()  # "taken", and of these "random": of explorations that did not take all
LINES: list[str] = []  # anything else


def packed() -> dict[str, Any]:
    """What this process has covered."""
    return {
        "crashes": dict(CRASHES),
        "interleavings": dict(INTERLEAVINGS),
        "shares": dict(SHARES),
        "lines": list(LINES),
    }


def add(other: dict[str, Any] | None) -> None:
    """Count what another process has covered."""
    if other:
        CRASHES.update(other["crashes"])
        INTERLEAVINGS.update(other["interleavings"])
        SHARES.update(other["shares"])
        LINES.extend(other["lines"])


def lines() -> list[str]:
    """What is to be shown."""
    found = [f"{name}: {part}" for name, part in sorted(SHARES.items())] + LINES
    if CRASHES["found"]:
        found.append(
            f"crash points: {CRASHES['found']} found, {CRASHES['taken']} taken (all: TEST_EXHAUSTIVE=1), "
            f"{CRASHES['passed']} passed"
        )
    if INTERLEAVINGS["taken"]:
        found.append(
            f"interleavings: {INTERLEAVINGS['taken']} taken, {INTERLEAVINGS['random']} of these a random part of more "
            "(all: TEST_EXHAUSTIVE=1)"
        )
    if found:
        found.append(f"the same shares again: {share.SEED}={share.seed()}")
    return found
