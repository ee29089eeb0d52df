"""DELETE /api/submissions/{id}."""

from __future__ import annotations

import azure.functions as func

from functions.http import Ask, Reply, answer, problem, serve
from functions.pause import with_pause
from shared.errors import UndoOfUndoError, UndoTooSoonError
from shared.ledger import ids
from shared.ledger.view import submission_shown
from shared.publishing.undo import Undone
from shared.relay import relay

bp = func.Blueprint()

_LEFT_MOST = 1_000
_RETRY_AFTER = "5"


@serve(bp, "UndoSubmission")
async def undo_submission(ask: Ask) -> Reply:
    """Withdraw what a submission published and still owns: 202 with the undo, itself a submission, until it is done."""
    name = ask.param("id")
    undone: Undone | None = None
    try:
        if ids.is_submission(name):
            undone = await relay().publishing.undoing.undo(name, caller=ask.caller.id, caller_name=ask.caller.name)
    except UndoOfUndoError as error:
        return problem(409, "undo-of-undo", "An undo cannot be undone", str(error), error.remediation)
    except UndoTooSoonError as error:
        again = {"Retry-After": str(error.retry_after)}
        return problem(409, "on-its-way", "It cannot be undone yet", str(error), error.remediation, again)
    if undone is None:
        return problem(
            404, "not-found", "No such submission", f"There is no submission {name[:60]!r}.", "Check the id."
        )
    undo = undone.undo
    link = f"{ask.base}/api/submissions/{undo.header.id}"
    left = [
        {"ordinal": one.ordinal, "value": one.value, "state": one.state.value, "why": one.why}
        for one in undone.left[:_LEFT_MOST]
    ]
    shown = {
        **submission_shown(undo),
        "link": link,
        "retracting": undo.header.submitted,
        "left": left,
        "leftTotal": len(undone.left),
    }
    if undo.finished:
        return answer(await with_pause(shown), 200, {"Location": link})
    return answer(await with_pause(shown), 202, {"Location": link, "Retry-After": _RETRY_AFTER})
