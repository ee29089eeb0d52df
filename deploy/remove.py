"""scripts/remove: take a tenant's deployment away, and say what stays and why.

The resource group goes as a whole, and only when nothing is in it but what the templates make. What lives outside it is
named: indicators in Defender, the app registrations (`--entra` removes them), what Azure keeps of a deleted vault.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploy import az
from deploy import tenant as tenants
from deploy.az import Az
from deploy.say import Failed, tell
from deploy.tenant import Found, Tenant
from deploy.trouble import NotThere
from deploy.vault import Registration

#: Types that the templates make; of these what has the deployment's short name as a part of its own name.
_OURS = (
    "microsoft.web/sites",
    "microsoft.web/serverfarms",
    "microsoft.web/connections",
    "microsoft.keyvault/vaults",
    "microsoft.managedidentity/userassignedidentities",
    "microsoft.operationalinsights/workspaces",
    "microsoft.insights/components",
    "microsoft.insights/actiongroups",
    "microsoft.insights/scheduledqueryrules",
    "microsoft.insights/metricalerts",
    "microsoft.logic/workflows",
    "microsoft.network/virtualnetworks",
    "microsoft.network/networksecuritygroups",
    "microsoft.network/natgateways",
    "microsoft.network/publicipaddresses",
    "microsoft.network/privateendpoints",
    "microsoft.network/networkinterfaces",
)
#: Those whose names Azure or a service prescribes: type, and how the name begins.
_PRESCRIBED = (
    ("microsoft.network/privatednszones", "privatelink."),
    ("microsoft.network/privatednszones/virtualnetworklinks", "privatelink."),
    ("microsoft.insights/workbooks", ""),  # a GUID
    ("microsoft.insights/actiongroups", "application insights smart detection"),
    ("microsoft.alertsmanagement/smartdetectoralertrules", "failure anomalies"),
)


def is_ours(resource: Any, name: str) -> bool:
    """Whether the templates, or Azure for them, make such a resource in a deployment with this short name."""
    kind, called = str(resource.get("type", "")).lower(), str(resource.get("name", "")).lower()
    if kind == "microsoft.storage/storageaccounts":
        return called.startswith((f"st{name}", f"sh{name}"))
    if kind in _OURS and re.search(rf"(^|-){re.escape(name)}([-.]|$)", called):
        return True
    return any(kind == one and called.startswith(beginning) for one, beginning in _PRESCRIBED)


def what_stays(tenant: Tenant, found: Found, entra: bool) -> list[str]:
    """What is there afterwards, and why; a line each."""
    told = [
        "Indicators in Defender stay until they expire: undo their submissions first (DELETE /api/submissions/ID), or "
        "delete them in the portal. Without the app's registration only a person can.",
        "What waits in the queue and in parts, the ledger and the dead letters go with the storage account, for good.",
        "Log Analytics keeps a deleted workspace for 14 days, in case it is wanted back.",
    ]
    if tenant.with_secret:
        told.append(
            "The vault is kept as deleted for 90 days, with its secret: purge protection forbids less. The next "
            "scripts/deploy into the same group recovers it."
        )
    ids = [found.entra.get(name, "") for name in ("relayClientId", "apiClientId")] if found.entra else []
    ids = [one for one in ids if one]
    if ids and not entra:
        told.append(
            f"The app registrations {' and '.join(ids)} stay; --entra deletes them (Entra ID keeps them 30 days)."
        )
    elif ids:
        told.append(f"Entra ID keeps the deleted registrations {' and '.join(ids)} for 30 days.")
    if tenant.main.get("workspaceId"):
        told.append("Logs in the workspace that is not of this deployment stay there.")
    told.append("Role assignments of the deleted identity stay on things outside the group, as 'unknown'.")
    return told


class Removal:
    """One removal."""

    def __init__(self, tenant: Tenant, run: Az, say: Callable[[str], None] = tell) -> None:
        self._tenant = tenant
        self._run = run
        self._say = say
        self._found = tenants.survey(tenant, run)
        self._locks: list[Any] = []

    def plan(self, *, entra: bool, unlock: bool) -> None:
        """Tell what goes and what stays.

        Raises:
            Failed: there is nothing, something in the group is not ours, or a lock forbids it.
        """
        group, subscription = self._tenant.group, self._found.subscription
        self._say(f"{self._tenant.label}: {self._found.user} in tenant {self._found.tenant_id}")
        if not self._found.group:
            raise NotThere(f"There is no resource group {group}.", "Nothing need be removed.")
        there = self._run.run(az.resources(group, subscription)) or []
        strangers = [one for one in there if not is_ours(one, self._tenant.name)]
        self._say(f"Goes: the resource group {group} in subscription {subscription}, with")
        for one in there:
            self._say(f"    {one.get('type')} {one.get('name')}")
        if strangers:
            listed = ", ".join(f"{one.get('type')} {one.get('name')}" for one in strangers[:10])
            raise Failed(
                f"In {group} there is what this deployment did not make: {listed}.",
                "Move it elsewhere, or delete the deployment's own resources by hand.",
            )
        self._locks = self._run.run(az.locks(group, subscription)) or []
        if self._locks and not unlock:
            listed = ", ".join(str(one.get("name")) for one in self._locks)
            raise Failed(f"A lock forbids it: {listed}.", "--unlock removes it first.")
        self._say("Stays:")
        for line in what_stays(self._tenant, self._found, entra):
            self._say(f"    {line}")

    def carry_out(self, *, entra: bool) -> None:
        """Remove. Raises Failed."""
        for one in self._locks:
            self._run.run(az.delete_lock(str(one["id"]), self._found.subscription))
            self._say(f"  removed the lock {one.get('name')}")
        self._say(f"  deleting {self._tenant.group} ...")
        self._run.run(az.delete_group(self._tenant.group, self._found.subscription))
        self._say("  deleted")
        if not entra:
            return
        graph = self._found.endpoint("microsoftGraphResourceId")
        token = self._run.token(graph)
        for name in ("relayClientId", "apiClientId"):
            client_id = (self._found.entra or {}).get(name, "")
            if not client_id:
                continue
            try:
                Registration(graph, token, client_id).delete()
                self._say(f"  deleted the app registration {client_id}")
            except NotThere:
                self._say(f"  the app registration {client_id} was gone already")


def confirmed(group: str) -> None:
    """Let the group's name be typed. Raises Failed."""
    if not sys.stdin.isatty():
        raise Failed("Nobody is there to be asked.", "Pass --yes once you have read what goes.")
    sys.stderr.write(f"\nType the name of the resource group ({group}) to delete it: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip() != group:
        raise Failed("Nothing was removed.")


def main() -> int:
    """Exit status: 0, or 1 with what is in the way."""
    parser = argparse.ArgumentParser(prog="scripts/remove")
    parser.add_argument("tenant", type=Path)
    parser.add_argument("--yes", action="store_true")
    parser.add_argument("--entra", action="store_true")
    parser.add_argument("--unlock", action="store_true")
    parser.add_argument("--subscription", default="")
    options = parser.parse_args()
    run = Az(options.subscription)
    try:
        tenant = tenants.read(options.tenant, run, options.subscription)
        removal = Removal(tenant, run)
        removal.plan(entra=options.entra, unlock=options.unlock)
        if not options.yes:
            confirmed(tenant.group)
        removal.carry_out(entra=options.entra)
    except NotThere as error:
        tell(f"\n{error}")
        return 0
    except Failed as error:
        tell(f"\nNot removed. {error}")
        return 1
    except KeyboardInterrupt:
        tell("\nInterrupted; what Azure has begun goes on.")
        return 130
    tell("\nRemoved.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
