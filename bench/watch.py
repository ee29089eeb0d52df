"""Preloaded into the host double: when each queue function was called, and when it returned, in a file.

The folder is named by BENCH_WATCH. That moment is when the host hands a message over, before the worker's runtime has
seen it; what the runtime costs is part of the figure.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

FOLDER = "BENCH_WATCH"


def read(folder: Path) -> list[float]:
    """time.time() of every call so far, of all processes."""
    return sorted(float(line[1:]) for line in _lines(folder) if line[0] == "+")


def active(folder: Path) -> list[float]:
    """Seconds of each stretch in which at least one function ran, all processes taken as one instance."""
    found: list[float] = []
    running, begun = 0, 0.0
    for moment, step in sorted((float(line[1:]), 1 if line[0] == "+" else -1) for line in _lines(folder)):
        if running == 0:
            begun = moment
        running += step
        if running == 0:
            found.append(moment - begun)
    return found


def _lines(folder: Path) -> list[str]:
    return [line for file in folder.glob("*.called") for line in file.read_text().splitlines()]


def _install(folder: Path) -> None:
    from local.host.queues import QueueListener

    file = os.open(folder / f"{os.getpid()}.called", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    call = QueueListener._call

    async def calling(self: Any, message: Any) -> bool:
        os.write(file, f"+{time.time():.6f}\n".encode())
        try:
            return await call(self, message)
        finally:
            os.write(file, f"-{time.time():.6f}\n".encode())

    QueueListener._call = calling  # type: ignore[method-assign]


if FOLDER in os.environ:
    _install(Path(os.environ[FOLDER]))
