"""`large`: 1,032 messages of 64 KiB for one worker, as many of them in flight as host.json lets it hold.

A hold in the table of permits keeps every call back until all are in flight; then it is lifted, and nothing may be
missing. Messages of one indicator with much beside it go through whole. Messages full of indicators, half a million of
them, would take the budget of a third of an hour: their memory is looked at while they are held, and the stack ends.
"""

from __future__ import annotations

import asyncio
import json
import time

from bench.decode import value
from bench.figure import Figure
from bench.memory import MEGABYTE
from bench.run import Options, Running, Span, message, running, until
from shared.publishing.budget import Budget
from shared.settings import Settings

MESSAGES = 1_032
THRESHOLD = 1_000  # newBatchThreshold of host.json
SIZE = 64 * 1024
LIMIT = 2_048  # MB instance
GOAL = 400.0


def padded(name: str) -> str:
    """One indicator, and fields of the sender's own until the queue takes no more."""
    text = message(f"{name}.large.example", **{"x-note": ""})
    return message(f"{name}.large.example", **{"x-note": "x" * (SIZE - len(text))})


def crowded(first: int) -> str:
    """As many indicators as fit."""
    items: list[dict[str, str]] = []
    size = 100
    while True:
        written, kind = value(first + len(items))
        item = {"indicatorValue": written, "indicatorType": kind}
        size += len(json.dumps(item)) + 2
        if size > SIZE:
            return json.dumps({"defaults": {"action": "Audit", "title": "Seen"}, "indicators": items})
        items.append(item)


def hold(here: Running, seconds: float) -> None:
    """No import call for so long."""
    budget = Budget(here.tables, here.clock, "import", Settings().limit_import)
    asyncio.run(budget.hold(time.time() + seconds, "benchmark"))


def _in_flight(here: Running, texts: list[str], seconds: float) -> tuple[float, int]:
    """Let them all be in flight, held; the worker's peak memory in MB so far, and how many were in flight."""
    hold(here, seconds)
    here.put(texts)
    peak = 0

    def all_in() -> bool:
        nonlocal peak
        peak = max(peak, here.told("in_flight"))
        # By thirty-two at a time it is above the threshold, or at most a fetch above it: the host then takes no more.
        return peak >= min(len(texts), THRESHOLD + 1)

    until(all_in, f"{len(texts)} messages are in flight", seconds, every=0.25)
    time.sleep(3.0)
    peak = max(peak, here.told("in_flight"))
    return here.peak_memory(here.stack.queue_workers[0]) / MEGABYTE, peak


def measure(options: Options) -> list[Figure]:
    """Both kinds, on stacks of their own."""
    count = options.size(MESSAGES, 200)
    found, full, lost, items, most, most_full, span = [], [], 0, 0, 0, 0, Span()
    for turn in range(options.times(2)):
        with running() as here:
            here.warm()
            with here.span() as span:
                _, most = _in_flight(here, [padded(f"n{turn}-{n}") for n in range(count)], 45.0)
                until(lambda: here.succeeded() >= count + 4, "all are through", 300)
            found.append(here.peak_memory(here.stack.queue_workers[0]) / MEGABYTE)
            lost += here.lost(count + 4) + here.poisoned()
        with running() as here:
            here.warm()
            texts = [crowded(1_000 * n) for n in range(count)]
            items = sum(text.count('"indicatorType"') for text in texts)
            memory, most_full = _in_flight(here, texts, 60.0)
            full.append(memory)
    limit = f"{LIMIT:,} MB instance"
    return [
        Figure(
            f"{count:,} messages of 64 KiB in flight, one indicator each: peak memory of the worker",
            "MB",
            found,
            limit,
            GOAL,
            cpu=span.cpu,
            wall=span.wall,
            lost=lost,
            note=f"{most:,} at once, which is what the host took; all published after the hold",
        ),
        Figure(
            f"{count:,} messages of 64 KiB in flight, {items:,} indicators: peak memory of the worker",
            "MB",
            full,
            limit,
            GOAL,
            note=f"{most_full:,} at once; looked at while held; not published",
        ),
    ]
