"""Defender's list for tests of looking: rows in memory, its rules for $skip and $top, every call on record."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from typing import Any

from shared.defender.answers import Answer, Keep, listing
from shared.defender.client import Page
from shared.errors import BatchRefusedError, NotSentError, RelayError
from shared.looking.ports import Who

MINE = "app-1"


def row(number: int, value: str = "", kind: str = "DomainName", action: str = "Block", **more: Any) -> dict[str, Any]:
    """An indicator as the list has it."""
    return {
        "id": str(number),
        "indicatorValue": value or f"h{number}.evil.com",
        "indicatorType": kind,
        "action": action,
        "createdBy": MINE,
        "createdByDisplayName": "Relay",
        "createdBySource": "PublicApi",
        "severity": "High",
        "title": "t",
        "description": "d",
        "expirationTime": "2036-01-01T00:00:00Z",
        "lastUpdateTime": "2026-01-01T00:00:00.0000000Z",
        "certificateInfo": {"issuer": "somebody"},
        **more,
    }


@dataclasses.dataclass
class FakeLister:
    """shared.looking.ports.Lister on a list of rows.

    refuse: a filter that names any of these fields gets 400; deaf: it finds nothing; ignore: filters are taken and not
    applied; page_size and next_link: as the service's; before: called before each page, may raise or change the rows.
    """

    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    who_: Who = dataclasses.field(default_factory=lambda: Who(MINE, "everyone"))
    refuse: tuple[str, ...] = ()
    deaf: tuple[str, ...] = ()
    ignore: bool = False
    page_size: int = 10_000
    next_link: bool = False
    before: Callable[[int], RelayError | None] = lambda _number: None
    calls: list[tuple[str | None, int, int]] = dataclasses.field(default_factory=list)

    async def prepare(self) -> None:
        return None

    async def who(self) -> Who:
        return self.who_

    async def run[T](self, work: Callable[[], T]) -> T:
        return work()

    async def list_page(self, filter: str | None, top: int, skip: int, keep: Keep | None, *, within: float) -> Page:
        if within <= 0:
            raise NotSentError("too late")
        assert 1 <= top <= 10_000 and skip >= 0
        self.calls.append((filter, top, skip))
        error = self.before(len(self.calls))
        if error is not None:
            raise error
        wanted = dict(re.findall(r"(\w+) eq '((?:[^']|'')*)'", filter or ""))
        if any(name in self.refuse for name in wanted):
            raise BatchRefusedError("400", message_text="no such filter")
        rows = [
            one
            for one in self.rows
            if self.ignore or all(str(one[name]) == text.replace("''", "'") for name, text in wanted.items())
        ]
        if any(name in self.deaf for name in wanted):
            rows = []
        size = min(top, self.page_size)
        page = rows[skip : skip + size]
        body = json.dumps({"value": page}).encode()
        found = listing(Answer(200, {}, body), keep)
        link = self.next_link and skip + size < len(rows)
        full = len(page) >= top
        return Page(found.rows, "link" if link or full else None)
