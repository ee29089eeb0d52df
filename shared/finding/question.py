"""What is asked for: filters that all have to fit, bounds in time, and where to go on."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from typing import Self

from shared.errors import QuestionError
from shared.finding import cursor, moments
from shared.finding.cursor import Cursor
from shared.indicators.problem import shorten
from shared.ledger import index
from shared.ledger.outcomes import State
from shared.ledger.submissions import Header, Submission

FINISHED, IN_PROGRESS = "finished", "in_progress"
STATES = (FINISHED, IN_PROGRESS, *(state.value for state in State))


_ID = re.compile(r"(?:admin-)?key|(?:app|person):[0-9a-f-]{36}", re.IGNORECASE).fullmatch


def is_id(caller: str) -> bool:
    """Whether this is a caller's id as the ledger keeps it (identity/caller.py), and not a name."""
    return _ID(caller) is not None


def check_state(state: str, known: tuple[str, ...] = STATES) -> str:
    """`state`, one of those known, or "". Raises QuestionError."""
    if state and state not in known:
        raise QuestionError(
            f"state={shorten(state, 40)!r} is no state.", remediation=f"Give state one of {', '.join(known)}."
        )
    return state


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question about submissions. "" asks for any.

    caller: an id (`key`, `app:GUID`) or else a name. own: the id of the only caller whose submissions may be seen.
    since, until: epoch seconds; `until` itself is outside.
    """

    incident: str = ""
    source: str = ""
    caller: str = ""
    state: str = ""
    value: str = ""
    own: str = ""
    since: float = 0.0
    until: float = math.inf
    place: str = ""
    top: int = 50
    written: str = ""

    @classmethod
    def of(
        cls,
        now: float,
        *,
        incident: str = "",
        source: str = "",
        caller: str = "",
        state: str = "",
        value: str = "",
        since: str = "",
        until: str = "",
        following: str = "",
        own: str = "",
        top: int = 50,
    ) -> Self:
        """The question as it was written; `following` is the cursor of the page before. Raises QuestionError."""
        if top < 1:
            raise QuestionError("top=0 asks for nothing.", remediation="Give top a number from 1, or leave it out.")
        incident, source, caller = incident.strip(), source.strip(), caller.strip()
        written = json.dumps([incident, source, caller, check_state(state), value, since, until])
        if following:
            at = cursor.read(following, written)
        else:
            begin = moments.moment("since", since, now) if since else 0.0
            end = moments.moment("until", until, now, end=True) if until else math.inf
            at = Cursor("", begin, end)
        if at.since >= at.until:
            raise QuestionError(
                f"since={shorten(since, 40)!r} is not before until={shorten(until, 40)!r}.",
                remediation="Give since the earlier of the two.",
            )
        return cls(
            incident=incident,
            source=source,
            caller=caller,
            state=state,
            value=value,
            own=own,
            since=at.since,
            until=at.until,
            place=at.place,
            top=top,
            written=written,
        )

    def following(self, place: str) -> str:
        """The cursor of the page behind this place."""
        return cursor.write(Cursor(place, self.since, self.until), self.written)

    def listing(self) -> tuple[str, str]:
        """The narrowest listing of the index that holds all answers: its kind and value.

        For a caller that may see its own alone it is the caller's, so that neither the number of those looked at nor
        the cursor tells of anybody else's.
        """
        if self.own:
            return "caller", self.own
        if self.incident:
            return "incident", self.incident
        if self.caller:
            return ("caller" if is_id(self.caller) else "name"), self.caller
        return ("source", self.source) if self.source else (index.ALL, "")

    @property
    def narrowed(self) -> bool:
        """Whether more than one header's field decides, so that looking at the header first saves reading the rest."""
        return sum(map(bool, (self.incident, self.source, self.caller, self.own))) > 1

    def fits(self, header: Header) -> bool:
        """Whether a submission is asked for, as far as its header says."""
        return self.since <= header.at < self.until and self.fits_named(header)

    def fits_named(self, header: Header) -> bool:
        """The same, whenever it was made."""
        return (
            self.incident in ("", header.incident)
            and self.source in ("", header.source)
            and self.own in ("", header.caller)
            and self._fits_caller(header)
        )

    def _fits_caller(self, header: Header) -> bool:
        name = header.caller if is_id(self.caller) else header.caller_name
        return self.caller.casefold() in ("", name.casefold())

    def fits_state(self, known: Submission) -> bool:
        """Whether a submission as a whole is in the state asked for, or has an item that is."""
        if self.state in (FINISHED, IN_PROGRESS):
            return known.finished == (self.state == FINISHED)
        return not self.state or known.fold.counts()[self.state] > 0
