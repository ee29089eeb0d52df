"""GET /api/openapi.json: OpenAPI 3.0, made from the table of routes and the schemas."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import azure.functions as func

from functions.http import Ask, Reply, answer, mode, serve
from functions.routes import TABLE, Entry, Parameter
from functions.schemas import SCHEMAS

bp = func.Blueprint()

VERSION = "1"
# Problems that any route may answer, by status.
_PROBLEMS = {
    400: "The request is wrong; the problem names what.",
    401: "The host answers it without a body when the key is missing or wrong; the app when the principal is.",
    403: "The caller has none of the route's roles.",
    404: "There is no such thing, or not for this caller.",
    409: "What is asked for does not fit the state of things.",
    411: "The body has no Content-Length.",
    413: "The body is too large.",
    415: "The media type or encoding is not taken.",
    422: "The request is understood and cannot be carried out as it is.",
    429: "Too many requests; Retry-After says when to come again.",
    500: "A fault of the app; its log tells what.",
    502: "Defender or Entra did not answer as they should.",
    503: "The app is not configured, or storage did not answer.",
}
_HEADERS = {
    "X-Request-Id": {"schema": {"type": "string"}, "description": "As sent, or made by the app; the log names it."},
}


@serve(bp, "GetOpenApi")
async def get_openapi(ask: Ask) -> Reply:
    """The OpenAPI document of this app."""
    return answer({**document(), "servers": [{"url": f"{ask.base}/api"}]})


@functools.cache
def document() -> dict[str, Any]:
    """The document without its servers."""
    paths: dict[str, dict[str, Any]] = {}
    for entry in TABLE:
        paths.setdefault(f"/{entry.path}", {})[entry.method.lower()] = _operation(entry)
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "Defender Indicator Relay",
            "version": VERSION,
            "description": "Gets threat indicators into Microsoft Defender for Endpoint and tells what became of them",
            "license": {"name": "MIT"},
        },
        "security": _security(),
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "x-functions-key"},
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            },
            "responses": {f"Problem{status}": _problem(status, text) for status, text in _PROBLEMS.items()},
        },
    }


def _security() -> list[dict[str, list[str]]]:
    return [{"token": []}] if mode() == "easy-auth" else [{"key": []}]


def _problem(status: int, text: str) -> dict[str, Any]:
    made: dict[str, Any] = {"description": text, "headers": dict(_HEADERS)}
    if status in (409, 429, 502, 503):
        made["headers"]["Retry-After"] = {"schema": {"type": "integer"}, "description": "Seconds."}
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    # The host's own 401 has no body.
    return made if status == 401 else made | {"content": content}


def _operation(entry: Entry) -> dict[str, Any]:
    needs = " or ".join(f"`{role}`" for role in sorted(entry.roles))
    key = "the admin (master) key" if entry.level == "admin" else "a function or host key"
    note = " With `Submissions.Write` alone: what the caller submitted itself." if entry.own else ""
    operation: dict[str, Any] = {
        "operationId": entry.function,
        "summary": entry.summary,
        "tags": [entry.path.partition("/")[0]],
        "description": f"Key mode: {key}. Easy Auth mode: {needs}.{note}",
        "parameters": [
            *(_path_parameter(name) for name in re.findall(r"\{(\w+)\}", entry.path)),
            *(_parameter(spec) for spec in entry.parameters),
        ],
        "responses": {
            **{str(status): _success(entry, status) for status in entry.answers},
            **{str(status): {"$ref": f"#/components/responses/Problem{status}"} for status in _statuses(entry)},
        },
    }
    if entry.function == "PostSubmission":
        operation["parameters"].append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "1 to 255 visible ASCII characters: the same request sent again is the same submission.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
            }
        )
    if entry.body:
        content: dict[str, Any] = {
            "schema": {"$ref": f"#/components/schemas/{entry.body}"},
            "example": _examples()[entry.function]["sends"],
        }
        operation["requestBody"] = {
            "required": "required" in SCHEMAS[entry.body] or "anyOf" in SCHEMAS[entry.body],
            "content": {"application/json": content},
        }
    return operation


@functools.cache
def _examples() -> dict[str, Any]:
    """What each route is sent and answers, from a run of the local stack."""
    made: dict[str, Any] = json.loads((Path(__file__).parent / "examples.json").read_text("utf-8"))
    return made


def _statuses(entry: Entry) -> list[int]:
    """The problems a route may answer."""
    never = set(entry.answers)
    if entry.method != "POST":
        never |= {411, 413, 415, 422}
    return [status for status in _PROBLEMS if status not in never]


def _success(entry: Entry, status: int) -> dict[str, Any]:
    headers: dict[str, Any] = dict(_HEADERS)
    if status == 202:
        headers["Location"] = {"schema": {"type": "string"}, "description": "Where to ask for the end."}
        headers["Retry-After"] = {"schema": {"type": "integer"}, "description": "Seconds until asking is worth it."}
    if entry.method == "GET":
        headers["ETag"] = {"schema": {"type": "string"}, "description": "For If-None-Match."}
    if entry.function == "PostSubmission":
        text = "`true`: the answer to an earlier request with the same Idempotency-Key."
        headers["Idempotent-Replayed"] = {"schema": {"type": "string"}, "description": text}
    text = "Not finished yet." if status == 202 else "As asked."
    kind: dict[str, Any] = {
        "schema": {"$ref": f"#/components/schemas/{entry.shows}"} if entry.shows else {"type": "object"},
        "example": _examples()[entry.function]["answers"],
    }
    content: dict[str, Any] = {"application/json": kind}
    if any(spec.name == "format" for spec in entry.parameters):
        content["text/csv"] = {"schema": {"type": "string"}}
    return {"description": text, "headers": headers, "content": content}


def _path_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _parameter(spec: Parameter) -> dict[str, Any]:
    match spec.kind:
        case "number":
            shape: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": spec.most, "default": spec.default}
        case "flag":
            shape = {"type": "boolean", "default": False}
        case "choice":
            shape = {"type": "string", "enum": [choice for choice in spec.choices if choice]}
        case "text":
            shape = {"type": "string", "maxLength": spec.longest}
    made: dict[str, Any] = {"name": spec.name, "in": "query", "description": spec.meaning, "schema": shape}
    if spec.example:
        made["example"] = spec.example
    return made
