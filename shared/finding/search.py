"""Submissions by incident, source, caller, state and time, newest first, a page at a time.

Each page is a bounded amount of work: where few of many fit, a page may be short or empty and yet have a next one. Only
a page without a next one is the last.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from typing import Any

from shared.finding.question import Question
from shared.ledger.index import Index, row_key, submission_of
from shared.ledger.submissions import Header, Submission, Submissions
from shared.ledger.view import submission_shown
from shared.storage.protocols import Tables

EXAMINED_MOST = 400  # submissions looked at for one page
ITEMS_MOST = 150_000  # their items, which are folded
_AT_ONCE = 8
_CHUNK = 2 * _AT_ONCE
_MANY_ROWS = 8  # folding more takes longer than the event loop should be away


@dataclasses.dataclass(frozen=True, slots=True)
class Hit:
    """A submission that fits, without its items."""

    header: Header
    shown: dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """A page; `following` is the cursor of the next one, "" when there is none."""

    hits: list[Hit]
    following: str
    examined: int


class Reader:
    """Reads submissions, few at a time, however many are asked for at once."""

    def __init__(self, submissions: Submissions) -> None:
        self._submissions = submissions
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def header(self, name: str) -> Header | None:
        """A submission's header."""
        async with self._turns:
            return await self._submissions.header(name)

    async def read(self, name: str) -> Submission | None:
        """A submission, folded."""
        async with self._turns:
            rows = await self._submissions.rows(name)
            header = next((Header.from_row(row) for row in rows if row.rk.endswith("|h")), None)
            if header is None:
                return None
            if len(rows) <= _MANY_ROWS:
                return Submission.of(header, rows)
            return await asyncio.to_thread(Submission.of, header, rows)


class Search:
    """Finds submissions."""

    def __init__(self, tables: Tables, reader: Reader) -> None:
        self._index = Index(tables)
        self._reader = reader

    async def find(self, question: Question) -> Page:
        """The page that is asked for. Raises StorageError."""
        kind, value = question.listing()
        hits: list[Hit] = []
        place, examined, items = question.place, 0, 0
        while True:
            keys = await self._index.page(kind, value, place, question.since, question.until, EXAMINED_MOST)
            left = iter(keys)
            while chunk := list(itertools.islice(left, max(1, min(_CHUNK, question.top - len(hits))))):
                if len(hits) == question.top or examined >= EXAMINED_MOST or items >= ITEMS_MOST:
                    return Page(hits, question.following(place), examined)
                looks = await asyncio.gather(*(self._look(question, kind, value, key) for key in chunk))
                place, examined = chunk[-1], examined + len(chunk)
                items += sum(folded for _, folded in looks)
                hits += [hit for hit, _ in looks if hit is not None]
            if len(keys) < EXAMINED_MOST:
                return Page(hits, "", examined)

    async def _look(self, question: Question, kind: str, value: str, key: str) -> tuple[Hit | None, int]:
        """What is listed under this RowKey, if it fits, and how many items were folded to know."""
        name = submission_of(key)
        if question.narrowed:
            header = await self._reader.header(name)
            if header is None or not question.fits(header):
                return None, 0
        # Nothing yet, when its index row went before it and the rest is still to come, or never came.
        known = await self._reader.read(name)
        if known is None:
            return None, 0
        header, size = known.header, known.fold.submitted
        # A request that was taken up again has another moment in the row of its first run. A former row counts unless
        # there is one of today's form.
        former = "|" not in key
        if key != row_key(name, header.at) and not (
            former and not await self._index.renewed(kind, value, name, header.at)
        ):
            return None, size
        if not question.fits(header) or not question.fits_state(known):
            return None, size
        return Hit(header, submission_shown(known)), size
