"""`decode`: bytes to guarded indicators on one core, against decoding their JSON alone."""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from bench.figure import Figure
from bench.run import Options
from shared.intake import read
from shared.intake.contract import Door, Message
from shared.settings import Settings

GOAL = 5.0
_NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
_A_SECOND = 50  # messages of one indicator that were sent within one second


def value(number: int) -> tuple[str, str]:
    """The n-th of a mix of types and values, as a report of an incident has them: (value, type)."""
    match number % 10:
        case 0 | 1 | 2:
            return f"n{number}.malicious-{number % 97}.example", "DomainName"
        case 3 | 4:
            return f"https://n{number}.malicious.example/{number % 31}/login.php?id={number}", "Url"
        case 5 | 6:
            return f"{1 + number % 9}.{number // 250 % 250}.{number % 250}.77", "IpAddress"
        case 7 | 8:
            return f"{number:064x}", "FileSha256"
        case _:
            return f"{number:040x}", "FileSha1"


def full(count: int) -> bytes:
    """A batch whose items have what scripts and playbooks write for the API."""
    items = []
    for number in range(count):
        written, kind = value(number)
        items.append(
            {
                "indicatorValue": written,
                "indicatorType": kind,
                "action": "Audit",
                "title": f"Incident {4000 + number // 50}",
                "description": "Seen in an incident, published by a playbook",
                "severity": "Medium",
                "expirationTime": "2027-01-31T00:00:00Z",
                "generateAlert": True,
            }
        )
    return json.dumps({"schema": 1, "incident": 4711, "indicators": items}).encode()


def bare(count: int) -> bytes:
    """A batch of values with their types, everything else in `defaults`."""
    items = [dict(zip(("indicatorValue", "indicatorType"), value(number), strict=True)) for number in range(count)]
    defaults = {"action": "Audit", "title": "Seen in an incident", "severity": "Medium"}
    return json.dumps({"defaults": defaults, "indicators": items}).encode()


def lone(count: int) -> list[bytes]:
    """As many messages of one indicator."""
    found = []
    for number in range(count):
        written, kind = value(number)
        item = {"indicatorValue": written, "indicatorType": kind, "action": "Audit", "title": "Seen in an incident"}
        found.append(json.dumps(item | {"description": "From a playbook"}).encode())
    return found


def _seconds(work: Callable[[], object]) -> float:
    gc.collect()
    begun = time.process_time()
    work()
    return time.process_time() - begun


def _read(body: bytes, settings: Settings, now: datetime = _NOW) -> Message:
    found = read(body, door=Door.QUEUE, now=now, settings=settings)
    if not isinstance(found, Message) or any(item.indicator is None for item in found.items):
        raise RuntimeError("an indicator of the benchmark was rejected")
    return found


def compare(name: str, count: int, rounds: int, alone: Callable[[], Any], whole: Callable[[], Any]) -> Figure:
    """The ratio round by round, each against JSON decoding measured right before it."""
    whole()  # every guard list is loaded, every regular expression compiled
    ratios, rates, base = [], [], []
    for _ in range(rounds):
        first = min(_seconds(alone) for _ in range(3))
        second = min(_seconds(whole) for _ in range(2))
        ratios.append(second / first)
        rates.append(count / second)
        base.append(count / first)
    return Figure(
        name,
        "x",
        ratios,
        limit=f"json.loads alone, {max(base):,.0f} indicators a second",
        goal=GOAL,
        note=f"{max(rates):,.0f} indicators a second, {1e6 / max(rates):.1f} microseconds each",
    )


def measure(options: Options) -> list[Figure]:
    """Three shapes of the same indicators."""
    pinned = not options.quick and hasattr(os, "sched_setaffinity")
    if pinned:
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {max(cores)})
    try:
        return _measure(options)
    finally:
        if pinned:
            os.sched_setaffinity(0, cores)


def _measure(options: Options) -> list[Figure]:
    count, rounds = options.size(13_000, 2_000), options.times(5)
    settings = Settings()
    # The queue tells the moment of a message in whole seconds, and expirations count from it.
    moments = [_NOW + timedelta(seconds=number // _A_SECOND) for number in range(count)]
    full_body, bare_body, messages = full(count), bare(count), lone(count)
    return [
        compare(
            "decode + normalise + guard, items as scripts write them",
            count,
            rounds,
            lambda: json.loads(full_body),
            lambda: _read(full_body, settings),
        ),
        compare(
            "decode + normalise + guard, items of value and type alone",
            count,
            rounds,
            lambda: json.loads(bare_body),
            lambda: _read(bare_body, settings),
        ),
        compare(
            "decode + normalise + guard, messages of one indicator",
            count,
            rounds,
            lambda: [json.loads(body) for body in messages],
            lambda: [_read(body, settings, now) for body, now in zip(messages, moments, strict=True)],
        ),
    ]
