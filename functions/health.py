"""GET /api/health."""

from __future__ import annotations

import azure.functions as func

from functions.http import Ask, Reply, answer, serve
from shared.relay import relay

bp = func.Blueprint()


@serve(bp, "GetHealth")
async def get_health(ask: Ask) -> Reply:
    """Everything the app needs, each with ok or what is wrong and the remedy; 503 when something fails."""
    health = await relay().health()
    return answer(health.as_json(), 503 if health.status == "failing" else 200, {"Cache-Control": "no-store"})
