"""Who exists in the tenant: apps with their secrets and roles, managed identities, and what a resource is called.

Everything here is made anew at each start: no id or secret outlives the process.
"""

from __future__ import annotations

import dataclasses
import secrets
import uuid
from typing import Any

DEFENDER = "https://api.securitycenter.microsoft.com"
# The resource principals that carry WindowsDefenderATP's roles: commercial (two names), GCC, and GCC High with DoD.
DEFENDER_RESOURCES = (
    DEFENDER,
    "https://securitycenter.onmicrosoft.com/windowsatpservice",
    "https://api-gcc.securitycenter.microsoft.us",
    "https://api-gov.securitycenter.microsoft.us",
    "fc780465-2017-40d4-a0c5-307022471b92",
)
# Microsoft Threat Protection: another service principal, with no Ti.* role at all. As base URL it is right.
THREAT_PROTECTION = "https://api.security.microsoft.com"
GRAPH = "https://graph.microsoft.com"
VAULT = "https://vault.azure.net"
STORAGE = "https://storage.azure.com"
EXCHANGE = "api://AzureADTokenExchange"


@dataclasses.dataclass
class Secret:
    """A client secret; `expires` is seconds since 1970."""

    value: str
    expires: float

    def __repr__(self) -> str:
        return f"Secret(expires={self.expires})"


@dataclasses.dataclass
class Federation:
    """A federated identity credential: whose assertion the app accepts as its own."""

    issuer: str
    subject: str
    audience: str = EXCHANGE


@dataclasses.dataclass
class Principal:
    """An app or a managed identity. `roles` are those at Defender, `api_roles` those at the relay's own API.

    `kind` is app, system or user.
    """

    name: str
    kind: str = "app"
    roles: list[str] = dataclasses.field(default_factory=lambda: ["Ti.ReadWrite.All"])
    tenant: str = ""
    client_id: str = dataclasses.field(default_factory=lambda: str(uuid.uuid4()))
    object_id: str = dataclasses.field(default_factory=lambda: str(uuid.uuid4()))
    graph_roles: list[str] = dataclasses.field(default_factory=list)
    api_roles: list[str] = dataclasses.field(default_factory=list)
    vault_access: bool = False
    secrets: list[Secret] = dataclasses.field(default_factory=list)
    federations: list[Federation] = dataclasses.field(default_factory=list)

    def roles_at(self, resource: str) -> list[str]:
        """The roles which a token for this resource carries, the relay's own API aside."""
        if resource in DEFENDER_RESOURCES:
            return list(self.roles)
        return list(self.graph_roles) if resource == GRAPH else []


class Directory:
    """Tenants and principals. One app is the relay's, one is for Defender clients of others.

    `api` is the relay's API as a resource: what its callers ask tokens for.
    """

    def __init__(self, config: dict[str, Any], now: float) -> None:
        self.tenant = str(config.get("tenant_id") or uuid.uuid4())
        self.tenants = {self.tenant, *config.get("other_tenants", [])}
        self.api = str(config.get("api_client_id") or uuid.uuid4())
        self.api_names = (self.api, f"api://{self.api}")
        self.resources = {*DEFENDER_RESOURCES, THREAT_PROTECTION, GRAPH, VAULT, STORAGE, EXCHANGE, *self.api_names}
        year = now + 365 * 86_400
        self.relay = Principal("Defender Indicator Relay", tenant=self.tenant)
        self.direct = Principal("Direct client", tenant=self.tenant)
        self.system = Principal("relay-system", kind="system", tenant=self.tenant, vault_access=True)
        self.user = Principal("relay-user", kind="user", tenant=self.tenant, vault_access=True)
        self.principals: list[Principal] = [self.relay, self.direct, self.system, self.user]
        for name in ("relay", "direct", "system", "user"):
            self._configure(getattr(self, name), config.get(name, {}))
        for more in config.get("more_apps", []):
            made = Principal(more.get("name", "Another app"), tenant=more.get("tenant", self.tenant))
            self._configure(made, more)
            self.principals.append(made)
        for principal in self.principals:
            if principal.kind == "app" and not principal.secrets:
                principal.secrets.append(Secret(new_secret(), year))

    @staticmethod
    def _configure(principal: Principal, config: dict[str, Any]) -> None:
        for name in ("client_id", "object_id", "roles", "graph_roles", "api_roles", "vault_access", "name"):
            if name in config:
                setattr(principal, name, config[name])

    def find(self, client_or_object_id: str) -> Principal | None:
        """The principal with this client or object id, in whatever case, or this short name."""
        wanted = client_or_object_id.lower()
        named = {"relay": self.relay, "direct": self.direct, "system": self.system, "user": self.user}
        for principal in self.principals:
            if wanted in (principal.client_id.lower(), principal.object_id.lower()):
                return principal
        return named.get(wanted)

    def roles_of(self, principal: Principal, resource: str) -> list[str]:
        """The roles which a token of this principal for this resource carries."""
        return list(principal.api_roles) if resource in self.api_names else principal.roles_at(resource)

    def knows(self, resource: str) -> bool:
        """Whether the tenant has a service principal for this resource; storage accounts have one in common."""
        return resource in self.resources or (
            resource.startswith("https://") and resource.endswith(".core.windows.net") and resource.count("/") == 2
        )


def new_secret() -> str:
    """A client secret of the length and shape that Entra makes."""
    return f"{secrets.token_urlsafe(2)[:3]}8Q~{secrets.token_urlsafe(32)[:34]}"
