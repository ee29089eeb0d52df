"""scripts/demo: samples, or files of yours, through the whole system, and what became of every indicator."""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from local.cli import orderly, until_told, workers
from local.client import AppClient, Problem
from local.describe import as_text, describe
from local.processes import StackError
from local.stack import Stack, StackOptions

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "samples"
STATES = ("accepted", "unchanged", "superseded", "rejected", "held", "deferred", "pending")
_CALL_SIZE = 500
#: Longest wait for all fates to be known, in seconds; what is open then is shown as it is.
PATIENCE = 300.0
GIVE_UP_AFTER = 4
#: So that an outage and its end fit into a demonstration.
IMPATIENT = {"RELAY_EXHAUSTED_AFTER": str(GIVE_UP_AFTER), "RELAY_DEFER_FIRST": "1", "RELAY_DEFER_MAX": "1"}


class Progress:
    """One line that changes in a terminal; a line now and then elsewhere. On standard error."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._last = ""
        self._at = 0.0

    def show(self, text: str, *, now: bool = False) -> None:
        """Replace the line; elsewhere print what is new, every three seconds at most."""
        if self._live:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
        elif text != self._last and (now or time.monotonic() - self._at > 3):
            print(text, file=sys.stderr, flush=True)
            self._at = time.monotonic()
            self._last = text

    def end(self) -> None:
        """Leave the line."""
        if self._live:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


@dataclasses.dataclass(slots=True)
class Sent:
    """One submission on its way. `told` is the app's latest word on it; `expected` what the door said it took."""

    id: str
    source: str
    expected: int | None = None
    told: dict[str, Any] | None = None

    @property
    def finished(self) -> bool:
        """Whether every item's fate is final."""
        return self.told is not None and self.told["state"] == "finished"

    @property
    def counts(self) -> dict[str, int]:
        """The sum's parts; nothing is known of a submission that the app has not seen."""
        return self.told["counts"] if self.told else {"submitted": 0} | dict.fromkeys(STATES, 0)

    @property
    def true(self) -> bool:
        """Whether submitted equals the sum of its parts, and what the door took."""
        counts = self.counts
        whole = counts["submitted"] == sum(counts[state] for state in STATES)
        return self.told is not None and whole and self.expected in (None, counts["submitted"])

    def row(self) -> dict[str, Any]:
        """For the report."""
        return {"id": self.id, "source": self.source, **self.counts, "reasons": (self.told or {}).get("reasons", {})}


def send_samples(app: AppClient, show: Callable[[str], None]) -> list[Sent]:
    """The samples through both doors."""
    sent = []
    for name in ("sentinel-incident.base64.txt", "plain-message.json", "bad-message.txt", "private-ip.json"):
        show(f"Queue: {name}")
        sent.append(Sent(app.send((SAMPLES / name).read_text("utf-8").strip()), f"queue: {name}"))
    show("HTTP: a batch of 1,200")
    batch = subprocess.run([sys.executable, SAMPLES / "make_batch.py"], capture_output=True, check=True).stdout
    taken = app.submit(batch)
    sent.append(Sent(taken["id"], "http: make_batch.py", taken["verdicts"]["submitted"]))
    return sent


def send_files(app: AppClient, files: list[Path], show: Callable[[str], None]) -> tuple[list[Sent], list[str]]:
    """Files through the HTTP door; what was sent, and a line for each file that the app refused."""
    sent, refused = [], []
    for file in files:
        show(f"HTTP: {file}")
        try:
            taken = app.submit(file.read_bytes())
        except Problem as problem:
            refused.append(f"{file} was refused: {problem}")
            continue
        sent.append(Sent(taken["id"], f"http: {file.name}", taken["verdicts"]["submitted"]))
    return sent, refused


def watch(app: AppClient, sent: list[Sent], progress: Progress) -> None:
    """Until every fate is known, or patience ends."""
    begun = time.monotonic()
    while True:
        for one in sent:
            if not one.finished:
                one.told = app.submission(one.id)
        done = sum(one.finished for one in sent)
        totals = {state: sum(one.counts[state] for one in sent) for state in STATES}
        told = ", ".join(f"{number:,} {state}" for state, number in totals.items() if number)
        progress.show(f"{done} of {len(sent)} submissions finished: {told or 'nothing known yet'}")
        if done == len(sent) or time.monotonic() - begun > PATIENCE:
            return
        time.sleep(0.25)


def outage(stack: Stack, app: AppClient, progress: Progress) -> tuple[list[Sent], list[str]]:
    """Defender fails for longer than the relay is patient, so a message ends as a dead letter; then it is replayed.

    In life patience is seven days; here GIVE_UP_AFTER seconds. The submissions and the story, a line each.
    """
    progress.show("An outage: restarting the app with less patience")
    stack.workers.change(IMPATIENT)
    fault = stack.admin.fault("import", "status", times=None, status=503)
    text = '{"indicatorValue":"late.example","action":"Audit","title":"Sent during an outage","source":"demo"}'
    lost = Sent(app.send(text), "queue: during an outage")
    watch(app, [lost], progress)
    stack.admin.clear_faults(fault)
    story = [
        f"outage: Defender answered 503 for longer than the relay tries (here {GIVE_UP_AFTER} s, else 7 days)",
        f"{lost.id}: {(lost.told or {}).get('text', 'not known')}",
    ]
    for letter in app.dead_letters():
        if lost.id in letter["submissions"]:
            again = Sent(app.replay(letter["id"])["id"], "its replay")
            watch(app, [again], progress)
            story.append(f"dead letter {letter['id']}: {letter['reason']}")
            story.append(f"its replay {again.id}: {(again.told or {}).get('text', 'not known')}")
            return [lost, again], story
    return [lost], story


def unreadable(app: AppClient) -> list[str]:
    """The story of the dead letters that a replay cannot help, and what the app says to one."""
    story = []
    for letter in app.dead_letters():
        if letter["kind"] != "unreadable" and letter["reason"] == "exhausted":
            continue
        story.append(f"dead letter {letter['id']}: {letter['reason']}. {letter['text']}")
        try:
            app.replay(letter["id"])
        except Problem as problem:
            story.append(f"its replay is refused while its cause remains: {problem.body.get('title', problem)}")
    return story


def report(stack: Stack, app: AppClient, sent: list[Sent], seconds: float) -> dict[str, Any]:
    """The figures of a run."""
    counters = stack.admin.counters()
    imports = [call["items"] for call in stack.admin.imports() if call.get("items")]
    totals = {name: sum(one.counts[name] for one in sent) for name in ("submitted", *STATES)}
    return {
        **totals,
        "dead_letters": len(app.dead_letters()),
        "calls": {"import": 0} | {route: number for route, number in counters["calls"].items() if number},
        "throttled": counters["throttled"],
        "batch_fill": round(sum(imports) / len(imports) / _CALL_SIZE, 3) if imports else 0.0,
        "seconds": round(seconds, 2),
        "submissions": [one.row() for one in sent],
    }


def table(figures: dict[str, Any]) -> str:
    """The figures for people."""
    shown = [state for state in STATES if figures[state]]
    heads = ["submission", "from", "submitted", *shown, "reasons"]
    rows = [heads]
    for one in figures["submissions"]:
        reasons = ", ".join(f"{reason} {number}" for reason, number in one["reasons"].items())
        rows.append([one["id"], one["source"], *(f"{one[name]:,}" for name in ("submitted", *shown)), reasons])
    rows.append(["", "all", *(f"{figures[name]:,}" for name in ("submitted", *shown)), ""])
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    lines = []
    for place, row in enumerate(rows):
        if place in (1, len(rows) - 1):
            lines.append("  ".join("-" * width for width in widths))
        cells = [
            cell.rjust(width) if 2 <= column < len(heads) - 1 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    calls = ", ".join(f"{number} {route}" for route, number in figures["calls"].items())
    lines += [
        "",
        f"calls to Defender: {calls}; answers of 429: {figures['throttled']}; "
        f"batch fill: {figures['batch_fill']:.0%} of {_CALL_SIZE}; "
        f"{figures['seconds']:g} s from first send to last outcome",
    ]
    return "\n".join(lines)


def run(options: argparse.Namespace, stack: Stack) -> int:
    """Send, watch, tell. Exit status: 0, or 1 when something is lost, open, or untrue."""
    app, progress = AppClient(stack), Progress()
    begun = time.monotonic()
    try:
        files: list[Path] = options.input
        sent, refused = send_files(app, files, progress.show) if files else (send_samples(app, progress.show), [])
        watch(app, sent, progress)
        seconds = time.monotonic() - begun
        figures = report(stack, app, sent, seconds)
        story = unreadable(app)
        if not files:
            more, told = outage(stack, app, progress)
            sent, story = sent + more, story + told
            figures = report(stack, app, sent, time.monotonic() - begun)
    except Problem as problem:
        progress.end()
        print(f"The app refused it: {problem}", file=sys.stderr)
        return 1
    progress.end()
    if options.json:
        print(json.dumps(figures), flush=True)
    else:
        print("\n" + "\n".join([table(figures), "", *story]))
    for line in refused:
        print(line, file=sys.stderr)
    faults = [one for one in sent if not one.finished or not one.true]
    for one in faults:
        state = "was lost" if one.told is None else "is not finished" if one.true else "does not add up"
        print(f"NOT WELL: {one.source} ({one.id}) {state}", file=sys.stderr)
    return 1 if faults or refused else 0


def main() -> int:
    """Exit status: 0; 1 when something was lost, is open, or could not be sent."""
    parser = argparse.ArgumentParser(prog="scripts/demo")
    parser.add_argument("--input", type=Path, action="append", default=[], metavar="FILE")
    parser.add_argument("--workers", type=workers, default=1)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for file in options.input:
        if not file.is_file():
            parser.error(f"there is no file {file}")
    orderly()
    print("Starting storage, the tenant and the app ...", file=sys.stderr)
    try:
        with Stack(StackOptions(workers=options.workers)) as stack:
            status = run(options, stack)
            if options.keep:
                told = until_told()
                about = as_text(describe(stack)) + "\nCtrl-C ends it."
                print(about, file=sys.stderr if options.json else sys.stdout, flush=True)
                told.wait()
            return status
    except StackError as error:
        print(f"The local stack did not start: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nEnded before everything was known.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
