"""What scripts/deploy talks to beside `az`, at one address over TLS: Graph, Entra's sign-in, a vault, an app and its
publishing site; and the fake `az` set up beside it."""

from __future__ import annotations

import base64
import contextlib
import copy
import http.client
import http.server
import json
import os
import re
import socketserver
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local.tenant.pki import issue
from tests.support import fake_az
from tests.support.fake_az import API, RELAY, SUBSCRIPTION, TENANT

__all__ = ["API", "RELAY", "SUBSCRIPTION", "TENANT", "Cloud"]


class Cloud:
    """Everything that is not Resource Manager. `az` is its state in the file that the fake CLI reads."""

    def __init__(self, folder: Path) -> None:
        self.ca_file, context = issue(folder / "ca")
        self._state: dict[str, Any] = {}
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.requests: list[str] = []
        self.bodies: list[bytes] = []
        self.published: list[bytes] = []
        self.paused: dict[str, str] | None = None
        self.in_flight = [0]
        self.app_status = 200
        self.deleted_registrations: list[str] = []
        self.secrets: list[dict[str, str]] = []
        self.versions: list[dict[str, Any]] = []
        self.refusals: dict[str, list[tuple[int, Any]]] = {}
        self.forward = ""
        self.breaks: list[str] = []
        self.events: list[str] = []
        self._lock = threading.Lock()
        cloud = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                with cloud._lock:
                    cloud.requests.append(f"{self.command} {self.path}")
                    cloud.bodies.append(body)
                status, headers, content = cloud.serve(self.command, self.path, dict(self.headers.items()), body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _serve

        self._cli = _commands(self)
        executable = self.bin / "az"
        executable.write_text(fake_az.SCRIPT.replace("PORT", str(self._cli.server_address[1])))
        executable.chmod(0o755)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.host = f"localhost:{self._server.server_address[1]}"
        self.reset()

    def reset(self, **changes: Any) -> None:
        """A subscription with nothing in it."""
        url = f"https://{self.host}"
        ends = ("activeDirectory", "microsoftGraphResourceId", "resourceManager", "appServiceResourceId")
        state: dict[str, Any] = {
            "signed_in": True,
            "cloud": {
                "name": "AzureCloud",
                "endpoints": dict.fromkeys(ends, f"{url}/"),
                "suffixes": {"keyvaultDns": ".vault.azure.net"},
            },
            "token": "token-of-the-engineer",
            "tokens": {},
            "permissions": [{"actions": ["*"], "notActions": []}],
            "group": False,
            "resources": [],
            "deployments": {},
            "changes": {},
            "deleted_vaults": [],
            "locks": [],
            "keys": {"masterKey": "the-master-key", "functionKeys": {"default": "the-function-key"}, "systemKeys": {}},
            "host": self.host,
            "faults": [],
            "calls": [],
        }
        self._state = state | changes

    @property
    def az(self) -> dict[str, Any]:
        """The state as it is now."""
        return copy.deepcopy(self._state)

    def ask(self, line: list[str]) -> tuple[int, str]:
        """One command of the CLI."""
        with self._lock:
            return fake_az.ask(line, self._state)

    def change(self, **changes: Any) -> None:
        """Change the state."""
        self._state |= changes

    def fault(self, match: str, error: str, *, times: int = 1, status: int = 1) -> None:
        """The next command that begins so fails with this on standard error."""
        self.change(faults=[*self.az["faults"], {"match": match, "error": error, "times": times, "status": status}])

    def calls(self, *beginning: str) -> list[list[str]]:
        """The command lines so far that begin so."""
        return [line for line in self.az["calls"] if line[: len(beginning)] == list(beginning)]

    def environment(self) -> dict[str, str]:
        """What a process needs to meet this cloud and no other."""
        return {
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "SSL_CERT_FILE": str(self.ca_file),
            "NO_PROXY": "127.0.0.1,localhost",
        }

    @contextlib.contextmanager
    def running(self) -> Iterator[Cloud]:
        """Serves while inside."""
        both = (self._server, self._cli)
        threads = [threading.Thread(target=one.serve_forever, args=(0.02,), daemon=True) for one in both]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            for one in both:
                one.shutdown()
                one.server_close()
            for thread in threads:
                thread.join()

    # Answers

    def serve(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        bare = urllib.parse.urlsplit(path).path
        for prefix, answers in self.refusals.items():
            if f"{method} {bare}".startswith(prefix) and answers:
                status, told = answers.pop(0)
                return status, {"content-type": "application/json"}, json.dumps(told).encode()
        if bare in ("/api/publish", "/api/deployments/latest"):
            told = self._publishing(bare, body)
        elif self.forward and bare.startswith(("/api/", "/admin/")):
            return self._forwarded(method, path, headers, body)
        elif bare.startswith("/api/"):
            told = self._app(method, bare, headers, body)
        elif bare.startswith("/v1.0/applications"):
            told = self._graph(method, bare, body)
        elif bare.startswith("/secrets/"):
            told = self._vault(method, bare, body)
        elif bare.endswith("/oauth2/v2.0/token"):
            told = self._sign_in(body)
        else:
            told = (404, {})
        return told[0], {"content-type": "application/json"}, json.dumps(told[1]).encode()

    def _publishing(self, path: str, body: bytes) -> tuple[int, Any]:
        if path == "/api/publish":
            self.published.append(body)
            self.events.append("published")
            return 202, "the-deployment-id"
        return 200, {"id": "the-deployment-id", "status": 4}

    def _app(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Any]:
        if self.app_status != 200:
            return self.app_status, {}
        given = {name.lower(): value for name, value in headers.items()}
        if given.get("x-functions-key") != "the-master-key" and given.get("authorization") != "Bearer operator":
            return 401, {}
        if path == "/api/operations":
            worker = {"lastSeen": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", "inFlight": self.in_flight[0]}
            if len(self.in_flight) > 1:
                self.in_flight.pop(0)
            self.events.append(f"{worker['inFlight']} in flight")
            return 200, {"workers": [worker], **({"paused": self.paused} if self.paused else {})}
        if path == "/api/pause":
            self.paused = {"by": "admin-key", "reason": json.loads(body)["reason"]}
            self.events.append("paused")
            return 200, {"changed": True}
        if path == "/api/resume":
            self.paused = None
            self.events.append("resumed")
            return 200, {"changed": True}
        return 404, {}

    def _graph(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        if method == "DELETE":
            self.deleted_registrations.append(path.split("'")[1])
            return 204, {}
        if path.endswith("/addPassword"):
            asked = json.loads(body)["passwordCredential"]
            made = {"keyId": f"key-{len(self.bodies)}", "secretText": f"S3cret~{os.urandom(12).hex()}"}
            self.secrets.append({**asked, **made})
            return 200, made
        if path.endswith("/removePassword"):
            gone = json.loads(body)["keyId"]
            self.secrets = [one for one in self.secrets if one["keyId"] != gone]
            return 204, {}
        return 200, {"passwordCredentials": [{**one, "secretText": None} for one in self.secrets]}

    def _vault(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        if method == "PUT":
            given = json.loads(body)
            given["attributes"]["created"] = len(self.versions)
            self.versions.append(given)
            return 200, {"id": "it"}
        listed = [{"attributes": one["attributes"], "tags": one.get("tags")} for one in self.versions]
        return (200, {"value": listed}) if listed else (404, {"error": {"code": "SecretNotFound"}})

    def _sign_in(self, body: bytes) -> tuple[int, Any]:
        form = dict(urllib.parse.parse_qsl(body.decode()))
        if form["client_secret"] not in [one["secretText"] for one in self.secrets]:
            return 401, {
                "error": "invalid_client",
                "error_description": "AADSTS7000215: Invalid client secret provided.",
            }
        claims = base64.urlsafe_b64encode(json.dumps({"roles": ["Ti.ReadWrite"]}).encode()).rstrip(b"=").decode()
        return 200, {"access_token": f"e30.{claims}.sig"}

    def _forwarded(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        address = urllib.parse.urlsplit(self.forward)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=240)
        kept = {name: value for name, value in headers.items() if name.lower() not in ("host", "connection")}
        try:
            connection.request(method, path, body or None, kept)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        bare = re.sub(r"\?.*", "", path)
        self.events += [word for word in ("pause", "resume") if bare == f"/api/{word}" and answer.status == 200]
        for pattern in self.breaks:
            if answer.status < 300 and re.fullmatch(pattern, f"{method} {path}"):
                self.breaks.remove(pattern)  # the app has done it, and its answer is lost
                return 500, {}, b""
        passed = ("content-type", "retry-after", "location")
        return answer.status, {n: v for n, v in answer.getheaders() if n.lower() in passed}, content


def _commands(cloud: Cloud) -> socketserver.ThreadingTCPServer:
    """Where the fake CLI asks: a count and so many arguments, zero bytes between; back: the status, then text."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            def word() -> str:
                found = bytearray()
                while (one := self.rfile.read(1)) not in (b"", b"\0"):
                    found += one
                return found.decode()

            status, text = cloud.ask([word() for _ in range(int(word()))])
            self.wfile.write(f"{status}\n{text}".encode())

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    return server
