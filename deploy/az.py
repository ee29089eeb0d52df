"""Every command line of the Azure CLI that the scripts can issue, as data; and the one place that runs them.

A command is a list of arguments. None of them is ever a secret: what is secret comes back on standard output into
memory (keys, tokens) or goes over HTTPS from this process (deploy/vault.py), never onto a command line, where every
process of the machine could read it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from deploy import trouble
from deploy.say import Failed, tell

_QUIET = ("--only-show-errors", "--output", "json")
_EVERY = 30.0  # seconds between two lines about a command that runs long
Scope = Literal["sub", "group"]


@dataclasses.dataclass(frozen=True, slots=True)
class Command:
    """One command line. `does` says in words what it is for; `changes`: whether it changes anything in the tenant."""

    does: str
    arguments: tuple[str, ...]
    changes: bool = False
    timeout: float = 300.0

    @property
    def line(self) -> tuple[str, ...]:
        """All arguments after `az`."""
        return (*self.arguments, *_QUIET)


def version() -> Command:
    """The versions of the CLI and its parts."""
    return Command("ask the Azure CLI for its version", ("version",), timeout=60)


def bicep_version() -> Command:
    """Whether there is a Bicep compiler; the CLI fetches one when there is none."""
    return Command("ask for the Bicep compiler", ("bicep", "version"))


def cloud() -> Command:
    """The endpoints of the cloud that the CLI is set to."""
    return Command("look up the cloud's endpoints", ("cloud", "show"), timeout=60)


def account(subscription: str = "") -> Command:
    """Who is signed in, and to which subscription and tenant."""
    return Command("look who is signed in", ("account", "show", *_of(subscription)), timeout=60)


def token(resource: str, subscription: str = "") -> Command:
    """A token of whoever is signed in, for `resource` (its URI)."""
    scope = f"{resource.rstrip('/')}/.default"
    return Command(f"get a token for {resource}", ("account", "get-access-token", "--scope", scope, *_of(subscription)))


def build_parameters(file: Path) -> Command:
    """Compile a parameter file with its template; nothing leaves this machine."""
    return Command(f"compile {file.name}", ("bicep", "build-params", "--file", str(file), "--stdout"))


def group(name: str, subscription: str = "") -> Command:
    """A resource group."""
    return Command(f"look for the resource group {name}", ("group", "show", "--name", name, *_of(subscription)))


def permissions(subscription: str, in_group: str = "") -> Command:
    """What whoever is signed in may do in a subscription or one of its groups."""
    scope = f"/subscriptions/{subscription}" + (f"/resourceGroups/{in_group}" if in_group else "")
    url = f"{scope}/providers/Microsoft.Authorization/permissions?api-version=2022-04-01"
    return Command("look up your rights", ("rest", "--method", "get", "--url", url, *_of(subscription)))


def what_if(scope: Scope, where: str, name: str, file: Path, given: Mapping[str, str], subscription: str) -> Command:
    """What a deployment would change. `where`: the location (sub) or the group; `given` goes on top of the file."""
    line = ("deployment", scope, "what-if", *_at(scope, where), "--name", name)
    more = ("--no-pretty-print", "--no-prompt", "true", *_of(subscription))
    return Command(f"ask what {name} would change", (*line, *_parameters(file, given), *more), timeout=1800)


def create(scope: Scope, where: str, name: str, file: Path, given: Mapping[str, str], subscription: str) -> Command:
    """Carry a deployment out."""
    line = ("deployment", scope, "create", *_at(scope, where), "--name", name)
    more = ("--no-prompt", "true", *_of(subscription))
    return Command(f"deploy {name}", (*line, *_parameters(file, given), *more), changes=True, timeout=5400)


def deployment(scope: Scope, where: str, name: str, subscription: str) -> Command:
    """An earlier deployment, with its outputs."""
    at = _at(scope, where) if scope == "group" else ()
    line = ("deployment", scope, "show", *at, "--name", name, *_of(subscription))
    return Command(f"look for the deployment {name}", line)


def app(in_group: str, name: str, subscription: str) -> Command:
    """The function app."""
    line = ("functionapp", "show", "--resource-group", in_group, "--name", name, *_of(subscription))
    return Command(f"look at {name}", line)


def app_keys(in_group: str, name: str, subscription: str) -> Command:
    """The keys of the function app, on standard output."""
    line = ("functionapp", "keys", "list", "--resource-group", in_group, "--name", name, *_of(subscription))
    return Command(f"get the keys of {name}", line)


def deleted_vaults(subscription: str) -> Command:
    """Vaults that were deleted and can be recovered."""
    line = ("keyvault", "list-deleted", "--resource-type", "vault", *_of(subscription))
    return Command("look for a deleted vault", line)


def recover_vault(name: str, location: str, subscription: str) -> Command:
    """Bring a deleted vault back into the group that it was in, with its secrets."""
    line = ("keyvault", "recover", "--name", name, "--location", location, *_of(subscription))
    return Command(f"recover the vault {name}", line, changes=True, timeout=900)


def resources(in_group: str, subscription: str) -> Command:
    """Everything in a resource group."""
    line = ("resource", "list", "--resource-group", in_group, *_of(subscription))
    return Command(f"list what is in {in_group}", line)


def locks(in_group: str, subscription: str) -> Command:
    """The locks on a resource group and in it."""
    line = ("lock", "list", "--resource-group", in_group, *_of(subscription))
    return Command(f"list the locks of {in_group}", line)


def delete_lock(identifier: str, subscription: str) -> Command:
    """Take a lock away, by its resource id."""
    return Command("remove a lock", ("lock", "delete", "--ids", identifier, *_of(subscription)), changes=True)


def delete_group(name: str, subscription: str) -> Command:
    """Delete a resource group with everything in it."""
    line = ("group", "delete", "--name", name, "--yes", *_of(subscription))
    return Command(f"delete the resource group {name}", line, changes=True, timeout=3600)


def every() -> list[Command]:
    """One of each, in each of its forms: what a test shows to the Azure CLI's own parser."""
    file, sub, identifier = Path("infra/params/dev.bicepparam"), "00000000-0000-0000-0000-000000000000", "1-2"
    lock = f"/subscriptions/{sub}/resourceGroups/rg/providers/Microsoft.Authorization/locks/one"
    found = [version(), bicep_version(), cloud(), account(), account(sub), token("api://x"), token("api://x", sub)]
    found += [build_parameters(file), group("rg", sub), permissions(sub), permissions(sub, "rg")]
    for given in ({}, {"relayClientId": identifier, "apiClientId": identifier}):
        found += [what_if("sub", "westeurope", "relay-identity", file, given, sub)]
        found += [create("sub", "westeurope", "relay-identity", file, given, sub)]
        found += [what_if("group", "rg", "relay-main", file, given, sub)]
        found += [create("group", "rg", "relay-main", file, given, sub)]
    found += [deployment("sub", "westeurope", "relay-identity", sub), deployment("group", "rg", "relay-main", sub)]
    found += [app("rg", "func", sub), app_keys("rg", "func", sub), deleted_vaults(sub)]
    found += [recover_vault("kv", "westeurope", sub), resources("rg", sub), locks("rg", sub), delete_lock(lock, sub)]
    return [*found, delete_group("rg", sub)]


def _of(subscription: str) -> tuple[str, ...]:
    return ("--subscription", subscription) if subscription else ()


def _at(scope: Scope, where: str) -> tuple[str, ...]:
    return ("--location", where) if scope == "sub" else ("--resource-group", where)


def _parameters(file: Path, given: Mapping[str, str]) -> tuple[str, ...]:
    return ("--parameters", str(file), *(f"{name}={value}" for name, value in given.items()))


class Az:
    """Runs commands with the `az` that is on PATH, as whoever is signed in there."""

    def __init__(self, subscription: str = "", say: Callable[[str], None] = tell) -> None:
        self.subscription = subscription
        self._say = say

    def run(self, command: Command) -> Any:
        """The JSON that it prints; None when it prints nothing.

        Raises:
            Failed: there is no `az`, it takes too long, or it fails: with what to do (deploy/trouble.py).
        """
        executable = shutil.which("az")
        if executable is None:
            raise Failed(
                "The Azure CLI (az) is not on PATH.",
                "Install it (https://aka.ms/install-azure-cli, or pipx install azure-cli), then: az login",
            )
        begun = time.monotonic()
        environ = os.environ | {"AZURE_CORE_NO_COLOR": "true", "AZURE_CORE_COLLECT_TELEMETRY": "false"}
        try:
            process = subprocess.Popen(
                [executable, *command.line],
                stdin=subprocess.DEVNULL,  # it must never wait for somebody to answer
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environ,
                text=True,
                errors="replace",
            )
        except OSError as error:
            raise Failed(f"The Azure CLI cannot be run: {error.strerror}.", f"Look at {executable}.") from None
        try:
            output, errors = self._wait(process, command, begun)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()
            raise
        if process.returncode:
            raise trouble.explained(command.does, errors)
        return self._parsed(command, output)

    def find(self, command: Command) -> Any:
        """The same, but None when what it looks for does not exist."""
        try:
            return self.run(command)
        except trouble.NotThere:
            return None

    def token(self, resource: str) -> str:
        """A token for `resource`, of whoever is signed in. Never show it. Raises Failed."""
        told = self.run(token(resource, self.subscription))
        found = told.get("accessToken") if isinstance(told, dict) else None
        if not isinstance(found, str) or not found:
            raise Failed(f"The Azure CLI gave no token for {resource}.", "Sign in again: az login")
        return found

    def _wait(self, process: subprocess.Popen[str], command: Command, begun: float) -> tuple[str, str]:
        while True:
            try:
                return process.communicate(timeout=_EVERY)
            except subprocess.TimeoutExpired:
                spent = time.monotonic() - begun
                if spent > command.timeout:
                    raise Failed(
                        f"To {command.does} took longer than {command.timeout:.0f} s.",
                        "It may still go on in Azure. Look in the portal (Deployments), then run this again.",
                    ) from None
                self._say(f"        {command.does}: {spent:.0f} s ...")

    @staticmethod
    def _parsed(command: Command, output: str) -> Any:
        if not output.strip():
            return None
        try:
            return json.loads(output)
        except ValueError:
            raise Failed(
                f"To {command.does}: the Azure CLI printed something that is not JSON.",
                "Run az version; an extension may print there. Update the CLI: az upgrade",
            ) from None
