"""scripts/fleet: deploy, verify or compare every tenant of a folder, side by side; one table at the end.

Each tenant is a process of its own (deploy.deploy with --json), so that one that hangs or fails touches no other.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from deploy import package
from deploy.say import Failed, orderly, show, tell, write
from deploy.tenant import tenant_files

Order = Literal["deploy", "verify", "drift"]
_DRIFT = 3


@dataclasses.dataclass(slots=True)
class Outcome:
    """What came of one tenant. `state`: ok, drift or FAILED."""

    label: str
    state: str = "FAILED"
    detail: str = ""
    seconds: float = 0.0
    told: dict[str, Any] = dataclasses.field(default_factory=dict)


class Fleet:
    """One order for many tenants."""

    def __init__(self, order: Order, more: Sequence[str] = ()) -> None:
        self._order = order
        self._more = list(more)
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._lock = threading.Lock()
        self._stopped = False

    def run(self, files: Sequence[Path], jobs: int) -> list[Outcome]:
        """All of them, `jobs` at a time, in the order of their names. An interruption ends those that run."""
        with ThreadPoolExecutor(jobs) as pool:
            waiting = [pool.submit(self._one, file) for file in files]
            try:
                return [one.result() for one in waiting]
            except BaseException:
                self._stop()
                for one in waiting:
                    one.cancel()
                raise

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            for process in self._running.values():
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGTERM)

    def _command(self, file: Path) -> list[str]:
        line = [sys.executable, "-P", "-m", "deploy.deploy", str(file), "--json", *self._more]
        return line + {"deploy": ["--yes"], "verify": ["--only", "verify"], "drift": ["--what-if-only"]}[self._order]

    def _one(self, file: Path) -> Outcome:
        outcome = Outcome(file.name.removesuffix(".bicepparam"))
        begun = time.monotonic()
        with self._lock:
            if self._stopped:
                return outcome
            process = subprocess.Popen(
                self._command(file),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                env=os.environ | {"PYTHONPATH": str(package.ROOT)},
                start_new_session=True,  # Ctrl-C reaches us alone; we end them, so that each resumes its relay
            )
            self._running[outcome.label] = process
        assert process.stderr is not None and process.stdout is not None
        said: list[str] = []
        reader = threading.Thread(target=lambda: said.append(process.stdout.read() if process.stdout else ""))
        reader.start()
        for line in process.stderr:
            if line.strip():
                tell(f"[{outcome.label}] {line.rstrip()}")
        status = process.wait()
        reader.join()
        for stream in (process.stdout, process.stderr):
            stream.close()
        with self._lock:
            self._running.pop(outcome.label, None)
        outcome.seconds = time.monotonic() - begun
        self._judge(outcome, status, "".join(said))
        tell(f"[{outcome.label}] {outcome.state}: {outcome.detail}")
        return outcome

    def _judge(self, outcome: Outcome, status: int, output: str) -> None:
        try:
            outcome.told = json.loads(output)
        except ValueError:
            outcome.detail = f"it ended with status {status} and told nothing"
            return
        if status:
            outcome.detail = str(outcome.told.get("error") or f"it ended with status {status}").splitlines()[0]
        elif self._order == "drift":
            outcome.state = "drift" if outcome.told.get("drift") else "ok"
            outcome.detail = _drifted(outcome.told.get("changes") or {})
        else:
            outcome.state = "ok"
            steps = outcome.told.get("steps") or [{}]
            outcome.detail = str(steps[-1].get("detail", "")).splitlines()[0]


def _drifted(changes: dict[str, Any]) -> str:
    parts = []
    for step, listed in changes.items():
        if listed is None:
            parts.append(f"{step}: not there yet")
        elif listed:
            kinds = [one["kind"] for one in listed]
            counted = ", ".join(f"{kinds.count(kind)} {kind.lower()}" for kind in dict.fromkeys(kinds))
            parts.append(f"{step}: {counted}")
    return "; ".join(parts) or "as the files have it"


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """One line a tenant, in columns."""
    width = max(len("tenant"), *(len(one.label) for one in outcomes))
    lines = [f"{'tenant':<{width}}  state   seconds  ", f"{'-' * width}  ------  -------  {'-' * 40}"]
    lines += [f"{one.label:<{width}}  {one.state:<6}  {one.seconds:>7.0f}  {one.detail[:150]}" for one in outcomes]
    count = {state: sum(one.state == state for one in outcomes) for state in ("ok", "drift", "FAILED")}
    return [*lines, "", ", ".join(f"{number} {state}" for state, number in count.items() if number)]


def main() -> int:
    """Exit status: 0 all fine; 1 at least one failed; 3 none failed and at least one has drifted; 130 interrupted."""
    parser = argparse.ArgumentParser(prog="scripts/fleet")
    parser.add_argument("order", choices=("deploy", "verify", "drift"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--yes", action="store_true")
    parser.add_argument("--zip", type=Path)
    parser.add_argument("--allow-dirty", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    orderly()
    try:
        files = tenant_files(options.folder)
        more: list[str] = []
        if options.order == "deploy":
            if not options.yes:
                raise Failed(
                    f"It would deploy {len(files)} tenants without asking for each.",
                    "Look first (scripts/fleet drift FOLDER), then pass --yes.",
                )
            made = options.zip or package.build(allow_dirty=options.allow_dirty).path  # one package for all of them
            more = ["--zip", str(made.absolute())]
        outcomes = Fleet(options.order, more).run(files, max(1, options.jobs))
    except Failed as error:
        tell(f"\nNot begun. {error}")
        return 1
    except KeyboardInterrupt:
        tell("\nInterrupted.")
        return 130
    if options.json:
        show({"order": options.order, "tenants": [dataclasses.asdict(one) for one in outcomes]})
    else:
        for line in table(outcomes):
            write(line)
    if any(one.state == "FAILED" for one in outcomes):
        return 1
    return _DRIFT if any(one.state == "drift" for one in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
