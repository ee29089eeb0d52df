"""A message that kills whatever worker takes it, among hundreds of others; with TEST_LONG among a thousand."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from shared.ledger import ids
from shared.ledger.parts import PARTITION
from shared.ledger.parts import TABLE as OPEN
from tests.faults.test_stack_kills import FAST
from tests.support import deadly
from tests.support.stacklab import Lab, batch, message, wait_for

NEIGHBOURS = 1000 if os.environ.get("TEST_LONG") else 300
#: A lease of seconds must be renewed every few: not for a thousand messages at once, as with the host's ten minutes.
AT_ONCE = {"AzureFunctionsJobHost__extensions__queues__newBatchThreshold": "32"}


def start(lab: Callable[..., Lab], **settings: str) -> Lab:
    here = lab(
        workers=2,
        settings={**FAST, **AT_ONCE, **settings},
        host={"lease": 4.0, "timers": {"Poison": 1.0}, "preload": (deadly.__name__,)},
    )
    here.admin.rules(limits={"import": [[600, 60]]})
    return here


@pytest.mark.slow
def test_a_message_that_kills_its_worker_when_decoded_ends_alone_and_whole_in_the_dead_letters(
    lab: Callable[..., Lab],
) -> None:
    here = start(lab)
    killer = message(f"{deadly.WHEN_DECODED.decode()}.example", "Block")
    texts = [message(f"n{number}.neighbour.example") for number in range(NEIGHBOURS)]
    texts.insert(NEIGHBOURS // 2, killer)
    sent = here.put(texts)
    found = here.finish(sent.values(), 240.0)
    dead = found.pop(sent[killer])
    assert all(one.accepted for one in found.values())
    assert set(here.held()) == {f"n{number}.neighbour.example" for number in range(NEIGHBOURS)}
    assert dead.fold.counts()["rejected"] == 1
    assert dead.fold.reasons() == {"killed_its_worker": 1}
    (letter,) = here.app.dead_letters()
    assert letter["submissions"] == [sent[killer]]
    assert letter["reason"] == "killed_its_worker"
    blob = here.connection.blobs.get_blob_client("deadletters", letter["id"]).download_blob().readall()
    assert blob == killer.encode()
    assert here.poisoned() == 0
    assert not here.alarms("poison")
    # It did kill: three times in company, twice alone.
    assert sum(worker.starts - 1 for worker in here.stack.queue_workers) >= 5


@pytest.mark.slow
def test_an_indicator_that_kills_its_worker_in_the_call_is_found_by_halving(lab: Callable[..., Lab]) -> None:
    here = start(lab, RELAY_ISOLATE_FROM="2")
    values = [f"n{number}.company.example" for number in range(7)]
    values.insert(3, f"{deadly.IN_A_CALL}.example")
    name = here.app.submit(batch(values))["id"]
    others = [f"n{number}.apart.example" for number in range(NEIGHBOURS)]
    apart = here.app.submit(batch(others))["id"]
    told = here.outcome(name)
    assert told["counts"]["accepted"] == 7
    assert told["reasons"] == {"exhausted": 1}
    (item,) = [item for item in told["items"] if item["state"] == "rejected"]
    assert item["value"] == values[3]
    assert here.outcome(apart)["counts"]["accepted"] == NEIGHBOURS
    (letter,) = here.app.dead_letters()
    assert letter["items"] == 1
    assert ids.is_part(letter["id"])
    assert letter["id"] in item["text"]
    wait_for(lambda: here.depth() == 0 and not here.rows(OPEN, pk=PARTITION), "nothing is left to be done")
    assert here.poisoned() == 0
    assert set(here.held()) == {*others, *values} - {values[3]}
