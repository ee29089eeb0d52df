"""GET /api/indicators and GET /api/indicators/{value}: what Defender holds, live."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import azure.functions as func

from functions.http import Ask, ParameterError, Reply, answer, serve
from shared import spreadsheet
from shared.looking.rows import COLUMNS, Criteria
from shared.relay import relay

bp = func.Blueprint()

_LIVE = {"Cache-Control": "no-store"}


@serve(bp, "FindIndicators")
async def find_indicators(ask: Ask) -> Reply:
    """What Defender holds, by type, action and owner, a page at a time; with `?value=` as GetIndicator."""
    owner, top, value, cursor = ask.choice("owner"), ask.number("top"), ask.text("value"), ask.text("cursor")
    criteria = Criteria.of(ask.text("type"), ask.text("action"), owner)
    if ask.has("value"):
        if cursor:
            text = "cursor does not go with value: one value has one page."
            raise ParameterError(text, remediation="Leave out one of them.")
        return await _value(ask, value, criteria)
    found = await relay().finder.find(criteria, top, cursor)
    following = ""
    if found.cursor is not None:
        asked = {"type": criteria.type, "action": criteria.action, "owner": owner, "top": str(top)}
        if ask.csv:
            asked["format"] = "csv"
        asked["cursor"] = found.cursor
        following = f"{ask.base}/api/indicators?" + urlencode({name: text for name, text in asked.items() if text})
    if ask.csv:
        return await _csv(found.shown(), following)
    shown = found.as_json()
    return answer(shown | {"nextLink": following} if following else shown, 200, _LIVE)


@serve(bp, "GetIndicator")
async def get_indicator(ask: Ask) -> Reply:
    """What Defender holds for a value, every action and owner; what was last meant here; whether the two agree."""
    return await _value(ask, ask.param("value"), Criteria())


async def _value(ask: Ask, value: str, criteria: Criteria) -> Reply:
    shown = await relay().values.look_up(value, criteria)
    if ask.csv:
        return await _csv(shown["indicators"], "")
    if shown["types"]:
        shown["history"] = f"{ask.base}/api/submissions?" + urlencode({"value": shown["value"]})
    return answer(shown, 200, _LIVE)


async def _csv(indicators: Sequence[dict[str, Any]], following: str) -> Reply:
    """A page as CSV; the next one is named as RFC 8288 says."""

    def cells(one: dict[str, Any]) -> list[Any]:
        values = [one[name] for name in COLUMNS]
        return [", ".join(map(str, value)) if isinstance(value, list) else value for value in values]

    app = relay()
    body = await app.defender.run(lambda: spreadsheet.table(COLUMNS, map(cells, indicators)))
    headers = _LIVE | ({"Link": f'<{following}>; rel="next"'} if following else {})
    return Reply(200, body, spreadsheet.MIMETYPE, headers)
