"""Submitting, undoing and counting in tests of the undo, on memory stores."""

from __future__ import annotations

import json
from typing import Any

from shared.publishing.undo import Undone
from tests.support.items import value
from tests.support.rig import Host, Rig


def native(*numbers: int, action: str = "Block", **fields: Any) -> dict[str, Any]:
    """A native batch of these values."""
    return {**fields, "indicators": [{"indicatorValue": value(n), "action": action} for n in numbers]}


async def post(rig: Rig, *numbers: int, **fields: Any) -> str:
    """Submit them over HTTP; the submission."""
    body = json.dumps(native(*numbers, **fields)).encode()
    return (await rig.worker().submitting.submit(body, caller="key")).id


async def published(*numbers: int, **fields: Any) -> tuple[Rig, Host, str]:
    """A rig, a worker of it that has published these values, and their submission."""
    rig = Rig()
    host = Host(rig, rig.worker())
    name = await post(rig, *numbers, **fields)
    await host.drain(20.0)
    return rig, host, name


async def undo(rig: Rig, name: str) -> Undone:
    """Undo it; whoever asks knows that it is there."""
    undone = await rig.worker().undoing.undo(name, caller="person:1", caller_name="Ada")
    assert undone is not None
    return undone


async def counts(rig: Rig, name: str) -> dict[str, int]:
    """The counts of a submission without zeros, and without how many were submitted."""
    told = (await rig.read(name)).fold.counts()
    return {state: number for state, number in told.items() if number and state != "submitted"}
