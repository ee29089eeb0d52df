"""An intent that an outage put off does not come back against a newer one when the service does."""

from __future__ import annotations

import asyncio
import time

import pytest

from shared.indicators.model import IndicatorType
from shared.ledger import ids
from shared.ledger.parts import PARTITION, Part, PartItem
from shared.ledger.parts import TABLE as OPEN
from shared.publishing.order import fold
from tests.support.stacklab import Lab, message, wait_for


def deferred(lab: Lab, name: str) -> bool:
    found = lab.read([name]).get(name)
    return found is not None and found.fold.counts()["deferred"] == 1


def outage(lab: Lab, kind: str, value: str) -> str:
    """The submission of a Block that is deferred: not carried out (status), or carried out and its answer lost."""
    lab.admin.fault("import", kind, times=None, status=503)
    (block,) = lab.put([message(value, "Block")]).values()
    wait_for(lambda: deferred(lab, block), "the Block is deferred")
    return block


def at_rest(lab: Lab) -> bool:
    return lab.depth() == 0 and not lab.rows(OPEN, pk=PARTITION)


@pytest.mark.parametrize("kind", ["status", "lost"])
def test_a_block_put_off_by_an_outage_and_then_changed_to_audit_stays_audit(here: Lab, kind: str) -> None:
    value = f"{kind}.changed.example"
    block = outage(here, kind, value)
    time.sleep(1.1)  # the order of intents is that of the queue's clock, which counts seconds
    (audit,) = here.put([message(value, "Audit")]).values()
    wait_for(lambda: deferred(here, audit), "the Audit is deferred")
    here.admin.clear_faults()
    found = here.finish([block, audit])
    assert found[block].fold.counts()["superseded"] == 1
    assert found[audit].fold.counts()["accepted"] == 1
    wait_for(lambda: at_rest(here), "nothing is left to be done")
    assert [row["action"] for row in here.held()[value]] == ["Audit"]


@pytest.mark.parametrize("kind", ["status", "lost"])
@pytest.mark.parametrize("how", ["staged", "part"])
def test_a_block_put_off_by_an_outage_and_then_retracted_stays_away(here: Lab, kind: str, how: str) -> None:
    value = f"{kind}.{how}.retracted.example"
    block = outage(here, kind, value)
    now = time.time() + 1.0
    name = ids.new_submission(now)
    retraction = PartItem(name, "0000", 0, now, now, (IndicatorType.DOMAIN_NAME.value, value), None)
    if how == "staged":
        # Only the intent: what is deferred must find it by itself.
        asyncio.run(here.order.stage(fold([retraction])))
    else:
        part = Part(ids.new_part(now), (retraction,))
        asyncio.run(here.parts.store(part, due_in=0.0))
        asyncio.run(here.parts.point(part.id))
    here.admin.clear_faults()
    assert here.finish([block])[block].fold.counts()["superseded"] == 1
    wait_for(lambda: at_rest(here), "nothing is left to be done")
    assert value not in here.held()
