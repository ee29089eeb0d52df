"""`python -m local.tenant`: prints one line of JSON when ready, serves until SIGINT or SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from local.tenant.server import serving


async def _serve(folder: Path, config: dict[str, Any], port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    async with serving(folder, config, port) as (_, line):
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        await stop.wait()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m local.tenant", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="first of five ports in a row; 0: any free ones (default)")
    parser.add_argument("--folder", type=Path, help="where ca.pem is written; default: a temporary folder")
    parser.add_argument("--config", default="{}", help="JSON, or the path of a file with it; see README.md")
    arguments = parser.parse_args()
    text = arguments.config
    config = json.loads(text if text.lstrip().startswith("{") else Path(text).read_text())
    with tempfile.TemporaryDirectory(prefix="tenant-") as scratch:
        asyncio.run(_serve(arguments.folder or Path(scratch), config, arguments.port))


if __name__ == "__main__":
    main()
