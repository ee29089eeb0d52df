"""Finding indicators by type, action and owner, page by page, live from Defender.

Defender filters where it can. Whether it takes filters on enumerations is unproven: when it answers 400, the list is
read unfiltered and looked through here, a bounded stretch at a time. So it is when a filter that has never found
anything finds nothing: it may not mean to the service what it means to us.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
from typing import Any

from shared.defender.limits import TOP_MAX
from shared.errors import BatchRefusedError, QuestionError
from shared.ledger import ids
from shared.ledger.view import moment
from shared.looking import walk
from shared.looking.permits import Looks
from shared.looking.ports import Who
from shared.looking.rows import Criteria, row_shown, sees_shown
from shared.looking.walk import OVERLAP, Place

_STRETCHES = 2  # unfiltered pages that one answer looks through
_REMEMBER = 3600.0
_SKIP_MAX = 1_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """One page of indicators. `cursor` asks for the next one, None when there is none; `at` in epoch seconds."""

    rows: tuple[dict[str, Any], ...]
    cursor: str | None
    who: Who
    at: float

    def shown(self) -> list[dict[str, Any]]:
        """The indicators as they are shown."""
        return [row_shown(row, self.who) for row in self.rows]

    def as_json(self) -> dict[str, Any]:
        """The answer without its link to the next page."""
        return {"asOf": moment(self.at), **sees_shown(self.who), "indicators": self.shown()}


class Finder:
    """Answers who asks for indicators by type, action and owner."""

    def __init__(self, looks: Looks) -> None:
        self._looks = looks
        # Of filters, by the fields they name: those that found something, and those of no use, until when to believe.
        self._proven: set[str] = set()
        self._useless: dict[str, float] = {}

    async def find(self, criteria: Criteria, top: int, cursor: str = "") -> Found:
        """Up to `top` indicators; a page may be shorter although there is a next one.

        Raises:
            QuestionError: the cursor is not one of ours, or belongs to another question; or `mine` cannot be told.
            BudgetError, IdentityError, DefenderError: the list could not be read. Never a short list instead.
        """
        if top < 1:
            raise QuestionError("top=0 asks for nothing.", remediation="Give top from 1 to 1000.")
        place, whole = read_cursor(cursor, criteria) if cursor else (Place(), False)
        who = await self._looks.who()
        criteria.check(who)
        at = self._looks.now()
        filter_ = criteria.filter(who)
        fields = f"{bool(criteria.type)}{bool(criteria.action)}{criteria.mine}"
        if not cursor:
            whole = criteria.odd or self._useless.get(fields, 0.0) > at
        doubt = not cursor and filter_ is not None and not whole
        if not whole:
            try:
                rows, following = await self._filtered(criteria, who, filter_, place, top)
            except BatchRefusedError:
                if not doubt:
                    raise
                self._useless[fields] = at + _REMEMBER
            else:
                if rows:
                    self._proven.add(fields)
                if rows or following or not doubt or fields in self._proven:
                    return self._found(criteria, rows, following, False, who, at)
        rows, following = await self._whole(criteria, who, place, top)
        if rows and doubt:
            self._useless[fields] = at + _REMEMBER
        return self._found(criteria, rows, following, True, who, at)

    @staticmethod
    def _found(
        criteria: Criteria, rows: list[dict[str, Any]], following: Place | None, whole: bool, who: Who, at: float
    ) -> Found:
        cursor = None if following is None else write_cursor(following, whole, criteria)
        return Found(tuple(rows), cursor, who, at)

    async def _filtered(
        self, criteria: Criteria, who: Who, filter_: str | None, place: Place, top: int
    ) -> tuple[list[dict[str, Any]], Place | None]:
        """One page of what Defender finds; looked through again, should it have ignored the filter."""
        found = await walk.read(self._looks, filter_, place, top)
        taken = found.rows[:top]
        more = found.more or len(found.rows) > top
        return [row for row in taken if criteria.matches(row, who)], found.after(len(taken), place) if more else None

    async def _whole(
        self, criteria: Criteria, who: Who, place: Place, top: int
    ) -> tuple[list[dict[str, Any]], Place | None]:
        """The whole list from `place` on, until `top` indicators are found or enough is looked through."""

        def keep(row: dict[str, Any]) -> dict[str, Any]:
            return row if criteria.matches(row, who) else {"id": row.get("id")}

        rows: list[dict[str, Any]] = []
        for _ in range(_STRETCHES):
            found = await walk.read(self._looks, None, place, TOP_MAX - OVERLAP, keep)
            used = 0
            for row in found.rows:
                if len(rows) == top:
                    break
                used += 1
                if len(row) > 1:
                    rows.append(row)
            place = found.after(used, place)
            if used < len(found.rows):
                return rows, place
            if not found.more:
                return rows, None
            if len(rows) == top:
                break
        return rows, place


# --- where to go on ---------------------------------------------------------------------------------------------------


def write_cursor(place: Place, whole: bool, criteria: Criteria) -> str:
    """The place as text. It holds numbers only, never a link: a forged one leads nowhere but to other rows."""
    content = [1, place.skip, int(whole), list(place.known), _question(criteria)]
    return base64.urlsafe_b64encode(json.dumps(content, separators=(",", ":")).encode()).rstrip(b"=").decode()


def read_cursor(text: str, criteria: Criteria) -> tuple[Place, bool]:
    """The inverse of `write_cursor`. Raises QuestionError for anything else."""
    try:
        content: Any = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
        version, skip, whole, known, question = content
    except (ValueError, TypeError, RecursionError, binascii.Error):
        raise _bad_cursor() from None
    if (
        (type(version), version) != (int, 1)
        or type(skip) is not int
        or not 0 <= skip <= _SKIP_MAX
        or type(whole) is not int
        or whole not in (0, 1)
        or not isinstance(known, list)
        or len(known) > OVERLAP
        or not all(isinstance(one, str) and len(one) <= 40 for one in known)
    ):
        raise _bad_cursor()
    if question != _question(criteria):
        raise QuestionError(
            "The cursor belongs to another question.",
            remediation="Follow nextLink as it is; begin anew without a cursor to ask for something else.",
        )
    return Place(skip, tuple(known)), bool(whole)


def _question(criteria: Criteria) -> str:
    return ids.digest(f"{criteria.type}|{criteria.action}|{criteria.mine}".encode())[:12]


def _bad_cursor() -> QuestionError:
    return QuestionError(
        "The cursor is not one of this app's.", remediation="Follow nextLink as it is, or begin anew without a cursor."
    )
