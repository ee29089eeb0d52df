"""`cost`: what a month of 10,000 indicators a day takes of what Azure counts: storage operations and gigabyte-seconds.

Operations are counted where they arrive, by service and method, while the work is done once; a month is that times
its days. Prices are not here: they differ by region and change; docs/cost.md says which unit each number is in.
"""

from __future__ import annotations

import http.client
import math
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bench import watch
from bench.figure import Figure
from bench.run import PROBE, Options, Running, message, running, until, values

A_DAY = 10_000
DAYS = 30
TIMERS = {"Sweep": 1_440, "Poison": 1_440, "Heartbeat": 1_440, "Retention": 1}  # runs a day
POLLS = 86_400 / 2  # an instance that lives looks into an empty queue every two seconds
LEAST = 1.0  # seconds; the least that one stretch of execution is billed as
STEP = 0.1  # seconds; rounded up to
SIZES = (0.5, 2.0)  # GB of an instance

type Done = tuple[Counter[str], float, int]
"""Operations, billed seconds and executions of so much work."""


def classes(operations: Mapping[str, int]) -> Counter[str]:
    """Operations by what they are charged as. A transaction of a table ($batch) is one, whatever is in it."""
    found: Counter[str] = Counter()
    for name, count in operations.items():
        service, method, resource = name.split(" ", 2)
        if resource == PROBE:
            continue
        if service == "queue":
            found["queue, class 1 (put)" if method == "POST" else "queue, class 2 (get, delete)"] += count
        elif service in ("table", "blob"):
            found[f"{service}, {'read' if method in ('GET', 'HEAD') else 'write and delete'}"] += count
    return found


def billed(stretches: list[float]) -> float:
    """Seconds that are charged for these stretches of execution."""
    return sum(max(LEAST, math.ceil(seconds / STEP) * STEP) for seconds in stretches)


def _work(here: Running, folder: Path, doing: Callable[[], int]) -> Done:
    """Operations of a piece of work without the looks into an empty queue, billed seconds, and executions."""
    before, calls = len(watch.active(folder)), len(watch.read(folder))
    with here.span() as span:
        most = doing()
    receives = "queue GET indicators"
    # What the work needs: every message is received once, at most 32 in one go.
    span.operations[receives] = min(span.operations[receives], most)
    return classes(span.operations), billed(watch.active(folder)[before:]), len(watch.read(folder)) - calls


def lone(here: Running, count: int) -> int:
    """Messages that come one by one, each a call of its own; receives that they need."""
    for value in values(f"lone{time.monotonic_ns()}", count):
        before = here.succeeded()
        here.put([message(value)])
        until(lambda before=before: here.succeeded() > before, "it is through", 60)  # type: ignore[misc]
        time.sleep(4.0)
    return count


def burst(here: Running, count: int) -> int:
    """Messages that come together."""
    before = here.succeeded()
    here.put([message(value) for value in values(f"burst{time.monotonic_ns()}", count)], together=True)
    until(lambda: here.succeeded() >= before + count, "all are through", 300)
    return 2 * -(-count // 32)


def submission(here: Running, count: int) -> int:
    """One HTTP submission, looked at once when it is finished."""
    before = here.succeeded()
    name = here.submit(values(f"http{time.monotonic_ns()}", count))
    until(lambda: here.succeeded() >= before + -(-count // 500), "its part is through", 300)
    here.finished(name)
    return 1


def run_timer(here: Running, name: str) -> None:
    """A timer's function once, now."""
    worker = here.stack.workers.find("timers")
    connection = http.client.HTTPConnection("127.0.0.1", worker.port, timeout=60)
    try:
        connection.request("POST", f"/admin/functions/{name}", headers={"x-functions-key": here.stack.keys["master"]})
        status = connection.getresponse().status
    finally:
        connection.close()
    if status != 202:
        raise RuntimeError(f"the host does not run {name}: {status}")


def timer(here: Running, name: str, runs: int) -> Counter[str]:
    """Operations of one run of a timer, on the mean."""
    with here.span() as span:
        for _ in range(runs):
            run_timer(here, name)
            time.sleep(1.0)
    span.operations.pop("queue GET indicators", None)  # a worker's looks into the queue
    return Counter({kind: round(count / runs) for kind, count in classes(span.operations).items()})


def measure(options: Options) -> Iterator[Figure]:
    """The same 10,000 a day, sent in three ways, and what stands beside them."""
    few, many = options.size(15, 3), options.size(500, 100)
    shapes: dict[str, tuple[int, Callable[[Running, int], int]]] = {
        "messages, one by one": (few, lone),
        f"messages, {many} at once": (many, burst),
        f"HTTP, {many} a submission": (many, submission),
    }
    for name, (count, doing) in shapes.items():
        with tempfile.TemporaryDirectory(prefix="relay-watch-") as place:
            folder = Path(place)
            with running(settings={watch.FOLDER: place}, host={"preload": ("bench.watch",)}) as here:
                here.warm()
                time.sleep(2.0)
                done, seconds, executions = _work(here, folder, lambda: doing(here, count))  # noqa: B023
        times = A_DAY * DAYS / count
        yield from _month(name, done, times, f"counted on {count}")
        yield from _compute(name, seconds * times, executions * times)
    with running() as here:
        here.warm()
        total: Counter[str] = Counter()
        for name, runs in TIMERS.items():
            for kind, operations in timer(here, name, options.size(5, 2)).items():
                total[kind] += operations * runs
    yield from _month("timers", total, DAYS, "counted by running each of them")
    runs = sum(TIMERS.values()) * DAYS
    yield from _compute("timers", LEAST * runs, runs)
    note = "while an instance of the queue function lives; none when it is scaled to zero"
    yield Figure("an idle queue function: queue, class 2 (get)", "a month at most", [POLLS * DAYS], note=note)


def _month(name: str, operations: Counter[str], times: float, note: str) -> Iterator[Figure]:
    for kind, count in sorted(operations.items()):
        if count > 0:
            yield Figure(f"{name}: {kind}", "operations a month", [count * times], note=note)


def _compute(name: str, seconds: float, executions: float) -> Iterator[Figure]:
    sizes = " or ".join(f"{seconds * size:,.0f} at {1024 * size:,.0f} MB" for size in SIZES)
    note = f"{seconds:,.0f} s of execution; gigabyte-seconds: {sizes}"
    if name.startswith("HTTP"):
        note += "; the door's own besides: one for each request, of a second at least"
    yield Figure(f"{name}: executions", "a month", [executions], note=note)
