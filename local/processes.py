"""Child processes of the local stack: ports, readiness, an end to each by its own id."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

_TICKS = os.sysconf("SC_CLK_TCK")


class StackError(Exception):
    """A part of the local stack did not start; the message says where its log is."""


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def plain_environment() -> dict[str, str]:
    """The part of our own environment that a child needs, without anything that would steer it elsewhere."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SYSTEMROOT", "USER")
    found = {name: os.environ[name] for name in kept if name in os.environ}
    return found | {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}


@dataclasses.dataclass(slots=True)
class Usage:
    """CPU seconds since the start and resident memory in bytes; zero where the system does not tell."""

    cpu: float = 0.0
    rss: int = 0


class Process(Protocol):
    """Of subprocess.Popen what is used here."""

    pid: int

    @property
    def stdin(self) -> IO[bytes] | None: ...
    @property
    def stdout(self) -> IO[bytes] | None: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...
    def kill(self) -> None: ...


#: Starts a process: command, environment, a file for its standard error, folder to run in.
Starter = Callable[[Sequence[str], Mapping[str, str], int, Path], Process]


def spawn(command: Sequence[str], environ: Mapping[str, str], errors: int, cwd: Path) -> Process:
    """A process of its own session, with pipes for input and output."""
    return subprocess.Popen(
        list(command),
        env=dict(environ),
        cwd=cwd,
        stdin=subprocess.PIPE,  # never written to: its end tells the child that we are gone
        stdout=subprocess.PIPE,
        stderr=errors,
        start_new_session=True,  # Ctrl-C reaches us alone; we end them in order
    )


class Child:
    """A process of ours, with its standard error in a log file."""

    def __init__(
        self, name: str, command: Sequence[str], environ: Mapping[str, str], folder: Path, *, start: Starter = spawn
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as errors:
            self._process = start(command, environ, errors.fileno(), folder)
        self._last = Usage()
        self._begun = time.monotonic()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Exit status, or None while it runs."""
        return self._process.poll()

    @property
    def lived(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self._begun

    def first_line(self, timeout: float = 60.0) -> dict[str, Any]:
        """The JSON object that it prints when it is ready. Raises StackError when it ends or stays silent."""
        stream = self._process.stdout
        assert stream is not None
        deadline, data = time.monotonic() + timeout, b""
        while not data.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([stream], [], [], left)[0]:
                raise StackError(f"{self.name} is not ready after {timeout:g} s; see {self.log}")
            piece = os.read(stream.fileno(), 65536)
            if not piece:
                self._process.wait()
                raise StackError(f"{self.name} ended with status {self.status} at start:\n{self.tail()}")
            data += piece
        answer: dict[str, Any] = json.loads(data.splitlines()[0])
        return answer

    def wait_until(self, ready: Callable[[], bool], timeout: float = 60.0) -> None:
        """Ask `ready` every 20 ms. Raises StackError when it ends or the time is over."""
        deadline = time.monotonic() + timeout
        while not ready():
            if self.status is not None:
                raise StackError(f"{self.name} ended with status {self.status} at start:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise StackError(f"{self.name} is not ready after {timeout:g} s; see {self.log}")
            time.sleep(0.02)

    def tail(self, lines: int = 15) -> str:
        """The end of its log."""
        try:
            return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:])
        except OSError:
            return ""

    def usage(self) -> Usage:
        """CPU and memory by now; of a process that has ended: as last seen. Linux only."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return self._last
        ticks = int(fields[11]) + int(fields[12])
        if self.status is None:
            self._last = Usage(ticks / _TICKS, int(fields[21]) * os.sysconf("SC_PAGE_SIZE"))
        return self._last

    def kill(self) -> None:
        """SIGKILL, as when an instance dies."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._reap()

    def terminate(self) -> None:
        """SIGTERM without waiting."""
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    def stop(self, grace: float = 8.0) -> None:
        """SIGTERM, then SIGKILL after `grace` seconds."""
        self.terminate()
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reap()

    def _reap(self) -> None:
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
