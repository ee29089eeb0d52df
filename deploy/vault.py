"""The two places of a client secret, over HTTPS with the caller's own tokens: app registration (Graph) and vault.

The secret is in the bodies of these requests and in this process's memory, and nowhere else.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import time
import urllib.parse
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from deploy.say import Failed
from deploy.trouble import Denied, NotThere, NotYet
from deploy.web import Answer, Site

_API = "api-version=7.4"
#: Entra tells a new secret to all its parts within a minute or two: until then 7000215, for a new app 700016.
_NOT_YET = ("AADSTS7000215", "AADSTS700016")


@dataclasses.dataclass(frozen=True, slots=True)
class Credential:
    """A client secret as the registration lists it: never the secret itself."""

    key_id: str
    name: str
    ends: str


class Registration:
    """The app registration `client_id`, by Graph."""

    def __init__(self, graph: str, token: str, client_id: str) -> None:
        self._site = Site(graph)
        self._headers = {"authorization": f"Bearer {token}"}
        self._path = f"/v1.0/applications(appId='{urllib.parse.quote(client_id)}')"
        self._client_id = client_id

    def secrets(self) -> list[Credential]:
        """All of them. Raises Failed."""
        answer = self._site.ask_patiently("GET", f"{self._path}?$select=passwordCredentials", self._headers)
        self._fine(answer, "read the app registration")
        return [
            Credential(str(one["keyId"]), str(one.get("displayName") or ""), str(one.get("endDateTime") or ""))
            for one in answer.told.get("passwordCredentials") or ()
        ]

    def add(self, name: str, ends: datetime) -> tuple[str, str]:
        """Make a secret; its key id and the secret. Sent once: a second try would make a second. Raises Failed."""
        body = {"passwordCredential": {"displayName": name, "endDateTime": f"{ends:%Y-%m-%dT%H:%M:%SZ}"}}
        answer = self._site.ask("POST", f"{self._path}/addPassword", self._headers, body)
        self._fine(answer, "make a client secret")
        return str(answer.told["keyId"]), str(answer.told["secretText"])

    def remove(self, key_id: str) -> None:
        """Remove a secret; one that is gone is fine. Raises Failed."""
        answer = self._site.ask_patiently("POST", f"{self._path}/removePassword", self._headers, {"keyId": key_id})
        if "No password credential found" not in answer.body.decode("utf-8", "replace"):
            self._fine(answer, "remove a client secret")

    def delete(self) -> None:
        """Delete the registration itself; Entra ID keeps it for 30 days. Raises Failed."""
        answer = self._site.ask_patiently("DELETE", self._path, self._headers)
        self._fine(answer, "delete the app registration")

    def _fine(self, answer: Answer, what: str) -> None:
        if answer.status in (200, 201, 204):
            return
        said = str((answer.told.get("error") or {}).get("message", ""))[:300]
        if answer.status in (401, 403):
            raise Denied(
                f"Could not {what}: Graph refuses it ({answer.status}). {said}",
                "Only an owner of the registration, or an Application Administrator, may change its secrets.",
            )
        if answer.status == 404:
            raise NotThere(
                f"There is no app registration {self._client_id}.", "Run the entra step, or correct relayClientId."
            )
        raise Failed(f"Could not {what}: Graph answers {answer.status}. {said}", "The same again in some minutes.")


class Vault:
    """The vault at `url`."""

    def __init__(self, url: str, token: str) -> None:
        self._site = Site(url.rstrip("/"))
        self._headers = {"authorization": f"Bearer {token}"}

    def versions(self, name: str) -> list[dict[str, Any]]:
        """What is said of each version (`attributes`, `tags`), not its value; none when there is no such secret."""
        path: str | None = f"/secrets/{name}/versions?maxresults=25&{_API}"
        found: list[dict[str, Any]] = []
        while path:
            answer = self._site.ask_patiently("GET", path, self._headers)
            if answer.status == 404:
                return []
            self._fine(answer, "look at the secret's versions")
            found += [dict(one) for one in answer.told.get("value") or ()]
            following = urllib.parse.urlsplit(str(answer.told.get("nextLink") or ""))
            path = f"{following.path}?{following.query}" if following.path else None
        return found

    def store(self, name: str, value: str, ends: datetime, tags: dict[str, str]) -> None:
        """A new version, with its end. Raises Failed."""
        attributes = {"enabled": True, "exp": int(ends.timestamp())}
        body = {"value": value, "attributes": attributes, "tags": tags, "contentType": "client secret"}
        answer = self._site.ask_patiently("PUT", f"/secrets/{name}?{_API}", self._headers, body)
        self._fine(answer, "store the secret")

    @staticmethod
    def _fine(answer: Answer, what: str) -> None:
        if answer.status == 200:
            return
        error = answer.told.get("error") or {}
        inner = str((error.get("innererror") or {}).get("code", ""))
        said = str(error.get("message", ""))[:300]
        if inner in ("ForbiddenByFirewall", "ForbiddenByConnection") or "ublic network access" in said:
            raise Denied(
                f"Could not {what}: the vault does not let this machine in.",
                "Run this inside the network, or name its address in vaultAllowedAddresses.",
            )
        if answer.status == 403:
            raise NotYet(
                f"Could not {what}: you lack the role on the vault. {said}",
                "Key Vault Secrets Officer on the vault (secretOfficers in the file); it takes minutes to show.",
            )
        if answer.status == 409 and "deleted" in said:
            raise Failed(f"Could not {what}: {said}", "az keyvault secret recover --vault-name VAULT --name NAME")
        raise Failed(f"Could not {what}: the vault answers {answer.status}. {said}", "The same again; az login.")


def try_secret(
    login: str,
    tenant_id: str,
    client_id: str,
    secret: str,
    scope: str,
    say: Callable[[str], None],
    *,
    patience: float = 180.0,
    every: float = 5.0,
) -> frozenset[str]:
    """Get a token with the secret, as the app will; the roles in it.

    Raises:
        Failed: Entra has refused it for `patience` seconds, or for a reason that time does not cure.
    """
    form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret, "scope": scope}
    content = urllib.parse.urlencode(form).encode()
    site, until, told_of = Site(login), time.monotonic() + patience, False
    while True:
        path = f"/{urllib.parse.quote(tenant_id)}/oauth2/v2.0/token"
        answer = site.send("POST", path, {}, content, "application/x-www-form-urlencoded", timeout=30.0)
        if answer.status == 200:
            return _roles(str(answer.told.get("access_token", "")))
        said = str(answer.told.get("error_description", ""))[:300].splitlines()
        first = said[0] if said else f"status {answer.status}"
        passing = answer.status in (429, 500, 502, 503, 504) or any(code in first for code in _NOT_YET)
        if not passing or time.monotonic() + every >= until:
            raise Failed(f"Entra gives no token for the new secret: {first}", "docs/identity.md explains the codes.")
        if not told_of:
            say("  Entra does not know the new secret everywhere yet; waiting ...")
            told_of = True
        time.sleep(every)


def _roles(token: str) -> frozenset[str]:
    try:
        middle = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    except (IndexError, ValueError):
        return frozenset()
    return frozenset(str(role) for role in claims.get("roles", ()))


def standing(versions: list[dict[str, Any]], now: datetime) -> datetime | None:
    """Until when the newest version serves; None when there is none, or it has ended or is switched off."""
    if not versions:
        return None
    newest = max(versions, key=lambda one: int((one.get("attributes") or {}).get("created", 0)))
    attributes = newest.get("attributes") or {}
    ends = datetime.fromtimestamp(int(attributes.get("exp", 253402300799)), UTC)
    return ends if attributes.get("enabled", True) and ends > now else None
