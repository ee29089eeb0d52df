"""Entra ID: discovery, the token endpoint for client credentials, and as much of Graph as tells who holds a role."""

from __future__ import annotations

import re
import time
import urllib.parse
import uuid

from aiohttp import web

from local.tenant.answers import Answer, Refused, as_json
from local.tenant.clock import Clock
from local.tenant.directory import GRAPH, Directory, Principal
from local.tenant.faults import FaultBook
from local.tenant.metrics import Call, Metrics
from local.tenant.service import Service
from local.tenant.tokens import Issuer, bearer, peek

_TOKEN = re.compile(r"^/([^/]+)/oauth2/(v2\.0/)?token$")
_OPENID = re.compile(r"^/([^/]+)/(v2\.0/)?\.well-known/openid-configuration$")
_KEYS = re.compile(r"^/([^/]+)/discovery/(v2\.0/)?keys$")
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def refusal(status: int, name: str, code: int, message: str) -> Refused:
    """An error in the form Entra gives it."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime())
    trace, correlation = str(uuid.uuid4()), str(uuid.uuid4())
    content = {
        "error": name,
        "error_description": f"AADSTS{code}: {message} Trace ID: {trace} Correlation ID: {correlation} "
        f"Timestamp: {stamp}",
        "error_codes": [code],
        "timestamp": stamp,
        "trace_id": trace,
        "correlation_id": correlation,
        "error_uri": f"https://login.microsoftonline.com/error?code={code}",
    }
    return Refused(as_json(status, content, Cache_Control="no-store, no-cache"))


class Entra(Service):
    """The sign-in host. `url` is its own address, without a trailing slash."""

    name = "entra"

    def __init__(
        self, clock: Clock, faults: FaultBook, metrics: Metrics, directory: Directory, issuer: Issuer, url: str
    ) -> None:
        super().__init__(clock, faults, metrics)
        self._directory = directory
        self._issuer = issuer
        self._url = url

    def route(self, request: web.BaseRequest) -> str:
        """token, openid, keys or graph."""
        if _TOKEN.match(request.path):
            return "token"
        if _OPENID.match(request.path):
            return "openid"
        return "keys" if _KEYS.match(request.path) else "graph"

    async def answer(self, request: web.BaseRequest, call: Call) -> Answer:
        """See Service."""
        if call.route == "openid" and (found := _OPENID.match(request.path)):
            return self._discovery(self._tenant(found[1]), v2=bool(found[2]))
        if call.route == "keys":
            return as_json(200, self._issuer.jwks())
        if call.route == "token" and (found := _TOKEN.match(request.path)):
            if request.method != "POST":
                raise refusal(400, "invalid_request", 900561, "The endpoint only accepts POST requests.")
            body = (await request.content.read()).decode(errors="replace")
            form = dict(urllib.parse.parse_qsl(body, keep_blank_values=True))
            call.app = form.get("client_id", "")
            return self._token(self._tenant(found[1]), form, v2=bool(found[2]))
        return self._graph(request)

    def _tenant(self, name: str) -> str:
        if name.lower() not in self._directory.tenants:
            raise refusal(
                400,
                "invalid_request",
                90002,
                f"Tenant '{name}' not found. Check to make sure you have the correct tenant ID and are signing into "
                "the correct cloud. Check with your subscription administrator, this may happen if there are no "
                "active subscriptions for the tenant.",
            )
        return name.lower()

    def _discovery(self, tenant: str, *, v2: bool) -> Answer:
        base, middle = f"{self._url}/{tenant}", "oauth2/v2.0" if v2 else "oauth2"
        content = {
            "token_endpoint": f"{base}/{middle}/token",
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
            "jwks_uri": f"{base}/discovery/{'v2.0/' if v2 else ''}keys",
            "response_modes_supported": ["query", "fragment", "form_post"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
            "issuer": f"{base}/v2.0" if v2 else f"https://sts.windows.net/{tenant}/",
            "authorization_endpoint": f"{base}/{middle}/authorize",
            "tenant_region_scope": "EU",
            "cloud_instance_name": "microsoftonline.com",
        }
        return as_json(200, content)

    def _token(self, tenant: str, form: dict[str, str], *, v2: bool) -> Answer:
        if not form.get("grant_type"):
            raise refusal(
                400,
                "invalid_request",
                900144,
                "The request body must contain the following parameter: 'grant_type'.",
            )
        if form["grant_type"] != "client_credentials":
            raise refusal(
                400,
                "unsupported_grant_type",
                70003,
                f"The app requested an unsupported grant type '{form['grant_type']}'.",
            )
        app = self._directory.find(form.get("client_id", ""))
        if app is None or app.kind != "app" or app.tenant != tenant:
            raise refusal(
                400,
                "unauthorized_client",
                700016,
                f"Application with identifier '{form.get('client_id', '')}' was not found in the directory "
                f"'{tenant}'. This can happen if the application has not been installed by the administrator of the "
                "tenant or consented to by any user in the tenant. You may have sent your authentication request to "
                "the wrong tenant.",
            )
        if form.get("client_assertion_type") == _ASSERTION_TYPE:
            self._check_assertion(app, form.get("client_assertion", ""))
        else:
            self._check_secret(app, form.get("client_secret"))
        resource = self._resource(tenant, form, v2=v2)
        token, expires = self._issuer.issue(app, resource)
        left = int(expires - self.clock.now())
        content: dict[str, object] = {"token_type": "Bearer", "expires_in": left, "ext_expires_in": left}
        if not v2:  # version 1 counts in strings and names the resource
            content = {key: str(value) for key, value in content.items()}
            content |= {"expires_on": str(expires), "not_before": str(expires - left - 300), "resource": resource}
        return as_json(200, {**content, "access_token": token}, Cache_Control="no-store, no-cache")

    def _check_secret(self, app: Principal, given: str | None) -> None:
        if not given:
            raise refusal(
                401,
                "invalid_client",
                7000218,
                "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
            )
        for secret in app.secrets:
            if secret.value == given:
                if secret.expires <= self.clock.now():
                    raise refusal(
                        401,
                        "invalid_client",
                        7000222,
                        f"The provided client secret keys for app '{app.client_id}' are expired. Visit the Azure "
                        "portal to create new keys for your app: https://aka.ms/NewClientSecret, or consider using "
                        "certificate credentials for added security: https://aka.ms/certCreds.",
                    )
                return
        raise refusal(
            401,
            "invalid_client",
            7000215,
            "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, "
            f"not the client secret ID, for a secret added to app '{app.client_id}'.",
        )

    def _check_assertion(self, app: Principal, assertion: str) -> None:
        """Federation: the assertion must be one that the managed identity endpoint issued to a trusted identity."""
        try:
            claims = self._issuer.check(assertion)
        except ValueError as fault:
            if "expired" in str(fault):
                raise refusal(
                    401, "invalid_client", 700024, "Client assertion is not within its valid time range."
                ) from None
            if not peek(assertion):
                raise refusal(401, "invalid_client", 50027, "JWT token is invalid or malformed.") from None
            raise refusal(
                401,
                "invalid_client",
                700027,
                "The certificate with identifier used to sign the client assertion is "
                "not registered on application: client assertion contains an invalid signature.",
            ) from None
        issuer, subject, audience = claims["iss"], claims["sub"], claims["aud"]
        shown = f"Assertion Issuer: '{issuer}'. Assertion Subject: '{subject}'. Assertion Audience: '{audience}'."
        for trusted in app.federations:
            if (trusted.issuer, trusted.subject, trusted.audience) == (issuer, subject, audience):
                return
        checks = (
            (700212, "audience", {trusted.audience for trusted in app.federations}, audience),
            (700211, "issuer", {trusted.issuer for trusted in app.federations}, issuer),
            (700213, "subject", {trusted.subject for trusted in app.federations}, subject),
        )
        for code, what, known, given in checks:
            if app.federations and given not in known:
                raise refusal(
                    400,
                    "invalid_request",
                    code,
                    f"No matching federated identity record found for presented assertion {what} '{given}'. {shown}",
                )
        raise refusal(
            400,
            "invalid_request",
            70021,
            f"No matching federated identity record found for presented assertion. {shown}",
        )

    def _resource(self, tenant: str, form: dict[str, str], *, v2: bool) -> str:
        if v2:
            scope = form.get("scope", "").split(" ")[0]
            if not scope.endswith("/.default"):
                raise refusal(
                    400,
                    "invalid_scope",
                    1002012,
                    f"The provided value for scope {form.get('scope', '')} is not valid. Client credential flows must "
                    "have a scope value with /.default suffixed to the resource identifier (application ID URI).",
                )
            resource = scope.removesuffix("/.default")
        else:
            resource = form.get("resource", "")
            if not resource:
                raise refusal(400, "invalid_request", 50001, "The resource name is missing from the request.")
        if not self._directory.knows(resource.rstrip("/")):
            raise refusal(
                400,
                "invalid_resource",
                500011,
                f"The resource principal named {resource} was not found in the tenant named {tenant}. This can happen "
                "if the application has not been installed by the administrator of the tenant or consented to by any "
                "user in the tenant. You might have sent your authentication request to the wrong tenant.",
            )
        return resource.rstrip("/")

    def _graph(self, request: web.BaseRequest) -> Answer:
        """GET /v1.0/servicePrincipals?$filter=appId eq '...' and /v1.0/servicePrincipals/{id}; nothing else."""
        try:
            claims = self._issuer.check(bearer(request.headers.get("Authorization")), GRAPH)
        except ValueError as fault:
            raise Refused(
                as_json(401, {"error": {"code": "InvalidAuthenticationToken", "message": str(fault)}})
            ) from None
        if not {"Application.Read.All", "Directory.Read.All"} & set(claims.get("roles", [])):
            message = "Insufficient privileges to complete the operation."
            raise Refused(as_json(403, {"error": {"code": "Authorization_RequestDenied", "message": message}}))
        listed = re.fullmatch(r"/v1\.0/servicePrincipals(?:/([0-9a-fA-F-]+))?", request.path)
        if request.method != "GET" or listed is None:
            raise Refused(as_json(404, {"error": {"code": "Request_ResourceNotFound", "message": request.path}}))
        wanted = re.fullmatch(r"appId eq '([^']*)'", request.query.get("$filter", ""))
        rows = [
            {
                "id": principal.object_id,
                "appId": principal.client_id,
                "displayName": principal.name,
                "servicePrincipalType": "Application" if principal.kind == "app" else "ManagedIdentity",
            }
            for principal in self._directory.principals
            if (wanted is None or principal.client_id == wanted[1]) and listed[1] in (None, principal.object_id)
        ]
        if listed[1] is None:
            return as_json(200, {"value": rows})
        if not rows:
            raise Refused(as_json(404, {"error": {"code": "Request_ResourceNotFound", "message": listed[1]}}))
        return as_json(200, rows[0])
