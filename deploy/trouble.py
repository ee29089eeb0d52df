"""What the Azure CLI says when it fails, and what to do about it: one table.

The texts are those of the CLI and of Resource Manager (documented or recorded). The first line that fits counts; what
fits none is passed on as it is.
"""

from __future__ import annotations

import re

from deploy.say import Failed


class NotThere(Failed):
    """What was asked for does not exist."""


class NotYet(Failed):
    """A principal or role that was just made is not known everywhere yet: the same succeeds later."""


class Denied(Failed):
    """Whoever is signed in lacks a right."""


class SoftDeleted(Failed):
    """A deleted vault of this name can only be recovered."""


#: pattern in standard error -> (kind, what happened, remedy); groups of the pattern may be used in both texts.
TABLE: tuple[tuple[str, type[Failed], str, str], ...] = (
    (
        r"Please run '?az login'?|AADSTS(50078|50173|700082|70043|700084)\b|No subscription found|InteractionRequired",
        Failed,
        "nobody is signed in, or the sign-in has expired",
        "az login (with --tenant TENANT for another tenant), then the same again.",
    ),
    (
        r"AADSTS(50076|50079|50158|53003)\b",
        Failed,
        "Entra ID asks for more than this sign-in has (multi-factor authentication or Conditional Access)",
        "az login --scope https://management.core.windows.net//.default, and the same for the resource named above.",
    ),
    (
        r"AADSTS(65001|650057|650052|500011)\b",
        Denied,
        "the Azure CLI may not ask for a token of this API, or the API has no service principal here",
        "Deploy the entra step again (it pre-authorises the Azure CLI), or put a token into VERIFY_TOKEN.",
    ),
    (
        r"subscription of '?(?P<sub>[^'\s]+)'? doesn't exist|SubscriptionNotFound|InvalidSubscriptionId",
        Failed,
        "this sign-in does not have the subscription",
        "az account list --all shows those it has; az login --tenant TENANT adds another tenant's.",
    ),
    (
        r"already exists in deleted state|VaultNameNotAvailable.{0,200}recover|ConflictError.{0,300}deleted state",
        SoftDeleted,
        "a deleted vault of this name is still kept",
        "az keyvault recover --name NAME, then the same again; scripts/deploy does it if it may see deleted vaults.",
    ),
    (
        r"PrincipalNotFound|does not exist in the directory",
        NotYet,
        "a principal that was just made is not known everywhere yet",
        "The same again in a minute.",
    ),
    (
        r"AuthorizationFailed.{0,400}?perform action '(?P<action>[^']+)'.{0,200}?over scope '(?P<scope>[^']+)'",
        Denied,
        "you may not do {action} on {scope}",
        "docs/deploy.md lists the role that each step needs. A role that was just assigned shows after az login.",
    ),
    (
        r"Authorization_RequestDenied|Insufficient privileges to complete the operation",
        Denied,
        "Entra ID refuses it: your directory role does not suffice",
        "The entra step is for a Privileged Role Administrator: scripts/deploy TENANT.bicepparam --only entra",
    ),
    (
        r"AuthorizationFailed|LinkedAuthorizationFailed|does not have authorization|\(Forbidden\)",
        Denied,
        "you lack a right for it",
        "docs/deploy.md lists the role that each step needs.",
    ),
    (
        r"RequestDisallowedByPolicy.{0,600}?(policyDefinitionDisplayName|displayName|name)\W+(?P<policy>[\w .-]{3,80})",
        Failed,
        "a policy of your organisation refuses it: {policy}",
        "Change the parameter file to what the policy asks for, or ask for an exemption of this resource group.",
    ),
    (
        r"RequestDisallowedByPolicy",
        Failed,
        "a policy of your organisation refuses it",
        "The portal names it under Deployments. Fit the parameter file to it, or ask for an exemption.",
    ),
    (
        r"MissingSubscriptionRegistration.{0,300}?namespace '(?P<provider>[\w.]+)'",
        Failed,
        "the subscription has not registered {provider}",
        "az provider register --wait --namespace {provider}",
    ),
    (
        r"ScopeLocked",
        Failed,
        "a lock forbids it",
        "az lock list --resource-group GROUP; az lock delete --ids ID. The next deployment sets it again.",
    ),
    (
        r"DeploymentActive|AnotherOperationInProgress|ConflictingConcurrentWriteNotAllowed",
        Failed,
        "another deployment of the same thing is still running",
        "Wait for it (portal: Deployments), then run this again.",
    ),
    (
        r"LocationNotAvailableForResourceType|LocationNotSupported|not available in location|NoRegisteredProviderFound",
        Failed,
        "the location does not offer it",
        "az functionapp list-flexconsumption-locations; then another location in the parameter files.",
    ),
    (
        r"QuotaExceeded|SubscriptionIsOverQuotaForSku|SkuNotAvailable",
        Failed,
        "the quota of the subscription does not suffice there",
        "Ask for more (portal: Quotas), or take another location.",
    ),
    (
        r"Bicep CLI not found|Could not find the \"bicep\" executable|latest Bicep version|install(ing)? Bicep CLI",
        Failed,
        "there is no Bicep compiler, and the Azure CLI could not fetch one",
        "az bicep install; or put bicep on PATH, and: az config set bicep.use_binary_from_path=true",
    ),
    (
        r"BCP\d{3}|Error BCP",
        Failed,
        "the templates or the parameter file do not compile",
        "The lines below name file and place; bicep lint FILE shows the same.",
    ),
    (
        r"ResourceGroupNotFound|ResourceNotFound|DeploymentNotFound|could not be found|was not found|\(NotFound\)",
        NotThere,
        "it does not exist",
        "Run the earlier steps first: docs/deploy.md.",
    ),
    (
        r"Failed to resolve|Max retries exceeded|ConnectionError|Connection aborted|timed out|NewConnectionError",
        Failed,
        "Azure cannot be reached from here",
        "Check network and proxy (HTTPS_PROXY), then the same again.",
    ),
    (
        r"unrecognized arguments|is misspelled or not recognized|argument .{1,40}: expected",
        Failed,
        "this Azure CLI does not know the command",
        "Update it: az upgrade (scripts/deploy needs 2.75 or newer).",
    ),
)


def explained(does: str, said: str) -> Failed:
    """The error for a command (`does`: what it was to do) that failed and `said` this on standard error."""
    text = said.strip()
    for pattern, kind, what, remedy in TABLE:
        found = re.search(pattern, text, re.DOTALL | re.IGNORECASE)
        if found:
            groups = {name: value or "it" for name, value in found.groupdict().items()}
            shown = "" if kind is NotThere else f"\n{_short(text)}"
            return kind(f"Could not {does}: {what.format_map(groups)}.{shown}", remedy.format_map(groups))
    shown = _short(text)
    last = shown.splitlines()[-1].strip() if shown else "the Azure CLI said nothing"
    return Failed(f"Could not {does}: {last}\n{shown}", "az login, az upgrade; or run it by hand with --debug.")


def _short(text: str) -> str:
    """The end of what was said, indented, without anything that looks like a token."""
    clean = re.sub(r"eyJ[A-Za-z0-9_.-]{10,}", "(token)", text)
    clean = re.sub(r"(?i)((secret|password|key|sig)\"?\s*[:=]\s*\"?)[^\s\",&]{12,}", r"\1(hidden)", clean)
    lines = [line for line in clean.splitlines() if line.strip() and "SyntaxWarning" not in line]
    return "\n".join(f"    {line[:400]}" for line in lines[-12:])
