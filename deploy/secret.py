"""scripts/secret: the client secret of the app, made at the registration and put straight into the vault.

It is shown nowhere. `rotate` overlaps: a new secret, tried until Entra gives a token for it, then stored as a new
version, then the old ones that this script made are removed; the app goes on all the time (docs/identity.md). Tried
before it is stored, so that the vault never holds a secret that does not work. A run that breaks off leaves at worst a
secret at the registration that nobody knows: the next rotation removes it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from deploy import tenant as tenants
from deploy.az import Az
from deploy.say import Failed, tell
from deploy.tenant import Found, Tenant
from deploy.trouble import NotYet
from deploy.vault import Registration, Vault, standing, try_secret
from shared.identity.clouds import CLOUDS

SECRET = "defender-client-secret"  # noqa: S105 - its name in the vault, as RELAY_SECRET_NAME has it by default
OURS = "scripts/secret"
DAYS = 180
_ROLE_PATIENCE = 600.0


class Places:
    """Registration and vault of one tenant."""

    def __init__(self, tenant: Tenant, found: Found, run: Az, say: Callable[[str], None] = tell) -> None:
        """Raises Failed: the steps before have not been run, or nobody is signed in."""
        url = (found.main or {}).get("vaultUrl", "")
        given = tenants.client_ids(tenant, found)
        self.client_id = tenant.client_id("relayClientId") or given.get("relayClientId", "")
        if not tenant.with_secret:
            raise Failed(f"{tenant.label} works without a client secret.", "Nothing need be done.")
        if not url or not self.client_id:
            raise Failed(
                f"{tenant.label} has no {'vault' if not url else 'app registration'} yet.",
                "Run the steps before: scripts/deploy TENANT.bicepparam",
            )
        settings = tenant.main.get("relaySettings", {}) or {}
        self.name = str(settings.get("RELAY_SECRET_NAME", SECRET))
        cloud = CLOUDS[str(tenant.main.get("cloud", "gcc-high" if found.government else "commercial"))]
        self.scope = f"{settings.get('RELAY_TOKEN_RESOURCE') or cloud.token_resource}/.default"
        self.login = found.endpoint("activeDirectory")
        self.tenant_id = str(tenant.main.get("defenderTenantId", found.tenant_id))
        graph = found.endpoint("microsoftGraphResourceId")
        self.registration = Registration(graph, run.token(graph), self.client_id)
        self.vault = Vault(url, run.token(found.vault_resource))
        self.say = say


def create(places: Places, days: int, *, patience: float = 0.0) -> bool:
    """Make and store a secret unless the vault has one that serves; whether one was made. Raises Failed."""
    ends = standing(_patiently(places, patience), datetime.now(UTC))
    if ends is not None:
        places.say(f"  the vault has a secret until {ends:%Y-%m-%d}")
        return False
    _make(places, days)
    return True


def rotate(places: Places, days: int, *, keep_old: bool = False) -> None:
    """A new one beside the old, then the old ones of ours removed. Raises Failed."""
    _patiently(places, 0.0)
    before = places.registration.secrets()
    new = _make(places, days)
    for old in before:
        if not old.name.startswith(OURS):
            places.say(
                f"  left alone, as this script did not make it: {old.name or old.key_id} (until {old.ends[:10]})"
            )
        elif keep_old:
            places.say(f"  kept: {old.name} (until {old.ends[:10]})")
        elif old.key_id != new:
            places.registration.remove(old.key_id)
            places.say(f"  removed: {old.name} (until {old.ends[:10]})")


def _patiently(places: Places, patience: float) -> list[dict[str, object]]:
    """The versions in the vault; also a look whether this caller may store one, before a secret is made."""
    until, told_of = time.monotonic() + patience, False
    while True:
        try:
            return places.vault.versions(places.name)
        except NotYet:
            if time.monotonic() >= until:
                raise
            if not told_of:
                places.say("  the vault does not know your role yet; waiting ...")
                told_of = True
            time.sleep(10.0)


def _make(places: Places, days: int) -> str:
    now = datetime.now(UTC)
    ends = (now + timedelta(days=days)).replace(microsecond=0)
    key_id, secret = places.registration.add(f"{OURS} {now:%Y-%m-%d}", ends)
    try:
        places.say(f"  made a secret until {ends:%Y-%m-%d}; trying it ...")
        roles = try_secret(places.login, places.tenant_id, places.client_id, secret, places.scope, places.say)
        if not roles & {"Ti.ReadWrite", "Ti.ReadWrite.All"}:
            places.say(
                "  its token lacks Ti.ReadWrite: consent to the permission (docs/identity.md); health tells it, too"
            )
        places.vault.store(places.name, secret, ends, {"keyId": key_id, "by": OURS})
    except BaseException:
        try:
            places.registration.remove(key_id)
            places.say("  the new secret was removed again")
        except Failed as error:
            places.say(f"  the new secret (key id {key_id}) could NOT be removed again: {error.what}")
        raise
    places.say(f"  stored in the vault as a new version of {places.name}")
    return key_id


def main() -> int:
    """Exit status: 0, or 1 with what is in the way."""
    parser = argparse.ArgumentParser(prog="scripts/secret")
    parser.add_argument("order", choices=("create", "rotate"))
    parser.add_argument("tenant", type=Path)
    parser.add_argument("--days", type=int, default=DAYS)
    parser.add_argument("--keep-old", action="store_true")
    parser.add_argument("--subscription", default="")
    options = parser.parse_args()
    if not 1 <= options.days <= 730:
        parser.error("--days is from 1 to 730")
    run = Az()
    try:
        tenant = tenants.read(options.tenant, run, options.subscription)
        places = Places(tenant, tenants.survey(tenant, run), run)
        if options.order == "rotate":
            rotate(places, options.days, keep_old=options.keep_old)
        elif not create(places, options.days):
            tell("\nNothing was made. scripts/secret rotate makes a new one.")
    except Failed as error:
        tell(f"\nNot done. {error}")
        return 1
    except KeyboardInterrupt:
        tell("\nInterrupted.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
