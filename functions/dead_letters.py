"""GET /api/dead-letters and POST /api/dead-letters/{id}/replay."""

from __future__ import annotations

import azure.functions as func

from functions.http import Ask, Reply, answer, problem, serve
from shared.errors import UnreadableError
from shared.ledger.view import letter_shown
from shared.relay import relay

bp = func.Blueprint()


@serve(bp, "GetDeadLetters")
async def get_dead_letters(ask: Ask) -> Reply:
    """The dead letters, newest first; by `?skip=` and `?top=`."""
    top, skip = ask.number("top"), ask.number("skip")
    letters = await relay().publishing.letters.all()
    shown = {"total": len(letters), "deadLetters": [letter_shown(letter) for letter in letters[skip : skip + top]]}
    if skip + top < len(letters):
        shown["nextLink"] = f"{ask.base}/api/dead-letters?skip={skip + top}&top={top}"
    return answer(shown)


@serve(bp, "ReplayDeadLetter")
async def replay_dead_letter(ask: Ask) -> Reply:
    """Replay one as a new submission with its original intent; 202 with that submission's link."""
    name = ask.param("id")
    app = relay().publishing
    letter = await app.letters.get(name)
    if letter is None:
        return problem(404, "not-found", "No such dead letter", f"There is no dead letter {name[:80]!r}.")
    if letter.state != "open":
        return problem(
            409,
            "not-open",
            "The dead letter is not open",
            f"It is {letter.state}" + (f" as submission {letter.replayed_as}." if letter.replayed_as else "."),
            "Look at that submission.",
        )
    try:
        submission = await app.submitting.replay(letter, caller=ask.caller.id, caller_name=ask.caller.name)
    except UnreadableError as error:
        return problem(
            422,
            "unreadable",
            "It still cannot be read",
            str(error),
            "Correct the sender and submit what it meant anew; this letter stays as it is.",
        )
    link = f"{ask.base}/api/submissions/{submission}"
    headers = {"Location": link, "Retry-After": "5"}
    return answer({"id": submission, "replayOf": letter.id, "link": link}, 202, headers)
