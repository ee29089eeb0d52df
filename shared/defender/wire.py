"""The transport of the API client: knows exactly whether a request went out, and ends a call that takes too long.

`requests` and urllib3 tell a failed connection from a failed exchange by exception types that overlap (a reset during
the TLS handshake looks like one after the request). Here the connection itself notes when it begins to send.
"""

from __future__ import annotations

import contextlib
import contextvars
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool

_CONNECT_MIN = 0.05
_CONNECT_MAX = 10.0


class TooLateError(Exception):
    """The connection was ready only after the time until which the request might be sent. Nothing was sent."""


class Attempt:
    """One request on its way. `sent` is True from the moment its first byte may have left."""

    def __init__(self, *, not_after: float | None, timeout: float) -> None:
        self.not_after = not_after
        self.timeout = timeout
        self.sent = False
        self.timed_out = False
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(timeout, self._end)
        self._timer.daemon = True

    def connect_timeout(self) -> float:
        """Seconds that connecting may take: what remains, within bounds. Raises TooLateError when nothing remains."""
        if self.not_after is None:
            return _CONNECT_MAX
        remaining = self.not_after - time.monotonic()
        if remaining <= 0:
            raise TooLateError
        return min(max(remaining, _CONNECT_MIN), _CONNECT_MAX)

    def sending(self, connection: socket.socket | None) -> None:
        """Called with the connection ready, just before the first byte. Raises TooLateError.

        From here on a timer ends the exchange when it lasts longer than `timeout` in all: a socket's own time-out
        starts again with every byte, so an answer that drips would hold its thread for ever.
        """
        if self.not_after is not None and time.monotonic() > self.not_after:
            raise TooLateError
        with self._lock:
            self._socket = connection
            self.sent = True
        self._timer.start()

    def over(self) -> None:
        """The exchange has ended, well or badly."""
        self._timer.cancel()
        with self._lock:
            self._socket = None

    def _end(self) -> None:
        with self._lock:
            if self._socket is None:
                return
            self.timed_out = True
            # The plain method: SSLSocket.shutdown would take the TLS state from under the thread that is reading.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


_attempt: contextvars.ContextVar[Attempt | None] = contextvars.ContextVar("attempt", default=None)


class _Connection(HTTPSConnection):
    @property
    def is_connected(self) -> bool:
        """Whether an idle connection still stands.

        urllib3 takes anything readable for the end of the connection. On a connection that has carried no request yet
        it is the session tickets of TLS 1.3, which the server sends after the handshake: read them away and look again.
        """
        if super().is_connected:
            return True
        connection = getattr(self, "sock", None)
        if not isinstance(connection, ssl.SSLSocket):
            return False
        before = connection.gettimeout()
        try:
            connection.settimeout(0.0)
            connection.recv(1)
        except ssl.SSLWantReadError:
            return True
        except OSError:
            return False
        finally:
            connection.settimeout(before)
        # An end, or data that nobody asked for.
        return False

    def request(self, *args: Any, **kwargs: Any) -> None:
        attempt = _attempt.get()
        if attempt is not None:
            attempt.sending(getattr(self, "sock", None))
        super().request(*args, **kwargs)


class _Pool(HTTPSConnectionPool):
    ConnectionCls = _Connection

    def warm(self, timeout: float) -> None:
        """Have one connected, verified connection lie in the pool. Raises what connecting raises."""
        connection = self._get_conn()
        try:
            connection.timeout = timeout
            self._validate_conn(connection)
        except BaseException:
            connection.close()
            raise
        self._put_conn(connection)


class Wire(HTTPAdapter):
    """Adapter for https: no retries of its own, pools of `_Connection`."""

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, **pool_kwargs)
        self._use(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **proxy_kwargs)
        self._use(manager)
        return manager

    @staticmethod
    def _use(manager: Any) -> None:
        manager.pool_classes_by_scheme = {**manager.pool_classes_by_scheme, "https": _Pool}

    def warm(self, session: requests.Session, url: str, timeout: float) -> None:
        """Connect to the host of `url` as `session` would, without sending a request."""
        prepared = session.prepare_request(requests.Request("GET", url))
        found = session.merge_environment_settings(url, {}, None, None, None)
        pool = self.get_connection_with_tls_context(prepared, found["verify"], proxies=found["proxies"])
        self.cert_verify(pool, url, found["verify"], found["cert"])  # type: ignore[no-untyped-call]
        if isinstance(pool, _Pool):
            pool.warm(timeout)


@contextlib.contextmanager
def on_the_wire(attempt: Attempt) -> Iterator[None]:
    """While this lasts, requests of this thread are `attempt`."""
    mark = _attempt.set(attempt)
    try:
        yield
    finally:
        _attempt.reset(mark)
        attempt.over()


def new_session(pool_size: int = 8) -> requests.Session:
    """A session with one pool of `pool_size` connections.

    The environment stays trusted, so that HTTPS_PROXY and REQUESTS_CA_BUNDLE count.
    """
    session = requests.Session()
    session.mount("https://", Wire(pool_connections=2, pool_maxsize=max(8, pool_size)))
    return session
