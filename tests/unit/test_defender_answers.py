"""Which result belongs to which indicator, what a text names, what a limit is."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.defender.answers import Answer, fold, match_results
from shared.defender.client import equals
from shared.defender.limits import is_capacity, named_value, seconds_named
from shared.errors import BatchRefusedError, UnavailableError


def row(indicator: Any, reason: str | None = None, id: Any = "1") -> dict[str, Any]:
    return {"id": id, "indicator": indicator, "isFailed": reason is not None, "failureReason": reason}


def reasons(sent: list[str], *answered: dict[str, Any]) -> list[str]:
    return [result.reason for result in match_results(sent, answered)]


def test_defender_results_are_matched_by_value_in_any_order_and_case() -> None:
    assert reasons(["a", "b", "c"], row("C", "third"), row("a", "first"), row("B ", "second")) == [
        "first",
        "second",
        "third",
    ]


def test_defender_one_value_of_two_types_is_matched_by_place() -> None:
    assert reasons(["x", "a", "a"], row("x"), row("a", "first"), row("a", "second")) == ["", "first", "second"]
    assert reasons(["a", "a"], row("A", "first"), row("a")) == ["first", ""]


def test_defender_values_that_differ_in_case_alone_are_told_apart() -> None:
    sent = ["http://e.example/A", "http://e.example/a"]
    assert reasons(sent, row(sent[1], "small"), row(sent[0], "big")) == ["big", "small"]


def test_defender_a_value_written_otherwise_is_matched_by_place() -> None:
    sent = ["a.example", "2001:4860:4860:0:0:0:0:8888", "b.example"]
    assert reasons(sent, row("a.example"), row("2001:4860:4860::8888", "why"), row("b.example")) == ["", "why", ""]
    assert reasons(["2001:4860:4860:0:0:0:0:8888"], row("2001:4860:4860::8888", "why")) == ["why"]
    assert reasons(["a", "b"], row("a"), row(None, "why")) == ["", "why"]


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (["a"], []),
        (["a"], [row("a"), row("a")]),
        (["a", "b"], [row("x"), row("y")]),
        (["a", "b", "c"], [row("b"), row("a"), row("x")]),
        (["a", "a", "b"], [row("b"), row("a"), row("a")]),
        (["a", "b"], [row("a"), row("a")]),
        (["a", "b", "c"], [row("a"), row("b"), row("a")]),
    ],
)
def test_defender_results_are_never_guessed(sent: list[str], answered: list[dict[str, Any]]) -> None:
    with pytest.raises(UnavailableError):
        match_results(sent, answered)


@given(
    values=st.lists(st.text("abAB.:/", min_size=1, max_size=6), min_size=1, max_size=30, unique_by=str.casefold),
    seed=st.integers(),
    data=st.data(),
)
def test_defender_p6_every_failed_row_and_no_other_is_a_failure(
    values: list[str], seed: int, data: st.DataObject
) -> None:
    """P6, for any mix of rows in any order."""
    bad = set(data.draw(st.lists(st.sampled_from(values), unique=True)))
    answered = [row(value.swapcase(), f"no {value}" if value in bad else None) for value in values]
    random.Random(seed).shuffle(answered)
    results = match_results(values, answered)
    assert [result.value for result in results] == values
    assert {result.value for result in results if result.failed} == bad
    assert all(result.reason == (f"no {result.value}" if result.failed else "") for result in results)
    assert all((result.id is None) == result.failed for result in results)


@given(st.lists(st.sampled_from(["a", "b", "A"]), min_size=1, max_size=6), st.data())
def test_defender_a_matched_row_never_belongs_to_another_value(sent: list[str], data: st.DataObject) -> None:
    """Whatever the rows: either nothing is told, or each result comes from a row that may be its own."""
    names = data.draw(st.lists(st.sampled_from(["a", "b", "A", "x", ""]), min_size=len(sent), max_size=len(sent)))
    answered = [row(name, f"{place} {name}") for place, name in enumerate(names)]
    try:
        results = match_results(sent, answered)
    except UnavailableError:
        return
    for place, result in enumerate(results):
        at, _, name = result.reason.partition(" ")
        assert name.casefold() == sent[place].casefold() or int(at) == place
    assert len({result.reason for result in results}) == len(sent), "no row counts twice"


# --- texts -----------------------------------------------------------------------------------------------------------

INACTIVE = "Indicator {} is inactive. (Expiration time should be set to a future date time)"


@pytest.mark.parametrize(
    ("text", "values", "named"),
    [
        (INACTIVE.format("203.0.113.1"), ["203.0.113.1", "203.0.113.11", "3.0.113.1"], "203.0.113.1"),
        (INACTIVE.format("203.0.113.11"), ["203.0.113.1"], None),
        ("Domain name Evil.Example is invalid", ["evil.example", "sub.evil.example"], "evil.example"),
        ("URL http://evil.example/a is invalid", ["evil.example", "http://evil.example/a"], "http://evil.example/a"),
        ("URL http://evil.example/a/b is invalid", ["http://evil.example/a"], None),
        ("URL 'http://e.example/a?x=(1)'.", ["http://e.example/a?x=(1)"], "http://e.example/a?x=(1)"),
        ("URL http://e.example/a?", ["http://e.example/a?", "http://e.example/a"], None),
        ("Hash value (abc).", ["abc", "ABC"], None),
        ("Hash values abc and def", ["abc", "def"], None),
        ("Request body is incorrect", ["body.example"], None),
        ("", ["a"], None),
    ],
)
def test_defender_the_item_that_a_400_names(text: str, values: list[str], named: str | None) -> None:
    assert named_value(text, values) == named


def test_defender_capacity_is_recognised() -> None:
    assert is_capacity("Max capacity exceeded. Current Total: 15000, Limit: 15000 (Parameter 'Capacity: 15000/15000')")
    assert not is_capacity("Maximum batch size exceeded. Received: 501, allowed: 500")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("in 8 seconds.", 8), ("again in 1 second", 1), ("in 2.5 seconds", 2.5), ("in eight seconds", None), ("", None)],
)
def test_defender_the_wait_in_a_text(text: str, seconds: float | None) -> None:
    assert seconds_named(text) == seconds


def test_defender_long_messages_are_shortened_but_kept_for_isolation() -> None:
    said = "x" * 1000 + " evil.example"
    caught = fold(Answer(400, {}, json.dumps({"error": {"code": "C", "message": said}}).encode()))
    assert isinstance(caught, BatchRefusedError) and len(str(caught)) < 400
    assert named_value(caught.message_text, ["evil.example"]) == "evil.example"


@given(st.binary(max_size=200), st.integers(200, 599))
def test_defender_any_error_body_folds(body: bytes, status: int) -> None:
    assert fold(Answer(status, {}, body)).status == status


def test_defender_odata_quotes_are_doubled() -> None:
    assert equals("indicatorValue", "a'b''") == "indicatorValue eq 'a''b'''''"
