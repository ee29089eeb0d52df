"""A loopback TLS server that answers as a test tells it to, and can break off an answer anywhere."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import json
import socket
import ssl
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import trustme

Break = Literal["", "before", "inside", "close-early", "drip"]


@dataclasses.dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclasses.dataclass(frozen=True)
class Reply:
    """`broken`: reset before a byte; reset or orderly end inside the body; or a body that drips without end."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    broken: Break = ""

    def content(self) -> bytes:
        if self.body is None:
            return b""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


Answer = Callable[[Request], Reply]


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Broken connections are what the tests are about."""


class WireServer:
    """Answers each request with the next of `script`, or with `default` when that is empty."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self.requests: list[Request] = []
        self.script: deque[Reply | Answer] = deque()
        self.default: Reply | Answer = Reply(404)
        self.connections = 0
        # Seconds after which an idle connection is closed by this side.
        self.idle: float | None = None
        self.over = threading.Event()
        self._server = _Server(("127.0.0.1", 0), self._handler(context))
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _handler(self, context: ssl.SSLContext | None) -> type[http.server.BaseHTTPRequestHandler]:
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                owner.connections += 1
                if context is not None:
                    self.request = context.wrap_socket(self.request, server_side=True)
                super().setup()
                self.connection.settimeout(owner.idle)

            def finish(self) -> None:
                try:
                    super().finish()
                finally:
                    # The server closes the socket it accepted; this is the one that TLS made of it.
                    with contextlib.suppress(OSError):
                        self.request.close()

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                request = Request(self.command, self.path, dict(self.headers.items()), self.rfile.read(length))
                owner.requests.append(request)
                planned = owner.script.popleft() if owner.script else owner.default
                reply = planned if isinstance(planned, Reply) else planned(request)
                if reply.broken == "before":
                    return self.reset()
                content = reply.content()
                promised = len(content) + (1000 if reply.broken in ("inside", "close-early", "drip") else 0)
                self.send_response_only(reply.status)
                if "Date" not in reply.headers:
                    self.send_header("Date", self.date_time_string())
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if "Content-Type" not in reply.headers:
                    self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(promised))
                self.end_headers()
                self.wfile.write(content)
                self.wfile.flush()
                if reply.broken == "inside":
                    self.reset()
                elif reply.broken == "close-early":
                    self.close_connection = True
                elif reply.broken == "drip":
                    while not owner.over.wait(0.02):
                        self.wfile.write(b" ")
                        self.wfile.flush()

            def reset(self) -> None:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                # The descriptor itself, so that no closing TLS message goes out first.
                socket.socket(fileno=self.connection.detach()).close()

            do_GET = do_POST = do_DELETE = answer

        return Handler


@dataclasses.dataclass(frozen=True)
class Certificates:
    """A throw-away CA and the file with its certificate."""

    ca: trustme.CA
    file: Path

    def context(self, *names: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*(names or ("localhost", "127.0.0.1"))).configure_cert(context)
        return context


def make_certificates(folder: Path) -> Certificates:
    ca = trustme.CA()
    file = folder / "ca.pem"
    ca.cert_pem.write_to_path(str(file))
    return Certificates(ca, file)


@contextlib.contextmanager
def serve(certificates: Certificates | None) -> Iterator[WireServer]:
    """A running server, over TLS when there are certificates."""
    server = WireServer(certificates.context() if certificates else None)
    try:
        yield server
    finally:
        server.close()


def closed_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
