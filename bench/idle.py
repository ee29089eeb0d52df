"""`idle`: a lone message while nothing else happens: from the trigger to the import call on the wire."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from bench import watch
from bench.figure import Figure, percentile
from bench.run import Options, Running, message, running, until

PAUSE = 0.7  # seconds of quiet before each message


def lone(here: Running, folder: Path, value: str) -> float:
    """Milliseconds from the trigger to the arrival of the call at the double, which had nothing to do."""
    here.empty()
    time.sleep(PAUSE)
    called, done = len(watch.read(folder)), here.succeeded()
    here.put([message(value)])
    until(lambda: here.succeeded() > done, "the message is through", 60, every=0.05)
    fired = watch.read(folder)[called]
    return 1000 * (float(here.admin.imports()[0]["at"]) - fired)


def measure(options: Options) -> list[Figure]:
    """Each round is a p95 over lone messages on a stack of its own."""
    count = options.size(20, 5)
    highs, middles, span = [], [], None
    for turn in range(options.times(3)):
        with tempfile.TemporaryDirectory(prefix="relay-watch-") as name:
            folder = Path(name)
            host = {"preload": ("bench.watch",)}
            with running(settings={watch.FOLDER: name}, host=host) as here:
                here.warm()
                with here.span() as span:
                    found = [lone(here, folder, f"n{n}.idle{turn}.example") for n in range(count)]
        highs.append(percentile(found, 0.95))
        middles.append(percentile(found, 0.5))
    note = f"p50 {min(middles):.0f} to {max(middles):.0f} ms; 20 ms of it are waited for company on purpose"
    return [
        Figure(
            f"a lone message, trigger to import call, p95 of {count}",
            "ms",
            highs,
            "0",
            60.0,
            cpu=span.cpu if span else {},
            wall=span.wall if span else 0.0,
            note=note,
        )
    ]
