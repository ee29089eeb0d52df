"""The whole tenant as one object, and what an administrator can do to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from local.tenant.callers import CallerOptions, caller_claims
from local.tenant.clock import Clock
from local.tenant.defender import Defender
from local.tenant.directory import EXCHANGE, Directory, Federation, Principal, Secret, new_secret
from local.tenant.entra import Entra
from local.tenant.faults import FaultBook
from local.tenant.identity import PATH, ManagedIdentity
from local.tenant.indicators import Caller
from local.tenant.metrics import Metrics
from local.tenant.rules import Rules
from local.tenant.service import Service
from local.tenant.tokens import Issuer
from local.tenant.validation import Fault, check
from local.tenant.vault import Vault

Where = Literal["both", "entra", "vault"]


class Tenant:
    """All services over one clock, one directory and one book of faults. `urls` are the services' addresses."""

    def __init__(self, urls: dict[str, str], config: dict[str, Any]) -> None:
        self.urls = urls
        self.clock = Clock()
        self.faults = FaultBook()
        self.metrics = Metrics()
        self.rules = Rules()
        self.rules.update(config.get("rules", {}))
        self.directory = Directory(config, self.clock.now())
        self.issuer = Issuer(self.clock, self.directory, urls["entra"])
        self.issuer.lifetime = int(config.get("token_lifetime", self.issuer.lifetime))
        shared = (self.clock, self.faults, self.metrics)
        self.entra = Entra(*shared, self.directory, self.issuer, urls["entra"])
        self.identity = ManagedIdentity(*shared, self.directory, self.issuer)
        self.vault = Vault(*shared, self.directory, self.issuer, urls["vault"], urls["entra"])
        self.defender = Defender(*shared, self.issuer, self.rules, self.directory.tenant)
        self.secret_name = str(config.get("secret_name", "defender-client-secret"))
        relay, user = self.directory.relay, self.directory.user
        relay.federations.append(Federation(self.issuer.v2_issuer(relay.tenant), user.object_id, EXCHANGE))
        current = relay.secrets[-1]
        self.vault.set(self.secret_name, current.value, current.expires)

    @property
    def services(self) -> dict[str, Service]:
        """By the name under which the server listens for them."""
        return {"entra": self.entra, "identity": self.identity, "vault": self.vault, "defender": self.defender}

    def describe(self, ca_file: str) -> dict[str, Any]:
        """What a client has to know, including the throw-away secrets: the line that the process prints."""
        known = self.directory
        return {
            "entra": self.urls["entra"],
            "graph": self.urls["entra"],
            "vault": self.urls["vault"],
            "defender": self.urls["defender"],
            "identity_endpoint": self.urls["identity"] + PATH,
            "identity_header": self.identity.header,
            "admin": self.urls["admin"],
            "ca_file": ca_file,
            "tenant_id": known.tenant,
            "client_id": known.relay.client_id,
            "client_secret": known.relay.secrets[-1].value,
            "secret_name": self.secret_name,
            "system_identity": known.system.client_id,
            "user_identity": known.user.client_id,
            "direct_client_id": known.direct.client_id,
            "direct_client_secret": known.direct.secrets[-1].value,
            "api_client_id": known.api,
        }

    def principal(self, name: str) -> Principal:
        """A principal by client id, object id, or relay, direct, system, user.

        Raises:
            ValueError: there is none.
        """
        found = self.directory.find(name)
        if found is None:
            raise ValueError(f"there is no principal {name!r}")
        return found

    def caller_token(self, options: dict[str, Any]) -> dict[str, Any]:
        """A token for the relay's API (see callers.py), and its claims.

        Raises:
            ValueError, TypeError: the options cannot be understood.
        """
        claims = caller_claims(self.directory, self.issuer, self.clock.now(), CallerOptions(**options))
        return {"token": self.issuer.sign(claims), "claims": claims}

    def reset(self, what: list[str]) -> None:
        """Empty some of indicators, throttle, metrics, faults, rules; all but rules when `what` is empty.

        Raises:
            ValueError: naming what is unknown.
        """
        actions: dict[str, Callable[[], object]] = {
            "indicators": self.defender.clear,
            "throttle": self.defender.throttle.clear,
            "metrics": self.metrics.clear,
            "faults": self.faults.clear,
            "rules": self.rules.reset,
        }
        for name in what or ["indicators", "throttle", "metrics", "faults"]:
            if name not in actions:
                raise ValueError(f"{name!r} cannot be reset; known: {', '.join(actions)}")
            actions[name]()

    def rotate(self, who: str, where: Where, *, overlap: bool, expires_in: float) -> dict[str, str]:
        """A new client secret for an app: made in Entra, put into the vault, or both.

        `where` vault alone brings the vault up to what Entra has. Without `overlap` the older secrets are deleted.
        """
        app = self.principal(who)
        if where not in ("both", "entra", "vault"):
            raise ValueError("where is both, entra or vault")
        if where != "vault":
            made = Secret(new_secret(), self.clock.now() + expires_in)
            app.secrets = [*(app.secrets if overlap else []), made]
        newest = app.secrets[-1]
        version = ""
        if where != "entra" and app is self.directory.relay:
            version = self.vault.set(self.secret_name, newest.value, newest.expires).id
        return {"client_secret": newest.value, "version": version}

    def expire_secrets(self, who: str) -> None:
        """Every secret the app has now has just expired."""
        for secret in self.principal(who).secrets:
            secret.expires = self.clock.now() - 1

    def portal_create(self, item: dict[str, Any], user: str) -> dict[str, Any]:
        """Create or update an indicator as a person in the portal does.

        Raises:
            ValueError: the portal refuses it.
        """
        fault, understood = check(item, self.rules, self.clock.ticks())
        if fault is not None:
            raise ValueError(fault.message)
        caller = Caller(user, user, sees_all=True, source="Portal")
        try:
            return self.defender.store().upsert(understood, caller, self.clock.ticks())
        except Fault as refused:
            raise ValueError(refused.message) from None

    def portal_delete(self, identifier: str) -> bool:
        """Delete an indicator as a person in the portal does; False when there is none."""
        store = self.defender.store()
        if store.get(identifier, Caller("", "", sees_all=True, source="Portal")) is None:
            return False
        store.delete(identifier)
        return True
