"""What a door reads of a request."""

from __future__ import annotations

import azure.functions as func
import pytest

from functions.http import Ask, ParameterError
from functions.routes import ENTRIES, matching
from shared.identity.caller import FUNCTION_KEY


def ask(function: str, *, params: dict[str, str] | None = None, route: dict[str, str] | None = None) -> Ask:
    req = func.HttpRequest(
        method="GET", url="https://app.example/api/x", params=params or {}, route_params=route or {}, body=b""
    )
    return Ask(req, ENTRIES[function], FUNCTION_KEY, b"", "id")


@pytest.mark.parametrize(
    ("given", "read"),
    [("evil.example", "evil.example"), ("a%41", "a%41"), ("https:%2F%2fe.example", "https://e.example")],
)
def test_a_route_parameter_is_decoded_once(given: str, read: str) -> None:
    """The host has decoded it already, all but the slash."""
    assert ask("GetIndicator", route={"value": given}).param("value") == read


@pytest.mark.parametrize("text", ["-1", "1.5", "x", "1001", "１", "9" * 40, ""])
def test_numbers_are_whole_and_bounded(text: str) -> None:
    with pytest.raises(ParameterError, match="top="):
        ask("GetSubmission", params={"top": text}).number("top")


def test_absent_parameters_have_their_defaults() -> None:
    one = ask("GetSubmission")
    assert (one.number("top"), one.number("skip"), one.csv) == (100, 0, False)


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("submissions", {"GET", "POST"}),
        ("Submissions/20261122x", {"GET", "DELETE"}),
        ("dead-letters/replay", {"POST"}),
        ("nothing", set()),
        ("submissions/a/b", set()),
        ("", set()),
    ],
)
def test_paths_find_their_routes(path: str, methods: set[str]) -> None:
    assert {entry.method for entry in matching(path)} == methods
