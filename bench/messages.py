"""`messages`: 13,000 messages of one indicator each, from the first received to the last outcome.

The limit is measured in the same run on a stack that is the same but for its app: the peer (bench/peer) receives,
writes one row each by an insert of its own, and the host deletes. Nothing is published there.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from bench.figure import Figure
from bench.run import Options, Running, Span, message, running, until, values
from local.workers import ROOT

GOALS = {1: 1.15, 3: 1.5}
_PEER = Path(__file__).with_name("peer") / "function_app.py"


def drained(here: Running, texts: list[str]) -> tuple[float, Span]:
    """Seconds from the first message received to the last function's return, all having been there at once."""
    before = {name: here.told(name) for name in ("received", "succeeded")}
    shown_at = here.put(texts, together=True)
    time.sleep(max(0.0, shown_at - time.time() - 1.0))
    with here.span() as span:
        begun = until(lambda: here.told("received") > before["received"], "the first is received", 60, every=0.05)
        ended = until(lambda: here.succeeded() >= before["succeeded"] + len(texts), "all are through", 900, every=0.1)
    return ended - begun, span


def peer(workers: int, count: int) -> tuple[float, Span]:
    """The same messages through the peer."""
    folder = Path(tempfile.mkdtemp(prefix="relay-peer-"))
    try:
        for file in (_PEER, ROOT / "host.json"):
            shutil.copy(file, folder / file.name)
        with running(workers=workers, host={"app": folder, "timers": {}}) as here:
            here.warm()
            return drained(here, [message(value) for value in values("peer", count)])
    finally:
        shutil.rmtree(folder)


def relay(workers: int, count: int) -> tuple[float, Span, dict[str, int]]:
    """Through the relay; and what the double and the ledger say of it."""
    with running(workers=workers) as here:
        here.warm()
        seconds, span = drained(here, [message(value) for value in values("messages", count)])
        seen = here.admin.counters()
        warm = 4 * workers  # accepted before the measure, and in the ledger too
        found = {
            "calls": int(seen["calls"].get("import", 0)),
            "throttled": int(seen["throttled"]),
            "most": int(seen["most_in_60s"].get("import", 0)),
            "lost": max(here.lost(count + warm), count - int(seen["indicators"])) + here.poisoned(),
        }
        return seconds, span, found


def measure(options: Options) -> list[Figure]:
    """For one worker and for three, each round with a peer of its own."""
    count = options.size(13_000, 1_000)
    figures = []
    for workers, goal in GOALS.items():
        ratios, alone, times = [], [], []
        lost, calls, refused = 0, [], 0
        span = base = Span()
        for _ in range(options.times(3)):
            limit, base = peer(workers, count)
            seconds, span, found = relay(workers, count)
            ratios.append(seconds / limit)
            alone.append(limit)
            times.append(seconds)
            lost += found["lost"]
            calls.append(found["calls"])
            refused += found["throttled"]
        note = f"{min(times):.1f} to {max(times):.1f} s, {calls[-1]} calls, {refused} x 429"
        note += f"; storage operations a message: {span.total / count:.2f}, of the peer {base.total / count:.2f}"
        note += f"; Azurite {span.cpu.get('azurite', 0):.0f} s of CPU, for the peer {base.cpu.get('azurite', 0):.0f}"
        figures.append(
            Figure(
                f"{count:,} messages, {workers} worker{'s' if workers > 1 else ''}, first received to last outcome",
                "x",
                ratios,
                limit=f"receive, insert one row, delete: {min(alone):.1f} to {max(alone):.1f} s",
                goal=goal,
                cpu=span.cpu,
                wall=span.wall,
                note=note,
                lost=lost,
            )
        )
    return figures
