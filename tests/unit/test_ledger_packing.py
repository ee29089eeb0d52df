"""Packed values: short ones lie open, long ones compressed, and both are read, whoever wrote them."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.ledger import packing

TEXTS = st.text(max_size=400)
VALUES = st.one_of(st.lists(TEXTS, max_size=8), st.dictionaries(TEXTS, TEXTS, max_size=8))


@given(VALUES)
def test_packed_what_is_squeezed_comes_back(value: Any) -> None:
    assert packing.unsqueeze(packing.squeeze(value)) == value
    assert packing.unpack(packing.pack(value)) == value
    assert json.loads(packing.text_of(packing.squeeze(value))) == value


@pytest.mark.parametrize("count", [0, 1, 400])
def test_packed_rows_that_were_written_compressed_are_read(count: int) -> None:
    value = ["x" * 7] * count
    assert packing.unsqueeze(zlib.compress(json.dumps(value).encode())) == value


def test_packed_short_values_are_not_compressed_and_long_ones_are() -> None:
    assert packing.squeeze([1, "two"]) == b'[1,"two"]'
    many = [f"n{number}.evil-domain.com" for number in range(500)]
    assert len(packing.squeeze(many)) < len(json.dumps(many)) / 3
