"""The settings and names that a deployment gives are those that the code, host.json and the platform read."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from fnmatch import fnmatch

import pytest

from shared.identity.caller import Role
from shared.identity.clouds import endpoints, missing_settings, vault_address
from shared.settings import PREFIX, Settings, load
from shared.storage.connection import CONTAINERS, NAME, POISON, QUEUE, TABLES, StorageConnection
from shared.telemetry_export import CONNECTION_STRING
from tests.infra.expanded import INFRA, ROOT, SETS, Expanded, golden, parameters

every = pytest.mark.parametrize("made", [golden(name) for name in SETS], ids=SETS)
_READ = {PREFIX + field.name.upper() for field in dataclasses.fields(Settings)}
_SERVICES = ("blobServiceUri", "queueServiceUri", "tableServiceUri", "credential", "clientId")
#: What the Functions host and the exporter of telemetry read.
_PLATFORM = {f"{name}__{part}" for name in ("AzureWebJobsStorage", NAME) for part in _SERVICES} | {
    CONNECTION_STRING,
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
}
_DOC = ROOT / "docs" / "infrastructure.md"


def known(made: Expanded) -> dict[str, str]:
    """The settings with a GUID in place of what only a deployment knows."""
    guid = "00000000-0000-4000-8000-0000000000aa"
    return {name: re.sub(r"^\[reference\(.*\)\.clientId\]$", guid, value) for name, value in made.settings.items()}


@every
def test_each_setting_that_is_set_is_read(made: Expanded) -> None:
    assert set(made.settings) <= _READ | _PLATFORM
    assert set(made.settings) >= _PLATFORM, "with a user-assigned identity every part is needed"


@every
def test_each_app_can_start_with_its_settings(made: Expanded) -> None:
    settings = load(known(made))
    assert missing_settings(settings) == ()
    places = endpoints(settings)
    if settings.credential == "secret":
        assert (
            vault_address(settings)
            == made.outputs["vaultUrl"]
            == f"https://{made.outputs['vaultName']}"
            + (".vault.usgovcloudapi.net" if "microsoftonline.us" in places.authority else ".vault.azure.net")
        )
    else:
        assert not settings.vault_url and not made.outputs["vaultName"]
    if settings.auth == "easy-auth":
        assert settings.auth_client_id
    storage = StorageConnection.from_environment(known(made))
    account = made.outputs["storageAccountName"]
    assert storage.client_id and {uri.split("//")[1].partition(".")[0] for uri in storage.uris.values()} == {account}
    host = made.settings["AzureWebJobsStorage__blobServiceUri"]
    assert host.startswith(f"https://{made.outputs['hostStorageAccountName']}.blob.")
    assert made.outputs["hostStorageAccountName"] != account


def left_to_their_defaults() -> list[str]:
    """Patterns in the table of docs/infrastructure.md."""
    text = _DOC.read_text("utf-8")
    section = text.partition("\n## Settings that are left as they are\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`RELAY_.*?) \| (.+?) \|$", section, flags=re.M)
    assert rows and all(reason for _, reason in rows)
    return [name for cell, _ in rows for name in re.findall(r"`(RELAY_[A-Z_*]+)`", cell)]


def test_every_setting_of_the_code_is_set_or_left_for_a_reason() -> None:
    given = {name for one in SETS for name in golden(one).settings} | {"RELAY_AUTH_TENANT_ID"}
    patterns = left_to_their_defaults()
    without = [name for name in sorted(_READ - given) if not any(fnmatch(name, one) for one in patterns)]
    assert not without, f"neither set by infra/main.bicep nor in the table of docs/infrastructure.md: {without}"
    idle = [one for one in patterns if not any(fnmatch(name, one) for name in _READ - given)]
    assert not idle, f"the table names what is set, or what is no setting: {idle}"


@every
def test_each_queue_table_and_container_is_the_codes(made: Expanded) -> None:
    account = made.outputs["storageAccountName"]
    kinds = "Microsoft.Storage/storageAccounts/"
    assert set(made.short(f"{kinds}queueServices/queues", account)) == {QUEUE, POISON}
    assert set(made.short(f"{kinds}blobServices/containers", account)) == set(CONTAINERS)
    assert set(made.short(f"{kinds}tableServices/tables", account)) == set(TABLES)
    assert f"{QUEUE}-poison" == POISON, "where the host puts what it gives up on"
    assert made.outputs["queueUrl"] == f"{made.settings['RelayStorage__queueServiceUri']}/{QUEUE}"
    package = made.one("Microsoft.Web/sites")["properties"]["functionAppConfig"]["deployment"]["storage"]["value"]
    host = made.outputs["hostStorageAccountName"]
    assert made.short(f"{kinds}blobServices/containers", host) == [package.rpartition("/")[2]]
    assert package.startswith(made.settings["AzureWebJobsStorage__blobServiceUri"] + "/")


@every
def test_each_app_is_what_the_code_and_host_json_say(made: Expanded) -> None:
    config = made.one("Microsoft.Web/sites")["properties"]["functionAppConfig"]
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["requires-python"]
    assert config["runtime"]["name"] == "python" and f">={config['runtime']['version']}," in requires
    names = set(re.findall(r'function_name\("(\w+)"\)', (ROOT / "functions" / "publish.py").read_text("utf-8")))
    for ready in config["scaleAndConcurrency"]["alwaysReady"]:
        kind, _, name = ready["name"].partition(":")
        assert (kind, name) == ("http", "") or (kind == "function" and name in names)
    host = json.loads((ROOT / "host.json").read_text("utf-8"))
    assert "connectionString" not in json.dumps(host), "the connection is named in the code, its address in a setting"


@every
def test_each_lifecycle_rule_lets_the_app_forget_first(made: Expanded) -> None:
    account = made.outputs["storageAccountName"]
    policy = made.one("Microsoft.Storage/storageAccounts/managementPolicies")
    assert policy["name"].startswith(account)
    prefixes = set()
    for rule in policy["properties"]["policy"]["rules"]:
        prefixes |= set(rule["definition"]["filters"]["prefixMatch"])
        deletes = rule["definition"]["actions"]["baseBlob"].get("delete")
        if deletes:
            assert rule["definition"]["filters"]["prefixMatch"] == ["answers/"], "nothing else is deleted by its age"
            assert deletes["daysAfterModificationGreaterThan"] > Settings().keep_keys_days
    assert prefixes <= {f"{name}/" for name in CONTAINERS}


def test_the_registration_has_the_roles_of_the_code_and_the_host_name_of_the_app() -> None:
    made = golden("production.entra")
    api = [one["properties"] for one in made.of("Microsoft.Graph/applications@v1.0") if "appRoles" in one["properties"]]
    assert len(api) == 1
    assert {role["value"] for role in api[0]["appRoles"]} == {role.value for role in Role}
    assert all(role["allowedMemberTypes"] == ["User", "Application"] for role in api[0]["appRoles"])
    assert len({role["id"] for role in api[0]["appRoles"]}) == len(Role)
    host = golden("production").outputs["functionAppName"]
    assert api[0]["web"]["redirectUris"] == [f"https://{host}.azurewebsites.net/.auth/login/aad/callback"]
    assert api[0]["api"]["requestedAccessTokenVersion"] == 2
    scope = api[0]["api"]["oauth2PermissionScopes"][0]
    (passed,) = api[0]["api"]["preAuthorizedApplications"]
    assert scope["value"] == "user_impersonation" and passed["delegatedPermissionIds"] == [scope["id"]]
    site = golden("production").one("Microsoft.Web/sites/config", "/authsettingsV2")["properties"]
    policy = site["identityProviders"]["azureActiveDirectory"]["validation"]["defaultAuthorizationPolicy"]
    assert passed["appId"] in policy["allowedApplications"], "what Entra lets through the platform lets through too"
    text = (INFRA / "entra.bicep").read_text("utf-8")
    assert Settings().federated_audience in parameters("entra.bicep")["federatedAudience"][1]
    for name in ("secret", "federated", "managed-identity"):
        assert f"'{name}'" in text


@pytest.mark.parametrize("template", ["main.bicep", "entra.bicep", "identity.bicep"])
def test_every_parameter_says_why_its_default_is_what_it_is(template: str) -> None:
    found = parameters(template)
    text = (INFRA / template).read_text("utf-8")
    assert set(found) == set(re.findall(r"^param (\w+)", text, flags=re.M))
    bare = [name for name, (told, _) in found.items() if not told]
    assert not bare, f"parameters without a description: {bare}"
    document = _DOC.read_text("utf-8")
    assert [name for name in found if f"`{name}`" not in document] == []
    if template == "main.bicep":
        plain = {"name", "location", "tags", "identityName", "relayClientId", "apiClientId"}
        silent = [name for name, (told, _) in found.items() if "efault" not in told and name not in plain]
        assert not silent, f"defaults without a reason: {silent}"
