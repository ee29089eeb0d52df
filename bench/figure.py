"""A figure: what was measured round by round, beside its limit and its goal, and how much noise was in it."""

from __future__ import annotations

import dataclasses
import os
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

FULL_CORE = 0.9  # of a core: what takes more is the bound, and the figure says so
NOISY_SPREAD = 0.25


@dataclasses.dataclass(slots=True)
class Figure:
    """One line of a table.

    values: one a round, in `unit`. goal: at most so much (at least, when `at_least`); None: told without a goal.
    limit: what it is held against, in words and numbers. cpu: CPU seconds by process, of the last round, and `wall`
    the seconds that it took. note: what a reader must know.
    """

    name: str
    unit: str
    values: Sequence[float]
    limit: str = ""
    goal: float | None = None
    at_least: bool = False
    cpu: Mapping[str, float] = dataclasses.field(default_factory=dict)
    wall: float = 0.0
    note: str = ""
    lost: int = 0

    @property
    def median(self) -> float:
        """The middle of the rounds."""
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the median reaches the goal; None without one."""
        if self.goal is None:
            return None
        return self.median >= self.goal if self.at_least else self.median <= self.goal

    @property
    def spread(self) -> float:
        """(max - min) / median."""
        return (max(self.values) - min(self.values)) / abs(self.median) if self.median else 0.0

    @property
    def bound(self) -> str:
        """The processes of the rig that were the bound: over 90 % of a core while it was measured."""
        over = [
            f"{name} at {100 * spent / self.wall:.0f} % of a core"
            for name, spent in self.cpu.items()
            if self.wall and name in ("azurite", "tenant") and spent / self.wall > FULL_CORE
        ]
        return "; ".join(over)

    def remarks(self) -> str:
        """The note, with what the rig and the spread add to it."""
        told = [self.note, self.bound and f"the rig is the bound: {self.bound}"]
        if self.lost:
            told.insert(0, f"LOST {self.lost}")
        if len(self.values) > 1 and self.spread > NOISY_SPREAD:
            told.append(f"noisy: spread {100 * self.spread:.0f} %")
        return "; ".join(text for text in told if text)

    def goal_text(self) -> str:
        """The goal with its sign."""
        if self.goal is None:
            return ""
        return f"{'>=' if self.at_least else '<='} {number(self.goal)} {self.unit}".rstrip()

    def measured(self) -> str:
        """min / median / max, or the one value."""
        if len(self.values) == 1:
            return f"{number(self.values[0])} {self.unit}".rstrip()
        found = (min(self.values), self.median, max(self.values))
        return f"{' / '.join(map(number, found))} {self.unit}".rstrip()

    def cpu_text(self) -> str:
        """CPU seconds of each process that used any."""
        return ", ".join(f"{name} {spent:.1f}" for name, spent in self.cpu.items() if spent >= 0.05)

    def as_json(self) -> dict[str, Any]:
        """All of it, for --json."""
        found = dataclasses.asdict(self) | {"values": list(self.values), "cpu": dict(self.cpu)}
        return found | {"median": self.median, "met": self.met, "spread": self.spread, "remarks": self.remarks()}


@dataclasses.dataclass(slots=True)
class Result:
    """What one benchmark found."""

    name: str
    figures: list[Figure]
    load_before: float = 0.0
    seconds: float = 0.0
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        figures = [figure.as_json() for figure in self.figures]
        return {
            "name": self.name,
            "figures": figures,
            "load_before": self.load_before,
            "seconds": round(self.seconds, 1),
            "error": self.error,
        }


def number(value: float) -> str:
    """Three digits that matter, thousands apart."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def load() -> float:
    """Load average of the last minute."""
    return os.getloadavg()[0]


def machine() -> dict[str, Any]:
    """What a figure depends on, without naming the machine."""
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.system(),
    }


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered)) - 1))]


HEADINGS = ("figure", "limit", "goal", "measured (min / median / max)", "", "CPU seconds", "note")


def cells(figure: Figure) -> tuple[str, ...]:
    """A figure as a row under HEADINGS."""
    met = {True: "met", False: "missed", None: ""}[figure.met]
    return (
        figure.name,
        figure.limit,
        figure.goal_text(),
        figure.measured(),
        met,
        figure.cpu_text(),
        figure.remarks(),
    )


def markdown(figures: Sequence[Figure]) -> str:
    """A table of figures in Markdown."""
    rows = ["| " + " | ".join(HEADINGS) + " |", "|" + " --- |" * len(HEADINGS)]
    rows += ["| " + " | ".join(cell.replace("|", "/") for cell in cells(figure)) + " |" for figure in figures]
    return "\n".join(rows) + "\n"


def text(result: Result) -> str:
    """A result for a terminal: a line for each figure, what it needs to be judged below it."""
    head = f"{result.name}   ({result.seconds:.0f} s; load before: {result.load_before:.2f})"
    lines = [head]
    if result.error:
        lines.append(f"  COULD NOT BE MEASURED: {result.error}")
    for figure in result.figures:
        name, limit, goal, measured, met, cpu, note = cells(figure)
        lines.append(f"  {name}: {measured}" + (f"   goal {goal}: {met}" if goal else ""))
        for label, said in (("limit", limit), ("CPU s", cpu), ("note", note)):
            if said:
                lines.append(f"      {label}: {said}")
    return "\n".join(lines)
