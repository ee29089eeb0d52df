"""scripts/local: the stack alone, until Ctrl-C."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading

from local.describe import as_text, describe
from local.processes import StackError
from local.stack import Stack, StackOptions


def until_told() -> threading.Event:
    """An event that SIGINT and SIGTERM set, so that leaving is always orderly."""
    told = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.set())
    return told


def orderly() -> None:
    """SIGTERM ends a run as Ctrl-C does, so that what was started is ended too."""

    def leave(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, leave)


def setting(text: str) -> tuple[str, str]:
    """NAME=VALUE from the command line."""
    name, found, value = text.partition("=")
    if not found or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def workers(text: str) -> int:
    """A number of queue workers from the command line."""
    if not text.isdigit() or not 1 <= int(text) <= 50:
        raise argparse.ArgumentTypeError("1 to 50")
    return int(text)


def main() -> int:
    """Exit status: 0, or 1 when the stack does not start."""
    parser = argparse.ArgumentParser(prog="scripts/local")
    parser.add_argument("--workers", type=workers, default=1)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--set", type=setting, action="append", default=[], dest="settings", metavar="NAME=VALUE")
    parser.add_argument("--easy-auth", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    orderly()
    print("Starting storage, the tenant and the app ...", file=sys.stderr)
    try:
        wanted = StackOptions(
            workers=options.workers,
            port=options.port,
            settings=dict(options.settings),
            easy_auth=options.easy_auth,
        )
        with Stack(wanted) as stack:
            told = until_told()
            about = describe(stack)
            print(json.dumps(about) if options.json else as_text(about) + "\nCtrl-C ends it.", flush=True)
            told.wait()
            print("\nEnding ...", file=sys.stderr)
    except StackError as error:
        print(f"The local stack did not start: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
