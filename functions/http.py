"""What every HTTP door shares: who may come in, parameters with clear faults, and the answer on its way out.

A door is `@serve(bp, "Name")` on a handler that takes an Ask and gives a Reply; what else there is about it is in
routes.py.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import azure.functions as func

from functions.limits import Bodies, Share
from functions.packed import GZIP, packed, unpacked
from functions.replies import ParameterError, Refusal, Reply, answer, of_error, problem
from functions.routes import ENTRIES, Entry, Parameter
from shared.errors import (
    AccessError,
    SettingsError,
)
from shared.identity.caller import ADMIN_KEY, FUNCTION_KEY, Caller, Role, who
from shared.settings import AuthKind, Settings, load

__all__ = ["Ask", "ParameterError", "Refusal", "Reply", "answer", "common_headers", "level", "mode", "problem", "serve"]

_SLASH = re.compile("%2f", re.IGNORECASE)
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}\Z")
# What a tool sends that says nothing about its body, or says JSON. curl's own default is a form, which is not.
_TYPES = frozenset({"", "application/json", "text/json", "text/plain", "application/octet-stream"})
# The cookie of somebody who has signed in at the platform by a browser.
_SESSION = "appserviceauthsession"
_BODIES_MOST = 256 * 1024 * 1024  # bytes of bodies in hand; the runtime holds each once more
_DEFLATE_MOST = 1032  # what deflate can make of a byte
# Query parameters of the platform, not ours.
_PLATFORM = frozenset({"code", "clientid"})


@dataclasses.dataclass(frozen=True, slots=True)
class Ask:
    """A request that may come in."""

    req: func.HttpRequest
    entry: Entry
    caller: Caller
    body: bytes
    request_id: str

    @property
    def own_only(self) -> bool:
        """Whether the caller may see what it submitted, and nothing else."""
        return self.entry.own and self.caller.roles & self.entry.roles == {Role.SUBMIT}

    def header(self, name: str) -> str:
        """A header; "" when it is absent."""
        return str(self.req.headers.get(name.lower(), ""))

    def param(self, name: str) -> str:
        """A parameter of the route. The host has decoded it, but for the slash, which would end a segment."""
        return _SLASH.sub("/", str(self.req.route_params.get(name, "")))

    def has(self, name: str) -> bool:
        """Whether the query names this parameter."""
        return name in self.req.params

    def number(self, name: str) -> int:
        """A whole number from the query. Raises ParameterError."""
        spec, text = self._given(name)
        if text is None:
            return spec.default
        if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) <= spec.most):
            raise ParameterError(
                f"{name}={text[:40]!r} is not a whole number from 0 to {spec.most}.",
                remediation=f"Give {name} such a number.",
            )
        return int(text)

    def flag(self, name: str) -> bool:
        """true or false from the query. Raises ParameterError."""
        _, text = self._given(name)
        if text is None:
            return False
        if text.lower() not in ("true", "false", "1", "0"):
            raise ParameterError(f"{name}={text[:40]!r} is neither true nor false.", remediation=f"Give {name}=true.")
        return text.lower() in ("true", "1")

    def text(self, name: str) -> str:
        """Text from the query, "" when absent. Raises ParameterError."""
        spec, text = self._given(name)
        if text is None:
            return ""
        if len(text) > spec.longest or any(ord(character) < 32 for character in text):
            raise ParameterError(
                f"{name} is longer than {spec.longest} characters, or holds control characters.",
                remediation=f"Give {name} as it was sent.",
            )
        return text

    def choice(self, name: str) -> str:
        """One of the parameter's choices, the first when absent. Raises ParameterError."""
        spec, text = self._given(name)
        if text is None:
            return spec.choices[0]
        if text not in spec.choices:
            raise ParameterError(
                f"{name}={text[:40]!r} is none of {', '.join(filter(None, spec.choices))}.",
                remediation=f"Give {name} one of them.",
            )
        return text

    def _given(self, name: str) -> tuple[Parameter, str | None]:
        spec = next(spec for spec in self.entry.parameters if spec.name == name)
        return spec, self.req.params.get(name)

    def json_object(self) -> dict[str, Any]:
        """The body as a JSON object, {} when it is empty. Raises ParameterError."""
        if not self.body.strip():
            return {}
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            raise ParameterError("The body is not JSON.", remediation="Send a JSON object.") from None
        if not isinstance(value, dict):
            raise ParameterError("The body is not a JSON object.", remediation="Send a JSON object.")
        return value

    @property
    def csv(self) -> bool:
        """Whether CSV is asked for: by `?format=csv`, or by an Accept header that names it and not JSON."""
        if self.req.params.get("format") is not None:
            return self.choice("format") == "csv"
        accept = self.header("accept").lower()
        return "text/csv" in accept and "application/json" not in accept

    @property
    def base(self) -> str:
        """Scheme and host the caller used."""
        parts = urlsplit(self.req.url)
        return f"{parts.scheme}://{parts.netloc}"


Handler = Callable[[Ask], Awaitable[Reply]]


@functools.cache
def _settings() -> Settings:
    return load()


@functools.cache
def _share() -> Share:
    settings = _settings()
    return Share(settings.caller_at_once, settings.caller_rate)


_bodies = Bodies(_BODIES_MOST)


@functools.cache
def mode() -> AuthKind:
    """The mode of the doors. With settings that cannot be read the host asks for keys, and every door answers 503."""
    try:
        return _settings().auth
    except SettingsError:
        return "keys"


def level(entry: Entry) -> func.AuthLevel:
    """What the host asks for at this route."""
    if mode() == "easy-auth":
        return func.AuthLevel.ANONYMOUS
    return func.AuthLevel.ADMIN if entry.level == "admin" else func.AuthLevel.FUNCTION


def serve(bp: func.Blueprint, name: str) -> Callable[[Handler], Handler]:
    """Register a handler as the function `name` of routes.py, behind everything that doors share."""
    entry = ENTRIES[name]

    def register(handler: Handler) -> Handler:
        async def run(req: func.HttpRequest) -> func.HttpResponse:
            return await _run(req, entry, handler)

        run.__name__ = handler.__name__
        run.__doc__ = handler.__doc__
        route = bp.route(route=entry.path, methods=list(entry.methods), auth_level=level(entry))
        bp.function_name(entry.function)(route(run))
        return handler

    return register


async def _run(req: func.HttpRequest, entry: Entry, handler: Handler) -> func.HttpResponse:
    given = str(req.headers.get("x-request-id", ""))
    request_id = given if _REQUEST_ID.match(given) else secrets.token_hex(16)
    try:
        caller = _caller(req, entry)
        with _share().of(_counted_as(req, caller)), _bodies.hold(_most_bytes(req)) as held:
            _check_parameters(req, entry)
            body = await _body(req, entry)
            held.now(max(len(body), len(req.get_body())))
            reply = await handler(Ask(req, entry, caller, body, request_id))
    except Exception as error:
        reply = of_error(error, entry, request_id)
    return await _finished(req, reply, request_id)


def _most_bytes(req: func.HttpRequest) -> int:
    """The most that the body of a request may come to."""
    body = req.get_body()
    if body[:2] != GZIP or not req.headers.get("content-encoding"):
        return len(body)
    return max(len(body), min(_settings().unpacked_max, _DEFLATE_MOST * len(body)))


def _caller(req: func.HttpRequest, entry: Entry) -> Caller:
    """Who asks; raises AccessError when it may not come in here."""
    settings = _settings()
    if mode() == "keys":
        return ADMIN_KEY if entry.level == "admin" else FUNCTION_KEY  # the host has checked the key
    caller = who(req.headers, settings, os.environ, time.time())
    # A foreign page can make a browser send its cookies, not a token.
    by_session = _SESSION in str(req.headers.get("cookie", "")).lower() and not req.headers.get("authorization")
    if by_session and req.method not in ("GET", "HEAD"):
        raise AccessError(
            "A change needs a token of its own; a browser's session is not enough.",
            status=403,
            remediation="Send the token as `Authorization: Bearer`.",
        )
    if not caller.roles & entry.roles:
        wanted = " or ".join(sorted(entry.roles))
        held = ", ".join(sorted(caller.roles)) or "none"
        raise AccessError(
            f"This needs the role {wanted}; {caller.name or caller.id} holds {held}.",
            status=403,
            remediation="Have the role assigned in the enterprise application of this app, and get a new token.",
        )
    return caller


def _counted_as(req: func.HttpRequest, caller: Caller) -> str:
    """Whose share a request is of: keys are shared by many, so there it is the address that the front end saw."""
    if caller.kind != "key":
        return caller.id
    last = str(req.headers.get("x-forwarded-for", "")).rpartition(",")[2].strip()
    if last.startswith("["):
        return last[1:].partition("]")[0]
    return last.partition(":")[0] if last.count(":") == 1 else last


def _check_parameters(req: func.HttpRequest, entry: Entry) -> None:
    known = {spec.name for spec in entry.parameters}
    for name in req.params:
        if name not in known and name.lower() not in _PLATFORM:
            listed = ", ".join(sorted(known)) or "none"
            raise ParameterError(
                f"{name[:40]!r} is not a parameter of this route.", remediation=f"Its parameters are: {listed}."
            )


async def _body(req: func.HttpRequest, entry: Entry) -> bytes:
    """The body, unpacked. Raises Refusal for a media type or encoding that is not taken, TooLargeError."""
    body = req.get_body()
    if entry.method != "POST":
        return b""
    kind = str(req.headers.get("content-type", "")).partition(";")[0].strip().lower()
    if body and kind not in _TYPES and not kind.endswith("+json"):
        text = f"The body's media type is {kind[:80]!r}."
        remedy = "Send JSON with the header Content-Type: application/json."
        raise Refusal(problem(415, "media-type", "The media type is not taken", text, remedy))
    coding = str(req.headers.get("content-encoding", "")).strip().lower()
    if coding in ("", "identity"):
        return body
    if coding != "gzip":
        text = f"The body's encoding is {coding[:80]!r}."
        remedy = "Send the body plain, or with Content-Encoding: gzip."
        raise Refusal(problem(415, "encoding", "The encoding is not taken", text, remedy, {"Accept-Encoding": "gzip"}))
    if body[:2] != GZIP:
        return body  # a front end has unpacked it on the way and left the header as it was
    return await asyncio.to_thread(unpacked, body, _settings().unpacked_max)


def common_headers(req: func.HttpRequest, request_id: str) -> dict[str, str]:
    """Headers of every answer: request id, and CORS for the origins that the settings name."""
    headers = {"X-Request-Id": request_id, "X-Content-Type-Options": "nosniff"}
    origin = str(req.headers.get("origin", ""))
    try:
        origins = {text.strip().rstrip("/").lower() for text in _settings().cors_origins.split(",") if text.strip()}
    except SettingsError:
        origins = set()
    if origins:
        headers["Vary"] = "Origin"
        if origin.lower() in origins:
            headers["Access-Control-Allow-Origin"] = origin
            exposed = "ETag, Idempotent-Replayed, Location, Retry-After, X-Request-Id"
            headers["Access-Control-Expose-Headers"] = exposed
    return headers


async def _finished(req: func.HttpRequest, reply: Reply, request_id: str) -> func.HttpResponse:
    """The reply on its way out: ETag, packing, HEAD."""
    headers = common_headers(req, request_id) | dict(reply.headers)
    status, body = reply.status, reply.body
    if req.method in ("GET", "HEAD") and status in (200, 202):
        # Of the content, not of its packing: a weak one.
        tag = f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'
        headers["ETag"] = tag
        headers.setdefault("Cache-Control", "private, no-cache")
        asked = {text.strip() for text in str(req.headers.get("if-none-match", "")).split(",")}
        if tag in asked or tag.removeprefix("W/") in asked or "*" in asked:
            return func.HttpResponse(None, status_code=304, headers=headers)
    else:
        headers.setdefault("Cache-Control", "no-store")
    body, coding = await packed(body, str(req.headers.get("accept-encoding", "")))
    vary = [headers["Vary"]] if "Vary" in headers else []
    headers["Vary"] = ", ".join([*vary, "Accept", "Accept-Encoding"])
    if coding:
        headers["Content-Encoding"] = coding
    content = b"" if req.method == "HEAD" else body
    return func.HttpResponse(content, status_code=status, headers=headers, mimetype=reply.mimetype)
