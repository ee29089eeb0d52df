"""The whole system on this machine: Azurite, the tenant double, and the app in its worker groups.

    with Stack(StackOptions(workers=3)) as stack:
        stack.url, stack.keys, stack.connection_string, stack.tenant

Everything listens on 127.0.0.1 and lives below one scratch folder; logs are kept there.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from local import nursery
from local.azurite import Azurite
from local.host.easyauth import Claims, stack_settings
from local.processes import Child, StackError, Usage, plain_environment
from local.tenant.client import AdminClient
from local.workers import ROOT, HostOptions, Worker, Workers

__all__ = ["HostOptions", "Stack", "StackError", "StackOptions"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StackOptions:
    """What to start.

    `settings` are application settings for the app and win over the stack's own; an empty value removes one.
    `folder` is the scratch folder (default: a new one, removed at the end unless `keep_folder`).
    `easy_auth` puts App Service authentication in front of the app and sets RELAY_AUTH to match; `claims` is how it
    spells the claims, and `easy_auth_changes` replaces members of its settings (see local/host/easyauth.py).
    """

    workers: int = 1
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    host: HostOptions = dataclasses.field(default_factory=HostOptions)
    restart: bool = True
    port: int = 0
    queue_functions: Sequence[str] = ("Publish",)
    tenant_arguments: Sequence[str] = ()
    easy_auth: bool = False
    claims: Claims = "mixed"
    easy_auth_changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    folder: Path | None = None
    keep_folder: bool = False


class Stack:
    """A running local stack; a context manager. Attributes are set once it has started.

    url: base URL of the app, without the route prefix.
    keys: {"master", "host", "functions": {}} of the app.
    connection_string: of the storage account.
    tenant: what the tenant double printed: its URLs, ids and files (see local/tenant).
    """

    def __init__(self, options: StackOptions | None = None) -> None:
        self.options = options or StackOptions()
        self._own = self.options.folder is None
        self.folder = self.options.folder or Path(tempfile.mkdtemp(prefix="relay-stack-"))
        self.logs = self.folder / "logs"
        self.keys: dict[str, Any] = {
            "master": secrets.token_urlsafe(40),
            "host": secrets.token_urlsafe(40),
            "functions": {},
        }
        self.tenant: dict[str, Any] = {}
        self.url = ""
        self.azurite = Azurite(self.folder / "azurite")
        self._tenant: Child | None = None
        keys_file = self.folder / "keys.json"
        self._easy_auth = self.folder / "easyauth.json"
        host = self.options.host
        if self.options.easy_auth:
            host = dataclasses.replace(host, easy_auth=self._easy_auth)
        self.workers = Workers(self.logs, keys_file, host, restart=self.options.restart)
        self.logs.mkdir(parents=True, exist_ok=True)
        keys_file.touch(mode=0o600)
        keys_file.write_text(json.dumps(self.keys), "utf-8")

    @property
    def connection_string(self) -> str:
        """Of the storage account, for RelayStorage and every SDK."""
        return self.azurite.connection_string

    def start(self) -> Self:
        """Start all parts; on any failure what has started is ended. Raises StackError."""
        try:
            with ThreadPoolExecutor(2) as both:
                storage = both.submit(self._start_storage)
                tenant = both.submit(self._start_tenant)
                storage.result()
                tenant.result()
            if self.options.easy_auth:
                told = stack_settings(self.tenant, self.options.claims, self.options.easy_auth_changes)
                self._easy_auth.write_text(json.dumps(told), "utf-8")
            functions = self.options.queue_functions
            self.workers.start(self.environment(), functions, self.options.workers, self.options.port)
        except BaseException:
            self.stop()
            raise
        self.url = f"http://127.0.0.1:{self.workers.find('http').port}"
        return self

    def stop(self) -> None:
        """End all parts, the app first. What storage held is gone; logs stay with `keep_folder`."""
        try:
            self.workers.stop()
        finally:
            try:
                if self._tenant is not None:
                    self._tenant.stop()
            finally:
                self.azurite.stop()
        if self._own and not self.options.keep_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def environment(self) -> dict[str, str]:
        """Environment of a worker: the settings an app has in Azure, pointing at this stack."""
        double = self.tenant
        settings = {
            "AzureWebJobsStorage": self.connection_string,
            "RelayStorage": self.connection_string,
            "RELAY_TENANT_ID": double["tenant_id"],
            "RELAY_CLIENT_ID": double["client_id"],
            "RELAY_VAULT_URL": double["vault"],
            "RELAY_SECRET_NAME": double["secret_name"],
            "RELAY_AUTHORITY": double["entra"],
            "RELAY_INSTANCE_DISCOVERY": "false",
            "RELAY_DEFENDER_URL": double["defender"],
            "REQUESTS_CA_BUNDLE": double["ca_file"],
            "IDENTITY_ENDPOINT": double["identity_endpoint"],
            "IDENTITY_HEADER": double["identity_header"],
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }
        if self.options.easy_auth:
            settings |= {"RELAY_AUTH": "easy-auth", "RELAY_AUTH_CLIENT_ID": double["api_client_id"]}
        merged = plain_environment() | settings | dict(self.options.settings)
        return {name: value for name, value in merged.items() if value != ""}

    def kill_worker(self, number: int = 0) -> None:
        """SIGKILL for a queue worker (0 is the first): the death of an instance."""
        self.workers.kill(self.queue_workers[number])

    @property
    def queue_workers(self) -> list[Worker]:
        """The instances of the queue function."""
        return self.workers.queue_workers()

    def usage(self) -> dict[str, Usage]:
        """CPU seconds and memory of every process: `azurite`, `tenant`, `http`, `timers`, `publish-1`, ..."""
        found = {"azurite": self.azurite.child.usage() if self.azurite.child else Usage()}
        found["tenant"] = self._tenant.usage() if self._tenant else Usage()
        return found | self.workers.usage()

    @property
    def admin(self) -> AdminClient:
        """The tenant double's admin endpoint: faults, counters, what Defender holds."""
        return AdminClient(self.tenant["admin"])

    def _start_storage(self) -> None:
        """Azurite, with the queue, containers and tables that the deployment makes."""
        self.azurite.start()
        if not self.options.queue_functions:
            return
        from shared.storage.azure import ensure
        from shared.storage.connection import StorageConnection

        ensure(StorageConnection(connection_string=self.connection_string))

    def _start_tenant(self) -> None:
        folder = self.folder / "tenant"
        folder.mkdir(parents=True, exist_ok=True)
        environ = plain_environment() | {"PYTHONPATH": str(ROOT)}
        arguments = ["--folder", str(folder), *self.options.tenant_arguments]
        fresh = self.options.host.fresh
        self._tenant = nursery.start("local.tenant", arguments, environ, self.logs, name="tenant", fresh=fresh)
        self.tenant = self._tenant.first_line()
