"""Log lines of a worker process, as JSON lines: what Application Insights would hold as traces."""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys
from pathlib import Path

from local.host.runtime import CURRENT


class JsonLines(logging.Formatter):
    """One JSON object a line, with the function and the invocation it was written in."""

    def format(self, record: logging.LogRecord) -> str:
        function, invocation = CURRENT.get()
        line: dict[str, object] = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if function:
            line["function"] = function
            line["invocation"] = invocation
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        for name, value in record.__dict__.items():
            if name not in _STANDARD and not name.startswith("_"):
                line.setdefault(name, value)
        return json.dumps(line, default=str, ensure_ascii=False)


_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def configure(file: Path | None) -> None:
    """Everything at INFO and above to `file` (or standard error): the worker pipes all of it to the host."""
    handler = logging.FileHandler(file, encoding="utf-8") if file else logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    # One line for each invocation from the runtime itself: with a thousand messages a second it would be the load.
    logging.getLogger("azure.functions").setLevel(logging.WARNING)
    logging.captureWarnings(True)
