"""What the HTTP doors share: answers as JSON, errors as problem+json (RFC 9457), parameters with clear faults."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import azure.functions as func

from shared import telemetry
from shared.errors import IntakeError, RelayError, SettingsError, StorageError, TooLargeError

_LOG = telemetry.get_logger("http")


def answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> func.HttpResponse:
    """A JSON answer; Unicode as it is."""
    return func.HttpResponse(
        json.dumps(body, ensure_ascii=False), status_code=status, headers=headers, mimetype="application/json"
    )


def problem(
    status: int, kind: str, title: str, detail: str, remedy: str = "", headers: dict[str, str] | None = None
) -> func.HttpResponse:
    """An RFC 9457 problem. `kind` names it for machines; `remedy` says what the caller can do."""
    body = {"type": f"urn:defender-indicator-relay:{kind}", "title": title, "status": status, "detail": detail}
    if remedy:
        body["remedy"] = remedy
    return func.HttpResponse(
        json.dumps(body, ensure_ascii=False), status_code=status, headers=headers, mimetype="application/problem+json"
    )


class ParameterError(RelayError):
    """A query parameter cannot be understood."""


def number(req: func.HttpRequest, name: str, default: int, most: int) -> int:
    """A whole number from the query, between 0 and `most`. Raises ParameterError."""
    text = req.params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and int(text[:9]) <= most and len(text) < 10):
        raise ParameterError(
            f"{name}={text[:40]!r} is not a whole number from 0 to {most}", remediation=f"Give {name} such a number."
        )
    return int(text)


def flag(req: func.HttpRequest, name: str) -> bool:
    """true or false from the query. Raises ParameterError."""
    text = req.params.get(name, "false").lower()
    if text not in ("true", "false", "1", "0"):
        raise ParameterError(f"{name}={text[:40]!r} is neither true nor false", remediation=f"Give {name}=true.")
    return text in ("true", "1")


def base(req: func.HttpRequest) -> str:
    """Scheme and host the caller used."""
    parts = urlsplit(req.url)
    return f"{parts.scheme}://{parts.netloc}"


Door = Callable[[func.HttpRequest], Awaitable[func.HttpResponse]]


def door(handler: Door) -> Door:
    """Turn errors into problems. What nobody foresaw is a 500 without details; they are in the log."""

    @functools.wraps(handler)
    async def guarded(req: func.HttpRequest) -> func.HttpResponse:
        try:
            return await handler(req)
        except ParameterError as error:
            return problem(400, "parameter", "A query parameter is wrong", str(error), error.remediation)
        except TooLargeError as error:
            return problem(413, "too-large", "The submission is too large", str(error), error.remediation)
        except IntakeError as error:
            return problem(400, "unreadable", "The body cannot be read", str(error), error.remediation)
        except SettingsError as error:
            return problem(503, "settings", "The app is not configured", str(error), error.remediation)
        except StorageError as error:
            telemetry.log_event(_LOG, logging.ERROR, "http_storage", detail=str(error))
            again = {"Retry-After": "10"}
            return problem(503, "storage", "Storage did not answer", str(error), error.remediation, again)
        except Exception:
            telemetry.log_event(_LOG, logging.ERROR, "http_error", exc_info=True, path=urlsplit(req.url).path)
            return problem(500, "internal", "Something went wrong", "The app's log tells what.", "Try again later.")

    return guarded
