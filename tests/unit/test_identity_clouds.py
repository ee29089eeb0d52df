"""Addresses per cloud, and the traps among them."""

from __future__ import annotations

import pytest

from shared.errors import SettingsError
from shared.identity.clouds import endpoints, missing_settings, vault_address
from shared.settings import Settings


@pytest.mark.parametrize(
    ("cloud", "authority", "api", "resource"),
    [
        ("commercial", "login.microsoftonline.com", "api.security.microsoft.com", "api.securitycenter.microsoft.com"),
        ("gcc", "login.microsoftonline.com", "api-gcc.securitycenter.microsoft.us", None),
        ("gcc-high", "login.microsoftonline.us", "api-gov.securitycenter.microsoft.us", None),
        ("dod", "login.microsoftonline.us", "api-gov.securitycenter.microsoft.us", None),
    ],
)
def test_identity_addresses_of_each_cloud(cloud: str, authority: str, api: str, resource: str | None) -> None:
    found = endpoints(Settings(cloud=cloud))  # type: ignore[arg-type]
    assert (found.authority, found.api) == (f"https://{authority}", f"https://{api}")
    assert found.scope == f"https://{resource or api}/.default"


def test_identity_each_address_is_replaced_by_itself() -> None:
    regional = endpoints(Settings(defender_url="https://eu.api.security.microsoft.com/"))
    assert regional.api == "https://eu.api.security.microsoft.com"
    assert regional.token_resource == "https://api.securitycenter.microsoft.com"
    other = endpoints(
        Settings(
            authority="login.example:8443", token_resource="https://securitycenter.onmicrosoft.com/windowsatpservice"
        )
    )
    assert other.authority == "https://login.example:8443"
    assert other.scope == "https://securitycenter.onmicrosoft.com/windowsatpservice/.default"
    assert other.api == "https://api.security.microsoft.com"
    assert endpoints(Settings(token_resource="https://a.example/.default")).scope == "https://a.example/.default"


@pytest.mark.parametrize(
    "resource",
    [
        "https://api.security.microsoft.com",
        "https://API.security.microsoft.com/",
        "https://api.security.microsoft.com/.default",
        "https://eu.api.security.microsoft.com",
    ],
)
def test_identity_the_trap_resource_is_refused_with_the_remedy(resource: str) -> None:
    with pytest.raises(SettingsError, match="Microsoft Threat Protection") as caught:
        endpoints(Settings(token_resource=resource))
    assert "RELAY_TOKEN_RESOURCE" in caught.value.remediation and "RELAY_DEFENDER_URL" in caught.value.remediation


@pytest.mark.parametrize(
    "address",
    [
        "http://api.example",
        "api.example",
        "https://",
        "https://user:word@api.example",
        "https://api.example/api",
        "https://api.example?x=1",
        "https://api.example#x",
        "https://api.example:notaport",
        "https://[api.example",
        "ftp://api.example",
    ],
)
def test_identity_only_plain_https_addresses(address: str) -> None:
    with pytest.raises(SettingsError, match="RELAY_DEFENDER_URL") as caught:
        endpoints(Settings(defender_url=address))
    assert "word" not in str(caught.value) + caught.value.remediation
    with pytest.raises(SettingsError, match="RELAY_VAULT_URL"):
        vault_address(Settings(vault_url=address))


def test_identity_a_whole_secret_identifier_is_no_vault() -> None:
    with pytest.raises(SettingsError):
        vault_address(Settings(vault_url="https://v.vault.azure.net/secrets/name/0123"))
    assert vault_address(Settings(vault_url="https://v.vault.azure.net/")) == "https://v.vault.azure.net"


def test_identity_names_every_setting_that_is_missing() -> None:
    assert missing_settings(Settings()) == ("RELAY_TENANT_ID", "RELAY_CLIENT_ID", "RELAY_VAULT_URL")
    assert missing_settings(Settings(credential="federated", tenant_id="t", client_id="c")) == (
        "RELAY_MANAGED_IDENTITY_CLIENT_ID",
    )
    assert missing_settings(Settings(credential="managed-identity")) == ()
