"""GET /api/capacity."""

from __future__ import annotations

import azure.functions as func

from functions.http import Ask, Reply, answer, serve
from shared.relay import relay

bp = func.Blueprint()


@serve(bp, "GetCapacity")
async def get_capacity(ask: Ask) -> Reply:
    """How full the tenant is, by type, action and owner, at most a minute ago; what is used of each call budget."""
    shown, age = await relay().capacity.as_json()
    return answer(shown, 200, {"Age": str(int(age)), "Cache-Control": "no-store"})
