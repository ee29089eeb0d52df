"""Whether whoever is signed in may do what a step does, asked before anything is begun."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from typing import Any

from deploy import az
from deploy.az import Az
from deploy.say import Failed
from deploy.tenant import Found, Tenant
from deploy.trouble import Denied

_DEPLOY = ("Microsoft.Resources/deployments/write",)
_STEPS: dict[str, tuple[str, ...]] = {
    "identity": (
        "Microsoft.Resources/subscriptions/resourceGroups/write",
        *_DEPLOY,
        "Microsoft.ManagedIdentity/userAssignedIdentities/write",
    ),
    "entra": _DEPLOY,
    "main": (
        *_DEPLOY,
        "Microsoft.Web/sites/write",
        "Microsoft.Storage/storageAccounts/write",
        "Microsoft.Insights/components/write",
        "Microsoft.OperationalInsights/workspaces/write",
        "Microsoft.Authorization/roleAssignments/write",
    ),
    "publish": ("Microsoft.Web/sites/publish/Action",),
}
_ROLES = {
    "identity": "Contributor on the subscription",
    "entra": "Contributor on the resource group (and a directory role, which cannot be seen from here)",
    "main": "Owner, or Contributor and Role Based Access Control Administrator, on the resource group",
    "publish": "Website Contributor on the app",
}


def needed(step: str, tenant: Tenant) -> list[str]:
    """The actions that a step performs."""
    found = list(_STEPS.get(step, ()))
    if step == "main":
        found += ["Microsoft.KeyVault/vaults/write"] if tenant.with_secret else []
        found += ["Microsoft.Network/virtualNetworks/write"] if tenant.main.get("privateNetworking") else []
        found += ["Microsoft.Authorization/locks/write"] if tenant.main.get("lock") else []
    if step == "publish" and tenant.by_keys:
        found += ["Microsoft.Web/sites/host/listkeys/action"]
    return found


def may(action: str, permissions: Iterable[Any]) -> bool:
    """Whether one of the roles allows it: its `actions` have it and its `notActions` do not (documented)."""
    wanted = action.lower()

    def fits(patterns: Any) -> bool:
        return any(fnmatch.fnmatchcase(wanted, str(pattern).lower()) for pattern in patterns or ())

    return any(fits(one.get("actions")) and not fits(one.get("notActions")) for one in permissions)


def check(steps: Iterable[str], tenant: Tenant, found: Found, run: Az) -> list[str]:
    """Lines to tell, about what cannot be seen from here.

    Raises:
        Denied: a right is missing; it and the role that has it are named.
    """
    known: dict[str, list[Any]] = {}
    told: list[str] = []
    for step in steps:
        actions = needed(step, tenant)
        where = tenant.group if found.group else ""
        if not actions:
            continue
        if where not in known:
            try:
                answer = run.run(az.permissions(found.subscription, where))
                known[where] = list((answer or {}).get("value") or ())
            except Failed as error:
                told.append(f"Your rights cannot be seen ({error.what.splitlines()[0]}); the steps will show them.")
                return told
        lacking = [action for action in actions if not may(action, known[where])]
        if lacking:
            raise Denied(
                f"The step {step} needs rights that {found.user} lacks on {where or 'the subscription'}: "
                + ", ".join(lacking),
                f"Needed: {_ROLES[step]}. docs/deploy.md has the table.",
            )
    return told
