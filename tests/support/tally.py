"""Preloaded into the host double: a line for each storage operation of this process, in a file of its own.

The folder is named by STACK_TALLY. Counted where the requests leave: of the SDKs, and of the host's own queue client.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

FOLDER = "STACK_TALLY"


def read(folder: Path) -> Counter[str]:
    """Operations so far, of all processes: `queue GET`, `blob PUT`, `table POST`, ..."""
    return Counter(line for file in folder.glob("*.tally") for line in file.read_text().splitlines())


def _install(folder: Path) -> None:
    from requests.adapters import HTTPAdapter

    from local.host.queueservice import QueueService
    from shared.storage.connection import NAME

    file = os.open(folder / f"{os.getpid()}.tally", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    parts = dict(part.split("=", 1) for part in os.environ[NAME].split(";") if "=" in part)
    services = {urlsplit(parts[f"{kind.capitalize()}Endpoint"]).netloc: kind for kind in ("queue", "blob", "table")}
    send, call = HTTPAdapter.send, QueueService._call

    def sending(self: Any, request: Any, *arguments: Any, **options: Any) -> Any:
        service = services.get(urlsplit(request.url).netloc)
        if service is not None:
            os.write(file, f"{service} {request.method}\n".encode())
        return send(self, request, *arguments, **options)

    async def calling(self: Any, method: str, *arguments: Any) -> Any:
        os.write(file, f"queue {method}\n".encode())
        return await call(self, method, *arguments)

    HTTPAdapter.send = sending  # type: ignore[method-assign]
    QueueService._call = calling  # type: ignore[method-assign, assignment]


if FOLDER in os.environ:
    _install(Path(os.environ[FOLDER]))
