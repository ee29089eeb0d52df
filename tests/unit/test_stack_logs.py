"""The look through the logs finds what it looks for."""

from __future__ import annotations

import base64
import urllib.parse

import pytest

from tests.support.stacklab import leaks

SECRET = "n0t/A+real~secret=of_anybody-0123456789"


@pytest.mark.parametrize(
    "text",
    [
        f"secret={SECRET}",
        f"only a piece: {SECRET[5:17]}",
        f"all but the end: {SECRET[:-5]}",
        f"as a form: client_secret={urllib.parse.quote(SECRET, safe='')}",
        f"encoded: {base64.b64encode(SECRET.encode()).decode()}",
    ],
)
def test_a_secret_is_found_in_any_spelling_and_never_told(text: str) -> None:
    found = leaks({"a.log": "nothing here", "b.log": text}, {"secret": SECRET})
    assert found == ["the secret in b.log"]


def test_a_token_is_found() -> None:
    assert leaks({"a.log": "Bearer eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.e30.x"}, {}) == ["a token in a.log"]


def test_what_is_no_secret_is_left_alone() -> None:
    assert leaks({"a.log": "n0t/A+rea, submission 20261122f1b77ec9fd3ad11ad"}, {"secret": SECRET}) == []
