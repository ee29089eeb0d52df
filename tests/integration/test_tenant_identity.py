"""Entra, the managed identity endpoint and Key Vault of the double, with the genuine SDKs and by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.identity import ClientAssertionCredential, ClientSecretCredential, ManagedIdentityCredential
from azure.keyvault.secrets import SecretClient

from local.tenant import RunningTenant, running
from tests.integration.tenant_helpers import RESOURCE, Client, ask_token, token

VAULT = "https://vault.azure.net"
EXCHANGE = "api://AzureADTokenExchange"
SCOPE = f"{RESOURCE}/.default"
NOWHERE = "00000000-0000-0000-0000-00000000dead"


@pytest.fixture
def tenant(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningTenant]:
    with running(tmp_path_factory.mktemp("tenant")) as made:
        for name, value in made.environment().items():
            if not name.startswith("RELAY_"):
                monkeypatch.setenv(name, value)
        yield made


def claims(of: str) -> dict[str, Any]:
    decoded: dict[str, Any] = jwt.decode(of, options={"verify_signature": False})
    return decoded


def refused(answer: requests.Response) -> tuple[int, str, int]:
    content = answer.json()
    (code,) = content["error_codes"]
    assert content["error_description"].startswith(f"AADSTS{code}: ")
    assert {"timestamp", "trace_id", "correlation_id", "error_uri"} <= set(content)
    return answer.status_code, content["error"], code


def secret_credential(tenant: RunningTenant, secret: str | None = None) -> ClientSecretCredential:
    return ClientSecretCredential(
        tenant.tenant_id,
        tenant.client_id,
        secret or tenant.client_secret,
        authority=tenant.entra,
        disable_instance_discovery=True,
    )


class TestEntra:
    def test_a_token_by_client_secret_with_the_sdk(self, tenant: RunningTenant) -> None:
        with secret_credential(tenant) as credential:
            got = claims(credential.get_token(SCOPE).token)
        assert (got["aud"], got["tid"], got["appid"]) == (RESOURCE, tenant.tenant_id, tenant.client_id)
        assert got["roles"] == ["Ti.ReadWrite.All"] and got["iss"] == f"https://sts.windows.net/{tenant.tenant_id}/"
        assert got["exp"] - got["iat"] == 3599 and got["oid"] == got["sub"]

    def test_the_signature_can_be_checked_with_the_published_key(self, tenant: RunningTenant) -> None:
        found = requests.get(
            f"{tenant.entra}/{tenant.tenant_id}/v2.0/.well-known/openid-configuration",
            verify=tenant.ca_file,
            timeout=30,
        ).json()
        key = requests.get(found["jwks_uri"], verify=tenant.ca_file, timeout=30).json()["keys"][0]
        assert jwt.decode(token(tenant), jwt.PyJWK(key), algorithms=["RS256"], audience=RESOURCE)["ver"] == "1.0"

    def test_version_1_of_the_endpoint_names_a_resource(self, tenant: RunningTenant) -> None:
        form = {"client_id": tenant.client_id, "client_secret": tenant.client_secret, "resource": RESOURCE}
        content = ask_token(tenant, f"{tenant.tenant_id}/oauth2/token", **form).json()
        assert content["resource"] == RESOURCE and content["expires_in"].isdecimal()
        assert claims(content["access_token"])["aud"] == RESOURCE

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"client_secret": "wrong"}, (401, "invalid_client", 7000215)),
            ({"client_secret": ""}, (401, "invalid_client", 7000218)),
            ({"client_id": NOWHERE}, (400, "unauthorized_client", 700016)),
            ({"scope": "https://unknown.example/.default"}, (400, "invalid_resource", 500011)),
            ({"scope": RESOURCE}, (400, "invalid_scope", 1002012)),
            ({"grant_type": "password"}, (400, "unsupported_grant_type", 70003)),
            ({"grant_type": ""}, (400, "invalid_request", 900144)),
        ],
    )
    def test_refusals(self, tenant: RunningTenant, changes: dict[str, str], expected: tuple[int, str, int]) -> None:
        form = {"client_id": tenant.client_id, "client_secret": tenant.client_secret, "scope": SCOPE, **changes}
        assert refused(ask_token(tenant, **form)) == expected

    def test_an_unknown_tenant_is_refused_at_discovery_and_at_the_token(self, tenant: RunningTenant) -> None:
        expected = (400, "invalid_request", 90002)
        assert refused(ask_token(tenant, f"{NOWHERE}/oauth2/v2.0/token", client_id="x")) == expected
        url = f"{tenant.entra}/{NOWHERE}/v2.0/.well-known/openid-configuration"
        assert refused(requests.get(url, verify=tenant.ca_file, timeout=30)) == expected

    def test_the_sdk_raises_with_the_code(self, tenant: RunningTenant) -> None:
        with (
            secret_credential(tenant, "wrong") as credential,
            pytest.raises(ClientAuthenticationError, match="AADSTS7000215"),
        ):
            credential.get_token(SCOPE)

    def test_rotation_with_and_without_overlap_and_expiry(self, tenant: RunningTenant) -> None:
        def status(secret: str) -> tuple[int, str, int] | int:
            answer = ask_token(tenant, client_id=tenant.client_id, client_secret=secret, scope=SCOPE)
            return 200 if answer.ok else refused(answer)

        second = tenant.admin.rotate("entra", overlap=True)
        assert status(tenant.client_secret) == status(second) == 200
        third = tenant.admin.rotate("both")
        assert status(tenant.client_secret) == status(second) == (401, "invalid_client", 7000215)
        assert status(third) == 200
        tenant.admin.expire_secrets()
        assert status(third) == (401, "invalid_client", 7000222)

    def test_graph_tells_who_a_service_principal_is(self, tenant: RunningTenant) -> None:
        def ask() -> requests.Response:
            return requests.get(
                f"{tenant.graph}/v1.0/servicePrincipals",
                params={"$filter": f"appId eq '{tenant.client_id}'"},
                headers={"Authorization": f"Bearer {token(tenant, resource='https://graph.microsoft.com')}"},
                verify=tenant.ca_file,
                timeout=30,
            )

        assert ask().status_code == 403
        tenant.admin.request("POST", "roles", {"who": "direct", "graph_roles": ["Application.Read.All"]})
        assert [row["appId"] for row in ask().json()["value"]] == [tenant.client_id]


class TestManagedIdentity:
    @pytest.mark.parametrize("resource", [VAULT, EXCHANGE, RESOURCE, "https://storage.azure.com"])
    def test_both_identities_for_every_resource(self, tenant: RunningTenant, resource: str) -> None:
        for client_id, expected in ((None, tenant.system_identity), (tenant.user_identity, tenant.user_identity)):
            with ManagedIdentityCredential(client_id=client_id) as credential:
                got = claims(credential.get_token(f"{resource}/.default").token)
            assert (got["aud"], got["appid"]) == (resource, expected)
            assert got.get("roles") == (["Ti.ReadWrite.All"] if resource == RESOURCE else None)

    @pytest.mark.parametrize(
        ("header", "changes", "status"),
        [
            ("wrong", {}, 401),
            (None, {}, 401),
            ("", {"api-version": "2017-09-01"}, 400),
            ("", {"resource": ""}, 400),
            ("", {"resource": "https://unknown.example"}, 400),
            ("", {"client_id": NOWHERE}, 400),
        ],
    )
    def test_refusals(self, tenant: RunningTenant, header: str | None, changes: dict[str, str], status: int) -> None:
        headers = {} if header is None else {"X-IDENTITY-HEADER": header or tenant.identity_header}
        query = {"api-version": "2019-08-01", "resource": VAULT, **changes}
        answer = requests.get(tenant.identity_endpoint, params=query, headers=headers, timeout=30)
        assert answer.status_code == status and answer.json()["statusCode"] == status

    def test_it_may_hold_the_role_itself(self, tenant: RunningTenant) -> None:
        with ManagedIdentityCredential(client_id=tenant.user_identity) as credential:
            bearer = credential.get_token(SCOPE).token
        answer = requests.get(
            f"{tenant.defender}/api/indicators",
            headers={"Authorization": f"Bearer {bearer}"},
            verify=tenant.ca_file,
            timeout=30,
        )
        assert answer.status_code == 200


class TestFederation:
    def ask(self, tenant: RunningTenant, assertion: str) -> requests.Response:
        return ask_token(
            tenant,
            client_id=tenant.client_id,
            scope=SCOPE,
            client_assertion_type="urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            client_assertion=assertion,
        )

    def assertion(self, client_id: str | None, audience: str = EXCHANGE) -> str:
        with ManagedIdentityCredential(client_id=client_id) as identity:
            return str(identity.get_token(f"{audience}/.default").token)

    def test_the_user_assigned_identity_speaks_for_the_app(self, tenant: RunningTenant) -> None:
        with ClientAssertionCredential(
            tenant.tenant_id,
            tenant.client_id,
            lambda: self.assertion(tenant.user_identity),
            authority=tenant.entra,
            disable_instance_discovery=True,
        ) as credential:
            assert claims(credential.get_token(SCOPE).token)["appid"] == tenant.client_id

    def test_others_do_not(self, tenant: RunningTenant) -> None:
        assert refused(self.ask(tenant, self.assertion(None)))[2] == 700213
        assert refused(self.ask(tenant, self.assertion(tenant.user_identity, VAULT)))[2] == 700212
        good = self.assertion(tenant.user_identity)
        forged = jwt.encode(claims(good), "k" * 32, algorithm="HS256")
        assert refused(self.ask(tenant, forged)) == (401, "invalid_client", 700027)
        assert refused(self.ask(tenant, "nonsense")) == (401, "invalid_client", 50027)
        tenant.admin.clock(4000)
        assert refused(self.ask(tenant, good)) == (401, "invalid_client", 700024)


class TestVault:
    @pytest.fixture
    def client(self, tenant: RunningTenant) -> Iterator[SecretClient]:
        # verify_challenge_resource is left on: the double passes the check instead of asking for it to be off.
        with (
            ManagedIdentityCredential(client_id=tenant.user_identity) as identity,
            SecretClient(tenant.vault, identity, retry_total=0) as made,
        ):
            yield made

    def test_the_secret_with_its_expiry_and_version(self, tenant: RunningTenant, client: SecretClient) -> None:
        secret = client.get_secret(tenant.secret_name)
        assert secret.value == tenant.client_secret
        assert secret.properties.expires_on is not None and secret.properties.enabled
        again = client.get_secret(tenant.secret_name, secret.properties.version)
        assert again.id == secret.id and again.value == secret.value

    def test_rotation_makes_a_new_version_and_the_old_one_stays(
        self, tenant: RunningTenant, client: SecretClient
    ) -> None:
        first = client.get_secret(tenant.secret_name)
        newest = tenant.admin.rotate("entra")
        assert client.get_secret(tenant.secret_name).value == first.value, "the vault does not know yet"
        tenant.admin.rotate("vault")
        assert client.get_secret(tenant.secret_name).value == newest
        assert client.get_secret(tenant.secret_name, first.properties.version).value == first.value
        versions = list(client.list_properties_of_secret_versions(tenant.secret_name))
        assert len(versions) == 2 and len({version.version for version in versions}) == 2
        assert [entry.name for entry in client.list_properties_of_secrets()] == [tenant.secret_name]

    def test_what_is_missing_disabled_or_forbidden(self, tenant: RunningTenant, client: SecretClient) -> None:
        with pytest.raises(ResourceNotFoundError, match="SecretNotFound"):
            client.get_secret("another-name")
        tenant.admin.secret(enabled=False)
        with pytest.raises(HttpResponseError, match="disabled secret") as caught:
            client.get_secret(tenant.secret_name)
        assert caught.value.status_code == 403
        tenant.admin.secret(enabled=True, expires=1)
        assert client.get_secret(tenant.secret_name).value, "an expired secret can still be read"
        tenant.admin.vault_access("user", allowed=False)
        with pytest.raises(HttpResponseError, match="not authorized") as caught:
            client.get_secret(tenant.secret_name)
        assert caught.value.status_code == 403
        tenant.admin.vault_access("user", allowed=True)
        tenant.admin.secret(deleted=True)
        with pytest.raises(ResourceNotFoundError):
            client.get_secret(tenant.secret_name)

    def test_a_secret_can_be_set_as_a_deployment_does(self, tenant: RunningTenant, client: SecretClient) -> None:
        made = client.set_secret("another-name", "some value", enabled=True)
        assert client.get_secret("another-name").value == "some value" == made.value

    def test_no_token_or_one_for_somebody_else_is_challenged(self, tenant: RunningTenant) -> None:
        url = f"{tenant.vault}/secrets/{tenant.secret_name}?api-version=7.5"
        for header in ({}, {"Authorization": f"Bearer {token(tenant)}"}):
            answer = requests.get(url, headers=header, verify=tenant.ca_file, timeout=30)
            assert answer.status_code == 401 and tenant.client_secret not in answer.text
            assert answer.headers["WWW-Authenticate"] == (
                f'Bearer authorization="{tenant.entra}/{tenant.tenant_id}", '
                f'resource="{tenant.vault.replace("127.0.0.1", "0.0.1")}"'
            )

    def test_an_app_without_access_is_forbidden(self, tenant: RunningTenant) -> None:
        bearer = token(tenant, resource=VAULT)
        url = f"{tenant.vault}/secrets/{tenant.secret_name}?api-version=7.5"
        answer = requests.get(url, headers={"Authorization": f"Bearer {bearer}"}, verify=tenant.ca_file, timeout=30)
        assert answer.status_code == 403 and answer.json()["error"]["innererror"] == {"code": "ForbiddenByRbac"}


def test_the_whole_chain_survives_a_rotation(tenant: RunningTenant) -> None:
    """Identity, vault, secret, token; then the secret is rotated without overlap and the way is walked again."""
    for _ in range(2):
        with (
            ManagedIdentityCredential(client_id=tenant.user_identity) as identity,
            SecretClient(tenant.vault, identity) as vault,
            secret_credential(tenant, vault.get_secret(tenant.secret_name).value) as credential,
        ):
            assert claims(credential.get_token(SCOPE).token)["appid"] == tenant.client_id
        tenant.admin.rotate("both")


def test_other_tenants_and_apps_by_configuration(tmp_path_factory: pytest.TempPathFactory) -> None:
    config = {
        "tenant_id": "11111111-1111-1111-1111-111111111111",
        "direct": {"client_id": "22222222-2222-2222-2222-222222222222", "roles": ["Ti.ReadWrite"]},
        "token_lifetime": 600,
        "secret_name": "another-name",
        "rules": {"capacity": 3, "service_time": {"list": 0}},
    }
    with running(tmp_path_factory.mktemp("tenant"), json.loads(json.dumps(config))) as tenant:
        assert tenant.tenant_id == config["tenant_id"] and tenant.secret_name == "another-name"
        got = claims(token(tenant))
        assert got["roles"] == ["Ti.ReadWrite"] and got["exp"] - got["iat"] == 600
        assert tenant.admin.rules()["capacity"] == 3
        with Client(tenant) as client:
            assert client.values() == []
