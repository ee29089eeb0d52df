"""Listening: a port for each service, which can be closed and opened again without losing its number."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from local.tenant import pki
from local.tenant.admin import Admin
from local.tenant.state import Tenant

HOST = "127.0.0.1"
SERVICES = ("entra", "vault", "defender", "identity", "admin")  # in the order of their ports
_TLS = ("entra", "vault", "defender")

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Listener:
    """One port. A second socket holds it while nobody listens, so that no other process can take it meanwhile."""

    def __init__(self, name: str, port: int, context: ssl.SSLContext | None) -> None:
        self._reserved = _bound(port)
        self.port: int = self._reserved.getsockname()[1]
        self.url = f"{'https' if context else 'http'}://{HOST}:{self.port}"
        self.name = name
        self._context = context
        self._handler: Handler | None = None
        self._protocols: web.Server | None = None
        self._server: asyncio.Server | None = None
        self._how = "down"

    async def start(self, handler: Handler) -> None:
        """Begin to serve."""
        self._handler = handler
        self._protocols = web.Server(handler, access_log=None)
        await self.change("up")

    async def change(self, how: str) -> None:
        """up; refuse: connections are refused; close: they are accepted and closed at once. Open ones are closed.

        Raises:
            ValueError: none of these.
        """
        if how not in ("up", "refuse", "close"):
            raise ValueError("down is refuse or close")
        if how == self._how or self._protocols is None:
            return
        self._how = how
        await self._close_all()
        if how == "refuse":
            return
        factory: Callable[[], asyncio.BaseProtocol] = self._protocols if how == "up" else _Closer
        listening = _bound(self.port)
        self._server = await asyncio.get_running_loop().create_server(
            factory, sock=listening, ssl=self._context, backlog=512
        )

    async def stop(self) -> None:
        """Stop for good."""
        if self._protocols is not None:
            await self._protocols.shutdown(0.1)
        await self._close_all()
        self._reserved.close()

    async def _close_all(self) -> None:
        """Stop listening and cut every connection, those in the middle of a handshake included."""
        if self._server is None:
            return
        self._server.close()
        self._server.abort_clients()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._server.wait_closed(), 5)
        self._server = None


class _Closer(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            transport.abort()


def _bound(port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((HOST, port))
    except OSError:
        made.close()
        raise
    return made


@contextlib.asynccontextmanager
async def serving(folder: Path, config: dict[str, Any], port: int = 0) -> AsyncIterator[tuple[Tenant, dict[str, Any]]]:
    """Serve a tenant until the block ends; gives the tenant and its description.

    `port` 0 takes free ports; another number is the first of five in a row (see SERVICES).
    """
    ca_file, context = pki.issue(folder)
    async with contextlib.AsyncExitStack() as stack:
        listeners: dict[str, Listener] = {}
        for offset, name in enumerate(SERVICES):
            made = Listener(name, port + offset if port else 0, context if name in _TLS else None)
            stack.push_async_callback(made.stop)
            listeners[name] = made
        tenant = Tenant({name: made.url for name, made in listeners.items()}, config)

        async def down(service: str, how: str) -> None:
            if service not in tenant.services:
                raise ValueError(f"there is no service {service!r}; known: {', '.join(tenant.services)}")
            await listeners[service].change(how)

        admin = Admin(tenant, str(ca_file), down)
        for name, service in tenant.services.items():
            await listeners[name].start(service.handle)
        await listeners["admin"].start(admin.handle)
        stack.callback(tenant.faults.clear)  # nobody stays held
        yield tenant, tenant.describe(str(ca_file))
