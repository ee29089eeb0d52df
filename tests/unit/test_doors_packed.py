"""gzip in and out: the content comes back whole, and no bomb makes more than its bound."""

from __future__ import annotations

import gzip
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.packed import packed, unpacked
from shared.errors import TooLargeError, UnreadableError


@given(st.lists(st.binary(max_size=400), min_size=1, max_size=4))
def test_what_was_packed_comes_out_whole_members_and_all(pieces: list[bytes]) -> None:
    body = b"".join(gzip.compress(piece) for piece in pieces)
    assert unpacked(body, 2_000) == b"".join(pieces)


@given(st.binary(max_size=300), st.integers(0, 400))
def test_the_bound_is_exact(content: bytes, most: int) -> None:
    body = gzip.compress(content)
    if len(content) <= most:
        assert unpacked(body, most) == content
    else:
        with pytest.raises(TooLargeError, match=str(most)):
            unpacked(body, most)


def test_a_bomb_costs_no_more_than_its_bound() -> None:
    bomb = gzip.compress(bytes(200_000_000), 9)
    assert len(bomb) < 300_000
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError):
            unpacked(bomb, 10_000_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40_000_000


@pytest.mark.parametrize(
    "body",
    [b"\x1f\x8b", b"\x1f\x8bnothing", gzip.compress(b"whole" * 50)[:-9], gzip.compress(b"x") + b"tail"],
    ids=["short", "nothing", "broken off", "tail"],
)
def test_what_is_not_gzip_is_said(body: bytes) -> None:
    with pytest.raises(UnreadableError):
        unpacked(body, 1_000)


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("", ""),
        ("gzip", "gzip"),
        ("br, gzip;q=0.5", "gzip"),
        ("gzip;q=0", ""),
        ("gzip; q=0.0, identity", ""),
        ("*", "gzip"),
        ("br, deflate", ""),
        ("GZIP", "gzip"),
    ],
)
async def test_answers_are_packed_for_who_takes_it(accept: str, coding: str) -> None:
    body = b"indicator " * 1_000
    made, said = await packed(body, accept)
    assert said == coding
    assert (gzip.decompress(made) if coding else made) == body


async def test_large_answers_too_and_small_ones_not() -> None:
    large = b"indicator " * 100_000
    made, said = await packed(large, "gzip")
    assert said == "gzip" and gzip.decompress(made) == large
    assert await packed(b"small", "gzip") == (b"small", "")
