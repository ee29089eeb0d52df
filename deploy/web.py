"""One HTTPS request at a time to the app: no redirects, no secret in an exception, nothing in the clear."""

from __future__ import annotations

import dataclasses
import http.client
import json
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

from deploy.say import Failed

_LARGEST = 16 * 1024 * 1024
_LEAST = 10.0  # seconds that a request gets at least, however little patience is left


class Unreachable(Failed):
    """No answer: the name, the connection, its certificate, or the time."""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What came back. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def told(self) -> dict[str, Any]:
        """The body as a JSON object; empty when it is none."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def listed(self) -> list[Any] | None:
        """The body as a JSON array, or None."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return None
        return found if isinstance(found, list) else None

    @property
    def problem(self) -> str:
        """The last part of an RFC 9457 problem's type, such as `no-route`; empty when it is none."""
        return str(self.told.get("type", "")).rpartition(":")[2]

    @property
    def retry_after(self) -> float:
        """Seconds to wait, as the answer asks for; at most a minute."""
        text = self.headers.get("retry-after", "")
        return min(60.0, float(text)) if text.isdigit() else 0.0

    def __str__(self) -> str:
        said = ": ".join(str(self.told[name]) for name in ("title", "detail") if self.told.get(name))
        return f"{self.status}{f' ({said[:300]})' if said else ''}"


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def check_url(url: str) -> str:
    """The base URL without a slash at its end.

    Raises:
        Failed: it is not https (http is taken for this machine alone: a key would travel in the clear).
    """
    parts = urllib.parse.urlsplit(url)
    local = parts.hostname in ("127.0.0.1", "localhost", "::1")
    plain = not (parts.query or parts.fragment or parts.username) and parts.path in ("", "/")
    if not parts.hostname or not plain or parts.scheme not in ("https", "http"):
        raise Failed(f"{url!r} is not the address of an app.", "Give it as https://NAME.azurewebsites.net")
    if parts.scheme == "http" and not local:
        raise Failed("A key must not travel over http.", f"Use https://{parts.netloc}")
    return f"{parts.scheme}://{parts.netloc}"


class Site:
    """The app at `url`. Proxies and certificates are the system's (HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE)."""

    def __init__(self, url: str) -> None:
        self.url = check_url(url)
        self._opener = urllib.request.build_opener(_Stay)

    def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: Any = None, timeout: float = 60.0
    ) -> Answer:
        """One request; `body` is sent as JSON. Every status is an answer.

        Raises:
            Unreachable: there was no answer within `timeout` seconds.
        """
        content = None if body is None else json.dumps(body).encode()
        if method == "POST":
            content = content or b""
        return self.send(method, path, headers, content, "application/json", timeout=timeout)

    def send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None,
        content: bytes | None,
        content_type: str,
        *,
        timeout: float,
    ) -> Answer:
        """One request with a body as it is. Raises Unreachable."""
        sent = {"accept": "application/json", **(headers or {})}
        if content is not None:
            sent["content-type"] = content_type
        request = urllib.request.Request(self.url + path, data=content, headers=sent, method=method)
        try:
            with self._opener.open(request, timeout=timeout) as answer:
                return Answer(answer.status, _lower(answer.headers), answer.read(_LARGEST))
        except urllib.error.HTTPError as refused:
            with refused:
                return Answer(refused.code, _lower(refused.headers), refused.read(_LARGEST))
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise Unreachable(f"No answer from {self.url}: {_words(reason)}.", _remedy(reason)) from None

    def ask_patiently(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        *,
        patience: float = 60.0,
        timeout: float = 60.0,
    ) -> Answer:
        """The same, again while there is no answer, or one of 429, 502, 503, 504 that may pass.

        A 503 that is the app's own and names no time to try again (settings, health) does not pass. Only for what may
        be sent twice. After `patience` seconds it is the last answer, or Unreachable; one begun before gets its time.
        """
        until, pause = time.monotonic() + patience, 1.0
        while True:
            left = until - time.monotonic()
            try:
                answer = self.ask(method, path, headers, body, max(_LEAST, min(timeout, left)))
                if answer.status not in (429, 502, 503, 504):
                    return answer
                if answer.status == 503 and answer.told and not answer.retry_after:
                    return answer
                wait = answer.retry_after or pause
                if left <= wait:
                    return answer
            except Unreachable:
                wait = pause
                if left <= wait:
                    raise
            time.sleep(wait)
            pause = min(10.0, pause * 2)


def _lower(headers: Any) -> dict[str, str]:
    return {str(name).lower(): str(value) for name, value in headers.items()}


def _words(reason: object) -> str:
    if isinstance(reason, TimeoutError):
        return "it took too long"
    if isinstance(reason, socket.gaierror):
        return "its name is not known"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return type(reason).__name__


def _remedy(reason: object) -> str:
    if isinstance(reason, socket.gaierror):
        return "Check the name; with private networking, run this inside the network."
    if "CERTIFICATE" in str(reason).upper():
        return "Check who answers there: a proxy's own certificate authority goes into SSL_CERT_FILE."
    return "Check that the app runs and that this machine may reach it."
