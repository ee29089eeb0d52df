"""Every route with who may call it: one table, as data. A route exists by being here.

`level` is the key that the host asks for in key mode; in Easy Auth mode the host lets everything in, and the caller
needs one of `roles`. OpenAPI (functions/openapi.py) and docs/http-api.md are held to this table.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from shared.identity.caller import Role
from shared.ledger.outcomes import State

Method = Literal["GET", "POST", "DELETE"]
Level = Literal["function", "admin"]
Kind = Literal["number", "flag", "text", "choice"]


@dataclasses.dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter: `default` and `most` of a number, `choices` of a choice (the first is the default)."""

    name: str
    kind: Kind
    meaning: str
    default: int = 0
    most: int = 0
    choices: tuple[str, ...] = ()
    longest: int = 2_000
    example: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One route.

    roles: any one of them opens it; own: with Submissions.Write alone the caller sees what it submitted, nothing else.
    body, shows: names of the schemas (functions/schemas.py) of what is sent and answered; answers: the statuses of
    success.
    """

    function: str
    method: Method
    path: str
    level: Level
    roles: frozenset[Role]
    summary: str
    parameters: tuple[Parameter, ...] = ()
    own: bool = False
    body: str = ""
    answers: tuple[int, ...] = (200,)
    shows: str = ""

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that the function is registered for."""
        return ("GET", "HEAD") if self.method == "GET" else (self.method,)


_LOOK = frozenset({Role.READ, Role.OPERATE})
_ANY_SUBMISSION = frozenset({Role.READ, Role.OPERATE, Role.SUBMIT})
_OPERATE = frozenset({Role.OPERATE})

WAIT = Parameter("wait", "number", "Seconds to wait for the end.", 0, 120)
SKIP = Parameter("skip", "number", "Items to leave out at the beginning.", 0, 1_000_000)
TOP = Parameter("top", "number", "Items in one answer.", 100, 1_000)
CURSOR = Parameter("cursor", "text", "Where to go on; nextLink has it.")
FORMAT = Parameter("format", "choice", "JSON or CSV.", choices=("json", "csv"))

_ITEM_STATES = tuple(state.value for state in State)

TABLE: tuple[Entry, ...] = (
    Entry(
        "PostSubmission",
        "POST",
        "submissions",
        "function",
        frozenset({Role.SUBMIT}),
        "Submit indicators.",
        (WAIT, Parameter("dry_run", "flag", "Give the verdicts; store and send nothing.")),
        body="NativeMessage",
        answers=(200, 202),
        shows="Taken",
    ),
    Entry(
        "FindSubmissions",
        "GET",
        "submissions",
        "function",
        _ANY_SUBMISSION,
        "Find submissions, or what became of a value; the newest first.",
        (
            Parameter("incident", "text", "Only those of this incident.", longest=1_000, example="3177"),
            Parameter("source", "text", "Only those of this source.", longest=1_000, example="soc-console"),
            Parameter("caller", "text", "Only those of this caller: its id, or its name.", longest=300),
            Parameter(
                "value",
                "text",
                "The uses of this value, what stands for it and what waits, instead of submissions.",
                longest=3_200,
                example="c2.evil-domain.org",
            ),
            Parameter(
                "state",
                "choice",
                "Only those finished or in progress, or with an item in this state.",
                choices=("", "finished", "in_progress", *_ITEM_STATES),
            ),
            Parameter(
                "since", "text", "From then on: ISO 8601 with its zone, a date (UTC), or how long ago.", example="P7D"
            ),
            Parameter("until", "text", "Before then; a date is its end. Written as `since`.", example="2026-11-22"),
            Parameter("top", "number", "Submissions or uses in one answer.", 50, 200),
            CURSOR,
            Parameter("format", "choice", "JSON, or the page as CSV.", choices=("json", "csv")),
        ),
        own=True,
        shows="Found",
    ),
    Entry(
        "GetSubmission",
        "GET",
        "submissions/{id}",
        "function",
        _ANY_SUBMISSION,
        "What became of a submission.",
        (
            WAIT,
            SKIP,
            TOP,
            Parameter("state", "choice", "Only items in this state.", choices=("", *_ITEM_STATES)),
            Parameter("format", "choice", "JSON, or the whole history as CSV.", choices=("json", "csv")),
        ),
        own=True,
        answers=(200, 202),
        shows="Submission",
    ),
    Entry(
        "UndoSubmission",
        "DELETE",
        "submissions/{id}",
        "admin",
        _OPERATE,
        "Withdraw what a submission published and still owns; the undo is a submission itself.",
        answers=(200, 202),
        shows="Undo",
    ),
    Entry(
        "GetDeadLetters",
        "GET",
        "dead-letters",
        "function",
        _OPERATE,
        "The dead letters, newest first.",
        (
            SKIP,
            TOP,
            Parameter(
                "state",
                "choice",
                "Only letters in this state.",
                choices=("", "open", "replaying", "replayed", "discarded"),
            ),
            Parameter("reason", "text", "Only letters of this reason.", longest=60, example="exhausted"),
            Parameter("since", "text", "Only letters made since then.", longest=40, example="P7D"),
            Parameter("submission", "text", "Only letters with items of this submission.", longest=60),
        ),
        shows="DeadLetters",
    ),
    Entry(
        "GetDeadLetter",
        "GET",
        "dead-letters/{id}",
        "function",
        _OPERATE,
        "One dead letter whole.",
        shows="WholeDeadLetter",
    ),
    Entry(
        "ReplayDeadLetters",
        "POST",
        "dead-letters/replay",
        "admin",
        _OPERATE,
        "Replay the open dead letters that fit, each as a new submission.",
        body="ReplayOrder",
        shows="Replays",
    ),
    Entry(
        "DiscardDeadLetter",
        "POST",
        "dead-letters/{id}/discard",
        "admin",
        _OPERATE,
        "Put a dead letter aside, with a reason; it is kept.",
        body="Reason",
        shows="DeadLetter",
    ),
    Entry(
        "ReplayDeadLetter",
        "POST",
        "dead-letters/{id}/replay",
        "admin",
        _OPERATE,
        "Replay a dead letter as a new submission.",
        answers=(202,),
        shows="Replayed",
    ),
    Entry(
        "FindIndicators",
        "GET",
        "indicators",
        "function",
        _LOOK,
        "What Defender holds now: by value, type, action and owner.",
        (
            Parameter(
                "value",
                "text",
                "Only this value; then the answer is that of GET /api/indicators/{value}.",
                longest=3_200,
                example="evil.example",
            ),
            Parameter("type", "text", "Only indicators of this type.", longest=40, example="DomainName"),
            Parameter("action", "text", "Only indicators with this action.", longest=40, example="Block"),
            Parameter("owner", "choice", "Whose: this app's own, or anyone's.", choices=("anyone", "mine")),
            TOP,
            CURSOR,
            FORMAT,
        ),
        shows="Indicators",
    ),
    Entry(
        "GetIndicator",
        "GET",
        "indicators/{value}",
        "function",
        _LOOK,
        "What Defender holds for one value, what was last meant, and whether they agree.",
        (FORMAT,),
        shows="Value",
    ),
    Entry(
        "GetCapacity",
        "GET",
        "capacity",
        "function",
        _LOOK,
        "How full the tenant is, and how much of each call budget is used.",
        shows="Capacity",
    ),
    Entry(
        "GetOperations",
        "GET",
        "operations",
        "function",
        _LOOK,
        "What waits, what stops it, who works, what came of the newest submissions.",
        shows="Operations",
    ),
    Entry(
        "Pause",
        "POST",
        "pause",
        "admin",
        _OPERATE,
        "Stop every call that writes to Defender.",
        body="PauseOrder",
        shows="PauseAnswer",
    ),
    Entry("Resume", "POST", "resume", "admin", _OPERATE, "Go on after a pause.", body="Reason", shows="ResumeAnswer"),
    Entry(
        "GetHealth", "GET", "health", "function", _LOOK, "Whether everything the app needs is there.", shows="Health"
    ),
    Entry("GetOpenApi", "GET", "openapi.json", "function", frozenset(Role), "This API as OpenAPI 3.0."),
)

ENTRIES = {entry.function: entry for entry in TABLE}


def matching(path: str) -> list[Entry]:
    """The routes at this path (without the prefix), whatever their method."""
    pieces = path.removesuffix("/").split("/")
    found = []
    for entry in TABLE:
        wanted = entry.path.split("/")
        if len(wanted) == len(pieces) and all(
            piece if part.startswith("{") else piece.lower() == part for part, piece in zip(wanted, pieces, strict=True)
        ):
            found.append(entry)
    literal = [entry for entry in found if "{" not in entry.path]
    return literal or found
