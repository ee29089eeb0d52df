"""The cheap constructor makes the very same objects."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from shared.indicators.fast import constructor
from shared.intake.contract import Item, Problem


def test_what_it_makes_is_equal_frozen_and_picklable():
    make = constructor(Item)
    ordinary = Item(1, "x", None, Problem("r", "t"), ("n",))
    made = make(1, "x", None, Problem("r", "t"), ("n",), ())
    assert type(made) is Item and made == ordinary and hash(made) == hash(ordinary) and repr(made) == repr(ordinary)
    assert pickle.loads(pickle.dumps(made)) == ordinary
    assert dataclasses.replace(made, ordinal=2).ordinal == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.ordinal = 2


def test_a_layout_that_cannot_be_matched_is_an_error_at_once():
    @dataclasses.dataclass(frozen=True)
    class Loose:
        value: int

    with pytest.raises(TypeError):
        constructor(Loose)
