"""What long tests have covered, for the end of a run: pytest shows what passing tests print only with -s."""

from __future__ import annotations

from collections import Counter
from typing import Any

CRASHES: Counter[str] = Counter()  # "found", "taken", "passed": points of the crash scenarios
LINES: list[str] = []  # anything else


def packed() -> dict[str, Any]:
    """What this process has covered."""
    return {"crashes": dict(CRASHES), "lines": list(LINES)}


def add(other: dict[str, Any] | None) -> None:
    """Count what another process has covered."""
    if other:
        CRASHES.update(other["crashes"])
        LINES.extend(other["lines"])


def lines() -> list[str]:
    """What is to be shown."""
    found = list(LINES)
    if CRASHES["found"]:
        found.append(
            f"crash points: {CRASHES['found']} found, {CRASHES['taken']} taken (all with TEST_EXHAUSTIVE=1), "
            f"{CRASHES['passed']} passed"
        )
    return found
