"""`scripts/bench`: runs benchmarks by name and tells what they found."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Sequence

from bench.figure import Figure, Result, load, machine, text
from bench.report import write
from bench.run import Options
from local.cli import orderly
from local.processes import StackError

#: In the order in which they are run: what is short first. Each is a module of this package with `measure(options)`.
NAMES = (
    "decode",
    "simulate",
    "memory",
    "start",
    "idle",
    "single",
    "http",
    "messages",
    "large",
    "trickle",
    "cost",
    "growth",
)


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("names", nargs="*", metavar="NAME", help=" ".join(NAMES))
    parser.add_argument("--rounds", type=int, default=0, metavar="N")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args(given)
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are: {' '.join(NAMES)}")
    if options.rounds < 0:
        parser.error("--rounds takes a positive number")
    return options


def run(name: str, options: Options) -> Result:
    """One benchmark; what goes wrong in it is told in the result, and the others go on."""
    begun, busy = time.monotonic(), load()
    figures: list[Figure] = []
    error = ""
    try:
        for figure in importlib.import_module(f"bench.{name}").measure(options):
            figures.append(figure)  # one by one: what was measured before a fault stays
    except (StackError, OSError, RuntimeError, ValueError) as fault:
        error = f"{type(fault).__name__}: {fault}"
    return Result(name, figures, busy, time.monotonic() - begun, error)


def main() -> int:
    """Exit status: 0, or 1 when something was lost or not measured."""
    asked = arguments()
    orderly()
    options = Options(rounds=asked.rounds, quick=asked.quick)
    results: list[Result] = []
    try:
        for name in asked.names or NAMES:
            if not asked.json:
                print(f"{name} ...", file=sys.stderr, flush=True)
            results.append(run(name, options))
            if not asked.json:
                print(text(results[-1]), flush=True)
    except KeyboardInterrupt:
        return 130
    if asked.json:
        found = {"machine": machine(), "quick": asked.quick, "results": [result.as_json() for result in results]}
        print(json.dumps(found, indent=2))
    if asked.write:
        write(results, quick=asked.quick)
    lost = any(figure.lost for result in results for figure in result.figures)
    return 1 if lost or any(result.error for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
