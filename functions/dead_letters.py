"""Dead letters: GET /api/dead-letters, one of them whole, replay (one, or by filter), discard."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import urlencode

import azure.functions as func

from functions.http import Ask, ParameterError, Refusal, Reply, answer, problem, serve
from shared.errors import ConflictError, UnreadableError
from shared.finding.moments import moment
from shared.ledger.deadletters import DeadLetter, Wanted
from shared.ledger.view import letter_shown, letter_whole
from shared.publishing.pause import read_reason
from shared.publishing.replay import Fate
from shared.relay import relay

bp = func.Blueprint()

_FIELDS = ("reason", "since", "until", "submission")
_MOST, _MOST_DEFAULT = 500, 100


@serve(bp, "GetDeadLetters")
async def get_dead_letters(ask: Ask) -> Reply:
    """The dead letters, newest first: by `?state=`, `?reason=`, `?since=`, `?submission=`; by `?skip=` and `?top=`."""
    top, skip = ask.number("top"), ask.number("skip")
    asked = {name: ask.text(name) for name in ("reason", "since", "submission")} | {"state": ask.choice("state")}
    app = relay().publishing
    wanted = _wanted(asked, app.stores.clock.now())
    letters = [letter for letter in await app.letters.all() if wanted.fits(letter)]
    shown: dict[str, Any] = {
        "total": len(letters),
        "deadLetters": [letter_shown(letter) for letter in letters[skip : skip + top]],
    }
    if top and skip + top < len(letters):
        page = {name: text for name, text in asked.items() if text} | {"skip": skip + top, "top": top}
        shown["nextLink"] = f"{ask.base}/api/dead-letters?{urlencode(page)}"
    return answer(shown)


@serve(bp, "GetDeadLetter")
async def get_dead_letter(ask: Ask) -> Reply:
    """One dead letter whole: a message as it came, or the items with all their fields."""
    app = relay().publishing
    letter = _there(await app.letters.get(ask.param("id")), ask)
    return answer(letter_whole(letter, await app.letters.body(letter.id)))


@serve(bp, "ReplayDeadLetter")
async def replay_dead_letter(ask: Ask) -> Reply:
    """Replay one as a new submission with its original intent; 202 with that submission's link."""
    name = ask.param("id")
    try:
        submission = await relay().publishing.replays.replay(name, caller=ask.caller.id, caller_name=ask.caller.name)
    except UnreadableError as error:
        return _unreadable(error)
    except ConflictError as error:
        return _conflict(error)
    if submission is None:
        return _missing(ask)
    link = f"{ask.base}/api/submissions/{submission}"
    headers = {"Location": link, "Retry-After": "5"}
    return answer({"id": submission, "replayOf": name, "link": link}, 202, headers)


@serve(bp, "ReplayDeadLetters")
async def replay_dead_letters(ask: Ask) -> Reply:
    """Replay the open ones that fit, the oldest first, each as a new submission; what became of each."""
    given = ask.json_object()
    known = (*_FIELDS, "most", "after", "dry_run")
    for name in given:
        if name not in known:
            raise ParameterError(f"{name[:40]!r} is not a field of it.", remediation=f"Its fields: {', '.join(known)}.")
    for name in (*_FIELDS, "after"):
        if not isinstance(given.get(name, ""), str):
            raise ParameterError(f"`{name}` is not text.", remediation=f"Give {name} as text.")
    if not any(given.get(name) for name in _FIELDS):
        raise ParameterError(
            "It does not say which letters.", remediation=f"Name at least one of {', '.join(_FIELDS)}."
        )
    most, dry_run = given.get("most", _MOST_DEFAULT), given.get("dry_run", False)
    if type(most) is not int or not 1 <= most <= _MOST:
        raise ParameterError(f"`most` is not a whole number from 1 to {_MOST}.", remediation="Give such a number.")
    if type(dry_run) is not bool:
        raise ParameterError("`dry_run` is neither true nor false.", remediation="Give one of them.")
    app = relay().publishing
    wanted = _wanted({name: given.get(name, "") for name in _FIELDS}, app.stores.clock.now())
    batch = await app.replays.replay_many(
        wanted,
        most=most,
        after=given.get("after", ""),
        dry_run=dry_run,
        caller=ask.caller.id,
        caller_name=ask.caller.name,
    )
    shown: dict[str, Any] = {
        "dryRun": dry_run,
        "matching": batch.matching,
        "deadLetters": [_fate(fate, ask) for fate in batch.fates],
        "more": batch.more,
    }
    if batch.more and batch.after:
        shown["after"] = batch.after
    return answer(shown)


@serve(bp, "DiscardDeadLetter")
async def discard_dead_letter(ask: Ask) -> Reply:
    """Put one aside with a reason; its body is kept."""
    reason = read_reason(ask.json_object().get("reason"))
    try:
        letter = await relay().publishing.replays.discard(
            ask.param("id"), reason, by=ask.caller.id, by_name=ask.caller.name
        )
    except ConflictError as error:
        return _conflict(error)
    return answer(letter_shown(_there(letter, ask)))


def _wanted(asked: dict[str, str], now: float) -> Wanted:
    state = asked.get("state", "")
    return Wanted(
        states=frozenset({state} if state else ()),
        reason=asked.get("reason", ""),
        since=moment("since", asked["since"], now) if asked.get("since") else 0.0,
        until=moment("until", asked["until"], now, end=True) if asked.get("until") else math.inf,
        submission=asked.get("submission", ""),
    )


def _fate(fate: Fate, ask: Ask) -> dict[str, Any]:
    if fate.problem is not None:
        return {"id": fate.letter, "problem": f"{fate.problem} {fate.problem.remediation}".strip()}
    if not fate.submission:
        return {"id": fate.letter}
    return {
        "id": fate.letter,
        "submission": fate.submission,
        "link": f"{ask.base}/api/submissions/{fate.submission}",
    }


def _there(letter: DeadLetter | None, ask: Ask) -> DeadLetter:
    if letter is None:
        raise Refusal(_missing(ask))
    return letter


def _missing(ask: Ask) -> Reply:
    name = ask.param("id")
    return problem(404, "not-found", "No such dead letter", f"There is no dead letter {name[:80]!r}.", "Check the id.")


def _conflict(error: ConflictError) -> Reply:
    return problem(409, "not-open", "The dead letter is not open", str(error), error.remediation)


def _unreadable(error: UnreadableError) -> Reply:
    return problem(
        422,
        "unreadable",
        "It still cannot be read",
        str(error),
        "Correct the sender and submit what it meant anew; this letter stays as it is.",
    )
