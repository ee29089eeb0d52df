"""The queue service's REST protocol as the host speaks it: receive, renew, delete, put; SharedKey.

Written on aiohttp directly, not on the SDK, because the host's own work (a delete for every message) must not be what
a benchmark of the product measures.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import email.utils
import hashlib
import hmac
import re
import time
from typing import Self
from urllib.parse import quote, unquote, urlsplit
from xml.etree import ElementTree

import aiohttp
from yarl import URL

_VERSION = "2021-12-02"
_PUT = re.compile(rb"<MessageId>([^<]+)</MessageId>\s*<InsertionTime>([^<]+)</InsertionTime>")
_ILLEGAL_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


class QueueServiceError(Exception):
    """The queue service answered with an error; `status` and `code` are its own."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"queue service: {status} {code}")
        self.status = status
        self.code = code


@dataclasses.dataclass(slots=True)
class ReceivedMessage:
    """A message under lease. `text` is what the service holds, before any decoding."""

    message_id: str
    pop_receipt: str
    text: str
    dequeue_count: int
    inserted: dt.datetime
    expires: dt.datetime
    next_visible: dt.datetime


@dataclasses.dataclass(frozen=True, slots=True)
class Account:
    """What a connection string says about the queue service."""

    name: str
    key: bytes
    endpoint: str

    @classmethod
    def parse(cls, connection_string: str) -> Self:
        """Raises ValueError when it lacks account, key or endpoint; the message holds no part of the string."""
        fields = dict(part.split("=", 1) for part in connection_string.split(";") if "=" in part)
        try:
            name, key = fields["AccountName"], base64.b64decode(fields["AccountKey"])
        except (KeyError, ValueError):
            raise ValueError("a storage connection string needs AccountName and AccountKey") from None
        protocol = fields.get("DefaultEndpointsProtocol", "https")
        suffix = fields.get("EndpointSuffix", "core.windows.net")
        endpoint = fields.get("QueueEndpoint", f"{protocol}://{name}.queue.{suffix}")
        return cls(name, key, endpoint.rstrip("/"))


class QueueService:
    """One queue account over one connection pool. Use it as an async context manager."""

    def __init__(self, connection_string: str, *, connections: int = 32) -> None:
        self._account = Account.parse(connection_string)
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None
        self._path = urlsplit(self._account.endpoint).path

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=4),
            timeout=aiohttp.ClientTimeout(total=60),
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            auto_decompress=False,
        )
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def receive(self, queue: str, count: int, lease: float) -> list[ReceivedMessage]:
        """Lease up to `count` messages for `lease` seconds. A queue that does not exist holds none."""
        query = {"numofmessages": str(count), "visibilitytimeout": str(max(1, round(lease)))}
        try:
            body, _ = await self._call("GET", f"/{queue}/messages", query)
        except QueueServiceError as error:
            if error.status == 404:
                return []
            raise
        return [_message(node) for node in ElementTree.fromstring(body)]

    async def delete(self, queue: str, message_id: str, pop_receipt: str) -> None:
        """Delete a leased message. One that is gone, or leased anew by another instance, is not an error."""
        try:
            await self._call("DELETE", f"/{queue}/messages/{message_id}", {"popreceipt": pop_receipt})
        except QueueServiceError as error:
            if error.status not in (400, 404):  # MessageNotFound, PopReceiptMismatch
                raise

    async def renew(self, queue: str, message_id: str, pop_receipt: str, visible_in: float) -> str | None:
        """Set when the message is seen again, in seconds; the new pop receipt, or None when it is no longer ours."""
        query = {"popreceipt": pop_receipt, "visibilitytimeout": str(round(visible_in))}
        try:
            _, headers = await self._call("PUT", f"/{queue}/messages/{message_id}", query)
        except QueueServiceError as error:
            if error.status in (400, 404):
                return None
            raise
        return headers["x-ms-popreceipt"]

    async def put(self, queue: str, text: str, visible_in: int = 0) -> tuple[str, dt.datetime]:
        """Append a message that never expires, creating the queue when there is none; its id and insertion time.

        visible_in: whole seconds before anybody can receive it.
        """
        query = {"messagettl": "-1"} | ({"visibilitytimeout": str(visible_in)} if visible_in else {})
        body = f"<QueueMessage><MessageText>{_escape(text)}</MessageText></QueueMessage>".encode()
        try:
            answer, _ = await self._call("POST", f"/{queue}/messages", query, body)
        except QueueServiceError as error:
            if error.status != 404:
                raise
            await self._call("PUT", f"/{queue}", {})
            answer, _ = await self._call("POST", f"/{queue}/messages", query, body)
        found = _PUT.search(answer)
        if found is None:
            raise QueueServiceError(201, "an answer without MessageId and InsertionTime")
        return found[1].decode(), email.utils.parsedate_to_datetime(found[2].decode())

    async def _call(
        self, method: str, path: str, query: dict[str, str], body: bytes = b""
    ) -> tuple[bytes, dict[str, str]]:
        if self._session is None:
            raise RuntimeError("use it as an async context manager")
        text = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
        url = URL(f"{self._account.endpoint}{path}" + (f"?{text}" if text else ""), encoded=True)
        headers = {"x-ms-date": email.utils.formatdate(time.time(), usegmt=True), "x-ms-version": _VERSION}
        if body:
            headers["Content-Type"] = "application/xml"
        headers["Authorization"] = self._signature(method, path, query, headers, len(body))
        async with self._session.request(method, url, headers=headers, data=body or None) as answer:
            content = await answer.read()
            if answer.status >= 300:
                raise QueueServiceError(answer.status, answer.headers.get("x-ms-error-code", ""))
            return content, {name.lower(): value for name, value in answer.headers.items()}

    def _signature(self, method: str, path: str, query: dict[str, str], headers: dict[str, str], length: int) -> str:
        """Authorization for Shared Key, as documented under `Authorize with Shared Key`."""
        resource = f"/{self._account.name}{self._path}{unquote(path)}"
        for name in sorted(query):
            resource += f"\n{name}:{query[name]}"
        to_sign = "\n".join(
            (
                method,
                *("", "", str(length) if length else "", "", headers.get("Content-Type", ""), "", "", "", "", "", ""),
                f"x-ms-date:{headers['x-ms-date']}\nx-ms-version:{headers['x-ms-version']}",
                resource,
            )
        )
        digest = hmac.new(self._account.key, to_sign.encode(), hashlib.sha256).digest()
        return f"SharedKey {self._account.name}:{base64.b64encode(digest).decode()}"


def _escape(text: str) -> str:
    if _ILLEGAL_XML.search(text):
        raise ValueError("a queue message cannot hold control characters")
    # A bare carriage return would be read back as a line feed.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#13;")


def _message(node: ElementTree.Element) -> ReceivedMessage:
    def field(name: str) -> str:
        return node.findtext(name) or ""

    return ReceivedMessage(
        message_id=field("MessageId"),
        pop_receipt=field("PopReceipt"),
        text=field("MessageText"),
        dequeue_count=int(field("DequeueCount")),
        inserted=email.utils.parsedate_to_datetime(field("InsertionTime")),
        expires=email.utils.parsedate_to_datetime(field("ExpirationTime")),
        next_visible=email.utils.parsedate_to_datetime(field("TimeNextVisible")),
    )
