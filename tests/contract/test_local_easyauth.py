"""App Service authentication as the host double plays it: what gets through, and what the app is told."""

from __future__ import annotations

import base64
import http.client
import json
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import rsa

from local.host.easyauth import NAME_URI, ROLE_URI, AuthSettings, stack_settings
from local.host.hostjson import HostConfigError
from local.tenant import RunningTenant, running
from tests.contract.host_process import Host

KEY = {"x-functions-key": "the-echo-key"}
OTHER_TENANT = "99999999-9999-4999-8999-999999999999"
TENANT_URI = "http://schemas.microsoft.com/identity/claims/tenantid"


@pytest.fixture(scope="module")
def tenant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningTenant]:
    with running(tmp_path_factory.mktemp("tenant"), {"other_tenants": [OTHER_TENANT]}) as made:
        yield made


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory, azurite: str) -> Iterator[Hosts]:
    made = Hosts(tmp_path_factory, azurite)
    yield made
    made.end()


class Hosts:
    """Host processes of the sample app, by name, each started once."""

    def __init__(self, factory: pytest.TempPathFactory, azurite: str) -> None:
        self._factory = factory
        self._azurite = azurite
        self._hosts: dict[str, Host] = {}

    def get(self, tenant: RunningTenant, name: str, changes: Mapping[str, Any], **settings: str) -> Host:
        """The host with these changes to the usual settings."""
        if name not in self._hosts:
            folder = self._factory.mktemp("easyauth")
            host = self._hosts[name] = Host(folder, self._azurite).__enter__()
            described = tenant.admin.request("GET", "about")
            (folder / "auth.json").write_text(json.dumps(stack_settings(described, "mixed", changes)), "utf-8")
            host.start("http", "--easy-auth", str(folder / "auth.json"), settings=settings)
        return self._hosts[name]

    def end(self) -> None:
        for host in self._hosts.values():
            host.__exit__()


@pytest.fixture(scope="module")
def host(hosts: Hosts, tenant: RunningTenant) -> Host:
    return hosts.get(tenant, "usual", {})


def ask(
    host: Host, token: str | None = None, path: str = "/api/echo/a", method: str = "GET", **headers: str
) -> tuple[int, Any, Any]:
    """Status, headers and what the sample app saw of the request's headers (None when it was not reached)."""
    address = urllib.parse.urlsplit(host.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    bearer = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        connection.request(method, path, None, KEY | bearer | headers)
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    return answer.status, answer.headers, json.loads(content)["headers"] if content.startswith(b"{") else None


def told(seen: Mapping[str, str]) -> dict[str, Any]:
    principal: dict[str, Any] = json.loads(base64.b64decode(seen["x-ms-client-principal"]))
    return principal


def values(principal: Mapping[str, Any], kind: str) -> list[str]:
    return [claim["val"] for claim in principal["claims"] if claim["typ"] == kind]


@pytest.mark.parametrize("version", [1, 2])
def test_a_valid_token_becomes_a_principal(host: Host, tenant: RunningTenant, version: int) -> None:
    token = tenant.admin.caller_token("Submissions.Write", "Indicators.Read", version=version, object_id="O", groups=[])
    status, _, seen = ask(host, token)
    assert status == 200
    principal = told(seen)
    assert principal["auth_typ"] == "aad" and principal["role_typ"] == ROLE_URI and principal["name_typ"] == NAME_URI
    assert values(principal, "roles") == ["Submissions.Write", "Indicators.Read"]
    assert values(principal, TENANT_URI) == [tenant.tenant_id]
    assert int(values(principal, "exp")[0]) > time.time()
    assert seen["x-ms-client-principal-id"] == "O" and seen["x-ms-client-principal-idp"] == "aad"
    assert "x-ms-client-principal-name" not in seen, "an application has no name"


def test_a_person_has_a_name(host: Host, tenant: RunningTenant) -> None:
    token = tenant.admin.caller_token(kind="person", version=2, name="ann@tenant.example")
    assert ask(host, token)[2]["x-ms-client-principal-name"] == "ann@tenant.example"


def test_what_a_client_sends_under_the_platforms_names_is_removed(host: Host, tenant: RunningTenant) -> None:
    forged = {
        "X-MS-CLIENT-PRINCIPAL": "Zm9yZ2Vk",
        "x-ms-client-principal-id": "forged",
        "X-Ms-Client-Principal-Name": "forged",
        "X-MS-CLIENT-PRINCIPAL-IDP": "forged",
        "X-MS-TOKEN-AAD-ACCESS-TOKEN": "forged",
        "X-MS-TOKEN-AAD-ID-TOKEN": "forged",
    }
    assert ask(host, None, **forged)[0] == 401
    status, _, seen = ask(host, tenant.admin.caller_token("Indicators.Read"), **forged)
    assert status == 200 and "forged" not in seen.values() and "Zm9yZ2Vk" not in seen.values()
    assert values(told(seen), "roles") == ["Indicators.Read"]


@pytest.mark.parametrize(
    "options",
    [
        {"tenant": OTHER_TENANT},
        {"tenant": OTHER_TENANT, "version": 2},
        {"audience": "api://somebody-else"},
        {"audience": "https://api.securitycenter.microsoft.com"},
        {"expires_in": -3600},
    ],
)
def test_other_tenants_audiences_and_times_are_401(host: Host, tenant: RunningTenant, options: dict[str, Any]) -> None:
    status, headers, seen = ask(host, tenant.admin.caller_token("Operations.Manage", **options))
    assert (status, seen) == (401, None)
    assert headers["WWW-Authenticate"].startswith("Bearer ") and tenant.api_client_id in headers["WWW-Authenticate"]


def test_signatures_are_checked(host: Host, tenant: RunningTenant) -> None:
    good = tenant.admin.caller_token("Operations.Manage")
    claims = jwt.decode(good, options={"verify_signature": False})
    name = jwt.get_unverified_header(good)["kid"]
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    forged = [
        jwt.encode(claims, other, algorithm="RS256", headers={"kid": name}),
        jwt.encode(claims, other, algorithm="RS256"),
        jwt.encode(claims, "k" * 32, algorithm="HS256", headers={"kid": name}),
        jwt.encode(claims, "", algorithm="none", headers={"kid": name}),
        good[:-6] + "AAAAAA",
        "nonsense",
        "a.b.c",
    ]
    assert [ask(host, token)[0] for token in forged] == [401] * len(forged)
    assert ask(host, good)[0] == 200


def test_no_token_is_401_before_keys_and_routes_are_looked_at(host: Host) -> None:
    assert ask(host)[0] == 401
    assert ask(host, path="/api/echo/fixed")[0] == 401
    assert ask(host, path="/nowhere")[0] == 401
    assert ask(host, path="/admin/host/status")[0] == 401
    assert ask(host, Authorization="Basic YTpi")[0] == 401


def test_a_browsers_preflight_is_let_through_and_nothing_that_only_looks_like_it(host: Host) -> None:
    preflight = {"Origin": "https://page.example", "Access-Control-Request-Method": "GET"}
    assert ask(host, method="OPTIONS", **preflight)[0] == 404, "the sample app has no OPTIONS"
    assert ask(host, method="OPTIONS", Origin="https://page.example")[0] == 401
    assert ask(host, method="GET", **preflight)[0] == ask(host, method="POST", **preflight)[0] == 401


def test_a_managed_identity_gets_its_token_where_it_always_does(host: Host, tenant: RunningTenant) -> None:
    tenant.admin.api_roles("system", "Submissions.Write")
    answer = requests.get(
        tenant.identity_endpoint,
        params={"api-version": "2019-08-01", "resource": f"api://{tenant.api_client_id}"},
        headers={"X-IDENTITY-HEADER": tenant.identity_header},
        timeout=30,
    )
    principal = told(ask(host, answer.json()["access_token"])[2])
    assert values(principal, "roles") == ["Submissions.Write"]
    assert values(principal, "appid") == [tenant.system_identity]


def test_an_application_gets_its_token_by_client_credentials(host: Host, tenant: RunningTenant) -> None:
    tenant.admin.api_roles("direct", "Indicators.Read")
    form = {
        "grant_type": "client_credentials",
        "client_id": tenant.direct_client_id,
        "client_secret": tenant.direct_client_secret,
        "scope": f"api://{tenant.api_client_id}/.default",
    }
    url = f"{tenant.entra}/{tenant.tenant_id}/oauth2/v2.0/token"
    token = requests.post(url, data=form, verify=tenant.ca_file, timeout=30).json()["access_token"]
    assert values(told(ask(host, token)[2]), "roles") == ["Indicators.Read"]


def test_overage_leaves_the_roles(host: Host, tenant: RunningTenant) -> None:
    token = tenant.admin.caller_token("Indicators.Read", kind="person", overage=True, groups=["never told"])
    principal = told(ask(host, token)[2])
    assert values(principal, "roles") == ["Indicators.Read"] and not values(principal, "groups")
    assert json.loads(values(principal, "_claim_names")[0]) == {"groups": "src1"}


def provider(tenant: RunningTenant, **policy: Any) -> dict[str, Any]:
    usual = stack_settings(tenant.admin.request("GET", "about"))["identityProviders"]
    usual["azureActiveDirectory"]["validation"]["defaultAuthorizationPolicy"] = policy
    return {"identityProviders": usual}


def test_allowed_applications_and_principals_are_403(hosts: Hosts, tenant: RunningTenant) -> None:
    changes = provider(tenant, allowedApplications=["APP-1"], allowedPrincipals={"identities": ["O-1"]})
    host = hosts.get(tenant, "policy", changes)

    def status(**options: Any) -> int:
        return ask(host, tenant.admin.caller_token(**options))[0]

    assert status(client_id="app-1", object_id="o-1") == 200
    assert status(client_id="app-1", object_id="o-1", version=2) == 200
    assert status(client_id="app-2", object_id="o-1") == status(client_id="app-1", object_id="o-2") == 403
    assert ask(host)[0] == 401


def test_anonymous_callers_are_let_through_only_where_the_settings_say_so(hosts: Hosts, tenant: RunningTenant) -> None:
    validation = {"requireAuthentication": True, "unauthenticatedClientAction": "AllowAnonymous"}
    host = hosts.get(tenant, "anonymous", {"globalValidation": validation})
    status, _, seen = ask(host, **{"X-MS-CLIENT-PRINCIPAL": "forged"})
    assert status == 200 and not [name for name in seen if name.startswith("x-ms-client")]
    assert ask(host, "nonsense")[0] == 401


def test_excluded_paths_need_no_token_and_prove_nothing(hosts: Hosts, tenant: RunningTenant) -> None:
    validation = {"requireAuthentication": True, "excludedPaths": ["/api/echo"]}
    host = hosts.get(tenant, "excluded", {"globalValidation": validation})
    status, _, seen = ask(host, **{"X-MS-CLIENT-PRINCIPAL": "forged"})
    assert status == 200 and "x-ms-client-principal" not in seen
    assert ask(host, path="/api/broken")[0] == 401


def test_tenants_may_be_listed_in_an_app_setting(hosts: Hosts, tenant: RunningTenant) -> None:
    host = hosts.get(tenant, "tenants", {}, WEBSITE_AUTH_AAD_ALLOWED_TENANTS=f"{OTHER_TENANT}, else")
    assert ask(host, tenant.admin.caller_token())[0] == 403


def test_off_it_leaves_every_header_as_it_is(hosts: Hosts, tenant: RunningTenant) -> None:
    host = hosts.get(tenant, "off", {"platform": {"enabled": False}})
    status, _, seen = ask(host, **{"X-MS-CLIENT-PRINCIPAL": "forged"})
    assert status == 200 and seen["x-ms-client-principal"] == "forged"


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"globalValidation": {"unauthenticatedClientAction": "RedirectToLoginPage"}},
        {"identityProviders": {"azureActiveDirectory": {"registration": {"clientId": "c"}}}},
    ],
)
def test_settings_that_mean_nothing_here_are_refused(properties: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "auth.json").write_text(json.dumps(properties), "utf-8")
    with pytest.raises(HostConfigError):
        AuthSettings.read(tmp_path / "auth.json")
