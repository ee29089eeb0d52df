"""`memory`: resident memory of a queue worker that has done everything once, with every guard list loaded."""

from __future__ import annotations

from bench.decode import lone
from bench.figure import Figure
from bench.run import Options, running, until

LIMIT = 512  # MB, the smallest instance
GOAL = 160.0
MEGABYTE = 1024 * 1024


def measure(options: Options) -> list[Figure]:
    """A worker that has published indicators of every type, so that each guard has read its list."""
    found, doors = [], []
    for _ in range(options.times(3)):
        with running() as here:
            here.warm()
            before = here.succeeded()
            here.put([body.decode() for body in lone(100)])
            until(lambda: here.succeeded() >= before + 100, "all types are published", 120)  # noqa: B023
            here.finished(here.submit([f"n{n}.memory.example" for n in range(500)]))
            found.append(here.stack.queue_workers[0].usage().rss / MEGABYTE)
            doors.append(here.stack.workers.find("http").usage().rss / MEGABYTE)
    return [
        Figure("worker with every guard list loaded", "MB", found, f"{LIMIT} MB instance", GOAL),
        Figure("the HTTP door after a submission of 500", "MB", doors, f"{LIMIT} MB instance"),
    ]
