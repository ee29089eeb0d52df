"""Pages of submissions and of uses as people and tools see them: JSON objects, or lines of a spreadsheet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from shared.finding.search import Hit
from shared.ledger.outcomes import State
from shared.ledger.view import moment

_STATES = tuple(state.value for state in State)
SUBMISSION_COLUMNS = (
    "at",
    "id",
    "state",
    "text",
    "door",
    "source",
    "incident",
    "correlationId",
    "caller",
    "callerName",
    "replayOf",
    "undoOf",
    "submitted",
    *_STATES,
    "link",
)
USE_COLUMNS = (
    "at",
    "value",
    "type",
    "action",
    "state",
    "reason",
    "text",
    "newest",
    "expires",
    "title",
    "door",
    "source",
    "incident",
    "caller",
    "callerName",
    "submission",
    "ordinal",
    "link",
)


def hits_shown(hits: Iterable[Hit], base: str) -> list[dict[str, Any]]:
    """Submissions, each with its link below `base` and when it was made."""
    return [{**hit.shown, "at": moment(hit.header.at), "link": link(base, hit.header.id)} for hit in hits]


def linked(shown: Any, base: str) -> Any:
    """An answer in which whatever names its submission has its link too."""
    if isinstance(shown, list):
        return [linked(one, base) for one in shown]
    if not isinstance(shown, dict):
        return shown
    made = {name: linked(value, base) for name, value in shown.items()}
    return made | {"link": link(base, made["submission"])} if "submission" in made else made


def link(base: str, submission: str) -> str:
    """Where to ask for a submission."""
    return f"{base}/api/submissions/{submission}"


def cells(columns: Sequence[str], shown: Iterable[Mapping[str, Any]]) -> list[list[Any]]:
    """JSON objects as lines of a spreadsheet; the counts of a submission are columns of their own."""
    return [
        [str(value).lower() if isinstance(value, bool) else value for value in map(_flat(one).get, columns)]
        for one in shown
    ]


def _flat(one: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**one, **one.get("counts", {})}
