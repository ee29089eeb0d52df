"""An `az` of the tests' own: writes down what it is asked, and answers as the Azure CLI does, from a state.

The state is what there is in Azure; commands change it as they would. `faults` are answers to give instead:
{"match": beginning of a command line, "error": standard error, "status": 1, "times": n}. Texts of errors are those of
the CLI and of Resource Manager. Parameter files are read as text: plain values and plain defaults.

The executable (SCRIPT) only hands its arguments to the test's process and prints what comes back: it runs hundreds of
times, and a shell starts sooner than Python.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

SCRIPT = """#!/usr/bin/env bash
exec 3<>/dev/tcp/127.0.0.1/PORT
printf '%s\\0' "$#" "$@" >&3
IFS= read -r status <&3
if [ "$status" = 0 ]; then cat <&3; else cat <&3 >&2; fi
exit "$status"
"""
GUID = "00000000-0000-4000-8000-00000000000"
SUBSCRIPTION = f"{GUID}1"
TENANT = f"{GUID}2"
RELAY = f"{GUID}3"
API = f"{GUID}4"


class Refused(Exception):
    """Ends with this on standard error."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status


def option(line: list[str], *names: str) -> str:
    for name in names:
        if name in line:
            return line[line.index(name) + 1]
    return ""


def literal(text: str) -> Any:
    """A plain Bicep value; None when it is computed."""
    text = text.strip()
    if text.startswith("'") and text.endswith("'") and "${" not in text:
        return text[1:-1]
    if text in ("true", "false"):
        return text == "true"
    return int(text) if text.isdigit() else None


def build_params(name: str) -> dict[str, str]:
    file = Path(name)
    source = file.read_text("utf-8")
    found = re.search(r"^using '([^']+)'", source, re.MULTILINE)
    if not found:
        raise Refused(f"{file}(1,1) : Error BCP261: A using declaration must be present in this parameters file.")
    template = (file.parent / found[1]).resolve()
    if not template.is_file():
        raise Refused(f"{file}(1,7) : Error BCP091: An error occurred reading file. Could not find file '{template}'.")
    own = {name: literal(value) for name, value in re.findall(r"^param (\w+) = (.+)$", source, re.MULTILINE)}
    declared = {}
    for name, value in re.findall(r"^param (\w+) [^=\n]+(?:= (.+))?$", template.read_text("utf-8"), re.MULTILINE):
        plain = literal(value) if value else None
        declared[name] = {"defaultValue": plain if plain is not None else "[computed()]"} if value else {}
    parameters = {name: {"value": value} for name, value in own.items() if value is not None}
    return {
        "parametersJson": json.dumps({"parameters": parameters}),
        "templateJson": json.dumps({"parameters": declared}),
    }


def name_of(file: str) -> str:
    """`main`, `identity` or `entra`: which template the parameter file is for."""
    used = next(line for line in Path(file).read_text("utf-8").splitlines() if line.startswith("using"))
    return used.split("'")[1].rpartition("/")[2].removesuffix(".bicep")


def answer(line: list[str], state: dict[str, Any]) -> Any:
    for fault in state["faults"]:
        if " ".join(line).startswith(fault["match"]) and fault.get("times", 1) > 0:
            fault["times"] = fault.get("times", 1) - 1
            raise Refused(fault["error"], fault.get("status", 1))
    words = [word for word in line if not word.startswith("-")]
    if words[0] == "version":
        return {"azure-cli": "2.91.0", "extensions": {}}
    if line[:2] == ["bicep", "version"]:
        return None
    if line[:2] == ["bicep", "build-params"]:
        return build_params(option(line, "--file"))
    if line[:2] == ["cloud", "show"]:
        return state["cloud"]
    if not state["signed_in"]:
        raise Refused("ERROR: Please run 'az login' to setup account.")
    if line[:2] == ["account", "show"]:
        return {"id": SUBSCRIPTION, "tenantId": TENANT, "user": {"name": "engineer@tenant.example", "type": "user"}}
    if line[:2] == ["account", "get-access-token"]:
        return {"accessToken": state["tokens"].get(option(line, "--scope"), state["token"]), "tokenType": "Bearer"}
    if line[0] == "rest":
        return {"value": state["permissions"]}
    if line[0] == "deployment":
        return deployment(line, state)
    return about_things(line, state)


def deployment(line: list[str], state: dict[str, Any]) -> Any:
    scope, verb, name, group = line[1], line[2], option(line, "--name"), option(line, "--resource-group")
    if scope == "group" and not state["group"]:
        raise Refused(f"ERROR: (ResourceGroupNotFound) Resource group '{group}' could not be found.", 3)
    if verb == "show":
        if name not in state["deployments"]:
            raise Refused(f"ERROR: (DeploymentNotFound) Deployment '{name}' could not be found.", 3)
        return state["deployments"][name]
    kind = name_of(option(line, "--parameters"))
    if verb == "what-if":
        return {"status": "Succeeded", "changes": state["changes"].get(kind, []), "error": None}
    values = json.loads(build_params(option(line, "--parameters"))["parametersJson"])["parameters"]
    given = dict(word.split("=", 1) for word in line[line.index("--parameters") + 2 :] if "=" in word)
    if kind == "main" and state["deleted_vaults"] and values.get("credential", {}).get("value") == "secret":
        vault = state["deleted_vaults"][0]["name"]
        raise Refused(
            f"ERROR: (ConflictError) A vault with the same name {vault} already exists in deleted state. You need to "
            "either recover or purge existing key vault."
        )
    outputs = made(kind, state, values, given)
    told = {name: {"type": "String", "value": value} for name, value in outputs.items()}
    state["deployments"][name] = {"name": name, "properties": {"provisioningState": "Succeeded", "outputs": told}}
    return state["deployments"][name]


def made(kind: str, state: dict[str, Any], values: dict[str, Any], given: dict[str, str]) -> dict[str, str]:
    name = values.get("name", {}).get("value", "relay")
    if kind == "identity":
        state["group"] = True
        thing = {"type": "Microsoft.ManagedIdentity/userAssignedIdentities", "name": f"id-{name}"}
        state["resources"] += [] if thing in state["resources"] else [thing]
        return {"identityName": f"id-{name}", "identityId": "/id"}
    if kind == "entra":
        keys = values.get("authMode", {}).get("value") == "keys"
        return {"relayClientId": RELAY, "apiClientId": "" if keys else API}
    state["main_given"] = given
    for thing in (
        {"type": "Microsoft.Web/sites", "name": f"func-{name}-abc"},
        {"type": "Microsoft.KeyVault/vaults", "name": f"kv-{name}-abc"},
    ):
        state["resources"] += [] if thing in state["resources"] else [thing]
    secret = values.get("credential", {}).get("value") == "secret"
    return {
        "functionAppName": f"func-{name}-abc",
        "functionAppHostname": state["host"],
        "vaultName": f"kv-{name}-abc" if secret else "",
        "vaultUrl": f"https://{state['host']}/" if secret else "",
    }


def about_things(line: list[str], state: dict[str, Any]) -> Any:
    two = line[:2]
    if two == ["group", "show"]:
        if not state["group"]:
            raise Refused("ERROR: (ResourceGroupNotFound) Resource group 'rg' could not be found.", 3)
        return {"name": option(line, "--name"), "location": "westeurope"}
    if two == ["group", "delete"]:
        state["group"], state["resources"] = False, []
        state["deployments"] = {}
        return None
    if two == ["resource", "list"]:
        return state["resources"]
    if two == ["functionapp", "show"]:
        hosts = [{"hostType": "Standard", "name": state["host"]}, {"hostType": "Repository", "name": state["host"]}]
        return {"name": option(line, "--name"), "defaultHostName": state["host"], "hostNameSslStates": hosts}
    if line[:3] == ["functionapp", "keys", "list"]:
        return state["keys"]
    if two == ["keyvault", "list-deleted"]:
        return state["deleted_vaults"]
    if two == ["keyvault", "recover"]:
        name = option(line, "--name")
        state["deleted_vaults"] = [one for one in state["deleted_vaults"] if one["name"] != name]
        return {"name": name}
    if two == ["lock", "list"]:
        return state["locks"]
    if two == ["lock", "delete"]:
        state["locks"] = [lock for lock in state["locks"] if lock["id"] != option(line, "--ids")]
        return None
    raise Refused(f"ERROR: '{' '.join(line[:3])}' is misspelled or not recognized by the system.", 2)


def ask(line: list[str], state: dict[str, Any]) -> tuple[int, str]:
    """Exit status, and what is printed: on standard output with status 0, else on standard error."""
    state["calls"].append(line)
    try:
        told = answer(line, state)
    except Refused as error:
        return error.status, f"{error}\n"
    return 0, "" if told is None else json.dumps(told)
