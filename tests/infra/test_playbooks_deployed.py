"""What infra/modules/playbooks.bicep deploys: workflows whose parameters fit, and the rights they have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.infra import expanded
from tests.infra.expanded import BICHECK, GROUP_ID, INFRA, Expanded
from tests.support.logicapps import Workflow, World

WORKSPACE = (
    "/subscriptions/00000000-0000-4000-8000-000000000009/resourceGroups/rg-siem"
    "/providers/Microsoft.OperationalInsights/workspaces/law-sentinel"
)
QUEUE = f"{GROUP_ID}/providers/Microsoft.Storage/storageAccounts/strelay/queueServices/default/queues/indicators"
ROLES = {
    "c6a89b2d-59bc-44d0-9896-0f6e12d7b80a": "Storage Queue Data Message Sender",
    "3e150937-b8fe-4cfb-8069-0eaf05ecd056": "Microsoft Sentinel Responder",
    "8d289c81-5878-46d4-8554-54e1e3d8b5cb": "Microsoft Sentinel Reader",
    "f4c81013-99ee-4d62-a7ee-b3f1f648599a": "Microsoft Sentinel Automation Contributor",
}
SENTINEL_RUNS = "22222222-2222-4222-8222-222222222222"
BASE = {
    "name": "'relay'",
    "location": "'westeurope'",
    "sentinelWorkspaceId": f"'{WORKSPACE}'",
    "queueUrl": "'https://strelay.queue.example/indicators'",
    "storageAccountName": "'strelay'",
    "functionAppHostname": "'func-relay-x.azurewebsites.net'",
    "apiClientId": "'11111111-1111-4111-8111-111111111111'",
}

pytestmark = pytest.mark.skipif(
    not BICHECK.exists(), reason="NO ../shared/tools/bicheck: what the playbooks' module deploys was NOT checked"
)


def deployed(folder: Path, **parameters: str) -> Expanded:
    """What the module deploys with these parameters, as Bicep expressions."""
    file = folder / "playbooks.bicepparam"
    lines = [f"using '{os.path.relpath(INFRA / 'modules' / 'playbooks.bicep', folder)}'"]
    lines += [f"param {name} = {value}" for name, value in (BASE | parameters).items()]
    file.write_text("\n".join(lines) + "\n", "utf-8")
    return expanded.read(expanded.expand(file, "playbooks"), "playbooks")


def workflows(found: Expanded) -> dict[str, dict[str, Any]]:
    return {one["name"].removeprefix("logic-relay-"): one for one in found.of("Microsoft.Logic/workflows")}


def rights(found: Expanded) -> list[tuple[str, str]]:
    """(role, scope below the subscription), sorted."""
    told = []
    for one in found.of("Microsoft.Authorization/roleAssignments"):
        properties = one["properties"]
        assert properties["principalType"] == "ServicePrincipal" and properties["description"]
        role = ROLES[properties["roleDefinitionId"].rpartition("/")[2]]
        told.append((role, one.get("scope") or GROUP_ID))
    return sorted(told)


def rule(found: Expanded) -> dict[str, Any]:
    properties: dict[str, Any] = found.one("Microsoft.SecurityInsights/automationRules")["properties"]
    return properties


def test_by_default_every_playbook_with_just_its_rights(tmp_path: Path) -> None:
    found = deployed(tmp_path)
    made = workflows(found)
    assert set(made) == {"queue-incident", "submit-incident"} | {
        f"submit-{kind}" for kind in ("ip", "url", "domain", "filehash")
    }
    assert rights(found) == [
        ("Microsoft Sentinel Responder", WORKSPACE),
        ("Storage Queue Data Message Sender", QUEUE),
    ]
    assert not found.of("Microsoft.SecurityInsights/automationRules")
    assert found.outputs["notes"] == []
    assert made["queue-incident"]["identity"] == {"type": "SystemAssigned"}
    identity = f"{GROUP_ID}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-relay-playbook"
    for name, one in made.items():
        if name != "queue-incident":
            assert one["identity"] == {"type": "UserAssigned", "userAssignedIdentities": {identity: {}}}


def test_definitions_and_parameters_fit_and_hold_no_secret(tmp_path: Path) -> None:
    for name, one in workflows(deployed(tmp_path, action="'Block'", expiration="'PT12H'")).items():
        given = {key: about["value"] for key, about in one["properties"]["parameters"].items()}
        ready = Workflow(one["properties"]["definition"], parameters=given, world=World(tokens={}))
        assert ready.parameters["action"] == "Block" and ready.parameters["expiration"] == "PT12H"
        [connection] = ready.parameters["$connections"].values()
        authentication = connection["connectionProperties"]["authentication"]
        expected = {"type"} if name == "queue-incident" else {"type", "identity"}
        assert set(authentication) == expected and authentication["type"] == "ManagedServiceIdentity"
        if name == "queue-incident":
            assert given["queueUrl"] == "https://strelay.queue.example/indicators"
        else:
            assert given["relayUrl"] == "https://func-relay-x.azurewebsites.net"
            assert given["relayAudience"] == "11111111-1111-4111-8111-111111111111"
            assert given["identity"] == authentication["identity"]


def test_each_kind_of_entity_has_the_path_that_sentinel_looks_for(tmp_path: Path) -> None:
    paths = {}
    for name, one in workflows(deployed(tmp_path)).items():
        [trigger] = one["properties"]["definition"]["triggers"].values()
        paths[name] = trigger["inputs"]["path"]
        assert trigger["inputs"]["body"] == {"callback_url": "@{listCallbackUrl()}"}
    entity = "/entity/@{encodeURIComponent('%s')}"
    assert paths == {
        "queue-incident": "/incident-creation",
        "submit-incident": "/incident-creation",
        "submit-ip": entity % "IP",
        "submit-url": entity % "UrlEntity",
        "submit-domain": entity % "DNS",
        "submit-filehash": entity % "FileHash",
    }


def test_an_automation_rule_runs_the_queue_for_the_chosen_analytics_rules(tmp_path: Path) -> None:
    found = deployed(
        tmp_path,
        automationRule="true",
        analyticsRuleIds=f"['{WORKSPACE}/providers/Microsoft.SecurityInsights/alertRules/a']",
        securityInsightsPrincipalId=f"'{SENTINEL_RUNS}'",
    )
    [condition] = rule(found)["triggeringLogic"]["conditions"]
    assert condition["conditionProperties"]["propertyName"] == "IncidentRelatedAnalyticRuleIds"
    assert condition["conditionProperties"]["propertyValues"][0].endswith("/alertRules/a")
    [action] = rule(found)["actions"]
    assert action["actionConfiguration"] == {
        "logicAppResourceId": f"{GROUP_ID}/providers/Microsoft.Logic/workflows/logic-relay-queue-incident",
        "tenantId": expanded.TENANT,
    }
    assert ("Microsoft Sentinel Automation Contributor", GROUP_ID) in rights(found)
    without = deployed(tmp_path, automationRule="true")
    assert rule(without)["triggeringLogic"]["conditions"] == [] and len(rights(without)) == 2


def test_with_private_networking_there_is_no_playbook_for_the_queue_and_it_says_so(tmp_path: Path) -> None:
    found = deployed(tmp_path, privateNetworking="true", automationRule="true")
    assert "queue-incident" not in workflows(found)
    assert rights(found) == [("Microsoft Sentinel Responder", WORKSPACE)]
    [note] = found.outputs["notes"]
    assert "private networking" in note and "over HTTP" in note
    [action] = rule(found)["actions"]
    assert action["actionConfiguration"]["logicAppResourceId"].endswith("/logic-relay-submit-incident")


def test_with_keys_there_is_nothing_over_http_and_it_says_so(tmp_path: Path) -> None:
    found = deployed(tmp_path, apiClientId="''", queuePlaybookReadsSentinel="true")
    assert set(workflows(found)) == {"queue-incident"}
    assert rights(found) == [
        ("Microsoft Sentinel Reader", WORKSPACE),
        ("Storage Queue Data Message Sender", QUEUE),
    ]
    [note] = found.outputs["notes"]
    assert "Easy Auth" in note
    nothing = deployed(tmp_path, apiClientId="''", privateNetworking="true", automationRule="true")
    assert not workflows(nothing) and not rights(nothing) and len(nothing.outputs["notes"]) == 3
    assert not nothing.of("Microsoft.SecurityInsights/automationRules")


def test_runs_are_logged_where_asked(tmp_path: Path) -> None:
    found = deployed(tmp_path, logWorkspaceId=f"'{WORKSPACE}'", entityKinds="['ip']")
    assert len(found.of("Microsoft.Insights/diagnosticSettings")) == len(workflows(found)) == 3
