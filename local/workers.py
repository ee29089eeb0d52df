"""The app's worker processes: one group each for HTTP, the queue function and the timers, watched and restarted."""

from __future__ import annotations

import dataclasses
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from local import nursery
from local.processes import Child, Usage

ROOT = Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HostOptions:
    """How the host double runs the app; see `python -m local.host --help`.

    `fresh`: each host an interpreter of its own that imports everything itself, as in Azure, for whoever measures a
    start or memory. Otherwise, where the system can, they are copies of a process that has the libraries (nursery.py).
    """

    app: Path = ROOT
    lease: float = 600.0
    timers: Mapping[str, float] = dataclasses.field(default_factory=dict)
    speed: float = 1.0
    front_end_limit: float = 230.0
    easy_auth: Path | None = None
    preload: Sequence[str] = ()
    fresh: bool = False


class Worker:
    """One instance of a group: the process of now, and what its predecessors used."""

    def __init__(self, name: str, group: str, port: int = 0) -> None:
        self.name = name
        self.group = group
        self.port = port
        self.child: Child | None = None
        self.wanted = True
        self.starts = 0
        self.past_cpu = 0.0

    def usage(self) -> Usage:
        """CPU seconds of all its processes, memory of the present one."""
        now = self.child.usage() if self.child else Usage()
        return Usage(self.past_cpu + now.cpu, now.rss)


class Workers:
    """Starts, watches and ends the app's processes."""

    def __init__(self, folder: Path, keys: Path, options: HostOptions, *, restart: bool = True) -> None:
        self._folder = folder
        self._keys = keys
        self._options = options
        self._restart = restart
        self._environ: dict[str, str] = {}
        self._workers: list[Worker] = []
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._watch = threading.Thread(target=self._supervise, name="supervisor", daemon=True)

    def start(self, environ: Mapping[str, str], queue_functions: Sequence[str], count: int, port: int) -> None:
        """All groups at once; returns when each is ready. Raises StackError."""
        self._environ = dict(environ)
        self._workers = [Worker("http", "http", port), Worker("timers", "timers")]
        for function in queue_functions:
            self._workers += [Worker(f"{function.lower()}-{n}", f"queue:{function}") for n in range(1, count + 1)]
        for worker in self._workers:
            self._spawn(worker)
        for worker in self._workers:
            self._ready(worker)
        self._watch.start()

    def queue_workers(self) -> list[Worker]:
        """The instances of the queue functions."""
        return [worker for worker in self._workers if worker.group.startswith("queue:")]

    def find(self, name: str) -> Worker:
        """The worker of this name: `http`, `timers`, `publish-1`, ..."""
        return next(worker for worker in self._workers if worker.name == name)

    def add(self, function: str) -> Worker:
        """One more instance of a queue function."""
        number = 1 + sum(worker.group == f"queue:{function}" for worker in self._workers)
        worker = Worker(f"{function.lower()}-{number}", f"queue:{function}")
        self._spawn(worker)
        self._ready(worker)
        with self._lock:
            self._workers.append(worker)
        return worker

    def kill(self, worker: Worker) -> None:
        """SIGKILL. The supervisor starts another one, unless restarting is off."""
        with self._lock:
            if worker.child is not None:
                worker.child.kill()

    def hold(self, worker: Worker) -> None:
        """End it with SIGTERM and do not start another."""
        with self._lock:
            worker.wanted = False
            child = worker.child
        if child is not None:
            child.stop()

    def resume(self, worker: Worker) -> None:
        """Start it again after `hold`, or after a death that nobody restarted."""
        with self._lock:
            worker.wanted = True
            if worker.child is None or worker.child.status is not None:
                self._spawn(worker)
                self._ready(worker)

    def change(self, settings: Mapping[str, str]) -> None:
        """Other application settings: every worker ends and starts again with them, as in Azure."""
        self._environ |= settings
        for worker in self._workers:
            self.hold(worker)
        for worker in self._workers:
            self.resume(worker)

    def usage(self) -> dict[str, Usage]:
        """By worker name."""
        return {worker.name: worker.usage() for worker in self._workers}

    def stop(self) -> None:
        """End all of them, gently at first."""
        self._stopping.set()
        if self._watch.is_alive():
            self._watch.join()
        children = [worker.child for worker in self._workers if worker.child is not None]
        for child in children:
            child.terminate()
        for child in children:
            child.stop()

    def _spawn(self, worker: Worker) -> None:
        if worker.child is not None:
            worker.past_cpu += worker.child.usage().cpu
        worker.starts += 1
        options = self._options
        arguments = {
            "--app": options.app,
            "--group": worker.group,
            "--port": worker.port,
            "--keys": self._keys,
            "--lease": f"{options.lease:g}",
            "--json-log": self._folder / f"{worker.name}.jsonl",
            "--speed": f"{options.speed:g}",
            "--front-end-limit": f"{options.front_end_limit:g}",
        }
        command = [text for name, value in arguments.items() for text in (name, str(value))]
        if options.easy_auth is not None:
            command += ["--easy-auth", str(options.easy_auth)]
        for module in options.preload:
            command += ["--preload", module]
        if worker.group == "timers":
            for name, seconds in options.timers.items():
                command += ["--timer", f"{name}={seconds:g}"]
        worker.child = nursery.start(
            "local.host", command, self._environ, self._folder, name=worker.name, fresh=options.fresh
        )

    def _ready(self, worker: Worker) -> dict[str, Any]:
        assert worker.child is not None
        answer = worker.child.first_line()
        worker.port = int(answer["port"])  # kept over restarts, so that URLs stay
        return answer

    def _supervise(self) -> None:
        while not self._stopping.wait(0.05):
            for worker in list(self._workers):
                with self._lock:
                    child = worker.child
                    if child is None or child.status is None or not (self._restart and worker.wanted):
                        continue
                    print(f"{worker.name} ended with status {child.status}; starting another", file=sys.stderr)
                    child.stop()
                    if worker.starts > 3 and child.lived < 2.0:
                        time.sleep(0.5)  # one that dies at once must not take the machine
                    self._spawn(worker)
