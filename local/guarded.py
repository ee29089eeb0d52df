"""`python -m local.guarded MODULE ARGUMENTS...`: runs a module that ends when whoever started it is gone.

The starter holds the other end of our standard input and never writes to it. When that end closes, by an orderly exit
or by SIGKILL, nobody is left who could stop this process.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading


def _watch() -> None:
    while os.read(0, 4096):
        pass
    os._exit(4)


def guard() -> None:
    """From now on this process ends when whoever started it is gone."""
    threading.Thread(target=_watch, name="parent-watch", daemon=True).start()


if __name__ == "__main__":
    guard()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
