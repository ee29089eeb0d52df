"""The admin endpoint: plain http on a port of its own, for tests and people. It never fails by a fault of its own."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from local.tenant.faults import Fault
from local.tenant.indicators import Caller
from local.tenant.state import Tenant

PREFIX = "/_admin/"
Down = Callable[[str, str], Awaitable[None]]


class Admin:
    """`down(service, how)` stops or starts listening; the server provides it."""

    def __init__(self, tenant: Tenant, ca_file: str, down: Down) -> None:
        self._tenant = tenant
        self._ca_file = ca_file
        self._down = down

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """The handler which aiohttp calls for each request."""
        try:
            text = await request.text()
            body = json.loads(text) if text.strip() else {}
            content = await self._do(request, body)
        except (ValueError, TypeError, KeyError) as fault:
            return web.json_response({"error": f"{type(fault).__name__}: {fault}"}, status=400)
        if content is None:
            return web.json_response({"error": f"no {request.method} {request.path} here"}, status=404)
        return web.json_response(content)

    async def _do(self, request: web.BaseRequest, body: Any) -> Any:
        tenant = self._tenant
        path = request.path.removeprefix(PREFIX).strip("/").split("/")
        match request.method, path:
            case "GET", ["about"]:
                return tenant.describe(self._ca_file)
            case "GET", ["counters"]:
                return {**tenant.metrics.as_json(), "indicators": len(tenant.defender.store())}
            case "GET", ["imports"]:
                return {"value": [dataclasses.asdict(call) for call in tenant.metrics.imports]}
            case "GET", ["indicators"]:
                return self._indicators(request)
            case ("POST", ["faults"]):
                return {"id": tenant.faults.add(Fault(**body))}
            case "GET", ["faults"]:
                return {"value": [fault.as_json() for fault in tenant.faults]}
            case "DELETE", ["faults"]:
                return {"lifted": tenant.faults.clear()}
            case "DELETE", ["faults", identifier]:
                return {"lifted": tenant.faults.clear(int(identifier))}
            case (("POST" | "GET"), ["rules"]):
                tenant.rules.update(body)
                return dataclasses.asdict(tenant.rules)
            case "POST", ["reset"]:
                tenant.reset(body.get("what", []))
                return {}
            case "POST", ["down", service]:
                await self._down(service, body.get("how", "refuse"))
                return {}
            case "POST", ["up", service]:
                await self._down(service, "up")
                return {}
            case "POST", ["portal"]:
                user = body.pop("user", "analyst@tenant.example")
                return tenant.portal_create(body, user)
            case "DELETE", ["portal", identifier]:
                return {"deleted": tenant.portal_delete(identifier)}
            case _:
                return self._do_identity(request.method, path, body)

    def _do_identity(self, method: str, path: list[str], body: Any) -> Any:
        tenant = self._tenant
        match method, path:
            case "POST", ["rotate"]:
                return tenant.rotate(
                    body.get("who", "relay"),
                    body.get("where", "both"),
                    overlap=bool(body.get("overlap", False)),
                    expires_in=float(body.get("expires_in", 365 * 86_400)),
                )
            case "POST", ["expire-secrets"]:
                tenant.expire_secrets(body.get("who", "relay"))
                return {}
            case "POST", ["revoke-tokens"]:
                # A token says in whole seconds when it was issued: those of this second are still good.
                tenant.issuer.revoked_before = float(int(tenant.clock.now()) + int(body.get("ahead", 0)))
                return {}
            case "POST", ["token-lifetime"]:
                tenant.issuer.lifetime = int(body["seconds"])
                return {}
            case "POST", ["roles"]:
                principal = tenant.principal(body["who"])
                principal.roles = list(body.get("roles", principal.roles))
                principal.graph_roles = list(body.get("graph_roles", principal.graph_roles))
                principal.api_roles = list(body.get("api_roles", principal.api_roles))
                return {name: getattr(principal, name) for name in ("roles", "graph_roles", "api_roles")}
            case "POST", ["caller-token"]:
                return tenant.caller_token(body)
            case "POST", ["vault-access"]:
                tenant.principal(body["who"]).vault_access = bool(body["allowed"])
                return {}
            case "POST", ["secret"]:
                return self._secret(body)
            case "POST", ["clock"]:
                tenant.clock.offset = float(body["offset"])
                return {"now": tenant.clock.now()}
            case _:
                return None

    def _secret(self, body: Any) -> Any:
        """Set a value (a new version), or the attributes of the current version; delete with `deleted`."""
        versions = self._tenant.vault.secrets
        name = body.get("name", self._tenant.secret_name)
        if body.get("deleted"):
            return {"deleted": versions.pop(name, None) is not None}
        if "value" in body:
            self._tenant.vault.set(name, str(body["value"]))
        if name not in versions:
            raise ValueError(f"there is no secret {name!r}")
        current = versions[name][-1]
        current.enabled = bool(body.get("enabled", current.enabled))
        if "expires" in body:
            current.expires = None if body["expires"] is None else int(body["expires"])
        return {"version": current.id, "versions": len(versions[name])}

    def _indicators(self, request: web.BaseRequest) -> Any:
        store = self._tenant.defender.store(request.query.get("tenant", ""))
        everyone = Caller("", "", sees_all=True)
        rows = list(store.rows(everyone, request.query.get("value")))
        skip, top = int(request.query.get("skip", 0)), int(request.query.get("top", len(rows) or 1))
        return {"total": len(rows), "value": rows[skip : skip + top]}
