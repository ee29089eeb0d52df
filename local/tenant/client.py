"""What a test holds in its hand: the addresses of a running tenant and its admin endpoint."""

from __future__ import annotations

import dataclasses
import http.client
import json
import urllib.parse
from typing import Any, cast


class AdminClient:
    """Talks to the admin endpoint of a tenant in this process or another. Every call takes a millisecond or so."""

    def __init__(self, url: str) -> None:
        self._address = urllib.parse.urlsplit(url)

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """One request; the JSON of its answer.

        Raises:
            ValueError: the endpoint refuses it, with its reason.
        """
        connection = http.client.HTTPConnection(self._address.hostname or "", self._address.port, timeout=30)
        try:
            connection.request(method, f"/_admin/{path}", None if body is None else json.dumps(body))
            answer = connection.getresponse()
            content = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status != 200:
            raise ValueError(content["error"])
        return content

    def fault(self, route: str, kind: str, *, times: int | None = 1, **options: Any) -> int:
        """Put a fault into force (see local/tenant/faults.py); its id."""
        body = {"route": route, "kind": kind, "times": times, **options}
        return int(self.request("POST", "faults", body)["id"])

    def refuse_imports(self, *, times: int | None = None) -> int:
        """Every import gets the unnamed 400 of a body that cannot be read."""
        error = {"code": "InvalidRequestBody", "message": "Request body is incorrect", "target": "|0-0."}
        return self.fault("import", "status", times=times, status=400, body={"error": error})

    def clear_faults(self, fault_id: int | None = None) -> int:
        """Lift one fault or all; how many were in force."""
        return int(self.request("DELETE", "faults" if fault_id is None else f"faults/{fault_id}")["lifted"])

    def rules(self, **changes: Any) -> dict[str, Any]:
        """Change switches (see local/tenant/rules.py); all of them as they stand."""
        return cast(dict[str, Any], self.request("POST", "rules", changes))

    def poison(self, value: str, how: str | None = "batch") -> None:
        """Let a value sink its whole batch (batch; named: with its name) or fail alone (item); None lifts it."""
        self.rules(poison={value: how})

    def reset(self, *what: str) -> None:
        """Empty indicators, throttle, metrics, faults, rules, or (when none is named) all but the rules."""
        self.request("POST", "reset", {"what": list(what)})

    def down(self, service: str = "defender", how: str = "refuse") -> None:
        """Take a service off the network: connections are refused, or accepted and closed at once (close)."""
        self.request("POST", f"down/{service}", {"how": how})

    def up(self, service: str = "defender") -> None:
        """Bring it back."""
        self.request("POST", f"up/{service}")

    def counters(self) -> dict[str, Any]:
        """answers by route and status, calls by route, most_in_60s by route, throttled, indicators."""
        return cast(dict[str, Any], self.request("GET", "counters"))

    def imports(self) -> list[dict[str, Any]]:
        """Every import call: at (seconds since 1970), items, failed, app, status, fault, ended, seconds."""
        return cast(list[dict[str, Any]], self.request("GET", "imports")["value"])

    def indicators(self, value: str | None = None) -> list[dict[str, Any]]:
        """All active indicators, or those of one value."""
        query = "" if value is None else "?" + urllib.parse.urlencode({"value": value})
        return cast(list[dict[str, Any]], self.request("GET", f"indicators{query}")["value"])

    def portal_create(self, **indicator: Any) -> dict[str, Any]:
        """Create or update an indicator as a person in the portal."""
        return cast(dict[str, Any], self.request("POST", "portal", indicator))

    def portal_delete(self, identifier: str) -> bool:
        """Delete one as a person in the portal."""
        return bool(self.request("DELETE", f"portal/{identifier}")["deleted"])

    def rotate(
        self, where: str = "both", *, who: str = "relay", overlap: bool = False, expires_in: float = 31_536_000
    ) -> str:
        """Rotate a client secret in Entra, in the vault, or both; the secret which is the newest now."""
        body = {"where": where, "who": who, "overlap": overlap, "expires_in": expires_in}
        return str(self.request("POST", "rotate", body)["client_secret"])

    def expire_secrets(self, who: str = "relay") -> None:
        """Every secret of the app has just expired (AADSTS7000222)."""
        self.request("POST", "expire-secrets", {"who": who})

    def revoke_tokens(self, *, ahead: int = 1) -> None:
        """Tokens issued until now (and in the next `ahead` seconds: iat has no fraction) are answered with 401."""
        self.request("POST", "revoke-tokens", {"ahead": ahead})

    def roles(self, who: str, *roles: str) -> None:
        """Set the Defender roles that new tokens of relay, direct, system, user or a client id carry."""
        self.request("POST", "roles", {"who": who, "roles": list(roles)})

    def api_roles(self, who: str, *roles: str) -> None:
        """Set the roles at the relay's own API that new tokens of relay, direct, system, user or a client id carry."""
        self.request("POST", "roles", {"who": who, "api_roles": list(roles)})

    def caller_token(self, *roles: str, kind: str = "app", **options: Any) -> str:
        """A token for the relay's API with these roles: of an `app`, a `managed-identity` or a `person`.

        Options (see local/tenant/callers.py): tenant, audience, version 1 or 2, expires_in seconds, client_id,
        object_id, name, display_name, scopes, groups, overage, idtyp.
        """
        return str(self.request("POST", "caller-token", {"kind": kind, "roles": list(roles), **options})["token"])

    def vault_access(self, who: str, *, allowed: bool) -> None:
        """Grant or take away reading secrets."""
        self.request("POST", "vault-access", {"who": who, "allowed": allowed})

    def secret(self, **changes: Any) -> dict[str, Any]:
        """Change the current version of the relay's secret (or of `name`): value, enabled, expires, deleted."""
        return cast(dict[str, Any], self.request("POST", "secret", changes))

    def clock(self, offset: float) -> None:
        """Shift the tenant's wall clock (Date headers, expiry, tokens) by so many seconds; never the throttle."""
        self.request("POST", "clock", {"offset": offset})


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunningTenant:
    """A tenant that answers. The fields are those of the line that the process prints."""

    entra: str
    graph: str
    vault: str
    defender: str
    identity_endpoint: str
    identity_header: str = dataclasses.field(repr=False)
    admin_url: str
    ca_file: str
    tenant_id: str
    client_id: str
    client_secret: str = dataclasses.field(repr=False)
    secret_name: str
    system_identity: str
    user_identity: str
    direct_client_id: str
    direct_client_secret: str = dataclasses.field(repr=False)
    api_client_id: str

    @classmethod
    def of(cls, line: dict[str, Any]) -> RunningTenant:
        """From the line that `python -m local.tenant` prints, parsed."""
        fields = {**line, "admin_url": line["admin"]}
        return cls(**{field.name: fields[field.name] for field in dataclasses.fields(cls)})

    @property
    def admin(self) -> AdminClient:
        """The admin endpoint."""
        return AdminClient(self.admin_url)

    def environment(self, credential: str = "secret", *, user_assigned: bool = True) -> dict[str, str]:
        """The environment variables that make the relay live in this tenant, by settings alone."""
        return {
            "RELAY_TENANT_ID": self.tenant_id,
            "RELAY_CLIENT_ID": self.client_id,
            "RELAY_CREDENTIAL": credential,
            "RELAY_VAULT_URL": self.vault,
            "RELAY_SECRET_NAME": self.secret_name,
            "RELAY_MANAGED_IDENTITY_CLIENT_ID": self.user_identity if user_assigned else "",
            "RELAY_AUTHORITY": self.entra,
            "RELAY_INSTANCE_DISCOVERY": "false",
            "RELAY_DEFENDER_URL": self.defender,
            "IDENTITY_ENDPOINT": self.identity_endpoint,
            "IDENTITY_HEADER": self.identity_header,
            "REQUESTS_CA_BUNDLE": self.ca_file,
            "SSL_CERT_FILE": self.ca_file,
        }
