"""Who may what, written a second time: tests hold functions/routes.py to it, so that a change there is noticed."""

from __future__ import annotations

import base64
import http.client
import json
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from local import nursery
from local.host.easyauth import Claims, principal
from local.processes import plain_environment

ROOT = Path(__file__).resolve().parents[2]

SUBMIT, READ, OPERATE = "Submissions.Write", "Indicators.Read", "Operations.Manage"
OVERRIDE, ALLOW = "Guards.Override", "Indicators.Allow"
FIVE = (SUBMIT, READ, OPERATE, OVERRIDE, ALLOW)

#: function: (method, path, key, roles of which one is needed)
EXPECTED: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "PostSubmission": ("POST", "submissions", "function", (SUBMIT,)),
    "FindSubmissions": ("GET", "submissions", "function", (SUBMIT, READ, OPERATE)),
    "GetSubmission": ("GET", "submissions/{id}", "function", (SUBMIT, READ, OPERATE)),
    "UndoSubmission": ("DELETE", "submissions/{id}", "admin", (OPERATE,)),
    "FindIndicators": ("GET", "indicators", "function", (READ, OPERATE)),
    "GetIndicator": ("GET", "indicators/{value}", "function", (READ, OPERATE)),
    "GetCapacity": ("GET", "capacity", "function", (READ, OPERATE)),
    "GetOperations": ("GET", "operations", "function", (READ, OPERATE)),
    "Pause": ("POST", "pause", "admin", (OPERATE,)),
    "Resume": ("POST", "resume", "admin", (OPERATE,)),
    "GetDeadLetters": ("GET", "dead-letters", "function", (OPERATE,)),
    "GetDeadLetter": ("GET", "dead-letters/{id}", "function", (OPERATE,)),
    "ReplayDeadLetter": ("POST", "dead-letters/{id}/replay", "admin", (OPERATE,)),
    "ReplayDeadLetters": ("POST", "dead-letters/replay", "admin", (OPERATE,)),
    "DiscardDeadLetter": ("POST", "dead-letters/{id}/discard", "admin", (OPERATE,)),
    "GetHealth": ("GET", "health", "function", (READ, OPERATE)),
    "GetOpenApi": ("GET", "openapi.json", "function", FIVE),
}
#: Where Submissions.Write alone opens the door to what the caller itself submitted.
OWN = ("FindSubmissions", "GetSubmission")

TENANT = "11111111-2222-4333-8444-555555555555"
API = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
KEYS = {"master": "the-master-key-of-this-host", "host": "the-host-key-of-this-host"}
GATE = "tests.contract.only_the_gate"


def function_key(name: str) -> str:
    """The key of this function alone."""
    return f"the-own-key-of-{name}"


def address(function: str) -> tuple[str, str]:
    """Method and path of a function, with something for its parameters."""
    method, path, *_ = EXPECTED[function]
    return method, "/api/" + path.replace("{id}", "x1").replace("{value}", "evil.example.com")


def claims(*roles: str, person: bool = False, **changes: Any) -> dict[str, Any]:
    """The claims of a good token; a change to None takes one away."""
    made: dict[str, Any] = {
        "aud": f"api://{API}",
        "iss": f"https://sts.windows.net/{TENANT}/",
        "exp": int(time.time()) + 3000,
        "tid": TENANT,
        "oid": "0b0b0b0b-0000-4000-8000-000000000001",
        "sub": "0b0b0b0b-0000-4000-8000-000000000001",
        "appid": "0a0a0a0a-0000-4000-8000-000000000001",
        "ver": "1.0",
    }
    if person:
        made |= {"scp": "user_impersonation", "upn": "ann@tenant.example", "name": "Ann Analyst", "sub": "pairwise"}
    if roles:
        made["roles"] = list(roles)
    return {name: value for name, value in (made | changes).items() if value is not None}


def header(told: Mapping[str, Any], spelling: Claims = "mixed", **changes: Any) -> dict[str, str]:
    """X-MS-CLIENT-PRINCIPAL as the platform would write it for these claims."""
    return raw(json.dumps(principal(told, spelling) | changes).encode())


def raw(content: bytes) -> dict[str, str]:
    """X-MS-CLIENT-PRINCIPAL of this content."""
    return {"X-MS-CLIENT-PRINCIPAL": base64.b64encode(content).decode()}


class Gate:
    """The app's HTTP group in a process of its own, with handlers that only tell who came in; a context manager.

    An empty setting takes away one that is usual here.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str], *, preload: str = GATE) -> None:
        self.folder = folder
        keys = {**KEYS, "functions": {name: function_key(name) for name in EXPECTED}}
        (folder / "keys.json").write_text(json.dumps(keys), "utf-8")
        usual = {
            "PYTHONPATH": str(ROOT),
            "RelayStorage": "UseDevelopmentStorage=true",
            "RELAY_TENANT_ID": TENANT,
            "RELAY_CALLER_RATE": "1000000/60",
        }
        wanted = {name: text for name, text in (usual | dict(settings)).items() if text}
        arguments = ["--app", str(ROOT), "--group", "http", "--keys", str(folder / "keys.json"), "--preload", preload]
        self._child = nursery.start("local.host", arguments, plain_environment() | wanted, folder, name="http")
        self._connection: http.client.HTTPConnection | None = None

    def __enter__(self) -> Self:
        try:
            port = self._child.first_line()["port"]
        except BaseException:
            self._child.kill()
            raise
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._connection is not None:
            self._connection.close()
        self._child.kill()

    def ask(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """One request; a POST has a body."""
        assert self._connection is not None
        body = b"{}" if method in ("POST", "PUT", "PATCH") else None
        given = {"Content-Type": "application/json"} if body else {}
        self._connection.request(method, path, body, given | dict(headers or {}))
        answer = self._connection.getresponse()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())

    def call(self, function: str, headers: Mapping[str, str] | None = None) -> Answer:
        """A request of this function's route."""
        return self.ask(*address(function), headers)

    def logs(self) -> str:
        """Everything that the process wrote."""
        return "\n".join(file.read_text("utf-8", "replace") for file in self.folder.glob("*.log"))


class Answer:
    """Status, headers by lower-case name, and the body as JSON when it is one."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.told: dict[str, Any] = json.loads(body) if body.startswith(b"{") else {}

    @property
    def reached(self) -> str | None:
        """The function whose handler ran."""
        return self.told.get("reached")

    def __repr__(self) -> str:
        return f"{self.status} {self.body[:300]!r}"


def key(text: str) -> dict[str, str]:
    """A host or function key as a header."""
    return {"x-functions-key": text}


def urls(paths: Sequence[str]) -> list[str]:
    """Paths below the route prefix, percent-encoded where they must be."""
    return ["/api/" + urllib.parse.quote(path, safe="/%") for path in paths]
