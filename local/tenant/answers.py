"""What a service says: an answer as data, so that a fault may still spoil it on its way out."""

from __future__ import annotations

import dataclasses
import json
import secrets
from typing import Any


@dataclasses.dataclass
class Answer:
    """Status, body and headers. No Content-Type is sent for an empty body (recorded for 200, 204 and 405)."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = dataclasses.field(default_factory=dict)


class Refused(Exception):
    """Raised anywhere below a service to end the request with this answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def as_json(status: int, content: Any, **headers: str) -> Answer:
    """An answer in JSON; header names are given with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = json.dumps(content, separators=(",", ":")).encode()
    return Answer(status, body, {"Content-Type": "application/json; charset=utf-8", **named})


def target() -> str:
    """A tracking id in the form that ASP.NET gives a request: |xxxxxxxx-yyyyyyyyyyyyyyyy. (recorded)."""
    return f"|{secrets.token_hex(4)}-{secrets.token_hex(8)}."


def error(status: int, code: str, message: str, **headers: str) -> Answer:
    """The error body of the Defender API."""
    return as_json(status, {"error": {"code": code, "message": message, "target": target()}}, **headers)
