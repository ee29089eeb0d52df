"""A small proxy in front of Azurite that breaks requests on demand: by table, queue or container, in every way.

It passes bytes on unchanged, so signatures stay valid; the storage SDKs in front of it are the genuine ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Literal, Self
from urllib.parse import urlsplit

Service = Literal["table", "queue", "blob"]
Kind = Literal[
    "down",  # the connection is cut when a request comes
    "slow",  # the work is done, and the answer kept back for `seconds`
    "status",  # `status` in the service's own form; nothing is done
    "reset",  # cut before the body is read; nothing is done
    "reset_mid",  # a part of the body is read, then cut; nothing is done
    "garbage",  # 200 with something that is no answer of the service; nothing is done
    "half",  # the work is done, half of the answer is sent, then the end
    "lost",  # the work is done, and the connection cut without an answer
]

GARBAGE = b"<html><head><title>Gateway</title></head><body>\xff\xfe not the service</body></html>"
_CODES = {401: "InvalidAuthenticationInfo", 403: "AuthorizationPermissionMismatch", 429: "TooManyRequests"}
_CODES |= {500: "InternalError", 503: "ServerBusy"}
_MISSING = {"table": "TableNotFound", "queue": "QueueNotFound", "blob": "ContainerNotFound"}
_IN_BATCH = re.compile(rb"\n(POST|PUT|PATCH|DELETE) https?://[^/]+/[^/]+/([A-Za-z0-9]+)")
_DATE = re.compile(rb"^Date: *([^\r\n]+)", re.MULTILINE | re.IGNORECASE)
_STAMP = re.compile(rb'(?<="Timestamp":")(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?=[.Z])')


@dataclasses.dataclass(eq=False)
class Fault:
    """One instruction. `times`: so often for each different operation on the resource; None: until it is lifted."""

    service: Service
    resource: str
    kind: Kind
    times: int | None = None
    status: int = 500
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    used: Counter[str] = dataclasses.field(default_factory=Counter)

    def takes(self, service: str, resource: str, operation: str) -> bool:
        """Whether this request is hit; it is counted then."""
        if (service, resource) != (self.service, self.resource):
            return False
        if self.times is not None and self.used[operation] >= self.times:
            return False
        self.used[operation] += 1
        return True


class _Cut(Exception):
    """The connection is to be reset."""


@dataclasses.dataclass
class _Message:
    """A request or an answer: its head with the empty line, and the reader of its body."""

    head: bytes
    reader: asyncio.StreamReader
    no_body: bool = False

    def header(self, name: str) -> str:
        found = re.search(rf"^{name}: *([^\r\n]*)".encode(), self.head, re.MULTILINE | re.IGNORECASE)
        return found.group(1).decode() if found else ""

    @property
    def length(self) -> int:
        return 0 if self.no_body else int(self.header("Content-Length") or 0)

    @property
    def chunked(self) -> bool:
        return not self.no_body and self.header("Transfer-Encoding").casefold() == "chunked"

    async def body(self) -> bytes:
        """The whole body, as it is on the wire."""
        if not self.chunked:
            return await self.reader.readexactly(self.length)
        pieces = bytearray()
        while True:
            line = await self.reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            pieces += line + await self.reader.readexactly(size + 2)
            if size == 0:
                return bytes(pieces)


async def _read(reader: asyncio.StreamReader, *, no_body: bool = False) -> _Message:
    head = await reader.readuntil(b"\r\n\r\n")
    status = head.split(b" ", 2)[1]
    return _Message(head, reader, no_body or status in (b"204", b"304"))


class StorageProxy:
    """Listens for blob, queue and table service of the storage behind a connection string; a context manager."""

    def __init__(self, connection_string: str) -> None:
        self._parts = dict(part.split("=", 1) for part in connection_string.split(";") if part)
        self._faults: list[Fault] = []
        self._offset = 0.0
        self._ports: dict[str, int] = {}
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="storage proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(self, *_exc: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def connection_string(self) -> str:
        """As the one behind it, with the endpoints led through here."""
        parts = dict(self._parts)
        for kind, port in self._ports.items():
            name = f"{kind.capitalize()}Endpoint"
            path = urlsplit(self._parts[name]).path
            parts[name] = f"http://127.0.0.1:{port}{path}"
        return ";".join(f"{name}={value}" for name, value in parts.items()) + ";"

    def put(self, fault: Fault) -> Fault:
        """Put a fault into force."""
        self._faults = [*self._faults, fault]
        return fault

    def clock(self, offset: float) -> None:
        """Shift the service's clock by so many seconds: the Date header of every answer, and the rows' Timestamps."""
        self._offset = offset

    def lift(self) -> None:
        """Everything is as it should be again."""
        self._faults = []
        self._offset = 0.0

    async def _start(self) -> None:
        self._servers = []
        for kind in ("blob", "queue", "table"):
            address = urlsplit(self._parts[f"{kind.capitalize()}Endpoint"])

            async def serve(
                reader: asyncio.StreamReader,
                writer: asyncio.StreamWriter,
                kind: str = kind,
                behind: tuple[str, int] = (address.hostname or "", address.port or 80),
            ) -> None:
                await self._connection(kind, behind, reader, writer)

            server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20)
            self._servers.append(server)
            self._ports[kind] = server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connection(
        self, kind: str, behind: tuple[str, int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        upstream: asyncio.StreamWriter | None = None
        try:
            back, upstream = await asyncio.open_connection(*behind, limit=1 << 20)
            while True:
                await self._exchange(kind, await _read(reader), writer, back, upstream)
        except _Cut:
            raw = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for one in (writer, upstream):
                if one is not None:
                    one.close()
                    with contextlib.suppress(OSError, asyncio.CancelledError):
                        await one.wait_closed()

    async def _exchange(
        self,
        kind: str,
        request: _Message,
        writer: asyncio.StreamWriter,
        back: asyncio.StreamReader,
        upstream: asyncio.StreamWriter,
    ) -> None:
        method, target, _ = request.head.decode("latin-1").split(" ", 2)
        batch = target.partition("?")[0].endswith("/$batch")
        body = await request.body() if batch else None  # what a transaction is about is told by its body
        resource, operation = _about(method, target, body)
        fault = next((one for one in self._faults if one.takes(kind, resource, operation)), None)
        if fault is not None:
            body = await self._before(fault, request, writer, body)
            if body is None:
                return
        if body is None:
            body = await request.body()
        upstream.write(request.head + body)
        answer = await _read(back, no_body=method == "HEAD")
        content = await answer.body()
        head = answer.head
        if self._offset:
            head = _DATE.sub(self._shifted, head, count=1)
            content = _STAMP.sub(self._restamped, content)
        if fault is not None:
            head, content = await self._after(fault, head, content)
        writer.write(head + content)
        await writer.drain()
        if fault is not None and fault.kind == "half":
            writer.close()
            raise ConnectionResetError

    async def _before(
        self, fault: Fault, request: _Message, writer: asyncio.StreamWriter, body: bytes | None
    ) -> bytes | None:
        """The request's body, or None when this request ends here."""
        match fault.kind:
            case "down" | "reset":
                raise _Cut
            case "reset_mid":
                if body is None and request.length > 1:
                    await request.reader.read(request.length // 2)
                raise _Cut
            case "status" | "garbage":
                if body is None:
                    await request.body()
                writer.write(_spoken(fault))
                await writer.drain()
                return None
            case _:
                return body if body is not None else await request.body()

    async def _after(self, fault: Fault, head: bytes, content: bytes) -> tuple[bytes, bytes]:
        match fault.kind:
            case "slow":
                await asyncio.sleep(fault.seconds)
            case "lost":
                raise _Cut
            case "half" if content:
                return head, content[: len(content) // 2]
            case "half":
                return head[:11], b""  # not even the whole status
            case _:
                pass
        return head, content

    def _shifted(self, found: re.Match[bytes]) -> bytes:
        moment = parsedate_to_datetime(found.group(1).decode()) + timedelta(seconds=self._offset)
        return b"Date: " + format_datetime(moment, usegmt=True).encode()

    def _restamped(self, found: re.Match[bytes]) -> bytes:
        moment = datetime.fromisoformat(found.group(1).decode()) + timedelta(seconds=self._offset)
        return moment.isoformat().encode()


def _about(method: str, target: str, batch: bytes | None) -> tuple[str, str]:
    """The table, queue or container that a request is for, and a name for what it does with it."""
    if batch is not None:
        found = _IN_BATCH.search(batch)
        assert found is not None, batch[:200]
        return found.group(2).decode(), f"transaction {found.group(1).decode()}"
    path, _, query = target.partition("?")
    names = path.split("/")[2:] or [""]
    resource = names[0].partition("(")[0]
    what = "query" if names[0].endswith("()") else "messages" if names[1:2] == ["messages"] else ""
    return resource, f"{method} {what}{' comp' if 'comp=' in query else ''}".strip()


def _spoken(fault: Fault) -> bytes:
    """An answer in the service's own form."""
    if fault.kind == "garbage":
        return (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: "
            + str(len(GARBAGE)).encode()
            + b"\r\n\r\n"
            + GARBAGE
        )
    code = _MISSING[fault.service] if fault.status == 404 else _CODES[fault.status]
    if fault.service == "table":
        kind = "application/json"
        body = f'{{"odata.error":{{"code":"{code}","message":{{"lang":"en-us","value":"on purpose"}}}}}}'
    else:
        kind = "application/xml"
        body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>on purpose</Message></Error>'
    headers = {"Content-Type": kind, "Content-Length": str(len(body)), "x-ms-error-code": code, **fault.headers}
    lines = [f"HTTP/1.1 {fault.status} Fault", *(f"{name}: {value}" for name, value in headers.items()), "", body]
    return "\r\n".join(lines).encode()


@contextlib.contextmanager
def proxied(connection_string: str) -> Iterator[StorageProxy]:
    """A proxy for a while."""
    with StorageProxy(connection_string) as proxy:
        yield proxy
