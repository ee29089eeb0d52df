"""The managed identity endpoint as App Service offers it: plain http, guarded by a header only the app knows."""

from __future__ import annotations

import secrets

from aiohttp import web

from local.tenant.answers import Answer, Refused, as_json
from local.tenant.clock import Clock
from local.tenant.directory import Directory, Principal
from local.tenant.faults import FaultBook
from local.tenant.metrics import Call, Metrics
from local.tenant.service import Service
from local.tenant.tokens import Issuer

PATH = "/msi/token"


def _refusal(status: int, message: str) -> Refused:
    return Refused(as_json(status, {"statusCode": status, "message": message}))


class ManagedIdentity(Service):
    """`header` is what the app is given as IDENTITY_HEADER."""

    name = "identity"

    def __init__(self, clock: Clock, faults: FaultBook, metrics: Metrics, directory: Directory, issuer: Issuer) -> None:
        super().__init__(clock, faults, metrics)
        self._directory = directory
        self._issuer = issuer
        self.header = secrets.token_hex(16)

    def route(self, request: web.BaseRequest) -> str:
        """There is one."""
        return "identity"

    async def answer(self, request: web.BaseRequest, call: Call) -> Answer:
        """GET ?api-version=2019-08-01&resource=R[&client_id=C | &principal_id=P]."""
        if request.path.rstrip("/") != PATH or request.method != "GET":
            raise _refusal(404, "Not found.")
        if not secrets.compare_digest(request.headers.get("X-IDENTITY-HEADER", ""), self.header):
            raise _refusal(401, "The X-IDENTITY-HEADER is missing or wrong.")
        if request.query.get("api-version") != "2019-08-01":
            raise _refusal(400, "api-version 2019-08-01 is the one that this endpoint speaks.")
        resource = request.query.get("resource", "").removesuffix("/.default").rstrip("/")
        if not resource:
            raise _refusal(400, "The resource parameter is missing.")
        identity = self._identity(request)
        call.app = identity.client_id
        if not self._directory.knows(resource):
            raise _refusal(
                400,
                f"AADSTS500011: The resource principal named {resource} was not found in the tenant named "
                f"{self._directory.tenant}.",
            )
        token, expires = self._issuer.issue(identity, resource)
        content = {
            "access_token": token,
            "expires_on": str(expires),
            "resource": resource,
            "token_type": "Bearer",
            "client_id": identity.client_id,
        }
        return as_json(200, content)

    def _identity(self, request: web.BaseRequest) -> Principal:
        wanted = request.query.get("client_id") or request.query.get("principal_id") or request.query.get("object_id")
        identities = [known for known in self._directory.principals if known.kind in ("system", "user")]
        for known in identities:
            if wanted is None and known.kind == "system":
                return known
            if wanted is not None and wanted.lower() in (known.client_id.lower(), known.object_id.lower()):
                return known
        raise _refusal(
            400, "No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId."
        )
