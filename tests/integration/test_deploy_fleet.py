"""scripts/remove and scripts/fleet, and every script's help, with an `az` of the tests' own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import deploy.remove
from deploy import az
from deploy.remove import is_ours
from local.processes import plain_environment
from local.stack import Stack
from tests.support.fakecloud import API, RELAY, SUBSCRIPTION, Cloud

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ("package", "verify", "deploy", "secret", "remove", "fleet")


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    with Cloud(tmp_path).running() as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two tenants: one with a secret and keys, one federated with Easy Auth."""
    place = tmp_path / "infra" / "params"
    place.mkdir(parents=True)
    for template in (ROOT / "infra").glob("*.bicep"):
        shutil.copy(template, place.parent)
    for sample in ("dev", "production"):
        for file in (ROOT / "infra" / "params").glob(f"{sample}.*bicepparam"):
            shutil.copy(file, place)
    return place


def module(name: str, *arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
    """`scripts/NAME ARGUMENTS` without the setting up."""
    return subprocess.run(
        [sys.executable, "-P", "-m", f"deploy.{name}", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environ,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def deployed(cloud: Cloud, name: str = "relaydev") -> None:
    """What a finished deployment has left in Resource Manager."""
    ids = {"relayClientId": {"value": RELAY}, "apiClientId": {"value": API}}
    about = {"functionAppName": {"value": f"func-{name}-abc"}, "vaultUrl": {"value": f"https://{cloud.host}/"}}
    things = [("Microsoft.Web/sites", f"func-{name}-abc"), ("Microsoft.KeyVault/vaults", f"kv-{name}-abc")]
    things += [("Microsoft.ManagedIdentity/userAssignedIdentities", f"id-{name}")]
    things += [("Microsoft.Storage/storageAccounts", f"st{name}abc"), ("Microsoft.Insights/workbooks", "some-guid")]

    def made(outputs: Any) -> dict[str, Any]:
        return {"properties": {"provisioningState": "Succeeded", "outputs": outputs}}

    cloud.change(
        group=True,
        resources=[{"type": kind, "name": called} for kind, called in things],
        deployments={f"{name}-entra": made(ids), f"{name}-main": made(about)},
    )


# remove


def test_remove_says_what_goes_and_what_stays_and_asks(cloud: Cloud, folder: Path) -> None:
    deployed(cloud)
    done = module("remove", folder / "dev.bicepparam")
    assert done.returncode == 1 and "--yes" in done.stderr and not cloud.calls("group", "delete")
    for part in (
        "Microsoft.KeyVault/vaults kv-relaydev-abc",
        "Indicators in Defender stay",
        "90 days",
        RELAY,
        "--entra",
    ):
        assert part in done.stderr
    done = module("remove", folder / "dev.bicepparam", "--yes")
    assert done.returncode == 0, done.stderr
    assert cloud.calls("group", "delete")[0][:5] == ["group", "delete", "--name", "rg-relaydev", "--yes"]
    assert cloud.deleted_registrations == []
    again = module("remove", folder / "dev.bicepparam", "--yes")
    assert again.returncode == 0 and "Nothing need be removed" in again.stderr


def test_remove_takes_the_registrations_when_told(cloud: Cloud, folder: Path) -> None:
    deployed(cloud)
    done = module("remove", folder / "dev.bicepparam", "--yes", "--entra")
    assert done.returncode == 0 and cloud.deleted_registrations == [RELAY, API], done.stderr


def test_remove_leaves_a_group_in_which_there_is_something_else(cloud: Cloud, folder: Path) -> None:
    deployed(cloud)
    cloud.change(resources=[*cloud.az["resources"], {"type": "Microsoft.Compute/virtualMachines", "name": "jumphost"}])
    done = module("remove", folder / "dev.bicepparam", "--yes")
    assert done.returncode == 1 and "jumphost" in done.stderr and not cloud.calls("group", "delete")


def test_remove_and_locks(cloud: Cloud, folder: Path) -> None:
    deployed(cloud)
    cloud.change(locks=[{"id": "/locks/keep", "name": "keep"}])
    done = module("remove", folder / "dev.bicepparam", "--yes")
    assert done.returncode == 1 and "--unlock" in done.stderr and not cloud.calls("group", "delete")
    done = module("remove", folder / "dev.bicepparam", "--yes", "--unlock")
    assert done.returncode == 0 and cloud.az["locks"] == []


def test_remove_asks_for_the_groups_name(
    cloud: Cloud, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deployed(cloud)

    class Terminal:
        def __init__(self, text: str) -> None:
            self.text = text

        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            return self.text

    monkeypatch.setattr(sys, "argv", ["scripts/remove", str(folder / "dev.bicepparam")])
    monkeypatch.setattr(sys, "stdin", Terminal("yes\n"))
    assert deploy.remove.main() == 1 and "Nothing was removed" in capsys.readouterr().err
    assert not cloud.calls("group", "delete")
    monkeypatch.setattr(sys, "stdin", Terminal("rg-relaydev\n"))
    assert deploy.remove.main() == 0 and cloud.calls("group", "delete")


@pytest.mark.parametrize(
    ("kind", "name", "ours"),
    [
        ("Microsoft.Web/sites", "func-relay-abc", True),
        ("Microsoft.Web/sites", "func-relaytwo-abc", False),
        ("Microsoft.Web/sites", "theirs", False),
        ("Microsoft.Storage/storageAccounts", "strelayabc", True),
        ("Microsoft.Storage/storageAccounts", "theirs", False),
        ("Microsoft.Network/privateDnsZones", "privatelink.vaultcore.azure.net", True),
        ("Microsoft.Network/virtualNetworks", "vnet-hub", False),
        ("Microsoft.Insights/scheduledQueryRules", "relay-heartbeat-gone", True),
        ("Microsoft.Sql/servers", "sql-relay-abc", False),
    ],
)
def test_what_counts_as_ours(kind: str, name: str, ours: bool) -> None:
    assert is_ours({"type": kind, "name": name}, "relay") is ours


# fleet


def test_drift_of_two_tenants_in_one_table(cloud: Cloud, folder: Path) -> None:
    deployed(cloud, "relaydev")
    resources = cloud.az["resources"]
    for name in ("id-relay", "id-relay-playbook"):
        resources.append({"type": "Microsoft.ManagedIdentity/userAssignedIdentities", "name": name})
    main = cloud.az["deployments"]
    cloud.change(resources=resources, deployments={**main, "relay-entra": main["relaydev-entra"]})
    done = module("fleet", "drift", folder)
    assert done.returncode == 0, done.stderr
    assert "dev         ok" in done.stdout and "production  ok" in done.stdout and "2 ok" in done.stdout
    assert "[dev] " in done.stderr and "[production] " in done.stderr
    changed = {"changeType": "Modify", "resourceId": "/x/providers/Microsoft.Web/sites/a", "delta": []}
    cloud.change(changes={"main": [changed, changed]})
    done = module("fleet", "drift", folder, "--json")
    told = {one["label"]: one for one in json.loads(done.stdout)["tenants"]}
    assert done.returncode == 3 and told["dev"]["state"] == "drift" and told["dev"]["detail"] == "main: 2 modify"
    assert not cloud.calls("deployment", "group", "create")


def test_a_tenant_that_fails_keeps_no_other_from_being_done(cloud: Cloud, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "small.zip").write_bytes(b"PK")
    asked = module("fleet", "deploy", folder, "--zip", tmp_path / "small.zip")
    assert asked.returncode == 1 and "--yes" in asked.stderr and not cloud.calls("deployment")
    broken = folder / "broken.bicepparam"
    broken.write_text("using '../none.bicep'\n", "utf-8")
    done = module("fleet", "verify", folder, "--json", "--jobs", "1")
    told = {one["label"]: one for one in json.loads(done.stdout)["tenants"]}
    assert done.returncode == 1 and set(told) == {"broken", "dev", "production"}
    assert "compile broken.bicepparam" in told["broken"]["detail"]
    assert all("no function app yet" in told[label]["detail"] for label in ("dev", "production")), told
    empty = module("fleet", "drift", tmp_path)
    assert empty.returncode == 1 and "no TENANT.bicepparam" in empty.stderr


def test_a_fleet_that_is_interrupted_ends_its_runs(cloud: Cloud, folder: Path) -> None:
    marker = cloud.bin / "az"
    marker.write_text("#!/bin/sh\necho $$ >>" + str(folder / "pids") + "\nexec sleep 60\n")
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "deploy.fleet", "drift", str(folder)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        from tests.support.stacklab import wait_for

        pids = folder / "pids"
        wait_for(lambda: pids.exists() and len(pids.read_text().split()) == 2, "both have begun", 60)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130 and "Interrupted" in errors
        for pid in pids.read_text().split():
            with pytest.raises(ProcessLookupError):
                os.kill(int(pid), 0)
    finally:
        process.kill()


# The whole of it


@pytest.mark.slow
def test_deploy_ends_with_a_verified_app(
    cloud: Cloud, folder: Path, tmp_path: Path, stack: Callable[..., Stack]
) -> None:
    """The parts of Azure are doubles; the app behind them is the real one, on the local stack."""
    running = stack(settings={"RELAY_CALLER_RATE": "100000/60"})
    cloud.forward = running.url
    keys = {"masterKey": running.keys["master"], "functionKeys": {"default": running.keys["host"]}}
    cloud.change(keys=keys)
    (tmp_path / "small.zip").write_bytes(b"PK the package")
    deployed(cloud)
    done = module("deploy", folder / "dev.bicepparam", "--yes", "--json", "--zip", tmp_path / "small.zip")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [step["name"] for step in told["steps"]] == ["main", "publish", "secret", "verify"]
    assert told["verify"]["ok"] and told["verify"]["canary"]["outcome"] == "withdrawn, and seen gone"
    assert cloud.events == ["pause", "published", "resume"]
    for value in (running.keys["master"], running.keys["host"]):
        assert value not in done.stdout + done.stderr + json.dumps(cloud.az["calls"])
    fleet = module("fleet", "verify", folder, "--json")
    outcomes = {one["label"]: one for one in json.loads(fleet.stdout)["tenants"]}
    assert outcomes["dev"]["state"] == "ok" and outcomes["production"]["state"] == "FAILED", fleet.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_tells_how_it_is_used(script: str) -> None:
    done = subprocess.run(
        [ROOT / "scripts" / script, "--help"], env=plain_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and done.stdout.startswith(f"scripts/{script} ") and "Exit status" in done.stdout
    source = (ROOT / "deploy" / f"{script}.py").read_text("utf-8")
    for option in re.findall(r'add_argument\("(--[\w-]+)"', source):
        assert option in done.stdout, option
    wrong = module(script, "--nonsense")
    assert wrong.returncode == 2 and "usage: scripts/" in wrong.stderr


# The real Azure CLI


def test_no_command_line_can_hold_a_secret() -> None:
    """Nothing that is secret has a place in any of them: their parameters are names, ids, files and addresses."""
    for command in az.every():
        for word in command.line:
            assert not re.search(r"(?i)password|secret|sas|connection-string|account-key|code=", word), command
    assert len({command.line[:3] for command in az.every()}) >= 18


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("TEST_AZURE_CLI"), reason="TEST_AZURE_CLI=1 installs the Azure CLI (700 MB)")
@pytest.mark.timeout(1800)
def test_the_azure_cli_itself_takes_every_command_line(tmp_path: Path) -> None:
    """TEST_AZURE_CLI=1 makes an environment of its own below .tools; a path names one that is there."""
    given = os.environ["TEST_AZURE_CLI"]
    python = Path(given) / "bin" / "python" if Path(given).is_dir() else azure_cli()
    lines = [list(command.line) for command in az.every()]
    wrong = [["account", "show", "--none"], ["deployment", "group", "create"], ["nothing", "of", "it"]]
    done = subprocess.run(
        [python, "-W", "ignore", ROOT / "tests" / "support" / "azcli_parser.py"],
        input=json.dumps(lines + wrong),
        env=plain_environment() | {"AZURE_CONFIG_DIR": str(tmp_path), "AZURE_CORE_COLLECT_TELEMETRY": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    verdicts = json.loads(done.stdout.splitlines()[-1])
    refused = {" ".join(line): said for line, said in zip(lines, verdicts, strict=False) if said}
    assert refused == {}
    assert all(verdicts[len(lines) :]), "a parser that takes everything proves nothing"
    assert SUBSCRIPTION not in json.dumps(lines)


def azure_cli() -> Path:
    """The Python of an environment with the Azure CLI in it; made once."""
    place = ROOT / ".tools" / "azure-cli"
    python = place / "bin" / "python"
    if not (place / ".complete").exists():
        uv = ROOT / ".tools" / "uv" / "bin" / "uv"
        subprocess.run(
            [uv, "venv", "--quiet", "--clear", "--no-project", "--python", sys.executable, place], check=True
        )
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, "azure-cli==2.91.0"], check=True)
        (place / ".complete").touch()
    return python
