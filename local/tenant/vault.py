"""Key Vault, as far as reading secrets goes: challenge, versions, attributes and refusals."""

from __future__ import annotations

import dataclasses
import json
import re
import secrets
import urllib.parse

from aiohttp import web

from local.tenant.answers import Answer, Refused, as_json
from local.tenant.clock import Clock
from local.tenant.directory import VAULT, Directory
from local.tenant.faults import FaultBook
from local.tenant.metrics import Call, Metrics
from local.tenant.service import Service
from local.tenant.tokens import Issuer, bearer

_NAME = re.compile(r"^[0-9a-zA-Z-]{1,127}$")


@dataclasses.dataclass
class Version:
    """One version of a secret; `expires` is seconds since 1970 or None. A read does not look at it (documented)."""

    value: str
    created: int
    enabled: bool = True
    expires: int | None = None
    id: str = dataclasses.field(default_factory=lambda: secrets.token_hex(16))

    def __repr__(self) -> str:
        return f"Version(id={self.id})"


def challenge_resource(url: str) -> str:
    """The resource to name in the challenge of a vault at https://127.0.0.1:PORT.

    The SDK takes a challenge only when the vault's own host and port end with "." and the resource's host and port:
    NAME.vault.azure.net against vault.azure.net. That check stays on, since a test which turns it off tests another
    program. A vault at 127.0.0.1:PORT passes it when the resource is called 0.0.1:PORT, which nobody ever connects to.
    """
    return url.replace("//127.", "//", 1)


def _refusal(status: int, code: str, message: str, inner: str = "") -> Refused:
    error: dict[str, object] = {"code": code, "message": message}
    if inner:
        error["innererror"] = {"code": inner}
    return Refused(as_json(status, {"error": error}))


class Vault(Service):
    """The vault at `url`. `secrets` holds the versions of each secret, oldest first."""

    name = "vault"

    def __init__(
        self,
        clock: Clock,
        faults: FaultBook,
        metrics: Metrics,
        directory: Directory,
        issuer: Issuer,
        url: str,
        entra_url: str,
    ) -> None:
        super().__init__(clock, faults, metrics)
        self._directory = directory
        self._issuer = issuer
        self._url = url
        self._entra_url = entra_url
        self.resource = challenge_resource(url)
        directory.resources.add(self.resource)
        self.secrets: dict[str, list[Version]] = {}

    def set(self, name: str, value: str, expires: float | None = None) -> Version:
        """Add a version, which becomes the current one."""
        made = Version(value, int(self.clock.now()), expires=None if expires is None else int(expires))
        self.secrets.setdefault(name, []).append(made)
        return made

    def route(self, request: web.BaseRequest) -> str:
        """There is one."""
        return "vault"

    async def answer(self, request: web.BaseRequest, call: Call) -> Answer:
        """GET and PUT /secrets/{name}, GET /secrets/{name}/{version}, /secrets/{name}/versions and /secrets."""
        body = await request.content.read()
        self._authorise(request, call)
        if not request.query.get("api-version"):
            raise _refusal(400, "BadParameter", "Parameter missing or empty: api-version")
        pieces = [piece for piece in request.path.split("/") if piece]
        if not pieces or pieces[0] != "secrets" or len(pieces) > 3:
            raise _refusal(404, "NotFound", "The resource was not found.")
        if len(pieces) > 1 and not _NAME.match(pieces[1]):
            raise _refusal(400, "BadParameter", f"The request URI contains an invalid name: {pieces[1]}")
        if request.method == "PUT" and len(pieces) == 2:
            return self._put(pieces[1], body)
        if request.method != "GET":
            raise Refused(Answer(405, b"", {"Allow": "GET, PUT"}))
        if len(pieces) == 1:
            rows = [self._shown(name, versions[-1], named=False) for name, versions in self.secrets.items()]
            return as_json(200, {"value": rows, "nextLink": None})
        return self._read(pieces[1], pieces[2] if len(pieces) == 3 else "")

    def _authorise(self, request: web.BaseRequest, call: Call) -> None:
        try:
            claims = self._issuer.check(bearer(request.headers.get("Authorization")), self.resource, VAULT)
        except ValueError as fault:
            authority = f"{self._entra_url}/{self._directory.tenant}"
            challenge = f'Bearer authorization="{authority}", resource="{self.resource}"'
            message = f"AKV10000: Request is missing a Bearer or PoP token, or it is not good: {fault}"
            raise Refused(
                as_json(401, {"error": {"code": "Unauthorized", "message": message}}, WWW_Authenticate=challenge)
            ) from None
        call.app = claims["appid"]
        caller = self._directory.find(claims["oid"])
        if caller is None or not caller.vault_access:
            raise _refusal(
                403,
                "Forbidden",
                "Caller is not authorized to perform action on resource.\r\nIf role assignments, deny assignments or "
                "role definitions were changed recently, please observe propagation time.\r\n"
                f"Caller: appid={claims['appid']};oid={claims['oid']};iss={claims['iss']}\r\n"
                "Action: 'Microsoft.KeyVault/vaults/secrets/getSecret/action'\r\nAssignment: (not found)",
                "ForbiddenByRbac",
            )

    def _read(self, name: str, version: str) -> Answer:
        versions = self.secrets.get(name, [])
        if version == "versions":
            rows = [self._shown(name, known) for known in versions]
            return as_json(200, {"value": rows, "nextLink": None})
        for known in reversed(versions):
            if version in ("", known.id):
                if not known.enabled:
                    raise _refusal(
                        403, "Forbidden", "Operation get is not allowed on a disabled secret.", "SecretDisabled"
                    )
                return as_json(200, self._shown(name, known, value=True))
        shown = f"{name}/{version}" if version else name
        raise _refusal(
            404,
            "SecretNotFound",
            f"A secret with (name/id) {shown} was not found in this key vault. If you recently deleted this secret "
            "you may be able to recover it using the correct recovery command.",
        )

    def _put(self, name: str, body: bytes) -> Answer:
        try:
            content = json.loads(body)
            value, attributes = str(content["value"]), content.get("attributes") or {}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise _refusal(400, "BadParameter", "Property has invalid value: value") from None
        made = self.set(name, value, attributes.get("exp"))
        made.enabled = bool(attributes.get("enabled", True))
        return as_json(200, self._shown(name, made, value=True))

    def _shown(self, name: str, version: Version, *, value: bool = False, named: bool = True) -> dict[str, object]:
        attributes: dict[str, object] = {
            "enabled": version.enabled,
            "created": version.created,
            "updated": version.created,
            "recoveryLevel": "Recoverable+Purgeable",
            "recoverableDays": 90,
        }
        if version.expires is not None:
            attributes["exp"] = version.expires
        identifier = f"{self._url}/secrets/{urllib.parse.quote(name)}" + (f"/{version.id}" if named else "")
        content: dict[str, object] = {"id": identifier, "attributes": attributes, "tags": {}}
        return {"value": version.value, **content} if value else content
