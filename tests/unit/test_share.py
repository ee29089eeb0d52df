"""The share of very many cases that a run takes: every kind each time, every case in so many runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.table import DEPENDENCIES, FAULTS, ONE_IN, in_the_share
from tests.support import share


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=60), st.integers(1, 7), st.integers(0, 10**6))
def test_each_kind_in_each_run_and_each_case_in_so_many(kinds: list[str], one_in: int, first: int) -> None:
    taken: set[int] = set()
    with pytest.MonkeyPatch.context() as patch:
        for seed in range(first, first + one_in):
            patch.setenv(share.SEED, str(seed))
            chosen = share.chosen(kinds, one_in)
            assert chosen == share.chosen(kinds, one_in), "the same seed is the same share"
            assert {kinds[n] for n in chosen} == set(kinds)
            assert len(chosen) <= len(kinds) // one_in + 1 + len(set(kinds))
            taken.update(chosen)
    assert taken == set(range(len(kinds)))


@pytest.mark.parametrize("first", [0, 739_942])
def test_of_the_fault_table_each_row_and_column_in_each_run_and_each_cell_in_so_many(
    first: int,
) -> None:
    every = {(dependency, fault) for dependency in DEPENDENCIES for fault in FAULTS}
    taken: set[tuple[str, str]] = set()
    for seed in range(first, first + ONE_IN):
        cells = {(dependency, fault) for dependency, fault in every if in_the_share(dependency, fault, seed)}
        assert {dependency for dependency, _ in cells} == set(DEPENDENCIES)
        assert {fault for _, fault in cells} == set(FAULTS)
        taken |= cells
    assert taken == every


def test_a_seed_that_is_no_number_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(share.SEED, "tomorrow")
    with pytest.raises(pytest.UsageError, match="tomorrow"):
        share.seed()
