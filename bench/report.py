"""Puts the figures of a run into the pages that show them, between two marks; everything else there is by hand."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from bench.figure import Result, machine, markdown
from local.workers import ROOT

README = ROOT / "bench" / "README.md"
COST = ROOT / "docs" / "cost.md"


def write(results: Iterable[Result], *, quick: bool) -> list[Path]:
    """Renew the table of each benchmark that was measured; of the others the last one stays. The pages changed.

    Figures of a quick run are not written: they would be taken for more than they are.
    Raises RuntimeError when asked to write those.
    """
    if quick:
        raise RuntimeError("figures of --quick are not written; run it without")
    changed = []
    for result in results:
        page = COST if result.name == "cost" else README
        if result.figures and replace(page, result.name, table(result)):
            changed.append(page)
    return changed


def table(result: Result) -> str:
    """A benchmark's figures with what they were measured on."""
    on = machine()
    about = f"{on['date']}, {on['cores']} cores, Python {on['python']}, {on['system']}"
    about += f"; load before: {result.load_before:.2f}; took {result.seconds:.0f} s."
    return f"{about}\n\n{markdown(result.figures)}"


def replace(page: Path, name: str, content: str) -> bool:
    """Put `content` between `<!-- name -->` and `<!-- /name -->` of a page; False when the page has no such marks."""
    text = page.read_text("utf-8")
    marks = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- /{re.escape(name)} -->)", re.DOTALL)
    renewed, found = marks.subn(lambda mark: f"{mark[1]}{content}{mark[2]}", text)
    if found:
        page.write_text(renewed, "utf-8")
    return bool(found)
