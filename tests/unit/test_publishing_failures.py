"""What an answer means for the items of a call: nothing final but what Defender says of one item inside a 200."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import (
    BatchRefusedError,
    DeniedError,
    LateError,
    NotSentError,
    RelayError,
    RoleError,
    ThrottledError,
    TokenError,
    UnavailableError,
    VaultError,
)
from shared.publishing.failures import Accepted, Again, Refused, Suspect, delay, of_error, of_results, pause
from tests.support.fakes import FakeResult


@pytest.mark.parametrize(
    ("error", "reason", "sent", "alarm"),
    [
        (ThrottledError("429", retry_after=8), "throttled", False, False),
        (UnavailableError("503", status=503), "defender_unavailable", True, False),
        (UnavailableError("reset"), "defender_unavailable", True, False),
        (NotSentError("no connection"), "not_sent", False, False),
        (LateError("late"), "not_sent", False, False),
        (DeniedError("401", status=401), "denied_401", False, True),
        (DeniedError("403", status=403), "denied_403", False, True),
        (DeniedError("404", status=404), "denied_404", False, True),
        (DeniedError("405", status=405), "denied_405", False, True),
        (DeniedError("strange", status=200), "denied_200", True, True),
        (BatchRefusedError("400", message_text="Max capacity exceeded. Limit: 15000"), "tenant_full", True, True),
        (TokenError("no"), "identity", False, True),
        (VaultError("no"), "identity", False, True),
        (RoleError("no"), "identity", False, True),
    ],
)
def test_what_is_tried_again(error: RelayError, reason: str, sent: bool, alarm: bool) -> None:
    verdict = of_error(error)
    assert isinstance(verdict, Again)
    assert (verdict.reason, verdict.sent, verdict.alarm) == (reason, sent, alarm)


def test_a_400_makes_suspects_and_never_a_rejection() -> None:
    assert of_error(BatchRefusedError("400", message_text="bad")) == Suspect("bad")


def test_p6_a_200_with_failures_is_told_item_by_item() -> None:
    full = "Max capacity exceeded. Current Total: 15000, Limit: 15000 (Parameter 'Capacity: 15000/15000')"
    verdicts = of_results([FakeResult(id="7"), FakeResult(failed=True, reason="nope"), FakeResult(True, full)])
    assert verdicts[0] == Accepted("7")
    assert isinstance(verdicts[1], Refused) and "nope" in verdicts[1].text
    assert isinstance(verdicts[2], Again) and verdicts[2].reason == "tenant_full" and verdicts[2].alarm


@given(st.integers(1, 200), st.none() | st.floats(0, 10_000), st.integers(0, 99))
def test_delays_grow_honour_what_was_asked_and_end(attempts: int, asked: float | None, seed: int) -> None:
    seconds = delay(attempts, asked, 60.0, 3600.0, random.Random(seed))
    assert 45.0 <= seconds <= 3600.0
    if asked is not None:
        assert seconds >= min(asked, 3600.0)
    assert delay(12, None, 60.0, 3600.0, random.Random(seed)) >= 0.75 * 3600.0


def test_ten_failed_deliveries_take_over_half_an_hour() -> None:
    pauses = [pause(n, 15.0) for n in range(1, 11)]
    assert pauses == sorted(pauses) and pauses[-1] == 240.0
    assert sum(pauses) + 9 * 30 > 1800
    assert max(pauses) < 600, "within the host's functionTimeout"
