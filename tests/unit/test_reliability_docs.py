"""docs/reliability.md against the cells of the fault table: each cell is there, with a test of that name."""

from __future__ import annotations

import re
from pathlib import Path

from shared.storage.connection import CONTAINERS, QUEUE, TABLES
from tests.faults.table import DEPENDENCIES, FAULTS, TABLE, WORDS, as_markdown
from tests.faults.test_fault_table import CELLS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reliability.md").read_text("utf-8")


def test_the_fault_table_is_the_tests() -> None:
    assert as_markdown() in PAGE, "docs/reliability.md lacks the table that `python -m tests.faults.table` prints"
    assert set(CELLS) == {(dependency, fault) for dependency, cells in TABLE.items() for fault in cells}
    assert {word for cells in TABLE.values() for word in cells.values()} <= set(WORDS)
    for name, text in FAULTS.items():
        assert f"| {name} | {text} |" in PAGE


def test_every_dependency_is_in_the_fault_table() -> None:
    """Whatever the deployment makes, and whoever is called."""
    storage = {f"table-{name}" for name in TABLES} | {f"blob-{name}" for name in CONTAINERS}
    assert DEPENDENCIES["queue"].name == QUEUE
    called = {"entra", "identity", "vault", "defender-import", "defender-list", "defender-delete"}
    assert set(DEPENDENCIES) == storage | called | {"queue"}


def test_cells_that_are_named_in_the_page_exist() -> None:
    for dependency_fault in re.findall(r"test_cell\[([^\]]+)\]", PAGE):
        assert dependency_fault in {f"{dependency}-{fault}" for dependency, fault in CELLS}
