"""GET /api/operations."""

from __future__ import annotations

import azure.functions as func

from functions.http import Ask, Reply, answer, serve
from shared.relay import relay

bp = func.Blueprint()


@serve(bp, "GetOperations")
async def get_operations(ask: Ask) -> Reply:
    """What waits, what stops it, who works, what came of the newest submissions."""
    return answer(await relay().publishing.operations.look(ask.base), 200, {"Cache-Control": "no-store"})
