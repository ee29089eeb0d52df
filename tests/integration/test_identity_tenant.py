"""The real SDKs against the tenant double: three ways to a token, rotation, refusals, outages, and what is logged."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import logging
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local.tenant.background import running
from local.tenant.client import RunningTenant
from shared.defender.client import DefenderClient
from shared.errors import DeniedError, NotSentError, RoleError, TokenError, VaultError
from shared.health import check_health
from shared.identity.tokens import Identity, Token, build_identity
from shared.settings import Settings, load

SOON = (datetime.now(UTC) + timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture
def tenant(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningTenant]:
    # A tenant for each test: the Key Vault SDK remembers challenges by host and port for the whole process.
    with running(tmp_path_factory.mktemp("tenant")) as made:
        for name, value in made.environment().items():
            monkeypatch.setenv(name, value)
        yield made


def identity(tenant: RunningTenant, credential: str = "secret", **changes: Any) -> Identity:
    return build_identity(settings(tenant, credential, **changes))


def settings(tenant: RunningTenant, credential: str = "secret", **changes: Any) -> Settings:
    return dataclasses.replace(load(tenant.environment(credential)), **changes)


def client(tenant: RunningTenant, made: Identity) -> DefenderClient[Token]:
    return DefenderClient(made.endpoints.api, made.tokens, timeout=10)


def indicator(value: str) -> dict[str, Any]:
    return {
        "indicatorValue": value,
        "indicatorType": "DomainName",
        "action": "Audit",
        "generateAlert": True,
        "title": "t",
        "description": "d",
        "severity": "Low",
        "expirationTime": SOON,
        "rbacGroupNames": [],
    }


def forget(source: Any) -> None:
    """As if the remembered failure were old; the tests do not wait a minute."""
    source._failure = None


# --- three ways ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("credential", ["secret", "federated", "managed-identity"])
def test_identity_each_way_ends_in_an_accepted_indicator(tenant: RunningTenant, credential: str) -> None:
    made = identity(tenant, credential)
    token = made.tokens.get()
    assert (token.roles, token.tenant_id) == (("Ti.ReadWrite.All",), tenant.tenant_id)
    assert token.app_id == (tenant.user_identity if credential == "managed-identity" else tenant.client_id)
    calls = client(tenant, made)
    calls.prepare()
    (result,) = calls.import_indicators([indicator("evil.example")], not_after=time.monotonic() + 5)
    assert not result.failed and result.id is not None
    assert [row["id"] for row in calls.by_value("DomainName", "evil.example")] == [result.id]
    calls.probe()
    assert calls.delete(result.id) is True and calls.delete(result.id) is False
    calls.close()


def test_identity_system_assigned_identity_reads_the_vault_too(tenant: RunningTenant) -> None:
    made = identity(tenant, managed_identity_client_id="")
    assert made.secrets is not None and made.secrets.get().value == tenant.client_secret
    expires = made.secrets.get().expires_on
    assert expires is not None and expires > time.time()


# --- rotation --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["replaced", "expired"])
def test_identity_rotation_needs_no_restart(tenant: RunningTenant, how: str) -> None:
    """AADSTS7000215 and AADSTS7000222: the vault is read once more and the new secret is used."""
    made = identity(tenant)
    first = made.tokens.get()
    if how == "expired":
        tenant.admin.expire_secrets()
        tenant.admin.rotate("both", overlap=True)
    else:
        tenant.admin.rotate("both")
    made.tokens.invalidate(first)
    assert made.tokens.get().value != first.value


def test_identity_rotation_in_the_vault_alone_heals_by_itself(tenant: RunningTenant) -> None:
    made = identity(tenant)
    assert made.secrets is not None
    made.secrets.get()
    tenant.admin.rotate("both")
    assert made.tokens.get().roles, "Entra refused the old secret, the vault had the new one"


def test_identity_secret_that_nobody_renewed(tenant: RunningTenant) -> None:
    made = identity(tenant)
    tenant.admin.expire_secrets()
    with pytest.raises(TokenError) as caught:
        made.tokens.get()
    assert caught.value.code == "AADSTS7000222" and "expired" in caught.value.remediation
    tenant.admin.rotate("entra")
    forget(made.tokens)
    with pytest.raises(TokenError):
        made.tokens.get()
    assert tenant.admin.counters()["calls"]["token"] == 1, "one refusal is enough for a minute"


def test_identity_401_of_defender_leads_to_a_new_token(tenant: RunningTenant) -> None:
    made = identity(tenant)
    calls = client(tenant, made)
    calls.import_indicators([indicator("a.example")])
    tenant.admin.revoke_tokens()
    with pytest.raises(DeniedError) as caught:
        calls.import_indicators([indicator("b.example")])
    assert caught.value.status == 401
    time.sleep(1.5)  # the double counts the revocation in whole seconds
    assert calls.import_indicators([indicator("b.example")])[0].failed is False
    calls.close()


# --- refusals and outages --------------------------------------------------------------------------------------------

Change = Callable[[RunningTenant], object]


@pytest.mark.parametrize(
    ("change", "status", "remedy"),
    [
        (lambda t: t.admin.vault_access("user", allowed=False), 403, "Key Vault Secrets User"),
        (lambda t: t.admin.secret(deleted=True), 404, "Create the secret 'defender-client-secret'"),
        (lambda t: t.admin.secret(enabled=False), 403, "Enable the newest version"),
        (lambda t: t.admin.down("vault"), 0, "can be reached"),
        (lambda t: t.admin.down("identity"), 0, "managed identity"),
        (lambda t: t.admin.fault("vault", "status", times=None, status=503), 503, "health"),
    ],
    ids=["role", "missing", "disabled", "down", "no-identity", "503"],
)
def test_identity_vault_trouble_is_named_with_its_remedy(
    tenant: RunningTenant, change: Change, status: int, remedy: str
) -> None:
    made = identity(tenant)
    change(tenant)
    with pytest.raises(VaultError) as caught:
        made.tokens.get()
    assert (caught.value.status, caught.value.__context__) == (status, None), caught.value
    assert remedy in caught.value.remediation
    calls = client(tenant, made)
    with pytest.raises(VaultError):
        calls.import_indicators([indicator("a.example")])
    assert tenant.admin.imports() == []


def test_identity_p19_an_unresolved_reference_in_the_vault(tenant: RunningTenant) -> None:
    tenant.admin.secret(value="@Microsoft.KeyVault(SecretUri=https://v.vault.azure.net/secrets/s/)")
    with pytest.raises(VaultError, match="reference"):
        identity(tenant).tokens.get()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"client_id": "00000000-0000-4000-8000-000000000000"}, "AADSTS700016"),
        # Refused at discovery already, whose answer the SDK does not hand on.
        ({"tenant_id": "00000000-0000-4000-8000-000000000000"}, ""),
        ({"token_resource": "https://unknown.example"}, "AADSTS500011"),
        ({"tenant_id": "not a tenant"}, ""),
    ],
)
def test_identity_entra_refusals_keep_their_code(tenant: RunningTenant, changes: dict[str, str], code: str) -> None:
    with pytest.raises(TokenError) as caught:
        identity(tenant, **changes).tokens.get()
    assert caught.value.code == code and caught.value.remediation


def test_identity_federation_that_does_not_match(tenant: RunningTenant) -> None:
    with pytest.raises(TokenError) as caught:
        identity(tenant, "federated", managed_identity_client_id=tenant.system_identity).tokens.get()
    assert caught.value.code.startswith("AADSTS7002") and "subject" in caught.value.remediation


def test_identity_entra_down(tenant: RunningTenant) -> None:
    made = identity(tenant)
    token = made.tokens.get()
    tenant.admin.down("entra")
    assert made.tokens.get() is token
    made.tokens.invalidate(token)
    with pytest.raises(TokenError):
        made.tokens.get()
    tenant.admin.up("entra")
    forget(made.tokens)
    assert made.tokens.get().roles


def test_identity_no_role_no_call(tenant: RunningTenant) -> None:
    tenant.admin.roles("relay")
    made = identity(tenant)
    with pytest.raises(RoleError):
        made.tokens.get()
    tenant.admin.roles("relay", "Ti.ReadWrite")
    forget(made.tokens)
    assert made.tokens.get().roles == ("Ti.ReadWrite",)


def test_identity_defender_down_is_not_sent(tenant: RunningTenant) -> None:
    calls = client(tenant, identity(tenant))
    tenant.admin.down("defender")
    with pytest.raises(NotSentError):
        calls.import_indicators([indicator("a.example")])


# --- health ----------------------------------------------------------------------------------------------------------


async def test_identity_health_against_the_tenant(tenant: RunningTenant) -> None:
    chosen = settings(tenant)
    made = build_identity(chosen)
    calls = client(tenant, made)

    async def run[T](work: Callable[[], T], /) -> T:
        return await asyncio.to_thread(work)

    async def there() -> str:
        return "there"

    async def call() -> str:
        await run(calls.probe)
        return "answered 200"

    async def ask() -> dict[str, Any]:
        health = await check_health(
            chosen,
            run=run,
            tokens=made.tokens,
            secrets=made.secrets,
            queue=there,
            tables=there,
            blobs=there,
            call=call,
        )
        assert tenant.client_secret not in str(health.as_json())
        return {"status": health.status, **{check.name: check.ok for check in health.checks}}

    assert set((await ask()).values()) == {"ok", True}
    await run(lambda: tenant.admin.vault_access("user", allowed=False))
    assert (await ask()) | {"status": "", "vault": "", "secret": ""} == dict.fromkeys(
        ("settings", "token", "roles", "queue", "tables", "blobs", "call"), True
    ) | {"status": "", "vault": "", "secret": ""}
    assert (await ask())["status"] == "degraded"
    calls.close()


# --- logs ------------------------------------------------------------------------------------------------------------


def test_identity_p13_debug_logs_of_every_library_hold_no_secret_and_no_token(tenant: RunningTenant) -> None:
    """P13: with every logger at DEBUG and without our redaction, through success, refusal, rotation and outage."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
    names = ["", "azure", "azure.identity", "azure.core", "msal", "urllib3", "requests", "relay"]
    levels = {name: logging.getLogger(name).level for name in names}
    factory = logging.getLogRecordFactory()
    logging.setLogRecordFactory(logging.LogRecord)
    root = logging.getLogger()
    root.addHandler(handler)
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    secrets, tokens, texts = [tenant.client_secret], [], []
    try:
        for credential in ("secret", "federated", "managed-identity"):
            made = identity(tenant, credential)
            calls = client(tenant, made)
            calls.import_indicators([indicator("a.example")])
            tokens.append(made.tokens.get().value)
            texts.append(repr(made) + repr(made.tokens.get()) + repr(vars(made.tokens)))
            calls.close()
        made = identity(tenant)
        first = made.tokens.get()
        secrets.append(tenant.admin.rotate("both"))
        made.tokens.invalidate(first)
        tokens += [first.value, made.tokens.get().value]
        assert made.secrets is not None
        texts.append(repr(made.secrets.get()) + repr(vars(made.secrets)))
        secrets.append(tenant.admin.rotate("entra"))
        for cut_off in ("", "entra", "vault"):
            if cut_off:
                tenant.admin.fault(cut_off, "reset", times=None)
            with pytest.raises((TokenError, VaultError)) as caught:
                identity(tenant).tokens.get()
            texts.append("".join(traceback.format_exception(caught.value)) + caught.value.remediation)
    finally:
        root.removeHandler(handler)
        logging.setLogRecordFactory(factory)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
    logged = stream.getvalue()
    for library in ("azure.identity", "azure.core", "msal", "urllib3"):
        assert library in logged, f"{library} was heard"
    everything = logged + "".join(texts)
    for hidden in [*secrets, *tokens]:
        assert hidden not in everything
        assert hidden[-16:] not in everything and hidden[:40] not in everything
