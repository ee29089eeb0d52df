"""What the scripts print: progress for people on standard error, results on standard output."""

from __future__ import annotations

import json
import signal
import sys
from typing import Any


class Failed(Exception):
    """A step could not be done: what happened in the words of a person, and what to do about it.

    `str()` gives both on lines of their own. Never holds a secret.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what}\n  {remedy}" if remedy else what)
        self.what = what
        self.remedy = remedy


def orderly() -> None:
    """SIGTERM ends a script as Ctrl-C does, so that what it began is ended too: a pause, a canary."""

    def leave(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, leave)


def tell(text: str) -> None:
    """A line of progress."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def show(result: dict[str, Any]) -> None:
    """The result, as indented JSON."""
    sys.stdout.write(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def write(text: str) -> None:
    """A line of the result, for people."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
