"""scripts/bench: two benchmarks that need no stack are run by its own command, so that it does not rot."""

from __future__ import annotations

import importlib
import json
import subprocess
from pathlib import Path

import pytest

from bench.__main__ import NAMES, arguments
from bench.figure import Figure, Result, markdown
from bench.report import COST, README, replace, write

ROOT = Path(__file__).resolve().parents[2]


def test_bench_runs_and_tells_in_json() -> None:
    command = [str(ROOT / "scripts" / "bench"), "decode", "simulate", "--quick", "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert [result["name"] for result in told["results"]] == ["decode", "simulate"]
    assert told["machine"]["cores"] >= 1
    assert not any(result["error"] for result in told["results"])
    figures = [figure for result in told["results"] for figure in result["figures"]]
    assert len(figures) == 6
    assert all(figure["median"] > 0 and figure["lost"] == 0 for figure in figures)


def test_bench_has_a_module_and_a_place_for_each_name() -> None:
    for name in NAMES:
        assert callable(importlib.import_module(f"bench.{name}").measure)
        page = COST if name == "cost" else README
        assert f"<!-- {name} -->\n" in page.read_text("utf-8")
    assert all(name in (ROOT / "scripts" / "bench").read_text("utf-8") for name in NAMES)


def test_bench_refuses_names_that_do_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(["decode", "nonsense"])
    assert "no benchmark nonsense" in capsys.readouterr().err


def test_bench_writes_between_its_marks_and_nowhere_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- x -->\nold\n<!-- /x -->\nafter\n<!-- y -->\nkept\n<!-- /y -->\n")
    assert replace(page, "x", "new\n")
    assert not replace(page, "z", "new\n")
    assert page.read_text() == "before\n<!-- x -->\nnew\n<!-- /x -->\nafter\n<!-- y -->\nkept\n<!-- /y -->\n"


def test_bench_does_not_write_what_a_quick_run_found() -> None:
    with pytest.raises(RuntimeError, match="quick"):
        write([Result("decode", [Figure("f", "x", [1.0])])], quick=True)


@pytest.mark.parametrize(
    ("figure", "said"),
    [
        (Figure("f", "x", [2.0, 1.0, 1.1], goal=1.2), "met"),
        (Figure("f", "x", [2.0, 1.0, 1.1], goal=1.2), "noisy"),
        (Figure("f", "x", [1.3], goal=1.2), "missed"),
        (Figure("f", "s", [1.0], cpu={"azurite": 9.1}, wall=10.0), "the rig is the bound: azurite at 91 % of a core"),
        (Figure("f", "s", [1.0], lost=3), "LOST 3"),
    ],
)
def test_bench_tables_say_what_a_reader_must_know(figure: Figure, said: str) -> None:
    assert said in markdown([figure])
