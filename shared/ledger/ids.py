"""Names of submissions, parts and calls.

A submission's id begins with its date and one hex digit: together they are the partition its rows live in.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import UTC, datetime

PARTITION_LENGTH = 9
_SUBMISSION = re.compile(r"\d{8}[0-9a-f]{17}\Z")
_PART = re.compile(r"[0-9a-z][0-9a-z-]{9,79}\Z")


def _date(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y%m%d")


def new_submission(now: float) -> str:
    """A fresh id for an HTTP submission; `now` in epoch seconds."""
    return _date(now) + secrets.token_hex(9)[:17]


def foreign_submission(message_id: str, inserted: datetime) -> str:
    """The id of a foreign queue message: made from what the queue service gave it, so a redelivery has the same."""
    moment = inserted.astimezone(UTC).replace(microsecond=0)
    text = f"{message_id}|{moment.strftime('%Y-%m-%dT%H:%M:%SZ')}"
    return moment.strftime("%Y%m%d") + hashlib.sha256(text.encode()).hexdigest()[:17]


def is_submission(text: str) -> bool:
    """Whether this could be a submission's id."""
    return _SUBMISSION.match(text) is not None


def partition(submission: str) -> str:
    """The partition of a submission's rows: date and shard."""
    return submission[:PARTITION_LENGTH]


def door_part(submission: str, number: int, run: str = "") -> str:
    """The name of the n-th part that the HTTP door (in this run of a keyed request) stores for a submission."""
    return f"{submission}-{run}{number:04d}"


def door_run(submission: str, part: str) -> str | None:
    """Of which run of the HTTP door this part is; None when the door did not store it for this submission."""
    return part[len(submission) + 1 : -4] if part.startswith(f"{submission}-") else None


def new_part(now: float) -> str:
    """The name of a part that holds deferred items."""
    return f"d{_date(now)}-{secrets.token_hex(10)}"


def is_part(text: str) -> bool:
    """Whether this could be a part's name; nothing else is ever used as a blob's name."""
    return _PART.match(text) is not None


def new_call() -> str:
    """The name of one call to Defender, or of another writing of outcomes."""
    return secrets.token_hex(8)


def digest(body: bytes) -> str:
    """SHA-256 of a body, in hex."""
    return hashlib.sha256(body).hexdigest()
