"""Who calls over HTTP, and in which roles.

Key mode: the host checks its keys and does not say which was given: a caller is "a function key" or "the admin key".
Easy Auth mode: App Service authentication checks the token and hands on its claims in X-MS-CLIENT-PRINCIPAL. That
header proves something only while the platform's authentication is on, because only then does the platform remove the
one a client sent (documented); so the app believes it only while the platform says that it is on
(WEBSITE_AUTH_ENABLED), and checks tenant, audience and time once more.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

from shared.errors import AccessError, SettingsError
from shared.settings import Settings

PRINCIPAL = "x-ms-client-principal"
PLATFORM = "WEBSITE_AUTH_ENABLED"
_LARGEST = 64 * 1024
# A token's end may lie so far back: clocks differ.
_LEEWAY = 300.0
_GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")


class Role(StrEnum):
    """The application roles of the API's Entra app, spelled as in the token."""

    SUBMIT = "Submissions.Write"
    READ = "Indicators.Read"
    OPERATE = "Operations.Manage"
    OVERRIDE = "Guards.Override"
    ALLOW = "Indicators.Allow"


@dataclasses.dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    id: what the ledger keeps: `key`, `admin-key`, `app:GUID` or `person:GUID`; name: for people, may be "".
    """

    kind: Literal["key", "app", "person"]
    id: str
    name: str
    roles: frozenset[Role]


FUNCTION_KEY = Caller("key", "key", "", frozenset({Role.SUBMIT, Role.READ}))
ADMIN_KEY = Caller("key", "admin-key", "", frozenset({Role.SUBMIT, Role.READ, Role.OPERATE}))

# Both spellings: as in the token, and as the platform's claim mapping writes them (documented and recorded).
_SHORT = {
    "http://schemas.microsoft.com/ws/2008/06/identity/claims/role": "roles",
    "http://schemas.microsoft.com/identity/claims/tenantid": "tid",
    "http://schemas.microsoft.com/identity/claims/objectidentifier": "oid",
    "http://schemas.microsoft.com/identity/claims/scope": "scp",
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn": "upn",
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name": "unique_name",
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress": "email",
    "role": "roles",
}


def who(headers: Mapping[str, str], settings: Settings, environ: Mapping[str, str], now: float) -> Caller:
    """The caller that the platform's authentication vouches for. `headers` by lower-case name; `now` in epoch seconds.

    Raises:
        SettingsError: the app is set to `easy-auth`, but the platform's authentication is off or nothing says which
            tenant and audience to expect.
        AccessError: 401; there is no principal, or not one of this tenant and for this app at this time.
    """
    if environ.get(PLATFORM, "").strip().lower() != "true":
        raise SettingsError(
            f"RELAY_AUTH is easy-auth, but the platform does not say that its authentication is on ({PLATFORM})",
            remediation="Switch App Service authentication on (authsettingsV2, requireAuthentication, Return401), or "
            "set RELAY_AUTH to keys.",
        )
    tenant = settings.auth_tenant_id or settings.tenant_id
    if not tenant or not settings.auth_client_id:
        raise SettingsError(
            "RELAY_AUTH is easy-auth, but RELAY_AUTH_CLIENT_ID or RELAY_TENANT_ID is missing",
            remediation="Set RELAY_AUTH_CLIENT_ID to the client id of the API's Entra app and RELAY_TENANT_ID.",
        )
    claims = _claims(headers.get(PRINCIPAL, ""))
    _check(claims, tenant, settings.auth_client_id, now)
    known = {role.value: role for role in Role}
    roles = frozenset(known[text] for text in claims.get("roles", ()) if text in known)
    return _caller(claims, roles)


def _claims(header: str) -> dict[str, list[str]]:
    """The principal's claims by short name, each with all its values. Raises AccessError."""
    if not header:
        raise _unknown("The request carries no principal.")
    if len(header) > _LARGEST:
        raise _unknown("The principal is larger than any token.")
    try:
        principal: Any = json.loads(base64.b64decode(header + "=" * (-len(header) % 4), validate=True))
    except (ValueError, binascii.Error, RecursionError):
        raise _unknown("The principal cannot be read.") from None
    listed = principal.get("claims") if isinstance(principal, dict) else None
    if not isinstance(listed, list):
        raise _unknown("The principal cannot be read.")
    if principal.get("auth_typ") != "aad":
        raise _unknown("The principal is not from Microsoft Entra ID.")
    role_type = principal.get("role_typ")
    claims: dict[str, list[str]] = {}
    for claim in listed:
        if not isinstance(claim, dict):
            continue
        kind, value = claim.get("typ"), claim.get("val")
        if not isinstance(kind, str) or not isinstance(value, str):
            continue
        name = "roles" if kind == role_type else _SHORT.get(kind, kind)
        claims.setdefault(name, []).append(value)
    return claims


def _check(claims: Mapping[str, list[str]], tenant: str, client: str, now: float) -> None:
    if [text.lower() for text in claims.get("tid", ())] != [tenant.lower()]:
        raise _unknown("The principal is of another tenant.")
    audiences = {client.lower(), f"api://{client.lower()}"}
    if not claims.get("aud") or not {text.lower().rstrip("/") for text in claims["aud"]} <= audiences:
        raise _unknown("The principal's token is for another application.")
    ends = claims.get("exp", ())
    if len(ends) != 1 or not (ends[0].isascii() and ends[0].isdigit()) or len(ends[0]) > 12:
        raise _unknown("The principal does not say until when it holds.")
    if int(ends[0]) + _LEEWAY < now:
        raise _unknown("The principal has expired.")


def _caller(claims: Mapping[str, list[str]], roles: frozenset[Role]) -> Caller:
    def first(*names: str) -> str:
        return next((claims[name][0] for name in names if claims.get(name)), "")

    # A delegated token names its scopes; an application's own has none, whatever app asked for it. A person who signed
    # in by a browser has an ID token, which names no application but the audience. `idtyp` is an optional claim.
    delegated = first("scp", "upn", "preferred_username") or not first("appid", "azp")
    if first("idtyp").lower() != "app" and delegated:
        identifier = first("oid")
        kind: Literal["app", "person"] = "person"
        name = first("preferred_username", "upn", "unique_name", "email", "name")
    else:
        identifier = first("appid", "azp") or first("oid")
        kind = "app"
        name = first("app_displayname", "name")
    if not _GUID.match(identifier):
        raise _unknown("The principal does not say who it is.")
    # A directory lets people choose their names: no control characters, no turned writing, no broken Unicode.
    shown = "".join(character for character in name[:1000] if character.isprintable())
    return Caller(kind, f"{kind}:{identifier.lower()}", shown[:200], roles)


def _unknown(text: str) -> AccessError:
    return AccessError(
        text,
        status=401,
        remediation="Get a token of its tenant for the audience of this app, and send it as `Authorization: Bearer`.",
    )
