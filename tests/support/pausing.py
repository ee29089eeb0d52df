"""What tests of the pause share: a worker with its pauses, and what is looked at all the while."""

from __future__ import annotations

from typing import Any

from shared.publishing.pause import Pauses
from shared.relay import Publishing
from tests.support.rig import Rig

STATES = ("accepted", "unchanged", "superseded", "rejected", "held", "deferred", "pending")


def a_worker(**options: Any) -> tuple[Rig, Publishing, Pauses]:
    """A worker of a new rig, and its pauses; `options` are the rig's."""
    rig = Rig(**options)
    worker = rig.worker()
    return rig, worker, worker.pauses


def check_sum(counts: dict[str, int]) -> None:
    """submitted = accepted + ... + pending."""
    assert counts["submitted"] == sum(counts[state] for state in STATES), counts
    assert min(counts.values()) >= 0, counts


def starts(rig: Rig) -> list[float]:
    """When each call to Defender began."""
    return [start for start, _ in rig.tenant.calls]
