"""One tenant's deployment: its parameter files, what they say, and what of it is there already.

A tenant is `TENANT.bicepparam` (for main.bicep) with, beside it, `TENANT.identity.bicepparam` and
`TENANT.entra.bicepparam`. Which subscription, and a resource group under another name, stand in a comment of the first:

    // scripts/deploy: subscription=00000000-0000-0000-0000-000000000000 group=rg-relay
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy import az
from deploy.az import Az
from deploy.say import Failed

_DIRECTIVE = re.compile(r"^\s*//\s*scripts/deploy:\s*(.*)$", re.MULTILINE)
_KNOWN = ("subscription", "group")
#: A made-up id, as the samples have it where a real one belongs: it counts as none.
_SAMPLE = re.compile(r"([0-9a-f])\1{7}-\1{4}-4\1{3}-8\1{3}-\1{12}\Z")
_OTHERS = (".identity.bicepparam", ".entra.bicepparam")


class Parameters:
    """A compiled parameter file: its own values, and the defaults of its template that are plain."""

    def __init__(self, compiled: Any, file: Path) -> None:
        try:
            own = json.loads(compiled["parametersJson"])["parameters"]
            declared = json.loads(compiled["templateJson"])["parameters"]
        except (KeyError, TypeError, ValueError):
            raise Failed(
                f"The Azure CLI compiled {file.name} to something unexpected.",
                "Update it: az upgrade, az bicep upgrade",
            ) from None
        self._own = {name: entry.get("value") for name, entry in own.items()}
        self._defaults = {name: entry.get("defaultValue") for name, entry in declared.items()}

    def get(self, name: str, otherwise: Any = "") -> Any:
        """A value; `otherwise` when neither the file nor a plain default says it."""
        found = self._own.get(name, self._defaults.get(name))
        computed = isinstance(found, str) and found.startswith("[")
        return otherwise if found is None or computed else found


@dataclasses.dataclass(frozen=True, slots=True)
class Tenant:
    """What the files say. `identity_file` and `entra_file` are None where there is no such file."""

    file: Path
    label: str
    name: str
    subscription: str
    group: str
    location: str
    main: Parameters
    identity_file: Path | None
    entra_file: Path | None

    @property
    def by_keys(self) -> bool:
        """Whether callers use keys."""
        return bool(self.main.get("authMode") == "keys")

    @property
    def with_secret(self) -> bool:
        """Whether the app proves itself with a client secret in the vault."""
        return bool(self.main.get("credential") == "secret")

    def client_id(self, parameter: str) -> str:
        """`relayClientId` or `apiClientId` as the file has it; empty when it is a sample's made-up one."""
        found = str(self.main.get(parameter))
        return "" if _SAMPLE.match(found) else found


def tenant_files(folder: Path) -> list[Path]:
    """The tenants' files of a folder, by name. Raises Failed when there is none."""
    found = sorted(file for file in folder.glob("*.bicepparam") if not file.name.endswith(_OTHERS))
    if not found:
        raise Failed(f"There is no TENANT.bicepparam in {folder}.", "Begin with a copy of infra/params/production.*")
    return found


def read(file: Path, run: Az, subscription: str = "") -> Tenant:
    """The tenant of a parameter file; `subscription` wins over the one in it.

    Raises:
        Failed: a file is missing, does not compile, or says something unknown.
    """
    if not file.is_file() or not file.name.endswith(".bicepparam") or file.name.endswith(_OTHERS):
        raise Failed(f"{file} is no TENANT.bicepparam.", "Begin with a copy of infra/params/production.*")
    stated = directive(file.read_text("utf-8"), file.name)
    label = file.name.removesuffix(".bicepparam")
    beside = [file.with_name(f"{label}{ending}") for ending in _OTHERS]
    main = Parameters(run.run(az.build_parameters(file)), file)
    identity = Parameters(run.run(az.build_parameters(beside[0])), beside[0]) if beside[0].is_file() else None
    name = str(main.get("name", "relay"))
    if identity is not None and identity.get("name", "relay") != name:
        raise Failed(
            f"{beside[0].name} has the name {identity.get('name', 'relay')!r}, {file.name} has {name!r}.",
            "Give both the same name: everything else derives from it.",
        )
    own_group = str(identity.get("resourceGroupName", "")) if identity is not None else ""
    return Tenant(
        file=file,
        label=label,
        name=name,
        subscription=subscription or stated.get("subscription", ""),
        group=stated.get("group", "") or own_group or f"rg-{name}",
        location=str(identity.get("location")) if identity is not None else "",
        main=main,
        identity_file=beside[0] if identity is not None else None,
        entra_file=beside[1] if beside[1].is_file() else None,
    )


def directive(text: str, where: str) -> dict[str, str]:
    """What the comment `// scripts/deploy:` says. Raises Failed for a name that it does not know."""
    stated: dict[str, str] = {}
    for line in _DIRECTIVE.findall(text):
        for word in line.split():
            name, found, value = word.partition("=")
            if not found or name not in _KNOWN or not value:
                raise Failed(f"{where}: {word!r} after 'scripts/deploy:' is not known.", f"Known: {', '.join(_KNOWN)}.")
            stated[name] = value
    return stated


@dataclasses.dataclass(slots=True)
class Found:
    """What is there, as far as an earlier run got."""

    user: str
    tenant_id: str
    subscription: str
    cloud: Mapping[str, Any]
    group: bool = False
    identity: bool = False
    app: str = ""
    entra: Mapping[str, str] | None = None
    main: Mapping[str, str] | None = None

    def endpoint(self, name: str) -> str:
        """A URL of the cloud, without a slash at its end."""
        return str((self.cloud.get("endpoints") or {}).get(name) or "").rstrip("/")

    @property
    def vault_resource(self) -> str:
        """What a token for vaults is for, such as https://vault.azure.net."""
        return f"https://{str((self.cloud.get('suffixes') or {}).get('keyvaultDns') or '').lstrip('.')}"

    @property
    def government(self) -> bool:
        """Whether it is the cloud of the United States government."""
        return self.cloud.get("name") == "AzureUSGovernment"


def survey(tenant: Tenant, run: Az) -> Found:
    """Look who is signed in and what is there. Raises Failed."""
    signed_in = run.run(az.account(tenant.subscription))
    cloud = run.run(az.cloud())
    subscription = str(signed_in["id"])
    run.subscription = subscription
    found = Found(str(signed_in["user"]["name"]), str(signed_in["tenantId"]), subscription, cloud)
    found.group = run.find(az.group(tenant.group, subscription)) is not None
    if not found.group:
        return found
    wanted = {str(tenant.main.get("identityName", f"id-{tenant.name}")).lower()}
    if tenant.main.get("deployPlaybooks"):
        wanted.add(str(tenant.main.get("playbookIdentityName", f"id-{tenant.name}-playbook")).lower())
    for one in run.run(az.resources(tenant.group, subscription)) or ():
        kind, name = str(one.get("type", "")).lower(), str(one.get("name", ""))
        if kind == "microsoft.managedidentity/userassignedidentities":
            wanted.discard(name.lower())
        if kind == "microsoft.web/sites" and name.startswith(f"func-{tenant.name}-"):
            found.app = name
    found.identity = not wanted
    found.entra = outputs(run, "group", tenant.group, f"{tenant.name}-entra")
    found.main = outputs(run, "group", tenant.group, f"{tenant.name}-main")
    return found


def outputs(run: Az, scope: az.Scope, where: str, name: str) -> dict[str, str] | None:
    """The outputs of a deployment that succeeded, else None."""
    return outputs_of(run.find(az.deployment(scope, where, name, run.subscription)))


def outputs_of(answer: Any) -> dict[str, str] | None:
    """The outputs in a deployment's answer, if it succeeded."""
    properties = (answer or {}).get("properties") or {}
    if properties.get("provisioningState") != "Succeeded":
        return None
    return {name: str(entry.get("value", "")) for name, entry in (properties.get("outputs") or {}).items()}


def client_ids(tenant: Tenant, found: Found) -> dict[str, str]:
    """The client ids that main needs and its file does not have: from the entra step.

    Raises:
        Failed: the file and the entra step disagree.
    """
    given: dict[str, str] = {}
    for parameter in ("relayClientId", "apiClientId"):
        made, stated = (found.entra or {}).get(parameter, ""), tenant.client_id(parameter)
        if made and stated and made != stated:
            raise Failed(
                f"{tenant.file.name} has {parameter} {stated}, but the entra step made {made}.",
                f"Remove the line from {tenant.file.name} (it is then filled in), or correct it.",
            )
        if made and not stated:
            given[parameter] = made
    return given


def lacking_client_ids(tenant: Tenant, given: Mapping[str, str]) -> list[str]:
    """Those that main needs and nobody has given."""
    needed = ["relayClientId"] if tenant.main.get("credential", "federated") != "managed-identity" else []
    needed += [] if tenant.by_keys else ["apiClientId"]
    return [name for name in needed if not (given.get(name) or tenant.client_id(name))]
