"""What a door answers: JSON, problem+json (RFC 9457), and what becomes of each error."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections.abc import Mapping
from typing import Any

from functions.limits import BusyError, FullError
from functions.routes import Entry
from shared import telemetry
from shared.errors import (
    AccessError,
    BudgetError,
    DefenderError,
    IdentityError,
    IntakeError,
    KeyBusyError,
    KeyFormError,
    KeyReuseError,
    OrderError,
    QuestionError,
    RelayError,
    SettingsError,
    StorageError,
    TooLargeError,
    UnreadableError,
)

_LOG = telemetry.get_logger("http")


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """An answer before it is packed."""

    status: int
    body: bytes
    mimetype: str
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


def answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """A JSON answer; Unicode as it is."""
    data = json.dumps(body, ensure_ascii=False).encode("utf-8", "backslashreplace")
    return Reply(status, data, "application/json", headers or {})


def problem(
    status: int, kind: str, title: str, detail: str, remedy: str = "", headers: Mapping[str, str] | None = None
) -> Reply:
    """An RFC 9457 problem. `kind` names it for machines; `remedy` says what the caller can do."""
    body: dict[str, Any] = {
        "type": f"urn:defender-indicator-relay:{kind}",
        "title": title,
        "status": status,
        "detail": detail,
    }
    if remedy:
        body["remedy"] = remedy
    data = json.dumps(body, ensure_ascii=False).encode("utf-8", "backslashreplace")
    return Reply(status, data, "application/problem+json", headers or {})


class Refusal(Exception):
    """Ends a handler with this reply."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


class ParameterError(RelayError):
    """A query parameter, header or field of a body cannot be understood."""


def of_error(error: Exception, entry: Entry, request_id: str) -> Reply:
    """What a handler raised as a problem. What nobody foresaw is a 500 without details; they are in the log."""
    match error:
        case Refusal():
            return error.reply
        case ParameterError() | QuestionError() | OrderError():
            return problem(400, "parameter", "The request is wrong", str(error), error.remediation)
        case KeyFormError():
            return problem(400, "idempotency-key", "The Idempotency-Key is wrong", str(error), error.remediation)
        case KeyReuseError():
            return problem(
                422, "key-reused", "The Idempotency-Key came with another body", str(error), error.remediation
            )
        case KeyBusyError():
            again = {"Retry-After": str(math.ceil(error.retry_after))}
            title = "The first request with this Idempotency-Key has not ended"
            return problem(409, "in-progress", title, str(error), error.remediation, again)
        case AccessError(status=401):
            headers = {"WWW-Authenticate": "Bearer"}
            return problem(401, "unauthenticated", "Who asks is not known", str(error), error.remediation, headers)
        case AccessError():
            return problem(403, "forbidden", "This caller may not do this", str(error), error.remediation)
        case BusyError():
            again = {"Retry-After": str(error.retry_after)}
            text = f"One caller may not take everything: {error}."
            return problem(429, "busy", "Too many requests", text, "Wait, and ask less often.", again)
        case FullError():
            again = {"Retry-After": str(error.retry_after)}
            remedy = "Send it again after Retry-After; smaller submissions fit in sooner."
            return problem(503, "full", "The instance is full", f"{error}.", remedy, again)
        case TooLargeError():
            return problem(413, "too-large", "The body is too large", str(error), error.remediation)
        case UnreadableError(remediation=remedy):
            return problem(400, "unreadable", "The body cannot be read", str(error), remedy)
        case IntakeError():
            return problem(400, "unreadable", "The body cannot be read", str(error), error.remediation)
        case SettingsError():
            return problem(503, "settings", "The app is not configured", str(error), error.remediation)
        case StorageError():
            telemetry.log_event(_LOG, logging.ERROR, "http_storage", detail=str(error), request=request_id)
            again = {"Retry-After": "10"}
            return problem(503, "storage", "Storage did not answer", str(error), error.remediation, again)
        case BudgetError():
            again = {"Retry-After": str(math.ceil(error.retry_after))}
            return problem(429, "budget", "No call to Defender is left now", str(error), error.remediation, again)
        case DefenderError() | IdentityError():
            telemetry.log_event(_LOG, logging.WARNING, "http_defender", detail=str(error), request=request_id)
            again = {"Retry-After": str(math.ceil(getattr(error, "retry_after", None) or 10))}
            remedy = error.remediation or "Ask again after Retry-After; GET /api/health tells what is wrong."
            return problem(502, "defender", "Defender did not answer as it should", str(error), remedy, again)
    telemetry.log_event(_LOG, logging.ERROR, "http_error", exc_info=True, function=entry.function, request=request_id)
    return problem(500, "internal", "Something went wrong", "The app's log tells what.", "Try again later.")
