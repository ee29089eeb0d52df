"""Every template is sound, and what each parameter set deploys is what was reviewed."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.infra import expanded
from tests.infra.expanded import BEFORE, BICHECK, CLOUDS, GOLDEN, INFRA, PARAMS, SETS

NO_TOOL = "NEITHER `bicep` on PATH NOR ../shared/tools/bicheck: the templates in infra/ were NOT checked"
NO_BICHECK = "NO ../shared/tools/bicheck: whether tests/infra/golden/ is what infra/ deploys was NOT checked"


@pytest.mark.parametrize("file", expanded.templates(), ids=lambda file: str(file.relative_to(INFRA)))
def test_lint_says_nothing_at_all(file: Path) -> None:
    """Most mistakes inside `properties` are warnings with status 0, so the text counts."""
    command = expanded.linter()
    if not command:
        pytest.skip(NO_TOOL)
    done = subprocess.run([*command, str(file)], capture_output=True, text=True, check=False)
    said = [line for line in (done.stdout + done.stderr).splitlines() if re.search(r"\b(Error|Warning|Info)\b", line)]
    assert done.returncode == 0 and not said, "\n".join(said)


@pytest.mark.parametrize("name", [*SETS, *BEFORE])
def test_what_is_deployed_is_what_was_reviewed(name: str) -> None:
    if not BICHECK.exists():
        pytest.skip(NO_BICHECK)
    cloud = CLOUDS.get(name.partition(".")[0], "AzureCloud")
    made = expanded.kept(expanded.expand(PARAMS / f"{name}.bicepparam", name, cloud))
    kept = GOLDEN / f"{name}.json"
    if expanded.writing():
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(made, "utf-8")
    assert kept.exists() and made == kept.read_text("utf-8"), (
        f"{name}: infra/ deploys something else than tests/infra/golden/{name}.json says; {expanded.WRITE}=write "
        "renews it, and the difference is for review"
    )


def test_every_parameter_file_is_among_the_reviewed() -> None:
    kept = {file.stem for file in GOLDEN.glob("*.json")}
    assert kept == {*SETS, *BEFORE}
    named = {file.name.removesuffix(".bicepparam") for file in PARAMS.glob("*.bicepparam")}
    assert {name.partition(".")[0] for name in named} == set(SETS)


SENTINEL = "/subscriptions/x/resourceGroups/rg-siem/providers/Microsoft.OperationalInsights/workspaces/log-sentinel"


def variant(folder: Path, **lines: str) -> Path:
    """A parameter file of main.bicep with these values, as Bicep expressions."""
    template = os.path.relpath(INFRA / "main.bicep", folder)
    text = "".join(f"param {name} = {value}\n" for name, value in lines.items())
    file = folder / "variant.bicepparam"
    file.write_text(f"using '{template}'\n\n{text}", "utf-8")
    return file


@pytest.mark.parametrize(
    ("lines", "cloud"),
    [
        ({"credential": "'managed-identity'", "authMode": "'keys'"}, "AzureCloud"),
        ({"privateNetworking": "true", "appPublicAccess": "false", "privateDnsZones": "false"}, "AzureCloud"),
        ({"privateNetworking": "true", "appPublicAccess": "false", "credential": "'secret'"}, "AzureUSGovernment"),
        (
            {"deployPlaybooks": "true", "sentinelWorkspaceId": f"'{SENTINEL}'", "privateNetworking": "true"},
            "AzureCloud",
        ),
        ({"alerts": "false", "workspaceId": "'/subscriptions/x/workspaces/soc'", "natGateway": "true"}, "AzureCloud"),
        (
            {"defenderTenantId": "'00000000-0000-4000-8000-000000000009'", "cloud": "'gcc'", "credential": "'secret'"},
            "AzureCloud",
        ),
    ],
)
def test_other_choices_are_as_safe(lines: dict[str, str], cloud: str, tmp_path: Path) -> None:
    from tests.infra import test_safety, test_settings

    if not BICHECK.exists():
        pytest.skip(NO_BICHECK)
    clients = {"relayClientId": "'11111111-1111-4111-8111-111111111111'", "apiClientId": "'a'"}
    file = variant(tmp_path, **clients, **lines)
    made = expanded.read(expanded.expand(file, "variant", cloud), "variant")
    for name, check in vars(test_safety).items():
        if name.startswith("test_each_"):
            check(made)
    test_settings.test_each_app_can_start_with_its_settings(made)
    test_settings.test_each_setting_that_is_set_is_read(made)
    if "defenderTenantId" in lines:
        assert made.settings["RELAY_AUTH_TENANT_ID"] == expanded.TENANT
        assert made.settings["RELAY_TENANT_ID"] in lines["defenderTenantId"]
    if lines.get("appPublicAccess") == "false":
        assert made.one("Microsoft.Web/sites")["properties"]["publicNetworkAccess"] == "Disabled"
        assert [one for one in made.of("Microsoft.Network/privateEndpoints") if one["name"].endswith("-app")]
    if cloud == "AzureUSGovernment":
        zones = {one["name"] for one in made.of("Microsoft.Network/privateDnsZones")}
        assert "privatelink.vaultcore.usgovcloudapi.net" in zones and "privatelink.azurewebsites.us" in zones
    if lines.get("privateDnsZones") == "false":
        assert not made.of("Microsoft.Network/privateDnsZones")
    if "deployPlaybooks" in lines:
        assert "private networking" in " ".join(made.outputs["playbookNotes"])
        assert not [one for one in made.of("Microsoft.Logic/workflows") if "queue" in one["name"]]
        policy = made.one("Microsoft.Web/sites/config", "/authsettingsV2")["properties"]["identityProviders"]
        passed = policy["azureActiveDirectory"]["validation"]["defaultAuthorizationPolicy"]["allowedApplications"]
        assert [one for one in passed if "/id-relay-playbook'" in one], "the playbooks' identity is let through"
    if lines.get("alerts") == "false":
        assert not made.of("Microsoft.Insights/scheduledQueryRules")
        assert not made.of("Microsoft.OperationalInsights/workspaces")
        assert made.outputs["workspaceId"].endswith("/soc")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ({"relayClientId": "''"}, "relayClientId is empty"),
        ({"apiClientId": "''"}, "apiClientId is empty"),
        ({"defenderTenantId": "'00000000-0000-4000-8000-000000000009'"}, "choose credential secret"),
        ({"cloud": "'dod'"}, "of another cloud"),
        ({"deployPlaybooks": "true"}, "sentinelWorkspaceId is empty"),
    ],
)
def test_choices_that_do_not_fit_end_the_deployment_before_it_begins(
    lines: dict[str, str], said: str, tmp_path: Path
) -> None:
    if not BICHECK.exists():
        pytest.skip(NO_BICHECK)
    clients = {"relayClientId": "'11111111-1111-4111-8111-111111111111'", "apiClientId": "'a'"}
    with pytest.raises(AssertionError, match=said):
        expanded.expand(variant(tmp_path, **clients | lines), "variant")
