"""What must hold of every deployment, told from the expanded result and not from the text of the templates."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from local.host.easyauth import AuthSettings
from tests.infra.expanded import BEFORE, GROUP_ID, SETS, TENANT, Expanded, golden

AUTOMATION = "f4c81013-99ee-4d62-a7ee-b3f1f648599a"
# What a secret looks like, or how a template would fetch one.
_SECRETS = re.compile(
    r"list(Keys|Secrets|AccountSas|ServiceSas|Credentials|\w*Keys)\(|AccountKey=|SharedAccessKey|[?&]sig=|Password=|"
    r"@Microsoft\.KeyVault|client_secret",
    re.IGNORECASE,
)
_ROLES = {
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b": "Storage Blob Data Owner",
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe": "Storage Blob Data Contributor",
    "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3": "Storage Table Data Contributor",
    "974c5e8b-45b9-4653-ba55-5f855dd0fb88": "Storage Queue Data Contributor",
    "c6a89b2d-59bc-44d0-9896-0f6e12d7b80a": "Storage Queue Data Message Sender",
    "4633458b-17de-408a-b874-0445c86b69e6": "Key Vault Secrets User",
    "b86a8fe4-44ce-4948-aee5-eccb2c155cd7": "Key Vault Secrets Officer",
    "3913510d-42f4-4e42-8a64-420c390055eb": "Monitoring Metrics Publisher",
    "3e150937-b8fe-4cfb-8069-0eaf05ecd056": "Microsoft Sentinel Responder",
    AUTOMATION: "Microsoft Sentinel Automation Contributor",
}
# Known on Flex Consumption to be refused or to break the app (Microsoft's own list, and the Core Tools).
_NOT_ON_FLEX = re.compile(
    r"FUNCTIONS_WORKER_|FUNCTIONS_EXTENSION_VERSION$|SCM_DO_BUILD|ENABLE_ORYX|WEBSITE_RUN_FROM_PACKAGE$|"
    r"WEBSITE_CONTENT|WEBSITE_VNET_ROUTE_ALL$|WEBSITE_AUTH_ENABLED$|AzureWebJobsDashboard$|AzureWebJobsStorage$",
    re.IGNORECASE,
)

every = pytest.mark.parametrize("made", [golden(name) for name in SETS], ids=SETS)


def accounts(made: Expanded) -> list[dict[str, Any]]:
    return made.of("Microsoft.Storage/storageAccounts")


@every
def test_each_deployment_holds_no_secret(made: Expanded) -> None:
    assert not _SECRETS.search(json.dumps(made.resources)) and not _SECRETS.search(json.dumps(made.outputs))
    assert not made.of("Microsoft.KeyVault/vaults/secrets"), "values of secrets never come by a template"
    suspicious = [name for name in made.settings if re.search(r"secret|password|key", name, re.IGNORECASE)]
    assert set(suspicious) <= {"RELAY_SECRET_NAME"}
    assert not [name for name in made.outputs if re.search(r"secret|password|key|connection", name, re.IGNORECASE)]


@every
def test_each_storage_account_takes_identities_only(made: Expanded) -> None:
    assert len(accounts(made)) == 2
    for account in accounts(made):
        properties = account["properties"]
        assert properties["allowSharedKeyAccess"] is False and properties["allowBlobPublicAccess"] is False
        assert properties["minimumTlsVersion"] == "TLS1_2" and properties["supportsHttpsTrafficOnly"] is True
        assert properties["isLocalUserEnabled"] is False and properties["allowCrossTenantReplication"] is False
    for container in made.of("Microsoft.Storage/storageAccounts/blobServices/containers"):
        assert container["properties"]["publicAccess"] == "None"


@every
def test_each_vault_is_for_roles_and_cannot_be_purged(made: Expanded) -> None:
    vaults = made.of("Microsoft.KeyVault/vaults")
    assert len(vaults) == (made.settings["RELAY_CREDENTIAL"] == "secret")
    for vault in vaults:
        properties = vault["properties"]
        assert properties["enableRbacAuthorization"] is True and not properties.get("accessPolicies")
        assert properties["enablePurgeProtection"] is True and properties["softDeleteRetentionInDays"] == 90
        log = [one for one in made.of("Microsoft.Insights/diagnosticSettings") if vault["name"] in one["scope"]]
        assert log and log[0]["properties"]["logs"] == [{"categoryGroup": "allLogs", "enabled": True}]


@every
def test_each_app_has_one_door_and_no_passwords(made: Expanded) -> None:
    site = made.one("Microsoft.Web/sites")
    assert site["properties"]["httpsOnly"] is True and site["kind"] == "functionapp,linux"
    config = site["properties"]["siteConfig"]
    assert config["ftpsState"] == "Disabled" and config["minTlsVersion"] == config["scmMinTlsVersion"] == "1.2"
    assert not config.get("linuxFxVersion") and not config.get("appSettings")
    policies = made.of("Microsoft.Web/sites/basicPublishingCredentialsPolicies")
    assert {one["name"].rpartition("/")[2]: one["properties"]["allow"] for one in policies} == {
        "ftp": False,
        "scm": False,
    }
    assert site["identity"]["type"] == "UserAssigned" and len(site["identity"]["userAssignedIdentities"]) == 1
    storage = site["properties"]["functionAppConfig"]["deployment"]["storage"]
    assert storage["authentication"]["type"] == "UserAssignedIdentity"
    assert storage["authentication"]["userAssignedIdentityResourceId"] in site["identity"]["userAssignedIdentities"]
    assert made.one("Microsoft.Insights/components")["properties"]["DisableLocalAuth"] is True


@every
def test_each_setting_is_one_that_flex_consumption_takes(made: Expanded) -> None:
    assert not [name for name in made.settings if _NOT_ON_FLEX.match(name)]


@every
def test_each_role_is_on_a_resource_and_of_those_that_are_known(made: Expanded) -> None:
    assignments = made.of("Microsoft.Authorization/roleAssignments")
    assert len(assignments) >= 9
    for one in assignments:
        scope, role = one.get("scope", ""), one["properties"]["roleDefinitionId"].rpartition("/")[2]
        assert role in _ROLES
        # Sentinel runs playbooks of a group, and its role is taken on groups alone; it can do nothing with data.
        narrow = re.match(r"/subscriptions/[\w-]+/resourceGroups/[\w-]+/providers/Microsoft\.", scope)
        assert narrow or (role == AUTOMATION and scope in ("", GROUP_ID)), "as wide as the group or wider"
        assert one["properties"].get("description"), "each says what it is for"
    assert not made.of("Microsoft.Authorization/roleDefinitions")


@every
def test_each_network_is_closed_where_it_was_asked_to_be(made: Expanded) -> None:
    networks = made.of("Microsoft.Network/virtualNetworks")
    closed = bool(networks)
    for account in accounts(made):
        assert account["properties"]["publicNetworkAccess"] == ("Disabled" if closed else "Enabled")
        assert account["properties"]["networkAcls"]["defaultAction"] == ("Deny" if closed else "Allow")
    for vault in made.of("Microsoft.KeyVault/vaults"):
        assert vault["properties"]["networkAcls"]["defaultAction"] == ("Deny" if closed else "Allow")
        if vault["properties"]["networkAcls"]["ipRules"]:
            assert closed and vault["properties"]["publicNetworkAccess"] == "Enabled"
    reached = {one["name"].split("-", 2)[2] for one in made.of("Microsoft.Network/privateEndpoints")}
    wanted = {"data-blob", "data-queue", "data-table", "host-blob", "host-table"}
    wanted |= {"vault"} if made.of("Microsoft.KeyVault/vaults") else set()
    assert reached - {"app"} == (wanted if closed else set())
    site = made.one("Microsoft.Web/sites")["properties"]
    assert bool(site.get("virtualNetworkSubnetId")) == closed
    for network in networks:
        subnets = {one["name"]: one["properties"] for one in network["properties"]["subnets"]}
        assert subnets["app"]["delegations"][0]["properties"]["serviceName"] == "Microsoft.App/environments"
        assert all(subnet["networkSecurityGroup"] for subnet in subnets.values())


@every
def test_each_app_is_behind_the_authentication_that_its_setting_names(made: Expanded) -> None:
    properties = made.one("Microsoft.Web/sites/config", "/authsettingsV2")["properties"]
    if made.settings["RELAY_AUTH"] == "keys":
        assert properties == {"platform": {"enabled": False}}, "what an earlier deployment switched on is off again"
        return
    read = AuthSettings.of(properties)  # the same fields that the double of the platform reads
    assert read.enabled and read.required and read.action == "Return401" and not read.excluded
    assert read.client_id == made.settings["RELAY_AUTH_CLIENT_ID"]
    assert read.audiences == {read.client_id, f"api://{read.client_id}"}
    assert read.applications, "an empty list would let every application through"
    assert read.tenant == made.settings.get("RELAY_AUTH_TENANT_ID", made.settings["RELAY_TENANT_ID"])
    active = properties["identityProviders"]["azureActiveDirectory"]
    assert "clientSecretSettingName" not in active["registration"]
    government = made.settings["RELAY_CLOUD"] in ("gcc-high", "dod")
    assert read.issuer.startswith("https://login.microsoftonline." + ("us/" if government else "com/"))


@pytest.mark.parametrize("name", ["dev.entra", "production.entra"])
def test_the_registrations_are_as_narrow_as_they_can_be(name: str) -> None:
    made = golden(name)
    graph = "Microsoft.Graph/"
    text = json.dumps(made.resources)
    assert "passwordCredentials" not in text and "keyCredentials" not in text
    for app in made.of(f"{graph}applications@v1.0"):
        properties = app["properties"]
        if "identifierUris" in properties:
            assert set(properties) == {"uniqueName", "displayName", "identifierUris"}
            continue
        assert properties["signInAudience"] == "AzureADMyOrg" and properties["owners"] == {"relationships": []}
        assert properties["servicePrincipalLockConfiguration"]["isEnabled"] is True
        for wanted in properties.get("requiredResourceAccess", []):
            assert wanted["resourceAppId"] == "fc780465-2017-40d4-a0c5-307022471b92"
            (only,) = wanted["resourceAccess"]
            assert only["type"] == "Role" and "'Ti.ReadWrite'" in only["id"], "looked up by its name, and the narrower"
    for principal in made.of(f"{graph}servicePrincipals@v1.0"):
        assert principal["properties"]["appRoleAssignmentRequired"] is True
    consents = [
        one["properties"]
        for one in made.of(f"{graph}appRoleAssignedTo@v1.0")
        if one["properties"]["resourceId"] == "[reference('defender').id]"
    ]
    assert [(one["principalId"], "Ti.ReadWrite" in one["appRoleId"]) for one in consents] == [
        ("[reference('relayPrincipal').id]", True)
    ]
    federated = made.of(f"{graph}applications/federatedIdentityCredentials@v1.0")
    assert len(federated) == (name == "production.entra")
    for one in federated:
        assert one["properties"]["subject"].endswith("/id-relay', '2023-01-31').principalId]"), "the object id"
        assert one["properties"]["audiences"] == ["api://AzureADTokenExchange"]
        assert one["properties"]["issuer"] == f"https://login.microsoftonline.com/{TENANT}/v2.0"


@pytest.mark.parametrize("name", BEFORE)
def test_the_steps_before_tell_no_secret(name: str) -> None:
    made = golden(name)
    assert not _SECRETS.search(json.dumps(made.resources)) and not _SECRETS.search(json.dumps(made.outputs))
