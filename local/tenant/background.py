"""A tenant in a thread of this process, with an event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from local.tenant.client import RunningTenant


@contextlib.contextmanager
def running(folder: Path | str, config: dict[str, Any] | None = None, port: int = 0) -> Iterator[RunningTenant]:
    """Run a tenant until the block ends. The CA's certificate is written to `folder`; `config` as in README.md.

    Raises:
        Exception: whatever kept the tenant from starting.
    """
    from local.tenant.server import serving

    ready = threading.Event()
    found: dict[str, Any] = {}

    async def serve() -> None:
        stop = asyncio.Event()
        found["stop"] = (asyncio.get_running_loop(), stop)
        async with serving(Path(folder), config or {}, port) as (_, line):
            found["line"] = line
            ready.set()
            await stop.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except Exception as error:  # handed to the thread that waits, below
            found["error"] = error
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="tenant", daemon=True)
    thread.start()
    ready.wait(60)
    try:
        if "line" not in found:
            raise found.get("error") or TimeoutError("the tenant does not start")
        yield RunningTenant.of(found["line"])
    finally:
        loop, stop = found["stop"]
        with contextlib.suppress(RuntimeError):  # the loop is closed when the start failed
            loop.call_soon_threadsafe(stop.set)
        thread.join(30)
    if "error" in found:
        raise found["error"]
