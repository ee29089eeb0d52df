"""Tokens of those who call the relay's own API: applications, managed identities and people.

The claims are those which Entra documents for access tokens of version 1 and 2. Two facts matter to whoever reads them:
`idtyp` is an optional claim, absent unless the API's registration asks for it; and a person in more groups than a token
holds has `_claim_names` instead of `groups` ("overage"), which leaves `roles` as they are.
"""

from __future__ import annotations

import dataclasses
import uuid
from typing import Any, Literal

from local.tenant.directory import Directory
from local.tenant.tokens import Issuer


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CallerOptions:
    """Who asks, and what is unusual about the token.

    tenant, audience: other ones than the double's own and `api://CLIENT` (version 2: the client id alone).
    expires_in: seconds from now; negative for a token that has expired.
    name: the sign-in name of a person; display_name: the name shown. client_id: the application (for a person: the one
    that asks on the person's behalf). scopes: of a person, separated by blanks; an application has none.
    """

    kind: Literal["app", "managed-identity", "person"] = "app"
    roles: tuple[str, ...] = ()
    version: Literal[1, 2] = 1
    tenant: str = ""
    audience: str = ""
    expires_in: int = 3599
    client_id: str = ""
    object_id: str = ""
    name: str = ""
    display_name: str = ""
    scopes: str = "user_impersonation"
    groups: tuple[str, ...] = ()
    overage: bool = False
    idtyp: bool = False

    def __post_init__(self) -> None:
        if self.kind not in ("app", "managed-identity", "person") or self.version not in (1, 2):
            raise ValueError("kind is app, managed-identity or person; version is 1 or 2")


def caller_claims(directory: Directory, issuer: Issuer, now: float, options: CallerOptions) -> dict[str, Any]:
    """The claims of such a token; `now` in seconds since 1970."""
    tenant = options.tenant or directory.tenant
    first, second = options.version == 1, options.version == 2
    person = options.kind == "person"
    client = options.client_id or str(uuid.uuid4())
    holder = options.object_id or str(uuid.uuid4())
    starts = int(now) + min(0, options.expires_in - 3599)
    claims: dict[str, Any] = {
        "aud": options.audience or (directory.api if second else f"api://{directory.api}"),
        "iss": issuer.v2_issuer(tenant) if second else f"https://sts.windows.net/{tenant}/",
        "iat": starts,
        "nbf": starts,
        "exp": int(now) + options.expires_in,
        "oid": holder,
        # An application is its own subject; a person has another one at every application.
        "sub": uuid.uuid4().hex if person else holder,
        "tid": tenant,
        "uti": uuid.uuid4().hex[:22],
        "ver": f"{options.version}.0",
        ("appid" if first else "azp"): client,
        # How the application proved itself: a managed identity by certificate, a public client of a person not at all.
        ("appidacr" if first else "azpacr"): {"app": "1", "managed-identity": "2", "person": "0"}[options.kind],
    }
    if person:
        name = options.name or "analyst@tenant.example"
        claims |= {"scp": options.scopes, "name": options.display_name or "An Analyst"}
        claims |= {"upn": name, "unique_name": name, "amr": ["pwd", "mfa"]} if first else {"preferred_username": name}
        claims = {key: value for key, value in claims.items() if value != ""}
    elif first and options.display_name:
        claims["app_displayname"] = options.display_name
    if options.roles:
        claims["roles"] = list(options.roles)
    if options.idtyp:
        claims["idtyp"] = "user" if person else "app"
    if options.overage:
        source = {"endpoint": f"https://graph.microsoft.com/v1.0/users/{holder}/getMemberObjects"}
        claims |= {"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": source}}
    elif options.groups:
        claims["groups"] = list(options.groups)
    return claims
