"""Values and messages that many tests send."""

from __future__ import annotations

from typing import Any

PRIVATE = "10.0.0.1"  # refused by the guards


def value(n: int) -> str:
    """The n-th value."""
    return f"h{n}.evil-domain.com"


def message(n: int, **fields: Any) -> dict[str, Any]:
    """A native message of the n-th value."""
    return {"indicatorValue": value(n), "action": "Block", **fields}
