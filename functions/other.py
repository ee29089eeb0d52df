"""What no route takes: 404 and 405 in words, and OPTIONS. Open to all, since it tells what the documents tell."""

from __future__ import annotations

import secrets

import azure.functions as func

from functions.http import Reply, common_headers, problem
from functions.routes import matching

bp = func.Blueprint()

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


# Named so that it is the last: the host tries functions in the order of their names, not of their routes' precedence.
@bp.function_name("ZNoSuchRoute")
@bp.route(route="{*path}", methods=_METHODS, auth_level=func.AuthLevel.ANONYMOUS)
async def other(req: func.HttpRequest) -> func.HttpResponse:
    """404 for an unknown path, 405 with Allow for a method that its route lacks, and the answer to OPTIONS."""
    path = str(req.route_params.get("path", ""))
    allowed = sorted({method for entry in matching(path) for method in entry.methods} | {"OPTIONS"})
    headers = common_headers(req, secrets.token_hex(16)) | {"Cache-Control": "no-store"}
    if len(allowed) == 1:
        text = "There is no such route."
        reply = problem(404, "no-route", "No such route", text, "docs/http-api.md and /api/openapi.json list them all.")
    elif req.method == "OPTIONS":
        headers |= {"Allow": ", ".join(allowed)}
        if "Access-Control-Allow-Origin" in headers:
            headers |= {
                "Access-Control-Allow-Methods": ", ".join(allowed),
                "Access-Control-Allow-Headers": "authorization, content-encoding, content-type, idempotency-key, "
                "if-none-match, x-functions-key, x-request-id",
                "Access-Control-Max-Age": "600",
            }
        reply = Reply(204, b"", "", {})
    else:
        headers |= {"Allow": ", ".join(allowed)}
        text = f"This route takes {', '.join(allowed)}."
        reply = problem(405, "method", "The route does not have this method", text, "Use one of these methods.")
    body = b"" if req.method == "HEAD" else reply.body
    return func.HttpResponse(body or None, status_code=reply.status, headers=headers, mimetype=reply.mimetype or None)
