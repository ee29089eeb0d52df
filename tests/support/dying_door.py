"""Preloaded into the host double: the HTTP worker is killed at the n-th point of its work with storage.

A point is the moment before or after an operation. The file that the environment variable TEST_DYING_DOOR names holds
n; it is taken away when it is read, so that the next worker lives.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

FILE = "TEST_DYING_DOOR"
NEVER = 1_000_000

if "--group" in sys.argv and sys.argv[sys.argv.index("--group") + 1] == "http":
    from shared.storage import azure

    _left = 0
    _inner = azure._Client._run

    def _point() -> None:
        global _left
        file = Path(os.environ[FILE])
        if file.exists():
            _left = int(file.read_text())
            file.unlink()
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    async def _run(self: Any, work: Any) -> Any:
        _point()
        result = await _inner(self, work)
        _point()
        return result

    azure._Client._run = _run  # type: ignore[method-assign,assignment]
