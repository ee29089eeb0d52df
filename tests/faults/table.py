"""What can go wrong with whom, and how it may show: the table of docs/reliability.md, as data.

`python -m tests.faults.table` prints the table for that page; a unit test holds the two together, and
test_fault_table.py has a cell for each entry.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

FAULTS = {
    "down": "does not answer: the connection is refused or cut",
    "slow": "answers later than the time limit, or (sign-in and vault) by most of it",
    "401": "answers 401",
    "403": "answers 403",
    "404": "answers 404",
    "429": "answers 429 without Retry-After",
    "429_header": "answers 429 with Retry-After",
    "500": "answers 500",
    "503": "answers 503",
    "reset": "resets the connection before the body of the request",
    "reset_mid_body": "resets the connection in the middle of the body of the request",
    "garbage": "answers 200 with something that is no answer of it",
    "half": "does the work and sends half of the answer",
    "lost": "does the work and resets the connection instead of answering",
    "clock_ahead": "its clock is a minute ahead",
    "clock_behind": "its clock is a minute behind",
}

Kind = Literal["tenant", "table", "queue", "blob"]


@dataclasses.dataclass(frozen=True)
class Dependency:
    """Who it is. `name`: of the table, queue, container, service; `routes`: as the tenant double calls them."""

    kind: Kind
    name: str
    routes: tuple[str, ...] = ()


DEPENDENCIES = {
    "entra": Dependency("tenant", "entra", ("entra",)),
    "identity": Dependency("tenant", "identity", ("identity",)),
    "vault": Dependency("tenant", "vault", ("vault",)),
    "defender-import": Dependency("tenant", "defender", ("import",)),
    "defender-list": Dependency("tenant", "defender", ("list",)),
    "defender-delete": Dependency("tenant", "defender", ("delete", "batch_delete")),
    "queue": Dependency("queue", "indicators"),
    **{
        f"table-{name}": Dependency("table", name)
        for name in ("submissions", "open", "intents", "index", "permits", "idempotency", "deadletters", "suspects")
    },
    **{f"blob-{name}": Dependency("blob", name) for name in ("parts", "deadletters", "answers")},
}

# What is seen of it at most, from nothing to a sender who has to send again (with the same Idempotency-Key).
WORDS = ("unseen", "deferred", "redelivered", "asked again")

_DOOR = "asked again"  # the request over HTTP needs it
_WORK = "redelivered"  # only the work on a message needs it
_CALL = "deferred"  # a call to Defender needs it
_MOST = {
    **dict.fromkeys(("entra", "vault", "defender-list", "defender-delete"), _CALL),
    # A part that was put off because nothing could be sent, or that meets a second kind of trouble, may come again.
    **dict.fromkeys(("identity", "defender-import"), _WORK),
    "queue": "unseen",  # what could not be pointed to is found by the sweep
    **dict.fromkeys(("table-submissions", "table-open", "table-index", "table-idempotency"), _DOOR),
    **dict.fromkeys(("table-intents", "table-permits", "table-deadletters", "table-suspects"), _WORK),
    **dict.fromkeys(("blob-parts", "blob-answers"), _DOOR),
    "blob-deadletters": _WORK,
}
# Nobody sees a wrong clock; nor a table service that says when to come again, since the SDK does.
_CLOCKS = dict.fromkeys(("clock_ahead", "clock_behind"), "unseen")
_WAITED = {"429_header": "unseen"}
# The blobs' SDK repeats whatever broke on the way, and so does the tables' SDK for what is no insert.
_REPEATED = dict.fromkeys(("slow", "reset", "reset_mid_body", "half", "lost"), "unseen")


def _row(name: str) -> dict[str, str]:
    found = dict.fromkeys(FAULTS, _MOST[name]) | _CLOCKS
    kind = DEPENDENCIES[name].kind
    if kind == "table":
        found |= _WAITED
    if kind == "blob":
        found |= _REPEATED
    if name == "table-suspects":  # its message sinks a call
        found |= dict.fromkeys(("429_header", *_CLOCKS), "deferred")
    return found


TABLE: dict[str, dict[str, str]] = {name: _row(name) for name in DEPENDENCIES}


ONE_IN = 6  # cells, in a run of all tests


def in_the_share(dependency: str, fault: str, seed: int) -> bool:
    """Diagonals: with each seed another one, with two or three cells of each row and three of each column."""
    return (list(DEPENDENCIES).index(dependency) + list(FAULTS).index(fault) + seed) % ONE_IN == 0


def as_markdown() -> str:
    """The table as it stands in docs/reliability.md."""
    lines = ["| | " + " | ".join(FAULTS) + " |", "| --- |" + " --- |" * len(FAULTS)]
    lines += [f"| {name} | " + " | ".join(TABLE[name][fault] for fault in FAULTS) + " |" for name in DEPENDENCIES]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(as_markdown(), end="")
