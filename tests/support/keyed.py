"""Requests with an Idempotency-Key on memory stores: sending one, and what has come of it."""

from __future__ import annotations

import json

import pytest

from shared.ledger.idempotency import TABLE, Record
from shared.publishing import submit
from shared.publishing.submit import Taken
from shared.relay import Publishing
from shared.storage.protocols import Row
from tests.support.items import PRIVATE, value
from tests.support.rig import Host, Rig

KEY = "a-key"
ALL_DONE = {"submitted": 4, "accepted": 3, "rejected": 1}  # what becomes of BODY


def body(*numbers: int, title: str = "t") -> bytes:
    """A submission of these values, and of one that is refused."""
    good = [{"indicatorValue": value(n), "action": "Block", "title": title} for n in numbers]
    return json.dumps({"incident": 7, "indicators": [*good, {"indicatorValue": PRIVATE, "action": "Block"}]}).encode()


BODY = body(0, 1, 2)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two items make a stored part; for the tests of a file that imports this."""
    monkeypatch.setattr(submit, "PART_SIZE", 2)


async def send(worker: Publishing, data: bytes = BODY, key: str = KEY, caller: str = "key") -> Taken:
    """Send it to this worker's door."""
    return await worker.submitting.submit(data, caller=caller, caller_name="Somebody", key=key)


def headers(rig: Rig) -> list[Row]:
    """The headers of all submissions."""
    return [row for row in rig.service.all_rows("submissions") if row.rk.endswith("|h")]


def record(rig: Rig) -> Record:
    """What is stored of the only key."""
    [row] = rig.service.all_rows(TABLE)
    return Record.from_row(row)


async def finished(rig: Rig, name: str) -> dict[str, int]:
    """The counts of a submission once the queue is empty, without zeros."""
    await Host(rig, rig.worker()).drain()
    return {state: n for state, n in (await rig.read(name)).fold.counts().items() if n}
