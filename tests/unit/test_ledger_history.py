"""A submission's history as CSV: every event of every item, in order, whatever was written twice."""

from __future__ import annotations

import csv
import io
import tracemalloc
from typing import Any

from shared.indicators.model import Action, Indicator, IndicatorType, Severity
from shared.ledger import history
from shared.ledger.outcomes import Outcome, State
from shared.ledger.parts import Part, PartItem, Parts
from shared.ledger.submissions import Header, Submissions, deferral_row, outcome_rows
from shared.storage.protocols import Row
from tests.support.memory import MemoryBlobs, MemoryQueue, MemoryTables, Service

NAME = "20261122a0123456789abcdef"
START = 1_790_000_000.0


class Ledger:
    """A ledger whose clock a test sets."""

    def __init__(self) -> None:
        self.at = START
        service = Service(lambda: self.at)
        self.tables = MemoryTables(service)
        self.submissions = Submissions(self.tables)
        self.parts = Parts(self.tables, MemoryBlobs(service), MemoryQueue(service), self)

    def now(self) -> float:
        return self.at

    async def write(self, after: float, header: Header, rows: list[Row]) -> None:
        self.at = START + after
        await self.submissions.write([header], rows)

    async def lines(self) -> list[dict[str, str]]:
        body = await history.as_csv(self.submissions, self.parts, NAME)
        assert body is not None
        return list(csv.DictReader(io.StringIO(body.decode("utf-8-sig"), newline="")))


def header(items: int, **fields: Any) -> Header:
    return Header(NAME, items, START, "http", **fields)


def item(ordinal: int) -> PartItem:
    value = f"h{ordinal}.evil-domain.com"
    made = Indicator(
        value=value,
        type=IndicatorType.DOMAIN_NAME,
        action=Action.BLOCK,
        title="t",
        description="d",
        severity=Severity.HIGH,
        expiration=None,
        generate_alert=False,
    )
    return PartItem(NAME, "0000", ordinal, START, START, made.key, made)


async def test_every_event_is_a_line_in_the_order_it_happened() -> None:
    ledger = Ledger()
    head = header(3, incident="Fall 1", caller="person:b", caller_name="Ana")
    bad = Outcome(2, State.REJECTED, "10.0.0.1", reason="private_address", text="It is private.", notes=("a", "b"))
    await ledger.write(0.5, head, outcome_rows(NAME, "v000", "door", [bad]))
    await ledger.parts.store(Part("d20261122-0123456789", (item(0), item(1))), due_in=0.0)
    await ledger.write(10, head, [deferral_row(NAME, "0000", "d20261122-0123456789", [0, 1])])
    taken = Outcome(0, State.ACCEPTED, "h0.evil-domain.com", "DomainName", "Block")
    await ledger.write(70, head, outcome_rows(NAME, "0000", "call1", [taken]))
    lines = await ledger.lines()
    assert tuple(lines[0]) == history.COLUMNS
    assert [(line["event"], line["ordinal"]) for line in lines] == [
        ("submitted", "0"),
        ("submitted", "1"),
        ("submitted", "2"),
        ("rejected", "2"),
        ("deferred", "0"),
        ("deferred", "1"),
        ("accepted", "0"),
    ]
    assert [line["value"] for line in lines[:3]] == ["h0.evil-domain.com", "h1.evil-domain.com", "10.0.0.1"]
    assert lines[1]["action"] == "Block", "what waits in a part is named too"
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)
    assert lines[0]["time"] == "2026-09-21T14:13:20.000Z" and lines[-1]["time"] == "2026-09-21T14:14:30.000Z"
    assert (lines[3]["reason"], lines[3]["notes"]) == ("private_address", "a; b")
    assert lines[4]["call or part"] == "d20261122-0123456789" and lines[-1]["call or part"] == "call1"
    assert {(line["submission"], line["incident"], line["caller"]) for line in lines} == {(NAME, "Fall 1", "Ana")}


async def test_an_outcome_that_was_written_twice_says_so() -> None:
    ledger = Ledger()
    for number, after in (("1", 5), ("2", 9)):
        made = Outcome(0, State.ACCEPTED, "v", "Url", "Block")
        await ledger.write(after, header(1), outcome_rows(NAME, "m", f"call{number}", [made]))
    lines = await ledger.lines()
    assert [line["event"] for line in lines] == ["submitted", "accepted", "accepted"]
    assert lines[1]["text"] == "" and "the first counts" in lines[2]["text"]


async def test_attempts_alone_are_told() -> None:
    ledger = Ledger()
    await ledger.write(0, header(1), [])
    for kind, number in (("s", 1), ("s", 2), ("e", 2)):
        ledger.at += 60
        await ledger.submissions.mark(NAME, kind, number)
    assert [(line["event"], line["ordinal"], line["text"]) for line in (await ledger.lines())[1:]] == [
        ("attempt_started", "", "Attempt 1 of the message alone."),
        ("attempt_started", "", "Attempt 2 of the message alone."),
        ("attempt_ended", "", "Attempt 2 of the message alone."),
    ]


async def test_there_is_none_of_what_is_not_there() -> None:
    ledger = Ledger()
    assert await history.as_csv(ledger.submissions, ledger.parts, NAME) is None


async def test_fifteen_thousand_items_in_bounded_memory() -> None:
    ledger = Ledger()
    head = header(15_000)
    for at in range(0, 15_000, 500):
        text = "Something of Defender's, said at some length, so that it is like what is said in earnest."
        made = [
            Outcome(n, State.REJECTED, f"h{n}.evil-domain.com", "DomainName", "Block", "refused_by_defender", text)
            for n in range(at, at + 500)
        ]
        await ledger.write(at, head, outcome_rows(NAME, f"{at:04d}", "call", made))
    tracemalloc.start()
    body = await history.as_csv(ledger.submissions, ledger.parts, NAME)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert body is not None and body.count(b"\r\n") == 30_001
    assert peak < 60 * 1024 * 1024, f"{peak / 1e6:.0f} MB for {len(body) / 1e6:.0f} MB of CSV"
