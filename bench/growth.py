"""`growth`: whether an indicator costs the same when there are many of them.

Messages, items of a submission, rows of the ledger and parts that wait are made more, one at a time. The budget of
calls is wide here, or nothing but the budget would be measured; the double holds as many indicators as it is sent.
Time is held against the smallest size of the same series.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence

from bench.figure import Figure
from bench.memory import MEGABYTE
from bench.messages import drained
from bench.run import WIDE, Options, Running, Span, message, running, until, values, widen
from shared.ledger.outcomes import Outcome, State
from shared.ledger.parts import FOREIGN, PARTITION
from shared.ledger.parts import TABLE as OPEN
from shared.ledger.submissions import TABLE as SUBMISSIONS
from shared.ledger.submissions import Header, outcome_rows
from shared.storage.protocols import Op, Row

#: A series: what grows, its sizes, and how one size is measured: seconds, span, peak megabytes, indicators.
type Point = tuple[float, Span, float, int]

FLAT = 1.5  # times the smallest size; more is told as missed
_AT_ONCE = 8


def _memory(here: Running) -> float:
    return here.peak_memory(here.stack.queue_workers[0]) / MEGABYTE


def messages(count: int) -> Point:
    """So many messages of one indicator, all there at once."""
    with running(settings=WIDE) as here:
        here.warm()
        widen(here, 2 * count)
        seconds, span = drained(here, [message(value) for value in values("growth", count)])
        return seconds, span, _memory(here), count


def items(count: int) -> Point:
    """One HTTP submission of so many."""
    with running(settings=WIDE) as here:
        here.warm()
        widen(here, 2 * count)
        return _submitted(here, "items", count)


def _submitted(here: Running, kind: str, count: int) -> Point:
    done = here.succeeded() + -(-count // 500)
    with here.span() as span:
        begun = time.monotonic()
        submission = here.submit(values(kind, count))
        ended = until(lambda: here.succeeded() >= done, "all parts are through", 900)
    here.finished(submission)
    return ended - begun, span, _memory(here), count


def fill(here: Running, rows: int) -> None:
    """So many rows of the last 90 days' submissions, by the product's own writer of transactions."""

    def submission(number: int, at: float, shard: int) -> list[Op]:
        name = f"{time.strftime('%Y%m%d', time.gmtime(at))}{shard:x}{number:016x}"
        outcome = Outcome(0, State.ACCEPTED, f"n{number}.growth.example", "DomainName", "Audit")
        found = outcome_rows(name, FOREIGN, f"{number:010d}c", [outcome])
        return [Op("insert", row) for row in (Header(name, 1, at, "queue", source="growth").row(), *found)]

    async def work() -> None:
        now = time.time()
        left = iter(range(rows // 100))

        async def some() -> None:
            for turn in left:
                at = now - turn // 16 % 90 * 86_400
                numbers = range(50 * turn, 50 * turn + 50)
                operations = [op for number in numbers for op in submission(number, at, turn % 16)]
                await here.tables.transact(SUBMISSIONS, operations)

        await asyncio.gather(*(some() for _ in range(_AT_ONCE)))

    asyncio.run(work())


def ledger(rows: int) -> Point:
    """A submission of 1,000 and 1,000 messages beside so many rows."""
    with running(settings=WIDE) as here:
        fill(here, rows)
        here.warm()
        widen(here)
        first, one, _, count = _submitted(here, "ledger", 1_000)
        second, two = drained(here, [message(value) for value in values("beside", 1_000)])
        return first + second, _sum(one, two), _memory(here), 2 * count


def _sum(one: Span, two: Span) -> Span:
    cpu = {name: spent + two.cpu.get(name, 0.0) for name, spent in one.cpu.items()}
    return Span(one.wall + two.wall, cpu, one.operations + two.operations)


def waiting(parts: int) -> Point:
    """A submission of 1,000 beside so many parts that wait for a later day, with a sweep over them all the while."""
    with running(settings=WIDE, host={"timers": {"Sweep": 2.0, "Heartbeat": 2.0, "Poison": 86_400.0}}) as here:
        due = time.time() + 86_400

        async def store() -> None:
            rows = [
                Row(
                    PARTITION,
                    f"d20260101-{number:020x}",
                    {"due": due, "points": "1", "kind": "plain", "since": time.time(), "items": "500", "failed": True},
                )
                for number in range(parts)
            ]
            for at in range(0, len(rows), 100):
                await here.tables.transact(OPEN, [Op("insert", row) for row in rows[at : at + 100]])

        asyncio.run(store())
        here.warm()
        widen(here)
        return _submitted(here, "waiting", 1_000)


def series(name: str, sizes: Sequence[int], measure_one: Callable[[int], Point]) -> Iterator[Figure]:
    """A line for each size, against the smallest, which is measured first and last: a machine's speed changes."""
    points = [measure_one(size) for size in (*sizes, sizes[0])]
    costs = [1000 * seconds / indicators for seconds, _, _, indicators in points]
    first, last = costs[0], costs[-1]
    for size, cost, (_, span, memory, indicators) in zip(sizes, costs, points, strict=False):
        smallest = size == sizes[0]
        yield Figure(
            f"{name} {size:,}",
            "ms an indicator",
            [first, last] if smallest else [cost],
            "" if smallest else f"{name} {sizes[0]:,}: {first:.3g} ms before, {last:.3g} ms after",
            None if smallest else FLAT * max(first, last),
            cpu=span.cpu,
            wall=span.wall,
            note=f"{span.total / indicators:.3f} storage operations an indicator; worker at most {memory:.0f} MB",
        )


def measure(options: Options) -> Iterator[Figure]:
    """All four series."""
    quick = options.quick
    yield from series("items of a submission", (1_000, 3_000) if quick else (1_000, 5_000, 15_000), items)
    yield lone_item()
    yield from series("parts that wait", (0, 500) if quick else (0, 500, 5_000), waiting)
    yield from series("messages", (1_000, 3_000) if quick else (1_000, 5_000, 13_000, 50_000), messages)
    yield from series("rows in the ledger", (0, 100_000) if quick else (0, 100_000, 1_000_000), ledger)


def lone_item() -> Figure:
    """A submission of one: told without a goal, as what it costs is shared with nobody."""
    seconds, span, memory, _ = items(1)
    note = f"{span.total} storage operations; worker at most {memory:.0f} MB"
    return Figure("items of a submission 1", "s", [seconds], note=note)
