"""The parts of scripts/deploy that decide: rights, errors and their remedies, changes, who is at work."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deploy import az, changes, trouble
from deploy.canary import Canary
from deploy.deploy import STEPS
from deploy.quiet import in_flight
from deploy.rights import may
from deploy.say import Failed
from deploy.tenant import Parameters, directive, outputs_of
from deploy.vault import standing
from deploy.verification import OTHERS, Credentials
from deploy.web import Answer, Site, Unreachable, check_url

ROOT = Path(__file__).resolve().parents[2]
OWNER = {"actions": ["*"], "notActions": []}
CONTRIBUTOR = {"actions": ["*"], "notActions": ["Microsoft.Authorization/*/Delete", "Microsoft.Authorization/*/Write"]}
READER = {"actions": ["*/read"], "notActions": []}
WEBSITE = {"actions": ["Microsoft.Web/sites/*", "Microsoft.Authorization/*/read"], "notActions": []}


@pytest.mark.parametrize(
    ("action", "roles", "allowed"),
    [
        ("Microsoft.Authorization/roleAssignments/write", [OWNER], True),
        ("Microsoft.Authorization/roleAssignments/write", [CONTRIBUTOR], False),
        ("Microsoft.Authorization/roleAssignments/write", [CONTRIBUTOR, OWNER], True),
        ("Microsoft.Authorization/roleAssignments/write", [], False),
        ("Microsoft.Web/sites/write", [READER], False),
        ("Microsoft.Web/sites/publish/Action", [WEBSITE], True),
        ("microsoft.web/SITES/write", [WEBSITE], True),
        ("Microsoft.Storage/storageAccounts/write", [WEBSITE], False),
        ("Microsoft.Web/sites/write", [{"actions": None}], False),
    ],
)
def test_a_right_is_an_action_that_a_role_has_and_does_not_take_back(
    action: str, roles: list[dict[str, Any]], allowed: bool
) -> None:
    assert may(action, roles) is allowed


SAID = {
    "az login": "ERROR: Please run 'az login' to setup account.",
    "az login (with": "ERROR: AADSTS700082: The refresh token has expired due to inactivity.",
    "az login --scope": "ERROR: AADSTS50076: Due to a configuration change made by your administrator, ...",
    "pre-authorises": "ERROR: AADSTS65001: The user or administrator has not consented to use the application",
    "az account list": "ERROR: The subscription of 'abc' doesn't exist in cloud 'AzureCloud'.",
    "az keyvault recover": "(ConflictError) A vault with the same name already exists in deleted state. You need to",
    "in a minute": "(PrincipalNotFound) Principal abc does not exist in the directory def.",
    "role that each step": "(AuthorizationFailed) The client 'a' does not have authorization to perform "
    "action 'Microsoft.Web/sites/write' over scope '/subscriptions/1' or the scope is invalid.",
    "Privileged Role": "(Authorization_RequestDenied) Insufficient privileges to complete the operation.",
    "docs/deploy.md lists": "Operation returned an invalid status (Forbidden)",
    "exemption of this": '{"code":"RequestDisallowedByPolicy","policyDefinitionDisplayName": "Allowed locations"}',
    "The portal names it": "(RequestDisallowedByPolicy)",
    "az provider register --wait --namespace Microsoft.Web": "(MissingSubscriptionRegistration) The subscription is "
    "not registered to use namespace 'Microsoft.Web'. See https://aka.ms/rps-not-found",
    "az lock list": "(ScopeLocked) The scope '/x' cannot perform write operation because following scope(s) are locked",
    "Wait for it": "(DeploymentActive) Unable to edit or replace deployment 'x': previous deployment is still active",
    "list-flexconsumption-locations": "(LocationNotAvailableForResourceType) The location 'x' is not available",
    "Quotas": "(SubscriptionIsOverQuotaForSku) This region has quota of 0 instances for your subscription.",
    "az bicep install": "ERROR: Error while attempting to retrieve the latest Bicep version: HTTPSConnectionPool",
    "bicep lint FILE": '/x/main.bicep(3,1) : Error BCP018: Expected the "=" character at this location.',
    "Run the earlier steps": "(ResourceGroupNotFound) Resource group 'rg' could not be found.",
    "network and proxy": "ERROR: HTTPSConnectionPool(host='management.azure.com', port=443): Max retries exceeded",
    "az upgrade (": "ERROR: unrecognized arguments: --resource-type vault",
}


def test_every_known_failure_has_its_own_remedy() -> None:
    used = set()
    for remedy, said in SAID.items():
        error = trouble.explained("deploy relay-main", f"WARNING: something else\n{said}")
        assert remedy in error.remedy, (said, error.remedy)
        assert error.what.startswith("Could not deploy relay-main: ")
        used.add(next(entry for entry in trouble.TABLE if re.search(entry[0], said, re.DOTALL | re.IGNORECASE)))
    assert used == set(trouble.TABLE), [entry[0] for entry in trouble.TABLE if entry not in used]
    right = trouble.explained("x", SAID["role that each step"])
    assert isinstance(right, trouble.Denied)
    assert "you may not do Microsoft.Web/sites/write on /subscriptions/1" in right.what
    assert isinstance(trouble.explained("x", SAID["in a minute"]), trouble.NotYet)
    assert isinstance(trouble.explained("x", SAID["Run the earlier steps"]), trouble.NotThere)


def test_what_nobody_knows_is_passed_on_without_what_looks_secret() -> None:
    token = "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJ4In0.c2lnbmF0dXJl"
    error = trouble.explained(
        "deploy x", f"Traceback\nERROR: odd: {token} client_secret=abcdefghijklmnop key: zzzzzzzzzzzzzz"
    )
    assert "ERROR: odd" in error.what and "(token)" in error.what
    for secret in (token, "abcdefghijklmnop", "zzzzzzzzzzzzzz"):
        assert secret not in str(error)
    assert "said nothing" in trouble.explained("deploy x", "").what


def test_of_a_what_if_only_what_is_real_counts() -> None:
    base = "/subscriptions/1/resourceGroups/rg/providers"
    nested = {"path": "properties", "propertyChangeType": "Modify", "children": [{"path": "a"}, {"path": "b"}]}
    answer = {
        "changes": [
            {"changeType": "Modify", "resourceId": f"{base}/Microsoft.Web/sites/x", "delta": [nested]},
            {"changeType": "NoChange", "resourceId": f"{base}/Microsoft.Web/sites/y"},
            {"changeType": "Unsupported", "resourceId": f"{base}/Microsoft.Web/sites/z"},
            {"changeType": "Create", "resourceId": "/subscriptions/1/resourceGroups/rg"},
        ]
    }
    found = changes.read(answer)
    assert [(one.kind, one.resource, one.properties) for one in found] == [
        ("Create", "rg", ()),
        ("Modify", "Microsoft.Web/sites/x", ("properties.a", "properties.b")),
    ]
    assert changes.read(None) == [] and changes.lines([]) == ["    nothing changes"]
    many = changes.lines(found * 50)
    assert len(many) == 61 and many[-1].strip() == "... and 40 more"


def test_who_was_seen_too_long_ago_is_not_at_work() -> None:
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)

    def worker(ago: float, busy: int) -> dict[str, Any]:
        return {"lastSeen": (now - timedelta(seconds=ago)).isoformat().replace("+00:00", "Z"), "inFlight": busy}

    assert in_flight({"workers": [worker(10, 3), worker(149, 4), worker(151, 100)]}, now) == 7
    assert in_flight({"workers": []}, now) == in_flight({}, now) == 0


def test_a_secret_serves_by_its_newest_version() -> None:
    now = datetime(2026, 11, 22, tzinfo=UTC)
    later, earlier = int((now + timedelta(days=5)).timestamp()), int((now - timedelta(days=5)).timestamp())

    def version(created: int, **attributes: Any) -> dict[str, Any]:
        return {"attributes": {"created": created, "enabled": True, **attributes}}

    assert standing([], now) is None
    assert standing([version(1, exp=later)], now) == now + timedelta(days=5)
    assert standing([version(1, exp=later), version(2, exp=earlier)], now) is None
    assert standing([version(1, exp=earlier), version(2, exp=later)], now) is not None
    assert standing([version(1, exp=later, enabled=False)], now) is None
    assert standing([version(1)], now) is not None, "without an end it serves"


def test_defaults_that_are_computed_are_no_values() -> None:
    compiled = {
        "parametersJson": '{"parameters": {"name": {"value": "contoso"}}}',
        "templateJson": '{"parameters": {"name": {"defaultValue": "relay"}, "lock": {"defaultValue": false}, '
        '"identityName": {"defaultValue": "[format(\'id-{0}\', parameters(\'name\'))]"}, "location": {}}}',
    }
    parameters = Parameters(compiled, Path("x"))
    assert parameters.get("name") == "contoso" and parameters.get("lock") is False
    assert parameters.get("identityName", "id-contoso") == "id-contoso" and parameters.get("location") == ""
    with pytest.raises(Failed, match="az upgrade"):
        Parameters({"parametersJson": "{"}, Path("x"))


def test_only_what_succeeded_has_outputs() -> None:
    done = {"properties": {"provisioningState": "Succeeded", "outputs": {"a": {"value": "b"}}}}
    failed = {"properties": {"provisioningState": "Failed", "outputs": {"a": {"value": "b"}}}}
    assert outputs_of(done) == {"a": "b"} and outputs_of(failed) is None and outputs_of(None) is None


def test_the_comment_says_only_what_is_known() -> None:
    assert directive("// scripts/deploy: subscription=1 group=rg\nusing 'x'", "f") == {
        "subscription": "1",
        "group": "rg",
    }
    assert directive("using 'x'", "f") == {}
    for wrong in ("tenant=1", "subscription", "subscription="):
        with pytest.raises(Failed, match="Known: subscription, group"):
            directive(f"// scripts/deploy: {wrong}", "f")


def test_a_key_goes_to_https_or_to_this_machine() -> None:
    assert check_url("https://func.azurewebsites.net/") == "https://func.azurewebsites.net"
    assert check_url("http://127.0.0.1:7071") == "http://127.0.0.1:7071"
    for wrong in (
        "http://func.azurewebsites.net",
        "https://u:p@func",
        "https://func/api",
        "https://func?code=1",
        "func",
    ):
        with pytest.raises(Failed):
            check_url(wrong)


class Slow(Site):
    """An app under load: each answer takes three seconds longer than it should, as far as its caller waits for it."""

    def __init__(self) -> None:
        super().__init__("http://localhost")
        self.asked: list[str] = []

    def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: Any = None, timeout: float = 60.0
    ) -> Answer:
        self.asked.append(path)
        wait = int(path.partition("?wait=")[2] or 0)
        if timeout < wait + 3.0:
            raise Unreachable("No answer: it took too long.", "Check the app.")
        time.sleep(0.2)
        if path.startswith("/api/operations"):
            return Answer(200, {}, b'{"workers": [], "text": "One message is queued."}')
        if path.startswith("/api/indicators"):
            return Answer(200, {}, b'{"indicators": []}')
        return Answer(202, {}, b'{"id": "x", "text": "Of 1 submitted: 1 pending; 1 not finished."}')


def test_an_app_that_answers_late_is_not_taken_for_one_that_does_not_answer() -> None:
    """What is known of the reason must not be lost to the last look's being a little late."""
    site = Slow()
    canary = Canary(site, {}, {}, lambda _: None, timeout=2.0)
    canary.submit()
    with pytest.raises(Failed) as told:
        canary.published()
    assert "not published after 2 s. One message is queued. No worker" in told.value.what
    with pytest.raises(Failed) as told:
        canary.seen()
    assert "does not show it after 2 s" in told.value.what
    with pytest.raises(Failed) as told:
        canary.undo()
    assert "has not ended after 2 s. One message is queued." in told.value.what
    assert any("?wait=" in path for path in site.asked)


def test_credentials_show_nothing_of_themselves() -> None:
    for who in (Credentials(key="abc", master="def"), Credentials(token="ghi", weak_token="jkl")):
        assert not re.search("abc|def|ghi|jkl", repr(who))
    assert Credentials(token="no token at all").roles() == frozenset()


def test_each_command_says_what_it_is_for_and_prints_json() -> None:
    for command in az.every():
        assert command.does and command.line[-3:] == ("--only-show-errors", "--output", "json")
        words = {"create", "recover", "delete"} & set(command.arguments)
        assert command.changes == bool(words), command
        assert ("--yes" in command.arguments) == (command.arguments[:2] == ("group", "delete"))


def test_the_functions_without_a_route_are_those_of_the_app() -> None:
    source = "".join(file.read_text("utf-8") for file in (ROOT / "functions").glob("*.py"))
    assert set(re.findall(r'@bp\.function_name\("(\w+)"\)', source)) == OTHERS


def test_the_manual_has_every_option_step_and_script() -> None:
    manual = (ROOT / "docs" / "deploy.md").read_text("utf-8")
    for name in ("deploy", "secret", "remove"):
        for option in re.findall(r'add_argument\("(--[\w-]+)"', (ROOT / "deploy" / f"{name}.py").read_text("utf-8")):
            assert option in manual or option in ("--subscription", "--timeout"), (name, option)
    for step in (*STEPS, "secret", "pause"):
        assert f"| {step} |" in manual, step
    verification = (ROOT / "deploy" / "verification.py").read_text("utf-8")
    steps = re.findall(r'^            \("([\w-]+)", ', verification, re.MULTILINE)
    assert len(steps) == 9
    for step in (*steps, "reach", "sign-in"):
        assert f"  ok    {step}: " in manual, step
