"""POST /api/submissions and GET /api/submissions/{id}."""

from __future__ import annotations

import asyncio

import azure.functions as func

from functions.http import Ask, Reply, answer, problem, serve
from shared.identity.caller import Caller
from shared.intake.contract import Privilege
from shared.ledger import ids
from shared.ledger.idempotency import parse_key
from shared.ledger.submissions import Submission
from shared.ledger.view import items_shown, submission_shown, verdicts_shown
from shared.relay import relay

bp = func.Blueprint()

_POLL = 0.25
_POLL_MOST = 3.0
_RETRY_AFTER = "5"
_REPEATED = "Idempotent-Replayed"  # as others call it: the answer is an earlier request's


@serve(bp, "PostSubmission")
async def post_submission(ask: Ask) -> Reply:
    """Take a submission. 202 while anything is pending, 200 when all is final; `?wait=` seconds, `?dry_run=true`."""
    wait, dry_run = ask.number("wait"), ask.flag("dry_run")
    if not ask.body:
        if not ask.header("content-length"):
            return problem(
                411,
                "length-required",
                "The request has no Content-Length",
                "A body without Content-Length (chunked) does not reach the app.",
                "Send the body with a Content-Length header.",
            )
        return problem(400, "empty", "The body is empty", "There is nothing in it.", "Send at least one indicator.")
    app = relay().publishing
    given = ask.req.headers.get("idempotency-key")
    taken = await app.submitting.submit(
        ask.body,
        caller=ask.caller.id,
        caller_name=ask.caller.name,
        key="" if given is None or dry_run else parse_key(given),
        dry_run=dry_run,
        privileges=_privileges(ask.caller),
    )
    if not taken.id:
        return answer({"dryRun": True, **verdicts_shown(taken.items)})
    link = f"{ask.base}/api/submissions/{taken.id}"
    known = await _until_finished(taken.id, wait)
    shown = submission_shown(known) if known else {"id": taken.id}
    status, headers = _status(known, link)
    if taken.repeated:
        headers[_REPEATED] = "true"
    return answer({**shown, "link": link, **verdicts_shown(taken.items)}, status, headers)


def _privileges(caller: Caller) -> frozenset[Privilege]:
    return frozenset(privilege for privilege in Privilege if privilege.value in caller.roles)


@serve(bp, "GetSubmission")
async def get_submission(ask: Ask) -> Reply:
    """What became of a submission; its items by `?skip=` and `?top=`, of one state by `?state=`."""
    name = ask.param("id")
    top, skip = ask.number("top"), ask.number("skip")
    wait = ask.number("wait")
    known = await relay().publishing.submissions.read(name) if ids.is_submission(name) else None
    if known is None or (ask.own_only and known.header.caller != ask.caller.id):  # before any waiting
        return problem(
            404, "not-found", "No such submission", f"There is no submission {name[:60]!r}.", "Check the id."
        )
    if wait and not known.finished:
        known = await _until_finished(name, wait) or known
    link = f"{ask.base}/api/submissions/{name}"
    items, following = await items_shown(relay().publishing.parts, known, skip, top, ask.text("state"))
    shown = {**submission_shown(known), "link": link, "items": items}
    if following is not None:
        state = f"&state={ask.text('state')}" if ask.text("state") else ""
        shown["nextLink"] = f"{link}?skip={following}&top={top}{state}"
    status, headers = _status(known, link)
    return answer(shown, status, headers)


def _status(known: Submission | None, link: str) -> tuple[int, dict[str, str]]:
    if known is not None and known.finished:
        return 200, {"Location": link}
    return 202, {"Location": link, "Retry-After": _RETRY_AFTER}


async def _until_finished(name: str, wait: int) -> Submission | None:
    """The submission once it is finished, or as it is after `wait` seconds."""
    loop = asyncio.get_running_loop()
    until = loop.time() + wait
    pause = _POLL
    while True:
        began = loop.time()
        known = await relay().publishing.submissions.read(name)
        # A large submission takes long to read: never spend more than a fifth of the time on it.
        pause = max(pause, 4 * (loop.time() - began))
        if known is None or known.finished or loop.time() + pause > until:
            return known
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, _POLL_MOST)
