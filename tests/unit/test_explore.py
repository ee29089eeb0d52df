"""The exploration of interleavings: where it leaves out an order of steps, no end is left out."""

from __future__ import annotations

from typing import Any

import pytest

from shared.indicators.model import Indicator
from tests.support import explore, share
from tests.support.rig import Rig
from tests.unit.test_publishing_order import BLOCK, BLOCK_AGAIN, body, item


def ends(older: Indicator | None, newer: Indicator | None, crashes: int) -> tuple[int, set[str]]:
    """How many ways were gone, and what was found at the end of each."""
    found = set()

    async def check(rig: Rig) -> None:
        rows = [(row.pk, row.rk, row.etag, sorted(row.data.items())) for row in rig.service.all_rows("intents")]
        found.add(repr((sorted(rows), sorted(rig.tenant.held.items()), len(rig.service.messages))))

    runs, all_of_them = explore.explore(
        [body(item(1, older)), body(item(2, newer))], check, crashes=crashes, most=9_000
    )
    assert all_of_them
    return runs, found


long = pytest.mark.skipif(not share.exhaustive(), reason="takes half a minute: TEST_EXHAUSTIVE=1")


@pytest.mark.parametrize(
    ("older", "newer", "crashes"),
    [
        (BLOCK, BLOCK_AGAIN, 0),
        (BLOCK, None, 0),
        (None, BLOCK_AGAIN, 0),
        pytest.param(None, BLOCK_AGAIN, 1, marks=long),
    ],
)
def test_every_end_is_reached(
    older: Indicator | None, newer: Indicator | None, crashes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, found = ends(older, newer, crashes)
    monkeypatch.setattr(explore, "independent", lambda *_: False)
    all_runs, all_found = ends(older, newer, crashes)
    assert found == all_found and len(found) > 1
    assert runs < all_runs


@pytest.mark.parametrize(
    ("one", "other", "either"),
    [
        ("get intents", "get intents", True),
        ("get intents", "transact intents", False),
        ("transact intents", "transact submissions", True),
        ("list", "list", True),
        ("list", "import", False),
        ("delete", "import", False),
        ("delete intents", "delete", True),
        ("send", "send", False),
        ("send", "import", True),
    ],
)
def test_which_steps_come_to_the_same_in_either_order(one: str, other: str, either: Any) -> None:
    assert explore.independent(one, other) is either
    assert explore.independent(other, one) is either
