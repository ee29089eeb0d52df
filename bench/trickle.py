"""`trickle`: ten messages of one indicator a second for five minutes, one worker: insertion to Defender's 200."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime

from bench.figure import Figure, percentile
from bench.run import Options, Running, Span, message, running, until
from local.host.queueservice import QueueService
from shared.storage.connection import QUEUE

RATE = 10.0


def send(here: Running, seconds: float, kind: str) -> dict[str, float]:
    """Ten a second, evenly; when (time.time()) each value's insertion was asked for."""
    sent: dict[str, float] = {}

    async def work() -> None:
        async with QueueService(here.stack.connection_string, connections=4) as service:
            begun = time.monotonic()
            for number in range(int(seconds * RATE)):
                await asyncio.sleep(max(0.0, begun + number / RATE - time.monotonic()))
                value = f"n{number}.{kind}.example"
                sent[value] = time.time()
                await service.put(QUEUE, message(value))

    asyncio.run(work())
    return sent


def waits(here: Running, sent: dict[str, float]) -> list[float]:
    """Seconds from insertion to Defender's answer, which creates the indicator; by the machine's one clock."""
    found = {}
    for row in here.admin.indicators():
        created = datetime.fromisoformat(row["creationTimeDateTimeUtc"].replace("Z", "+00:00"))
        found[row["indicatorValue"]] = created.timestamp()
    return [found[value] - at for value, at in sent.items() if value in found]


def measure(options: Options) -> list[Figure]:
    """One long round unless more are asked for."""
    seconds = options.size(300, 40)
    middles, highs, worst, calls, refused, lost, span = [], [], [], 0, 0, 0, Span()
    for turn in range(options.times(1)):
        with running() as here:
            here.warm()
            before = here.succeeded()
            with here.span() as span:
                sent = send(here, seconds, f"trickle{turn}")
                until(lambda: here.succeeded() >= before + len(sent), "all are through", 120)  # noqa: B023
            found = waits(here, sent)
            seen = here.admin.counters()
        middles.append(percentile(found, 0.5))
        highs.append(percentile(found, 0.95))
        worst.append(max(found))
        calls = int(seen["calls"].get("import", 0))
        refused += int(seen["throttled"])
        lost += len(sent) - len(found)
    about = f"{RATE:g} a second for {seconds} s, one worker"
    service = "one call's service time: 0.3 s"
    note = f"{calls} calls, {refused} x 429, worst {max(worst):.2f} s"
    note += f"; {span.total / (seconds * RATE):.2f} storage operations a message"
    return [
        Figure(f"{about}: p50 to Defender's 200", "s", middles, service, 2.0, cpu=span.cpu, wall=span.wall, lost=lost),
        Figure(f"{about}: p95 to Defender's 200", "s", highs, service, 3.5, note=note),
        Figure(f"{about}: refused with 429", "answers", [float(refused)], "0", 0.0),
    ]
