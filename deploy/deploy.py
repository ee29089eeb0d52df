"""scripts/deploy: one tenant, from its parameter files to a verified app; safe to run again from wherever it stopped.

    look      tools, who is signed in, what is there, rights
    what-if   what each step would change; then it asks
    identity  resource group and managed identity, when they are not there
    entra     app registrations and consent, when they are not there (for a privileged administrator)
    main      a deleted vault is recovered, the relay paused, everything that runs deployed
    publish   the zip
    secret    when the vault has none
    resume, verify

Each step looks at what is there before it acts. A pause of ours that an earlier run has left is resumed at the end.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from deploy import az, changes, package, rights, secret
from deploy import tenant as tenants
from deploy.az import Az, Scope
from deploy.publish import publish, publishing_host
from deploy.quiet import Quiet
from deploy.say import Failed, orderly, show, tell
from deploy.tenant import Found, Tenant
from deploy.trouble import Denied, NotYet
from deploy.verification import Credentials
from deploy.verify import verify
from deploy.web import Site

STEPS = ("identity", "entra", "main", "publish", "verify")
_ROLES_SHOW = 600.0  # role assignments take minutes, in bad hours ten


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """As on the command line. `only`: one step; empty: all that are needed."""

    what_if_only: bool = False
    yes: bool = False
    only: str = ""
    zip: Path | None = None
    allow_dirty: bool = False
    no_pause: bool = False
    no_verify: bool = False
    timeout: float = 180.0


class Deployment:
    """One run. `told` is its result as JSON, also when it fails."""

    def __init__(self, tenant: Tenant, run: Az, options: Options, say: Callable[[str], None] = tell) -> None:
        self._tenant = tenant
        self._run = run
        self._options = options
        self._say = say
        self._found = Found("", "", "", {})
        self._zip = package.ZIP
        self.told: dict[str, Any] = {"tenant": tenant.label, "ok": False, "steps": []}

    def go(self) -> None:
        """Everything that is needed. Raises Failed."""
        self._look()
        steps = self._needed()
        if {"identity", "entra", "main"} & set(steps):
            self._say("What would change:")
            self._what_if(steps)
        if self._options.what_if_only:
            self.told["ok"] = True
            return
        self._ask(steps)
        if "publish" in steps:
            self._zip = self._package()  # before anything is changed: files that are not committed stop it here
        quiet: Quiet | None = None
        try:
            if "identity" in steps:
                self._step("identity", lambda: self._create("identity"))
            if "entra" in steps:
                self._step("entra", lambda: self._create("entra"))
            if "main" in steps or "publish" in steps:
                quiet = self._quiet()
            if "main" in steps:
                self._step("main", self._main)
            if "publish" in steps:
                self._step("publish", self._publish)
            if "main" in steps and self._tenant.with_secret:
                self._step("secret", self._secret)
        finally:
            if quiet is not None:
                self._resume(quiet)
        if "verify" in steps and not self._options.no_verify:
            self._step("verify", self._verify)
        self.told["ok"] = True

    # Looking

    def _look(self) -> None:
        told = self._run.run(az.version()) or {}
        version = str(told.get("azure-cli", ""))
        self._run.run(az.bicep_version())
        self._found = found = tenants.survey(self._tenant, self._run)
        self._say(f"{self._tenant.label}: az {version}, {found.user} in tenant {found.tenant_id}")
        self._say(f"  subscription {found.subscription}, resource group {self._tenant.group}")
        there = [("group", found.group), ("identity", found.identity), ("entra", found.entra is not None)]
        there += [("main", found.main is not None), ("app", bool(found.app))]
        self._say("  there already: " + (", ".join(name for name, is_there in there if is_there) or "nothing"))
        if self._tenant.main.get("privateNetworking") and self._tenant.main.get("deployPlaybooks"):
            self._say(
                "  with private networking a playbook on the Consumption plan cannot reach the queue: use those that "
                "submit over HTTP"
            )
        self.told |= {"subscription": found.subscription, "group": self._tenant.group}

    def _needed(self) -> tuple[str, ...]:
        only, tenant, found = self._options.only, self._tenant, self._found
        if only:
            steps: tuple[str, ...] = (only,)
        else:
            identity = () if found.group and found.identity else ("identity",)
            given = {**(found.entra or {}), **tenants.client_ids(tenant, found)}
            entra = tenant.entra_file is not None and found.entra is None
            entra = entra and (
                bool(tenants.lacking_client_ids(tenant, given)) or tenant.main.get("credential") == "managed-identity"
            )
            steps = (*identity, *(("entra",) if entra else ()), "main", "publish", "verify")
        if "identity" in steps and tenant.identity_file is None:
            raise Failed(
                f"{tenant.group} with its identity is not there, and neither is {tenant.label}.identity.bicepparam.",
                "Write one beside the other file, as infra/params has them.",
            )
        if "entra" in steps and tenant.entra_file is None:
            raise Failed(f"There is no {tenant.label}.entra.bicepparam.", "Write one beside the other file.")
        try:
            for line in rights.check(steps, tenant, found, self._run):
                self._say(f"  {line}")
        except Denied as error:
            if not self._options.what_if_only:
                raise
            self._say(f"  {error}")
            self.told["lacking"] = error.what
        return steps

    def _what_if(self, steps: tuple[str, ...]) -> None:
        found: dict[str, Any] = {}
        for step in ("identity", "entra", "main"):
            if step not in steps:
                continue
            if step != "identity" and not (self._found.group and self._found.identity):
                self._say(f"  {step}: all of it is new (Azure can tell more once the identity is there)")
                found[step] = None
                continue
            if step == "main" and "entra" in steps and tenants.lacking_client_ids(self._tenant, {}):
                self._say("  main: Azure can tell once the entra step has made the registrations")
                found[step] = None
                continue
            scope, where, file, given = self._target(step)
            name = self._name(step)
            answer = self._run.run(az.what_if(scope, where, name, file, given, self._found.subscription))
            listed = changes.read(answer)
            self._say(f"  {step}:")
            for line in changes.lines(listed):
                self._say(line)
            found[step] = [dataclasses.asdict(change) for change in listed]
        self.told["changes"] = found
        self.told["drift"] = any(listed is None or listed for listed in found.values())

    def _ask(self, steps: tuple[str, ...]) -> None:
        if self._options.yes or steps == ("verify",):
            return
        if not sys.stdin.isatty():
            raise Failed("Nobody is there to be asked.", "Pass --yes once you have read what would change.")
        sys.stderr.write(f"\nCarry out {', '.join(steps)} in {self._tenant.group}? Type yes: ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() != "yes":
            raise Failed("Nothing was changed.")

    # Acting

    def _step(self, name: str, act: Callable[[], str]) -> None:
        self._say(f"{name} ...")
        begun = time.monotonic()
        step: dict[str, Any] = {"name": name, "ok": False}
        self.told["steps"].append(step)
        try:
            step["detail"] = act()
            step["ok"] = True
        except Failed as error:
            step["detail"] = error.what
            raise
        finally:
            step["seconds"] = round(time.monotonic() - begun, 1)
        self._say(f"  {step['detail']}")

    def _name(self, step: str) -> str:
        return f"{self._tenant.name}-{step}"

    def _target(self, step: str) -> tuple[Scope, str, Path, Mapping[str, str]]:
        """Scope, location or group, parameter file, and what goes on top of it."""
        tenant = self._tenant
        if step == "identity":
            assert tenant.identity_file is not None
            return "sub", tenant.location, tenant.identity_file, {}
        if step == "entra":
            assert tenant.entra_file is not None
            return "group", tenant.group, tenant.entra_file, {}
        return "group", tenant.group, tenant.file, tenants.client_ids(tenant, self._found)

    def _create(self, step: str) -> str:
        scope, where, file, given = self._target(step)
        command = az.create(scope, where, self._name(step), file, given, self._found.subscription)
        answer = self._again(lambda: self._run.run(command), 180.0)
        made = tenants.outputs_of(answer)
        if made is None:
            raise Failed(f"The step {step} did not end as it should.", "Look at it in the portal, then run this again.")
        if step == "identity":
            self._found.group = self._found.identity = True
        elif step == "entra":
            self._found.entra = made
        else:
            self._found.main = made
            self._found.app = made.get("functionAppName", "")
        return "deployed"

    def _main(self) -> str:
        given = tenants.client_ids(self._tenant, self._found)
        lacking = tenants.lacking_client_ids(self._tenant, given)
        if lacking:
            raise Failed(
                f"{' and '.join(lacking)} are not known.",
                "A privileged administrator runs scripts/deploy TENANT.bicepparam --only entra, or makes the "
                f"registrations by hand (docs/deploy.md) and you write the ids into {self._tenant.file.name}.",
            )
        if self._tenant.with_secret:
            self._recover()
        return self._create("main")

    def _recover(self) -> None:
        """A vault of ours that was deleted with its group keeps its name: only recovering makes it usable."""
        try:
            deleted = self._run.run(az.deleted_vaults(self._found.subscription)) or ()
        except Failed as error:
            self._say(f"  deleted vaults cannot be seen: {error.what.splitlines()[0]}")
            return
        group = f"/resourcegroups/{self._tenant.group}/".lower()
        for one in deleted:
            properties = one.get("properties") or {}
            was, name = str(properties.get("vaultId", "")).lower(), str(one.get("name", ""))
            if group in was and name.startswith(f"kv-{self._tenant.name}-"):
                self._say(f"  the vault {name} was deleted: recovering it with its secrets ...")
                location = str(properties.get("location", ""))
                self._run.run(az.recover_vault(name, location, self._found.subscription))

    def _package(self) -> Path:
        file = self._options.zip
        if file is None:
            return package.build(allow_dirty=self._options.allow_dirty).path
        if not file.is_file():
            raise Failed(f"There is no {file}.", "scripts/package makes dist/relay.zip")
        return file

    def _publish(self) -> str:
        about = self._app()
        host = publishing_host(about)
        resource = self._found.endpoint("appServiceResourceId") or self._found.endpoint("resourceManager")
        token = self._run.token(resource)
        self._again(lambda: publish(host, self._zip, token, self._say), _ROLES_SHOW)
        return f"published {self._zip.name}"

    def _secret(self) -> str:
        places = secret.Places(self._tenant, self._found, self._run, self._say)
        made = secret.create(places, secret.DAYS, patience=_ROLES_SHOW)
        return "made a client secret" if made else "the vault has a client secret"

    def _verify(self) -> str:
        who = self._credentials()
        first = any(step["name"] == "main" for step in self.told["steps"])
        told = verify(self._url(), who, timeout=self._options.timeout, patience=_ROLES_SHOW if first else 0.0)
        self.told["verify"] = told
        if not told["ok"]:
            step = next(step for step in told["steps"] if step["name"] == told["failed"])
            raise Failed(f"{told['failed']}: {step['detail']}", step.get("remedy", ""))
        return f"verified: {len(told['steps'])} steps, canary {told['canary']['outcome']}"

    # The app

    def _app(self) -> Any:
        if not self._found.app:
            raise Failed("There is no function app yet.", "Run the steps before: scripts/deploy TENANT.bicepparam")
        return self._run.run(az.app(self._tenant.group, self._found.app, self._found.subscription))

    def _url(self) -> str:
        about = self._app()
        host = about.get("defaultHostName") or (about.get("properties") or {}).get("defaultHostName")
        return f"https://{host}"

    def _credentials(self) -> Credentials:
        if self._tenant.by_keys:
            command = az.app_keys(self._tenant.group, self._found.app, self._found.subscription)
            keys = self._run.run(command) or {}
            return Credentials(
                key=str((keys.get("functionKeys") or {}).get("default", "")), master=str(keys.get("masterKey", ""))
            )
        given = tenants.client_ids(self._tenant, self._found)
        api = self._tenant.client_id("apiClientId") or given.get("apiClientId", "")
        return Credentials(token=self._run.token(f"api://{api}"))

    def _quiet(self) -> Quiet | None:
        """The relay paused, where an update would kill what is in flight."""
        if not self._found.app or self._options.no_pause:
            return None
        if self._tenant.main.get("updateStrategy") == "RollingUpdate":
            self._say("no pause: a rolling update lets what is in flight end")
            return None
        self._say("pause ...")
        try:
            who = self._credentials()
        except Failed as error:
            if self._found.main is None:  # an earlier run got as far as the app and no further
                self._say("  the app was never finished, so nothing is in flight")
                return None
            raise Failed(
                f"The relay cannot be asked what is in flight: {error.what}",
                "Or go on without a pause: --no-pause (what is in flight comes back after ten minutes).",
            ) from None
        quiet = Quiet(Site(self._url()), who.headers("admin"), self._say)
        try:
            quiet.begin()
        except BaseException:
            self._resume(quiet)
            raise
        return quiet

    def _resume(self, quiet: Quiet) -> None:
        """Resume, also after a failure; what is in the way of that is told, and is not the failure."""
        try:
            quiet.end()
        except Failed as error:
            self._say(f"  {error}")

    def _again[T](self, act: Callable[[], T], patience: float) -> T:
        """The same again while what was just made is not known everywhere."""
        until, wait = time.monotonic() + patience, 10.0
        while True:
            try:
                return act()
            except NotYet as error:
                if time.monotonic() + wait >= until:
                    raise
                self._say(f"  {error.what.splitlines()[0]} Once more in {wait:.0f} s ...")
            time.sleep(wait)
            wait = min(60.0, wait * 2)


def main() -> int:
    """Exit status: 0; 1 a step failed; 130 interrupted."""
    parser = argparse.ArgumentParser(prog="scripts/deploy")
    parser.add_argument("tenant", type=Path)
    parser.add_argument("--what-if-only", action="store_true")
    parser.add_argument("--yes", action="store_true")
    parser.add_argument("--only", choices=STEPS, default="")
    parser.add_argument("--zip", type=Path)
    parser.add_argument("--allow-dirty", action="store_true")
    parser.add_argument("--no-pause", action="store_true")
    parser.add_argument("--no-verify", action="store_true")
    parser.add_argument("--subscription", default="")
    parser.add_argument("--timeout", type=float, default=180.0)
    parser.add_argument("--json", action="store_true")
    options = vars(parser.parse_args())
    file, subscription, as_json = options.pop("tenant"), options.pop("subscription"), options.pop("json")
    orderly()
    run = Az(subscription)
    deployment: Deployment | None = None
    status, told = 1, {"tenant": file.name.removesuffix(".bicepparam"), "ok": False}
    try:
        deployment = Deployment(tenants.read(file, run, subscription), run, Options(**options))
        told = deployment.told
        deployment.go()
        status = 0
        tell("\nDone." if not options["what_if_only"] else "\nNothing was changed.")
    except Failed as error:
        told["error"], told["remedy"] = error.what, error.remedy
        tell(f"\nNot done. {error}")
    except KeyboardInterrupt:
        told["error"], status = "interrupted", 130
        tell("\nInterrupted. Run it again: it goes on from here.")
    if as_json:
        show(told)
    return status


if __name__ == "__main__":
    sys.exit(main())
