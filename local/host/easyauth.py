"""App Service authentication ("Easy Auth") in front of the app, as far as an API's callers notice it.

Set by the `properties` of an `authsettingsV2` resource, so that what a deployment declares can be tried here, and by
a `double` of its own: {"caFile": CA of the sign-in host, "claims": "short" | "mapped" | "mixed"}. Documented: headers
that a client sends under the platform's names are removed; a token that is not valid gets 401 and one that fails the
built-in policy 403, before the app sees anything; the claims go to the app in X-MS-CLIENT-PRINCIPAL, some under long
names. Which names are long is recorded differently, so that is a switch. There is no sign-in page, no session and no
token store.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import logging
import os
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import aiohttp
import jwt
from aiohttp import web

from local.host.hostjson import HostConfigError

log = logging.getLogger("host.easyauth")

#: What the platform sets in the app's environment while its authentication is on.
ENABLED = "WEBSITE_AUTH_ENABLED"
ALLOWED_TENANTS = "WEBSITE_AUTH_AAD_ALLOWED_TENANTS"

Claims = Literal["short", "mapped", "mixed"]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_OURS = ("x-ms-client-principal", "x-ms-token-")
_LEEWAY = 300  # the usual tolerance of .NET's token validation
_REFRESH = 5.0  # a key that is not known is asked for at most once in so many seconds

_MICROSOFT, _XML = "http://schemas.microsoft.com", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims"
ROLE_URI = f"{_MICROSOFT}/ws/2008/06/identity/claims/role"
NAME_URI = f"{_XML}/name"
# .NET's inbound claim mapping, as the platform applies it; appid, azp, idtyp, name, preferred_username stay.
_LONG = {
    "roles": ROLE_URI,
    "tid": f"{_MICROSOFT}/identity/claims/tenantid",
    "oid": f"{_MICROSOFT}/identity/claims/objectidentifier",
    "scp": f"{_MICROSOFT}/identity/claims/scope",
    "sub": f"{_XML}/nameidentifier",
    "upn": f"{_XML}/upn",
    "unique_name": NAME_URI,
    "email": f"{_XML}/emailaddress",
    "amr": f"{_MICROSOFT}/claims/authnmethodsreferences",
}


class Refused(Exception):
    """The request does not reach the app."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AuthSettings:
    """What an authsettingsV2 resource says, as far as it matters here."""

    issuer: str
    client_id: str
    audiences: frozenset[str]
    enabled: bool = True
    required: bool = True
    action: str = "Return401"
    excluded: tuple[str, ...] = ()
    applications: frozenset[str] = frozenset()
    identities: frozenset[str] = frozenset()
    ca_file: str = ""
    claims: Claims = "mixed"

    @classmethod
    def of(cls, properties: Mapping[str, Any]) -> Self:
        """From the resource's `properties`. Raises HostConfigError."""
        validation = properties.get("globalValidation", {})
        provider = properties.get("identityProviders", {}).get("azureActiveDirectory", {})
        registration, checks = provider.get("registration", {}), provider.get("validation", {})
        policy = checks.get("defaultAuthorizationPolicy", {})
        double = properties.get("double", {})
        action = str(validation.get("unauthenticatedClientAction", "Return401"))
        if action not in ("Return401", "Return403", "AllowAnonymous"):
            raise HostConfigError(f"unauthenticatedClientAction {action!r} has no meaning for an API here")
        if double.get("claims", "mixed") not in ("short", "mapped", "mixed"):
            raise HostConfigError("double.claims is short, mapped or mixed")
        if not registration.get("openIdIssuer") or not registration.get("clientId"):
            raise HostConfigError("azureActiveDirectory.registration needs openIdIssuer and clientId")
        client = str(registration["clientId"])
        return cls(
            issuer=str(registration["openIdIssuer"]).rstrip("/"),
            client_id=client,
            # The client id is an allowed audience whether it is listed or not (documented).
            audiences=frozenset({client, *checks.get("allowedAudiences", ())}),
            enabled=bool(properties.get("platform", {}).get("enabled", True)) and bool(provider.get("enabled", True)),
            required=bool(validation.get("requireAuthentication", True)),
            action=action,
            excluded=tuple(validation.get("excludedPaths", ())),
            applications=frozenset(text.lower() for text in policy.get("allowedApplications") or ()),
            identities=frozenset(
                text.lower() for text in (policy.get("allowedPrincipals") or {}).get("identities") or ()
            ),
            ca_file=str(double.get("caFile", "")),
            claims=double.get("claims", "mixed"),
        )

    @classmethod
    def read(cls, file: Path) -> Self:
        """From a JSON file with such `properties`. Raises HostConfigError."""
        try:
            properties = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise HostConfigError(f"{file} cannot be read: {error}") from None
        if not isinstance(properties, dict):
            raise HostConfigError(f"{file} holds no object")
        return cls.of(properties)

    @property
    def tenant(self) -> str:
        """The tenant which the issuer names."""
        return urlsplit(self.issuer).path.strip("/").split("/")[0].lower()


def principal(claims: Mapping[str, Any], spelling: Claims) -> dict[str, Any]:
    """What X-MS-CLIENT-PRINCIPAL holds for these claims: a list has one entry for each of its values.

    `short` leaves all names as they are in the token, `mapped` makes those long that .NET knows, and `mixed` leaves
    `roles` short although `role_typ` names the long form (recorded: azure-functions-host issue 3898).
    """
    listed = []
    for name, value in claims.items():
        kind = _LONG.get(name, name)
        if spelling == "short" or (spelling == "mixed" and name == "roles"):
            kind = name
        for one in value if isinstance(value, list) else [value]:
            listed.append({"typ": kind, "val": one if isinstance(one, str) else json.dumps(one)})
    short = spelling == "short"
    return {
        "auth_typ": "aad",
        "claims": listed,
        "name_typ": "name" if short else NAME_URI,
        "role_typ": "roles" if short else ROLE_URI,
    }


class EasyAuth:
    """Stands before every route of the front end."""

    def __init__(self, settings: AuthSettings, environ: Mapping[str, str] | None = None) -> None:
        self._settings = settings
        listed = (os.environ if environ is None else environ).get(ALLOWED_TENANTS, "")
        self._tenants = frozenset(text.strip().lower() for text in listed.split(",") if text.strip())
        self._keys: dict[str, Any] = {}
        self._issuers: frozenset[str] = frozenset()
        self._asked = -_REFRESH
        self._lock = asyncio.Lock()

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Hand on what is allowed, with the platform's own headers; refuse the rest."""
        if not self._settings.enabled:
            return await handler(request)
        headers = request.headers.copy()
        for name in {name for name in headers if name.lower().startswith(_OURS)}:
            headers.popall(name)
        try:
            headers.update(await self._vouch(request))
        except Refused as refused:
            log.info("Easy Auth refused a request with %s: %s", refused.status, refused)
            return self._refusal(request, refused.status)
        return await handler(request.clone(headers=headers))

    async def _vouch(self, request: web.Request) -> dict[str, str]:
        """The headers that speak for the caller; none for one who is let through unknown. Raises Refused."""
        settings = self._settings
        if any(request.path == path or request.path.startswith(f"{path.rstrip('/')}/") for path in settings.excluded):
            return {}
        asks = "Origin" in request.headers and "Access-Control-Request-Method" in request.headers
        if request.method == "OPTIONS" and asks:
            return {}  # a browser's preflight has no token and is let through (recorded: azure-webpubsub issue 141)
        given = request.headers.get("Authorization", "")
        scheme, _, token = given.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            if not settings.required or settings.action == "AllowAnonymous":
                return {}
            raise Refused(403 if settings.action == "Return403" else 401, "no bearer token")
        claims = await self._check(token.strip())
        text = json.dumps(principal(claims, settings.claims), ensure_ascii=False)
        headers = {
            "X-MS-CLIENT-PRINCIPAL": base64.b64encode(text.encode()).decode(),
            "X-MS-CLIENT-PRINCIPAL-ID": str(claims.get("oid") or claims["sub"]),
            "X-MS-CLIENT-PRINCIPAL-IDP": "aad",
        }
        name = claims.get("preferred_username") or claims.get("upn") or claims.get("unique_name")
        if name and str(name).isascii():  # an application has no such name
            headers["X-MS-CLIENT-PRINCIPAL-NAME"] = str(name)
        return headers

    async def _check(self, token: str) -> dict[str, Any]:
        try:
            name = str(jwt.get_unverified_header(token).get("kid", ""))
            key = await self._key(name)
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=["RS256"],
                audience=sorted(self._settings.audiences),
                leeway=_LEEWAY,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.PyJWTError as error:
            raise Refused(401, f"{type(error).__name__}") from None
        if claims["iss"] not in self._issuers:
            raise Refused(401, "another issuer")
        application = str(claims.get("appid") or claims.get("azp") or "").lower()
        if self._settings.applications and application not in self._settings.applications:
            raise Refused(403, "the application is not in allowedApplications")
        if self._settings.identities and str(claims.get("oid", "")).lower() not in self._settings.identities:
            raise Refused(403, "the caller is not in allowedPrincipals")
        if self._tenants and str(claims.get("tid", "")).lower() not in self._tenants:
            raise Refused(403, f"the tenant is not in {ALLOWED_TENANTS}")
        return claims

    async def _key(self, name: str) -> Any:
        """The public key of this id. Raises Refused."""
        async with self._lock:
            if name not in self._keys and time.monotonic() - self._asked >= _REFRESH:
                self._asked = time.monotonic()
                try:
                    await self._learn()
                except (aiohttp.ClientError, OSError, ValueError, KeyError) as error:
                    raise Refused(500, f"the sign-in host did not tell its keys: {type(error).__name__}") from None
        if name not in self._keys:
            raise Refused(401, "signed by an unknown key")
        return self._keys[name]

    async def _learn(self) -> None:
        """Discovery: the issuer and the keys. Tokens of version 1 name another issuer of the same tenant."""
        context = ssl.create_default_context(cafile=self._settings.ca_file or None)
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(10)) as session:
            async with session.get(f"{self._settings.issuer}/.well-known/openid-configuration") as answer:
                about = await answer.json()
            async with session.get(about["jwks_uri"]) as answer:
                listed = (await answer.json())["keys"]
        self._issuers = frozenset({about["issuer"], f"https://sts.windows.net/{self._settings.tenant}/"})
        self._keys = {key["kid"]: jwt.PyJWK(key, "RS256").key for key in listed}

    def _refusal(self, request: web.Request, status: int) -> web.Response:
        if status != 401:
            return web.Response(status=status)
        authority = self._settings.issuer.removesuffix("/v2.0")
        told = f'Bearer realm="{request.host}" authorization_uri="{authority}/oauth2/v2.0/authorize"'
        return web.Response(
            status=401, headers={"WWW-Authenticate": f'{told} resource_id="{self._settings.client_id}"'}
        )


def stack_settings(
    tenant: Mapping[str, Any], claims: Claims = "mixed", changes: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The `properties` for an app beside a tenant double (the line which that prints), as docs/access.md sets them.

    `changes` replaces whole top-level members.
    """
    return {
        "platform": {"enabled": True},
        "globalValidation": {"requireAuthentication": True, "unauthenticatedClientAction": "Return401"},
        "identityProviders": {
            "azureActiveDirectory": {
                "enabled": True,
                "registration": {
                    "openIdIssuer": f"{tenant['entra']}/{tenant['tenant_id']}/v2.0",
                    "clientId": tenant["api_client_id"],
                },
                "validation": {"allowedAudiences": [f"api://{tenant['api_client_id']}"]},
            }
        },
        "double": {"caFile": tenant["ca_file"], "claims": claims},
        **(changes or {}),
    }
