"""Starts a stack's processes quickly: one that has imported what each of them needs becomes one of them (fork).

Importing the Functions runtime and the SDKs takes longer than all else that a start consists of, and a stack starts
four processes or more. The nursery imports libraries and doubles, nothing of the app and none of its settings. A
process from it has its own session, environment, folder and streams, as one that was started anew; it is spared the
imports alone. Whatever measures a start or memory has its hosts started without it (`HostOptions.fresh`).

Linux only: elsewhere a fork without exec is not safe with what the system's own libraries do.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from local.guarded import guard
from local.processes import Child, StackError, plain_environment

ROOT = Path(__file__).resolve().parents[1]
FORKS = sys.platform == "linux"
MODULES = ("local.host", "local.tenant")
LIBRARIES = (
    "azure.functions",
    "azure.data.tables",
    "azure.identity",
    "azure.keyvault.secrets",
    "azure.storage.blob",
    "azure.storage.queue",
    "requests",
)
_REQUEST = 1 << 20  # bytes of a request: arguments and environment
_STREAMS = 4  # that go with it: standard input, output and error, and the pipe on which its end is told


class NurseryError(StackError):
    """The nursery has ended: somebody killed it."""


class Offspring:
    """A process from the nursery; of subprocess.Popen it has what local/processes.py uses."""

    def __init__(self, stdin: int, stdout: int, told: int) -> None:
        self.stdin = os.fdopen(stdin, "wb")
        self.stdout = os.fdopen(stdout, "rb")
        self._told = os.fdopen(told, "rb")
        self._poll = select.poll()
        self._poll.register(self._told, select.POLLIN)
        self._lock = threading.Lock()
        self._status: int | None = None
        line = self._told.readline()
        if not line:
            for stream in (self.stdin, self.stdout, self._told):
                stream.close()
            raise NurseryError("the process that starts the app's hosts has ended; start anew")
        self.pid = int(line)

    def poll(self) -> int | None:
        """Exit status, minus the signal's number after a signal; None while it runs."""
        with self._lock:
            if self._status is None and self._poll.poll(0):
                self._status = int(self._told.readline() or -signal.SIGKILL)  # nothing: the nursery was killed
                self._told.close()
            return self._status

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        end = None if timeout is None else time.monotonic() + timeout
        pause = 0.001
        while (status := self.poll()) is None:  # the lock is free meanwhile: others look too
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            time.sleep(pause)
            pause = min(2 * pause, 0.02)
        return status

    def send_signal(self, number: int) -> None:
        """Nothing happens to one that has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The starter's side. The nursery ends with its starter, however that ends."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._channel, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-P", "-m", "local.nursery", str(theirs.fileno())]
            self._process = subprocess.Popen(
                command, env=dict(environ), pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
            )
        self._lock = threading.Lock()  # one request at a time

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def start(self, command: Sequence[str], environ: Mapping[str, str], errors: int, cwd: Path) -> Offspring:
        """One of MODULES with its arguments; `errors` is a file for its standard error. Raises NurseryError."""
        wanted = {"command": list(command), "environ": dict(environ), "cwd": str(cwd)}
        request = json.dumps(wanted).encode() + b"\n"
        (stdin, ours_in), (ours_out, stdout), (ours_told, told) = os.pipe(), os.pipe(), os.pipe()
        with self._lock:
            try:
                sent = socket.send_fds(self._channel, [request], [stdin, stdout, errors, told])
                self._channel.sendall(request[sent:])
            except OSError:
                pass  # it has ended, and nobody answers below
            finally:
                for end in (stdin, stdout, told):
                    os.close(end)
            # Answered before the next one is asked: what goes with a request is found where its bytes begin.
            return Offspring(ours_in, ours_out, ours_told)

    def stop(self) -> None:
        """End it; what it has started goes on."""
        self._channel.close()
        self._process.wait()


_one = threading.Lock()
_ours: list[Nursery] = []


def nursery() -> Nursery:
    """This process's nursery; begun at the first call, and again after somebody has killed it."""
    with _one:
        if _ours and not _ours[0].alive:
            _ours.pop().stop()
        if not _ours:
            _ours.append(Nursery(plain_environment() | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}))
        return _ours[0]


@atexit.register
def _stop() -> None:
    while _ours:
        _ours.pop().stop()


def start(
    module: str,
    arguments: Sequence[str],
    environ: Mapping[str, str],
    folder: Path,
    *,
    name: str,
    fresh: bool = False,
) -> Child:
    """`python -m MODULE ARGUMENTS`, ended with its starter; `fresh`: as an interpreter of its own."""
    if fresh or not FORKS:
        return Child(name, [sys.executable, "-P", "-m", "local.guarded", module, *arguments], environ, folder)
    return Child(name, [module, *arguments], environ, folder, start=nursery().start)


def _coerced(environ: dict[str, str]) -> dict[str, str]:
    """With the locale that an interpreter gives itself, and its children, where it finds none (PEP 538)."""
    found = environ.get("LC_CTYPE") or environ.get("LANG") or "C"
    plain = not environ.get("LC_ALL") and found in ("C", "POSIX")
    return environ | ({"LC_CTYPE": "C.UTF-8"} if plain else {})


class _Server:
    """The nursery itself."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        signal.set_wakeup_fd(self._wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # with a handler, the end of a child wakes `select`
        self._told: dict[int, int] = {}

    def serve(self) -> Callable[[], int | None] | None:
        """Until the starter is gone: None. In a process that was made here: what it is to do."""
        while True:
            ready = select.select([self._channel.fileno(), self._woken], [], [])[0]
            if self._woken in ready:
                os.read(self._woken, 4096)
                self._tell()
            if self._channel.fileno() in ready:
                data, streams, _, _ = socket.recv_fds(self._channel, _REQUEST, _STREAMS)
                while data and not data.endswith(b"\n"):
                    data += self._channel.recv(_REQUEST)
                if not data:
                    return None
                request = json.loads(data)
                pid = os.fork()
                if pid == 0:
                    return self._become(request, streams)
                for stream in streams[:3]:
                    os.close(stream)
                self._told[pid] = streams[3]
                self._say(streams[3], pid)

    def _tell(self) -> None:
        while self._told:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            told = self._told.pop(pid)
            self._say(told, os.waitstatus_to_exitcode(status))
            os.close(told)

    @staticmethod
    def _say(told: int, number: int) -> None:
        with contextlib.suppress(BrokenPipeError):  # nobody wants to know any more
            os.write(told, b"%d\n" % number)

    def _become(self, request: dict[str, Any], streams: list[int]) -> Callable[[], int | None]:
        """What a process that is started anew has by itself."""
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, stream in enumerate(streams[:3]):
            os.dup2(stream, number)
        for private in (*streams, *self._told.values(), self._woken, self._wake):
            os.close(private)
        self._channel.close()
        before, after = os.environ["PYTHONPATH"], request["environ"].get("PYTHONPATH", "")
        libraries = [place for place in sys.path if place not in before.split(os.pathsep)]
        sys.path[:] = [*filter(None, after.split(os.pathsep)), *libraries]
        os.environ.clear()
        os.environ.update(_coerced(request["environ"]))
        os.chdir(request["cwd"])
        sys.argv = request["command"]
        guard()
        main: Callable[[], int | None] = importlib.import_module(f"{sys.argv[0]}.__main__").main
        return main


def _serve(channel: int) -> int | None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in (*(f"{module}.__main__" for module in MODULES), *LIBRARIES):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what is looked at by the collector is no longer shared
    work = _Server(socket.socket(fileno=channel)).serve()
    return None if work is None else work()


if __name__ == "__main__":
    sys.exit(_serve(int(sys.argv[1])))
