"""POST /api/pause and POST /api/resume; and what other answers say while there is a pause."""

from __future__ import annotations

from typing import Any

import azure.functions as func

from functions.http import Ask, ParameterError, Reply, answer, serve
from shared.errors import StorageError
from shared.ledger.view import paused_sentence, paused_shown
from shared.publishing.pause import read_reason, read_until
from shared.relay import relay

bp = func.Blueprint()

_NOW = {"Cache-Control": "no-store"}


@serve(bp, "Pause")
async def pause(ask: Ask) -> Reply:
    """Stop every call that writes to Defender, for all workers, until somebody resumes or `until`."""
    given = _fields(ask, "reason", "until")
    app = relay().publishing
    await app.submissions.touch()
    until = read_until(given.get("until"), app.settings, app.stores.clock.now())
    paused, changed = await app.pauses.pause(read_reason(given.get("reason")), until, ask.caller.id, ask.caller.name)
    text = paused_sentence(paused)
    if not changed:
        text = f"It was paused already, and for no shorter time; that stands. {text}"
    return answer({"paused": paused_shown(paused), "changed": changed, "text": text}, 200, _NOW)


@serve(bp, "Resume")
async def resume(ask: Ask) -> Reply:
    """End the pause; what waited for it goes on at once."""
    given = _fields(ask, "reason")
    ended, parts = await relay().publishing.pauses.resume(
        read_reason(given.get("reason")), ask.caller.id, ask.caller.name
    )
    shown: dict[str, Any] = {"changed": ended is not None, "parts": parts}
    if ended is None:
        return answer({**shown, "text": "It was not paused."}, 200, _NOW)
    text = f"Calls to Defender go on. {parts} parts that waited were pointed to again."
    return answer({**shown, "resumed": paused_shown(ended), "text": text}, 200, _NOW)


def _fields(ask: Ask, *known: str) -> dict[str, Any]:
    given = ask.json_object()
    for name in given:
        if name not in known:
            raise ParameterError(
                f"{name[:40]!r} is not a field of this order.", remediation=f"Its fields are: {', '.join(known)}."
            )
    return given


async def with_pause(shown: dict[str, Any]) -> dict[str, Any]:
    """An answer that says, in words too, that calls are paused, when they are."""
    try:
        paused = await relay().publishing.pauses.standing()
    except StorageError:
        return shown  # what was asked for can be told all the same
    if paused is None:
        return shown
    text = f"{shown.get('text', '')} {paused_sentence(paused)}".strip()
    return shown | {"text": text, "paused": paused_shown(paused)}
