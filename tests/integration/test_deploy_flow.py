"""scripts/deploy against an `az` of the tests' own: what it calls, when, and what it says."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import deploy.package
from tests.support.deploying import DEPLOY, changing, copy
from tests.support.fakecloud import API, RELAY, SUBSCRIPTION, Cloud

pytest_plugins = ["tests.support.deploy_fixtures"]


def test_from_nothing_to_everything_in_order(cloud: Cloud, tenant: Path, run: Callable[..., Any]) -> None:
    status, told, said = run(tenant, *DEPLOY)
    assert status == 0, said
    assert changing(cloud) == ["create relaydev-identity", "create relaydev-entra", "create relaydev-main"]
    assert [step["name"] for step in told["steps"]] == ["identity", "entra", "main", "publish", "secret"]
    assert all(step["ok"] for step in told["steps"]) and told["ok"] and told["group"] == "rg-relaydev"
    # What the entra step made went to main, as the sample file has a made-up id only.
    assert cloud.az["main_given"] == {"relayClientId": RELAY}
    assert cloud.published == [b"PK the package"]
    assert "RemoteBuild=false" in next(line for line in cloud.requests if "/api/publish" in line)
    assert len(cloud.versions) == 1 and cloud.versions[0]["value"] == cloud.secrets[0]["secretText"]
    assert cloud.versions[0]["attributes"]["exp"] > time.time() + 170 * 86400
    # Each command names the subscription, so that what the CLI is set to does not matter.
    for line in cloud.az["calls"]:
        if line[0] not in ("version", "bicep", "cloud") and line[:2] != ["account", "show"]:
            assert line[line.index("--subscription") + 1] == SUBSCRIPTION, line


def test_no_secret_is_on_a_command_line_or_in_what_is_said(
    cloud: Cloud, tenant: Path, run: Callable[..., Any], secret: Callable[..., Any]
) -> None:
    status, told, said = run(tenant, *DEPLOY)
    assert status == 0
    status, more = secret("rotate", tenant)
    assert status == 0, more
    held = [one["value"] for one in cloud.versions] + ["the-master-key", "the-function-key", "token-of-the-engineer"]
    assert len(held) == 5
    everything = json.dumps(cloud.az["calls"]) + json.dumps(told) + said + more + "".join(cloud.requests)
    for value in held:
        assert value not in everything


def test_a_second_run_pauses_waits_and_resumes_around_what_would_kill(
    cloud: Cloud, tenant: Path, run: Callable[..., Any]
) -> None:
    assert run(tenant, *DEPLOY)[0] == 0
    cloud.events.clear()
    cloud.in_flight = [3, 2, 0]
    status, _, said = run(tenant, *DEPLOY)
    assert status == 0, said
    order = [event for event in cloud.events if event != "3 in flight"]
    assert order == ["paused", "2 in flight", "0 in flight", "published", "resumed"]
    assert changing(cloud)[3:] == ["create relaydev-main"], "identity and entra are there already"
    assert len(cloud.versions) == 1, "the secret that serves stays"


def test_somebody_elses_pause_is_left_and_an_earlier_runs_is_ended(
    cloud: Cloud, tenant: Path, run: Callable[..., Any]
) -> None:
    assert run(tenant, *DEPLOY)[0] == 0
    cloud.paused = {"by": "admin-key", "reason": "wrong feed"}
    status, _, said = run(tenant, *DEPLOY)
    assert status == 0 and cloud.paused and "wrong feed; it stays so" in said
    cloud.paused = {"by": "admin-key", "reason": "scripts/deploy"}
    status, _, said = run(tenant, *DEPLOY)
    assert status == 0 and cloud.paused is None and "by an earlier run" in said


@pytest.mark.parametrize("step", ["relaydev-identity", "relaydev-entra", "relaydev-main"])
def test_a_run_that_broke_off_anywhere_is_finished_by_the_next(
    cloud: Cloud, tenant: Path, run: Callable[..., Any], step: str
) -> None:
    scope = (
        "sub create --location westeurope" if step.endswith("identity") else "group create --resource-group rg-relaydev"
    )
    cloud.fault(f"deployment {scope} --name {step}", "ERROR: (InternalServerError) Something went wrong.")
    status, told, said = run(tenant, *DEPLOY)
    assert status == 1 and "InternalServerError" in said and not told["ok"]
    assert told["steps"][-1]["name"] == step.partition("-")[2] and not told["steps"][-1]["ok"]
    status, told, said = run(tenant, *DEPLOY)
    assert status == 0, said
    made = changing(cloud)
    assert made[-1] == "create relaydev-main" and made.count("create relaydev-identity") <= 2
    assert len(cloud.published) == 1


def test_a_publication_that_failed_resumes_and_the_next_run_publishes(
    cloud: Cloud, tenant: Path, run: Callable[..., Any]
) -> None:
    assert run(tenant, *DEPLOY)[0] == 0
    cloud.refusals["POST /api/publish"] = [(500, {"message": "The disk is full."})]
    status, _, said = run(tenant, *DEPLOY)
    assert status == 1 and "The disk is full." in said
    assert cloud.paused is None and cloud.events[-1] == "resumed"
    assert run(tenant, *DEPLOY)[0] == 0 and len(cloud.published) == 2


def test_an_app_that_is_not_indexed_yet_is_resumed_when_it_is(
    cloud: Cloud, tenant: Path, run: Callable[..., Any]
) -> None:
    assert run(tenant, *DEPLOY)[0] == 0
    cloud.refusals["POST /api/resume"] = [(404, {}), (404, {}), (500, {})]
    status, _, said = run(tenant, *DEPLOY)
    assert status == 0 and cloud.paused is None and "resumed" in said


def test_what_is_not_committed_stops_it_before_anything_is_changed(
    cloud: Cloud, tenant: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploy.package, "changed", lambda: ["host.json"])
    status, _, said = run(tenant, *DEPLOY, zip_file=False)
    assert status == 1 and "host.json" in said and "--allow-dirty" in said
    assert changing(cloud) == []
    status, _, said = run(tenant, *DEPLOY, "--zip", "/nonexistent/relay.zip", zip_file=False)
    assert status == 1 and "scripts/package" in said and changing(cloud) == []


def test_playbooks_that_were_added_later_get_their_identity(
    cloud: Cloud, tenant: Path, run: Callable[..., Any]
) -> None:
    assert run(tenant, *DEPLOY)[0] == 0
    with tenant.open("a") as file:
        file.write("param deployPlaybooks = true\n")
    status, told, said = run(tenant, *DEPLOY)
    assert status == 0 and [step["name"] for step in told["steps"]][:2] == ["identity", "main"], said


def test_roles_that_do_not_show_yet_are_waited_for(cloud: Cloud, tenant: Path, run: Callable[..., Any]) -> None:
    cloud.fault("deployment group create", "ERROR: (PrincipalNotFound) Principal 1 does not exist in the directory 2.")
    cloud.refusals["GET /api/deployments"] = [(200, {"status": 3, "message": "AuthorizationPermissionMismatch"})]
    cloud.refusals["GET /secrets"] = [
        (403, {"error": {"code": "Forbidden", "innererror": {"code": "ForbiddenByRbac"}}})
    ]
    cloud.refusals[f"POST /{'00000000-0000-4000-8000-000000000002'}/oauth2"] = [
        (401, {"error_description": "AADSTS7000215: Invalid client secret provided."})
    ]
    status, _, said = run(tenant, *DEPLOY)
    assert status == 0, said
    assert said.count("Once more in") == 2 and "does not know your role yet" in said
    assert "does not know the new secret everywhere yet" in said


def test_a_deleted_vault_is_recovered_before_main(cloud: Cloud, tenant: Path, run: Callable[..., Any]) -> None:
    group = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-relaydev"
    ours = {"vaultId": f"{group}/providers/Microsoft.KeyVault/vaults/kv-relaydev-abc", "location": "westeurope"}
    other = {"vaultId": f"/subscriptions/{SUBSCRIPTION}/resourceGroups/else/v", "location": "westeurope"}
    vaults = [{"name": "kv-relaydev-abc", "properties": ours}]
    cloud.change(deleted_vaults=vaults)
    status, _, said = run(tenant, *DEPLOY)
    assert status == 0, said
    assert changing(cloud)[2:] == ["keyvault recover", "create relaydev-main"]
    cloud.change(deleted_vaults=[{"name": "kv-relaydev-zzz", "properties": other}])
    status, _, said = run(tenant, *DEPLOY)
    assert status == 1 and changing(cloud).count("keyvault recover") == 1, "another group's vault is left alone"
    assert "az keyvault recover" in said


def test_a_deleted_vault_that_may_not_be_seen_is_said_with_its_remedy(
    cloud: Cloud, tenant: Path, run: Callable[..., Any]
) -> None:
    cloud.change(deleted_vaults=[{"name": "kv-relaydev-abc", "properties": {}}])
    denied = "ERROR: (AuthorizationFailed) The client 'engineer' does not have authorization to perform action "
    denied += "'Microsoft.KeyVault/deletedVaults/read' over scope '/subscriptions/1' or the scope is invalid."
    cloud.fault("keyvault list-deleted", denied)
    status, _, said = run(tenant, *DEPLOY)
    assert status == 1
    assert "deleted vaults cannot be seen" in said and "Microsoft.KeyVault/deletedVaults/read" in said
    assert "az keyvault recover --name" in said and not cloud.published


def test_what_if_only_tells_and_changes_nothing(cloud: Cloud, tenant: Path, run: Callable[..., Any]) -> None:
    status, told, said = run(tenant, "--what-if-only")
    assert status == 0 and told["ok"] and told["drift"], said
    assert "main: all of it is new" in said and "Nothing was changed." in said
    assert run(tenant, *DEPLOY)[0] == 0
    before, requests = changing(cloud), len(cloud.requests)
    status, told, said = run(tenant, "--what-if-only")
    assert status == 0 and not told["drift"] and told["changes"]["main"] == [] and "nothing changes" in said
    site = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-relaydev/providers/Microsoft.Web/sites/func-relaydev-abc"
    delta = [{"path": "properties.httpsOnly", "propertyChangeType": "Modify", "before": False, "after": True}]
    delta += [{"path": "properties.noise", "propertyChangeType": "NoEffect"}]
    modified = {"changeType": "Modify", "resourceId": site, "delta": delta}
    ignored = {"changeType": "Ignore", "resourceId": f"{site}x"}
    cloud.change(changes={"main": [modified, ignored]})
    status, told, said = run(tenant, "--what-if-only")
    assert told["drift"] and len(told["changes"]["main"]) == 1
    assert "~ Microsoft.Web/sites/func-relaydev-abc  (properties.httpsOnly)" in said and "noise" not in said
    assert changing(cloud) == before and len(cloud.requests) == requests


def test_it_asks_and_nothing_is_changed_without_a_yes(
    cloud: Cloud, tenant: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, _, said = run(tenant)
    assert status == 1 and "--yes" in said and changing(cloud) == []

    class Terminal:
        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            return "no\n"

    monkeypatch.setattr(sys, "stdin", Terminal())
    status, _, said = run(tenant)
    assert status == 1 and "Type yes:" in said and "Nothing was changed." in said and changing(cloud) == []


def test_missing_rights_are_named_before_anything_is_begun(cloud: Cloud, tenant: Path, run: Callable[..., Any]) -> None:
    contributor = {"actions": ["*"], "notActions": ["Microsoft.Authorization/*/Write"]}
    cloud.change(permissions=[contributor])
    status, _, said = run(tenant, *DEPLOY)
    assert status == 1 and changing(cloud) == []
    assert "Microsoft.Authorization/roleAssignments/write" in said
    assert "Owner, or Contributor and Role Based Access Control Administrator" in said
    status, told, said = run(tenant, "--what-if-only")
    assert status == 0 and "roleAssignments/write" in told["lacking"], "a look needs no more than what it needs"
    administrator = {"actions": ["Microsoft.Authorization/roleAssignments/write"], "notActions": []}
    cloud.change(permissions=[contributor, administrator])
    assert run(tenant, *DEPLOY)[0] == 0


def test_an_engineer_without_a_directory_role_is_told_who_does_the_entra_step(
    cloud: Cloud, tenant: Path, run: Callable[..., Any]
) -> None:
    refusal = "ERROR: (Authorization_RequestDenied) Insufficient privileges to complete the operation."
    cloud.fault("deployment group create --resource-group rg-relaydev --name relaydev-entra", refusal)
    status, _, said = run(tenant, *DEPLOY)
    assert status == 1 and "Privileged Role Administrator" in said and "--only entra" in said
    status, told, said = run(tenant, "--yes", "--only", "entra")
    assert status == 0 and [step["name"] for step in told["steps"]] == ["entra"]
    status, told, said = run(tenant, *DEPLOY)
    assert status == 0 and "entra" not in [step["name"] for step in told["steps"]], said


def test_a_missing_tool_and_a_missing_sign_in(
    cloud: Cloud, tenant: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.change(signed_in=False)
    status, told, said = run(tenant, *DEPLOY)
    assert status == 1 and "nobody is signed in" in said and "az login" in told["remedy"]
    cloud.change(signed_in=True)
    cloud.fault("bicep", "ERROR: Error while attempting to retrieve the latest Bicep version: no network")
    status, told, said = run(tenant, *DEPLOY)
    assert status == 1 and "az bicep install" in told["remedy"]
    monkeypatch.setenv("PATH", "/nonexistent")
    status, told, said = run(tenant, *DEPLOY)
    assert status == 1 and "not on PATH" in said and "Traceback" not in said
    assert changing(cloud) == []


def test_an_app_that_does_not_let_itself_be_asked_stops_the_run_unless_told_to_go_on(
    cloud: Cloud, tenant: Path, run: Callable[..., Any]
) -> None:
    assert run(tenant, *DEPLOY)[0] == 0
    cloud.change(keys={"masterKey": "another", "functionKeys": {}})
    status, _, said = run(tenant, *DEPLOY)
    assert status == 1 and "--no-pause" in said and changing(cloud).count("create relaydev-main") == 1
    status, _, said = run(tenant, *DEPLOY, "--no-pause")
    assert status == 0 and changing(cloud).count("create relaydev-main") == 2, said
    cloud.app_status = 404  # nothing was ever published
    status, _, said = run(tenant, *DEPLOY)
    assert status == 0 and "not at work" in said


def test_a_rolling_update_needs_no_pause(cloud: Cloud, tenant: Path, run: Callable[..., Any]) -> None:
    with tenant.open("a") as file:
        file.write("param updateStrategy = 'RollingUpdate'\n")
    assert run(tenant, *DEPLOY)[0] == 0
    cloud.events.clear()
    status, _, said = run(tenant, *DEPLOY)
    assert status == 0 and cloud.events == ["published"] and "rolling update" in said


def test_easy_auth_with_a_federated_credential_takes_a_token_and_no_secret(
    cloud: Cloud, tmp_path: Path, run: Callable[..., Any]
) -> None:
    tenant = copy(tmp_path, "production")
    cloud.change(tokens={f"api://{API}/.default": "operator"})
    assert run(tenant, *DEPLOY)[0] == 0
    assert cloud.az["main_given"] == {"relayClientId": RELAY, "apiClientId": API}
    assert not cloud.versions and not cloud.secrets and not cloud.calls("keyvault")
    cloud.events.clear()
    status, _, said = run(tenant, *DEPLOY)
    assert status == 0 and cloud.events[-1] == "resumed" and not cloud.calls("functionapp", "keys"), said


def test_ids_that_disagree_and_ids_that_nobody_has(cloud: Cloud, tmp_path: Path, run: Callable[..., Any]) -> None:
    tenant = copy(tmp_path, "dev", **{"11111111-1111-4111-8111-111111111111": "7d1b7a3c-8a43-4f31-9c4e-0f2f3e1d5a10"})
    assert run(tenant, "--yes", "--only", "identity")[0] == 0
    assert run(tenant, "--yes", "--only", "entra")[0] == 0
    status, _, said = run(tenant, *DEPLOY)
    assert status == 1 and RELAY in said and "Remove the line" in said
    other = copy(tmp_path / "other", "dev")
    other.with_name("dev.entra.bicepparam").unlink()
    cloud.reset()
    status, _, said = run(other, *DEPLOY)
    assert status == 1 and "relayClientId are not known" in said and "--only entra" in said


@pytest.mark.parametrize(
    ("comment", "says"),
    [
        (f"// scripts/deploy: subscription={SUBSCRIPTION} group=rg-of-theirs\n", ""),
        ("// scripts/deploy: subscribtion=1\n", "'subscribtion=1' after 'scripts/deploy:' is not known"),
    ],
)
def test_the_comment_in_the_file_names_subscription_and_group(
    cloud: Cloud, tenant: Path, run: Callable[..., Any], comment: str, says: str
) -> None:
    tenant.write_text(comment + tenant.read_text("utf-8"), "utf-8")
    status, told, said = run(tenant, "--what-if-only")
    assert (status == 0) == (not says) and says in said
    if not says:
        assert told["group"] == "rg-of-theirs"
        assert cloud.calls("account", "show")[0][3] == SUBSCRIPTION


def test_a_file_that_is_none_or_does_not_fit(cloud: Cloud, tenant: Path, run: Callable[..., Any]) -> None:
    status, _, said = run(tenant.with_name("dev.identity.bicepparam"), *DEPLOY)
    assert status == 1 and "is no TENANT.bicepparam" in said
    beside = tenant.with_name("dev.identity.bicepparam")
    beside.write_text(beside.read_text("utf-8").replace("'relaydev'", "'other'"), "utf-8")
    status, _, said = run(tenant, *DEPLOY)
    assert status == 1 and "Give both the same name" in said
