"""What stands for Azure around a playbook: its identities, the queue service's door for Entra tokens, Sentinel.

The queue's door checks what the service checks of a bearer token (signature, audience, the role on that queue) and
hands the request on to Azurite as it came, since Azurite is told of account keys only.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Self

import jwt
import requests
from azure.storage.queue import QueueClient, QueueSasPermissions, generate_queue_sas

from local.stack import Stack
from tests.support.logicapps.expressions import WorkflowError

STORAGE = "https://storage.azure.com/"
_INCIDENT = re.compile(
    r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.OperationalInsights/workspaces/[^/]+"
    r"/providers/Microsoft\.SecurityInsights/Incidents/[0-9a-f-]{36}",
    re.IGNORECASE,
)
_COMMENT_MOST = 30_000
_TAGS = {"p", "strong", "ul", "li"}


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """A managed identity with its roles at the relay's API; tokens are those of the tenant double."""

    stack: Stack
    client: str
    principal: str
    roles: tuple[str, ...] = ()

    def token(self, audience: str) -> str:
        """As Entra gives it. Raises WorkflowError for a resource that the tenant does not have."""
        if audience == self.stack.tenant["api_client_id"]:
            return self._token(*self.roles, version=2)
        if audience == STORAGE:
            return self._token(audience=STORAGE)
        raise WorkflowError(f"AADSTS500011: there is no resource {audience!r} in the tenant")

    def _token(self, *roles: str, **options: Any) -> str:
        return self.stack.admin.caller_token(
            *roles, kind="managed-identity", client_id=self.client, object_id=self.principal, **options
        )


class QueueDoor:
    """The queue service for callers with tokens. `senders` are principals with Storage Queue Data Message Sender."""

    def __init__(self, stack: Stack, queue: str, senders: set[str]) -> None:
        self.refused: list[tuple[int, str]] = []
        self.lengths: list[int] = []
        client = QueueClient.from_connection_string(stack.connection_string, queue)
        sas = generate_queue_sas(
            str(client.account_name),
            queue,
            client.credential.account_key,
            permission=QueueSasPermissions(add=True),
            expiry=datetime.now(UTC) + timedelta(hours=1),
        )
        client.close()
        door = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                status, body = door._refusal(stack, self.headers, senders, data)
                if not status:
                    mark = "&" if "?" in self.path else "?"
                    with requests.Session() as session:
                        session.trust_env = False
                        host = client.url.split("/relaylocal")[0]
                        kind = {"Content-Type": self.headers["Content-Type"]}
                        answer = session.post(f"{host}{self.path}{mark}{sas}", data=data, headers=kind, timeout=30)
                    status, body = answer.status_code, answer.content
                self.send_response(status)
                self.send_header("Content-Type", "application/xml")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}/relaylocal/{queue}"

    def _refusal(self, stack: Stack, headers: Mapping[str, str], senders: set[str], data: bytes) -> tuple[int, bytes]:
        """Status 0: none."""
        refused = 0, ""
        try:
            token = headers.get("Authorization", "").removeprefix("Bearer ")
            claims = jwt.decode(token, _key(stack, token), algorithms=["RS256"], audience=STORAGE)
        except jwt.PyJWTError as error:
            refused = 401, f"InvalidAuthenticationInfo: {error}"
        else:
            if claims["oid"] not in senders:
                refused = 403, "AuthorizationPermissionMismatch"
            elif headers.get("x-ms-version", "") < "2017-11-09":
                refused = 400, "MissingRequiredHeader: x-ms-version"
            elif "x-ms-date" not in headers and "Date" not in headers:
                refused = 400, "MissingRequiredHeader: x-ms-date"
            else:
                text = re.search(rb"<MessageText>(.*)</MessageText>", data, re.DOTALL)
                self.lengths.append(len(text[1]) if text else -1)
                if self.lengths[-1] > 65_536:
                    refused = 413, "RequestBodyTooLarge"
        if refused[0]:
            self.refused.append(refused)
        return refused[0], refused[1].encode()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _key(stack: Stack, token: str) -> Any:
    return _keys(stack)[jwt.get_unverified_header(token)["kid"]]


@functools.cache
def _keys(stack: Stack) -> dict[str, Any]:
    tenant = stack.tenant
    with requests.Session() as session:
        session.trust_env = False
        session.verify = tenant["ca_file"]
        about = session.get(
            f"{tenant['entra']}/{tenant['tenant_id']}/v2.0/.well-known/openid-configuration", timeout=10
        )
        keys = session.get(about.json()["jwks_uri"], timeout=10).json()["keys"]
    return {key["kid"]: jwt.PyJWK(key, "RS256").key for key in keys}


class _Html(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _TAGS or attrs:
            raise AssertionError(f"a comment has the tag {tag} with {attrs}")
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, "the tags of a comment are not closed in their order"
        self.text += "\n" if tag in ("p", "li") else ""

    def handle_data(self, data: str) -> None:
        self.text += data


@dataclasses.dataclass(slots=True)
class Sentinel:
    """The connector `azuresentinel`: comments on incidents, by identities with Microsoft Sentinel Responder."""

    responders: set[str]
    comments: list[tuple[str, str]] = dataclasses.field(default_factory=list)  # incident, message

    def call(self, method: str, path: str, body: Any, identity: str) -> tuple[int, Any]:
        """An operation of the connector. Raises WorkflowError for one that it does not have."""
        if (method, path) != ("post", "/Incidents/Comment") or set(body) != {"incidentArmId", "message"}:
            raise WorkflowError(f"{method} {path} is no operation of the connector")
        if identity not in self.responders:
            return 403, {"error": {"code": "AuthorizationFailed"}}
        if not _INCIDENT.fullmatch(body["incidentArmId"]) or not 0 < len(body["message"]) <= _COMMENT_MOST:
            return 400, {"error": {"code": "BadRequest"}}
        self.comments.append((body["incidentArmId"], body["message"]))
        return 200, {"properties": {"message": body["message"]}}

    def text(self, number: int = -1) -> str:
        """A comment as people see it; its HTML is well formed, and has nothing in it that could run or be clicked."""
        html = _Html()
        html.feed(self.comments[number][1])
        html.close()
        assert not html.open, html.open
        return html.text
