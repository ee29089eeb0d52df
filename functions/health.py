"""GET /api/health."""

from __future__ import annotations

import azure.functions as func

from functions.http import answer, door
from shared.relay import relay

bp = func.Blueprint()


@bp.function_name("GetHealth")
@bp.route(route="health", methods=["GET"])
@door
async def get_health(req: func.HttpRequest) -> func.HttpResponse:
    """Everything the app needs, each with ok or what is wrong and the remedy; 503 when something fails."""
    health = await relay().health()
    return answer(health.as_json(), 503 if health.status == "failing" else 200, {"Cache-Control": "no-store"})
