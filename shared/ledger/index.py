"""The table `index`: which submissions belong to an incident, a source, a caller (by id, by name); and all of them.

A partition is a kind and the hash of a value. The RowKeys of what is listed count milliseconds down, so that the newest
comes first and a page is one query: `{9999999999999 - ms}|{submission}`. The same submission has the same key however
often it is written. Rows written before that have the submission's id alone as RowKey; so do those of the kinds `body`
(which messages had these bytes) and `poison`, which are never listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Protocol

from shared.ledger import ids
from shared.storage.protocols import Row, Tables

TABLE = "index"
ALL = "all"
_LAST = 9_999_999_999_999
# Former rows begin with a year, those of today with what is left of the milliseconds: no less than 8 until 2033, than
# 4 until 2160.
_FORMER, _FORMER_END = "2", "3"


class Listed(Protocol):
    """What is listed of a submission's header; `at` is when it was made, epoch seconds."""

    @property
    def id(self) -> str: ...
    @property
    def at(self) -> float: ...
    @property
    def incident(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def caller(self) -> str: ...
    @property
    def caller_name(self) -> str: ...


def partition(kind: str, value: str) -> str:
    """The partition of what is listed under a value; a value may hold anything, its hash may be a key."""
    value = value.casefold() if kind in ("caller", "name") else value
    return f"{kind}-{ids.digest(value.encode('utf-8', 'surrogatepass'))[:40]}"


def _left(at: float) -> str:
    return f"{_LAST - int(min(max(at * 1000, 0), _LAST)):013d}"


def row_key(submission: str, at: float) -> str:
    """The RowKey of a submission made at this moment (epoch seconds)."""
    return f"{_left(at)}|{submission}"


def submission_of(key: str) -> str:
    """Which submission a RowKey is of, in either form."""
    return key.rpartition("|")[2]


def rows(headers: Iterable[Listed]) -> Mapping[str, list[Row]]:
    """The rows that list these submissions, by partition."""
    groups: dict[str, list[Row]] = {}
    for header in headers:
        key = row_key(header.id, header.at)
        named = [("incident", header.incident), ("source", header.source), ("caller", header.caller)]
        # Names are anybody's to choose: they are listed apart from the ids, which decide what a caller may see.
        for kind, value in [*named, ("name", header.caller_name)]:
            if value:
                # Nobody reads the value; it is there for whoever looks at the table.
                name = partition(kind, value)
                groups.setdefault(name, []).append(Row(name, key, {"value": value[:500]}))
        name = partition(ALL, "")
        groups.setdefault(name, []).append(Row(name, key, {}))
    return groups


async def made_before(tables: Tables, day: str) -> list[Row]:
    """All rows, of whatever kind and form, of submissions made before this day (`20261122`, UTC)."""
    midnight = datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC).timestamp()
    # Two bounds, so that the service leaves out all that is younger.
    former = await tables.query(TABLE, pk="a", pk_to="z", rk=_FORMER, rk_to=day)
    listed = await tables.query(TABLE, pk="a", pk_to="z", rk=_left(midnight))
    return [row for row in (*former, *listed) if submission_of(row.rk) < day]


class Index:
    """Lists submissions, newest first."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def page(self, kind: str, value: str, after: str, since: float, until: float, most: int) -> list[str]:
        """RowKeys of at most `most` submissions, newest first; fewer when these are all.

        after: the last RowKey that was seen, "" at the beginning; what is made later never shifts what follows it.
        since, until: epoch seconds; what was made up to a millisecond outside of them may be there too.
        """
        name = partition(kind, value)
        found: list[str] = []
        if not after or "|" in after:
            begin = max(_left(until), f"{after}0" if after else _FORMER_END)
            rows = await self._tables.query(TABLE, pk=name, rk=begin, rk_to=f"{_left(since)}}}", top=most)
            found = [row.rk for row in rows]
        if kind != ALL and len(found) < most:
            found += await self._former(name, "" if "|" in after else after)
        return found[:most]

    async def _former(self, name: str, after: str) -> list[str]:
        """Rows of the former form: the newest day first, and in no order within it."""
        rows = await self._tables.query(TABLE, pk=name, rk=_FORMER, rk_to=after or _FORMER_END)
        return [row.rk for row in reversed(rows)]

    async def renewed(self, kind: str, value: str, submission: str, at: float) -> bool:
        """Whether a submission that has a former row has one of today's form too, and so is listed twice."""
        return await self._tables.get(TABLE, partition(kind, value), row_key(submission, at)) is not None
