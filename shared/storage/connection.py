"""From the binding connection `RelayStorage` to the storage SDKs' clients, built when first used.

As the Functions host reads it: `RelayStorage` is a connection string, or the section `RelayStorage__queueServiceUri`,
`__blobServiceUri`, `__tableServiceUri` with `__clientId` for a user-assigned managed identity.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from shared.errors import SettingsError

if TYPE_CHECKING:
    from azure.data.tables import TableServiceClient
    from azure.storage.blob import BlobServiceClient
    from azure.storage.queue import QueueServiceClient

NAME = "RelayStorage"
QUEUE = "indicators"
POISON = "indicators-poison"
CONTAINERS = ("parts", "answers", "deadletters")
TABLES = ("submissions", "open", "intents", "index", "permits", "idempotency", "deadletters", "suspects")

_RETRIES = 3
_CONNECTIONS = 32  # kept open to each service; the SDKs keep 10, and throw away what more threads need


_IMPORTING = threading.Lock()


def import_sdks() -> None:
    """Import what the SDKs of storage and sign-in have in common: before the first work of each thread of the pool.

    Two threads that begin such imports at once can each hold what the other waits for, and Python ends that by an error
    in one of them (seen: one imports `requests`, the other azure.core's transport, which begins with urllib3).
    """
    with _IMPORTING, contextlib.suppress(ImportError):  # whoever needs a module that is missing says so
        for name in ("requests", "azure.data.tables", "azure.storage.blob", "azure.storage.queue"):
            importlib.import_module(name)


def _unchanged[T](request: T) -> T:
    return request


def _options(timeout: float) -> dict[str, Any]:
    """What the three clients are made with. A call that hangs must not outlive the invocation that waits for it."""
    import requests
    from azure.core.pipeline.transport import RequestsTransport
    from requests.adapters import HTTPAdapter

    session = requests.Session()
    # Without one of its own, requests looks for a .netrc on disk before every request: a fifth of a worker's time, and
    # what it found would take the place of the SDK's signature.
    session.auth = _unchanged
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=_CONNECTIONS))
    transport = RequestsTransport(session=session, session_owner=False, connection_timeout=5, read_timeout=timeout)
    return {"transport": transport, "retry_total": _RETRIES}


@dataclasses.dataclass(frozen=True)
class StorageConnection:
    """Where storage is, how to sign in to it, and how patient its clients are.

    timeout: seconds for one answer; backoff: seconds of the first pause between an operation's tries.
    """

    connection_string: str = dataclasses.field(default="", repr=False)
    uris: Mapping[str, str] = dataclasses.field(default_factory=dict)
    client_id: str = ""
    timeout: float = 20.0
    backoff: float = 0.3

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], name: str = NAME) -> StorageConnection:
        """Read the connection; raises SettingsError naming what is missing."""
        if environ.get(name):
            return cls(connection_string=environ[name])
        uris = {kind: environ.get(f"{name}__{kind}ServiceUri", "") for kind in ("queue", "blob", "table")}
        missing = [f"{name}__{kind}ServiceUri" for kind, uri in uris.items() if not uri]
        if missing:
            raise SettingsError(
                "storage is not configured: " + ", ".join(missing) + " missing",
                remediation=f"Set {name} to a connection string, or the three {name}__...ServiceUri settings.",
            )
        return cls(uris=uris, client_id=environ.get(f"{name}__clientId", ""))

    @functools.cached_property
    def _credential(self) -> Any:
        from azure.identity import ManagedIdentityCredential

        return ManagedIdentityCredential(client_id=self.client_id or None)

    def _patient(self, retry: Any) -> dict[str, Any]:
        """As the tables' client: on their own the clients of blobs and queues sleep up to a minute in their thread."""
        policy = retry(backoff=2 * self.backoff, random_jitter_range=self.backoff, retry_total=_RETRIES)
        return _options(self.timeout) | {"retry_policy": policy}

    @functools.cached_property
    def tables(self) -> TableServiceClient:
        """Client of the table service."""
        from azure.data.tables import TableServiceClient

        options = _options(self.timeout) | {"retry_backoff_factor": self.backoff}
        if self.connection_string:
            return TableServiceClient.from_connection_string(self.connection_string, **options)
        return TableServiceClient(self.uris["table"], credential=self._credential, **options)

    @functools.cached_property
    def blobs(self) -> BlobServiceClient:
        """Client of the blob service."""
        from azure.storage.blob import BlobServiceClient, LinearRetry

        options = self._patient(LinearRetry)
        if self.connection_string:
            return BlobServiceClient.from_connection_string(self.connection_string, **options)
        return BlobServiceClient(self.uris["blob"], credential=self._credential, **options)

    @functools.cached_property
    def queues(self) -> QueueServiceClient:
        """Client of the queue service."""
        from azure.storage.queue import LinearRetry, QueueServiceClient

        options = self._patient(LinearRetry)
        if self.connection_string:
            return QueueServiceClient.from_connection_string(self.connection_string, **options)
        return QueueServiceClient(self.uris["queue"], credential=self._credential, **options)
