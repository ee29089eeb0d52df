"""A submission's whole history, one line for each event of an item, for people who keep records in a spreadsheet.

When an event was is told by the service's Timestamp of the row that says so. Counting is no business of this module: an
outcome that was written twice is here twice, and said to be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence

from shared import spreadsheet
from shared.ledger import packing
from shared.ledger.outcomes import FINAL, Outcome, State
from shared.ledger.parts import PartItem, Parts
from shared.ledger.submissions import Submission, Submissions
from shared.ledger.view import moment, stored_items
from shared.storage.protocols import Row

COLUMNS = (
    "time",
    "event",
    "ordinal",
    "value",
    "type",
    "action",
    "reason",
    "text",
    "notes",
    "call or part",
    "submission",
    "incident",
    "caller",
)
_AGAIN = "Written again by another delivery; the first counts."
_LONELY = {"s": "attempt_started", "e": "attempt_ended"}

type Line = tuple[object, ...]
type Named = tuple[str, str, str]


def lines(known: Submission, rows: Sequence[Row], stored: Mapping[int, PartItem]) -> Iterator[Line]:
    """The events in the order they happened, each as long as COLUMNS.

    known, rows: the submission and the rows that it was folded from; stored: its items that have no outcome yet, as far
    as they are found in parts.
    """
    header = known.header
    tail = (header.id, header.incident, header.caller_name or header.caller)

    def named(ordinal: int) -> Named:
        outcome, item = known.fold.fates.get(ordinal), stored.get(ordinal)
        if outcome is not None:
            return outcome.value, outcome.type, outcome.action
        return (item.key[1], item.key[0], item.action) if item is not None else ("", "", "")

    made = moment(header.at)
    for ordinal in range(known.fold.submitted):
        yield (made, "submitted", ordinal, *named(ordinal), "", "", "", "", *tail)
    final: set[int] = set()
    for row in sorted(rows, key=lambda row: (row.stamp, row.rk)):
        kind, _, rest = row.rk.partition("|")[2].partition("|")
        at, (origin, _, name) = moment(row.stamp), rest.partition("|")
        if kind == "o":
            for fields in packing.unpack(row.data) or []:
                outcome = Outcome.from_record(fields)
                again = outcome.ordinal in final
                if outcome.state in FINAL:
                    final.add(outcome.ordinal)
                yield (at, outcome.state.value, *_told(outcome, again), name, *tail)
        elif kind == "d":
            for ordinal in packing.unpack(row.data) or []:
                text = "Put off; tried again by itself."
                yield (at, State.DEFERRED.value, ordinal, *named(ordinal), "", text, "", name, *tail)
        elif kind in _LONELY:
            text = f"Attempt {int(origin) if origin.isdigit() else origin} of the message alone."
            yield (at, _LONELY[kind], "", "", "", "", "", text, "", "", *tail)
        elif kind == "u":
            yield (at, "undone", "", "", "", "", "", f"Submission {rest} undoes it.", "", "", *tail)


def _told(outcome: Outcome, again: bool) -> Line:
    text = f"{outcome.text} {_AGAIN}".strip() if again else outcome.text
    return (
        outcome.ordinal,
        outcome.value,
        outcome.type,
        outcome.action,
        outcome.reason,
        text,
        "; ".join(outcome.notes),
    )


async def as_csv(submissions: Submissions, parts: Parts, name: str) -> bytes | None:
    """The history of a submission as CSV; None when there is no such submission. Raises StorageError.

    Fifteen thousand items are ten million bytes; but for the result, no more is held than what counting them takes.
    """
    whole = await submissions.whole(name)
    if whole is None:
        return None
    known, rows = whole
    open_ = [ordinal for ordinal in range(known.fold.submitted) if ordinal not in known.fold.fates]
    stored = await stored_items(parts, known, open_)
    return await asyncio.to_thread(spreadsheet.table, COLUMNS, lines(known, rows, stored))
