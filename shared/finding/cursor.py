"""Where the next page of a listing begins, as an opaque text that a client hands back.

It holds a place and the bounds in time, which `P7D` would otherwise move from page to page, and belongs to one
question: with another it is refused. It is no secret and opens nothing; who may see what is decided for each page anew.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import json
from typing import Any

from shared.errors import QuestionError
from shared.indicators.problem import shorten

_DIGEST = 8
_LONGEST = 400


@dataclasses.dataclass(frozen=True, slots=True)
class Cursor:
    """The last place that was seen, and the bounds in time (epoch seconds)."""

    place: str
    since: float
    until: float


def write(cursor: Cursor, question: str) -> str:
    """As text, for this question."""
    content = json.dumps([cursor.place, cursor.since, cursor.until], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_digest(content, question) + content).decode().rstrip("=")


def read(text: str, question: str) -> Cursor:
    """The inverse of `write`. Raises QuestionError for anything else."""
    wrong = QuestionError(
        f"cursor={shorten(text, 40)!r} does not continue this question.",
        remediation="Follow nextLink as it is, or leave the cursor out to begin anew.",
    )
    if len(text) > _LONGEST or not text.isascii():
        raise wrong
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
        content = data[_DIGEST:]
        if data[:_DIGEST] != _digest(content, question):
            raise wrong
        fields: Any = json.loads(content)
    except (ValueError, binascii.Error):
        raise wrong from None
    place, since, until = fields
    return Cursor(place, since, until)


def _digest(content: bytes, question: str) -> bytes:
    return hashlib.sha256(question.encode("utf-8", "surrogatepass") + b"\0" + content).digest()[:_DIGEST]
