"""POST /api/submissions, GET /api/submissions and GET /api/submissions/{id}."""

from __future__ import annotations

import asyncio
from urllib.parse import urlencode

import azure.functions as func

from functions.http import Ask, Reply, answer, problem, serve
from functions.pause import with_pause
from shared import spreadsheet
from shared.finding.listing import SUBMISSION_COLUMNS, USE_COLUMNS, cells, hits_shown, linked
from shared.finding.question import Question
from shared.identity.caller import Caller
from shared.intake.contract import Privilege
from shared.ledger import history, ids
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
    shown = await with_pause(shown)
    return answer({**shown, "link": link, **verdicts_shown(taken.items)}, status, headers)


def _privileges(caller: Caller) -> frozenset[Privilege]:
    return frozenset(privilege for privilege in Privilege if privilege.value in caller.roles)


@serve(bp, "FindSubmissions")
async def find_submissions(ask: Ask) -> Reply:
    """Submissions by incident, source, caller, state and time, the newest first; with `?value=` what became of one."""
    app = relay().publishing
    named = ("incident", "source", "caller", "value", "since", "until")
    asked = {name: ask.text(name) for name in named} | {"state": ask.choice("state")}
    top = ask.number("top")
    own = ask.caller.id if ask.own_only else ""
    now = app.stores.clock.now()
    question = Question.of(now, **asked, following=ask.text("cursor"), own=own, top=top)
    if question.value:
        shown, following = await app.uses.find(question)
        shown = linked(shown, ask.base)
        listed = shown["uses"]
    else:
        page = await app.search.find(question)
        following = page.following
        listed = hits_shown(page.hits, ask.base)
        shown = {"submissions": listed, "examined": page.examined}
    following = following and _following(ask, {**asked, "top": str(top), "cursor": following})
    if not ask.csv:
        shown = await with_pause(shown)
        return answer({**shown, "nextLink": following} if following else shown)
    columns = USE_COLUMNS if question.value else SUBMISSION_COLUMNS
    body = await asyncio.to_thread(spreadsheet.table, columns, cells(columns, listed))
    return _csv(body, "submissions.csv", {"Link": f'<{following}>; rel="next"'} if following else {})


def _following(ask: Ask, asked: dict[str, str]) -> str:
    if ask.has("format"):
        asked["format"] = ask.choice("format")
    return f"{ask.base}/api/submissions?{urlencode({name: text for name, text in asked.items() if text})}"


def _csv(body: bytes, name: str, headers: dict[str, str], status: int = 200) -> Reply:
    saved = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Reply(status, body, spreadsheet.MIMETYPE, headers | saved)


@serve(bp, "GetSubmission")
async def get_submission(ask: Ask) -> Reply:
    """What became of a submission; its items by `?skip=`, `?top=` and `?state=`. As CSV: its whole history."""
    name = ask.param("id")
    top, skip, state = ask.number("top"), ask.number("skip"), ask.choice("state")
    wait = ask.number("wait")
    known = await relay().publishing.submissions.read(name) if ids.is_submission(name) else None
    if known is None or (ask.own_only and known.header.caller != ask.caller.id):  # before any waiting
        return problem(
            404, "not-found", "No such submission", f"There is no submission {name[:60]!r}.", "Check the id."
        )
    if wait and not known.finished:
        known = await _until_finished(name, wait) or known
    link = f"{ask.base}/api/submissions/{name}"
    if ask.csv:
        body = await history.as_csv(relay().publishing.submissions, relay().publishing.parts, name)
        status, headers = _status(known, link)
        return _csv(body or b"", f"submission-{name}.csv", headers, status)
    items, following = await items_shown(relay().publishing.parts, known, skip, top, state)
    shown = {**submission_shown(known), "link": link, "items": items}
    if following is not None:
        shown["nextLink"] = f"{link}?skip={following}&top={top}{f'&state={state}' if state else ''}"
    status, headers = _status(known, link)
    return answer(await with_pause(shown), status, headers)


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
