"""What the health answer says in each state, and that it never says more."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from shared.errors import DeniedError, IdentityError, NotSentError, RoleError, StorageError, TokenError, VaultError
from shared.health import Check, Health, check_health, judge_secret, overall, start_up_line
from shared.identity.credentials import Issued
from shared.identity.tokens import TokenSource
from shared.identity.vault import Secret, SecretSource
from shared.settings import Settings

NOW = 1_900_000_000.0
DAY = 86_400.0
SECRET = "the-client-secret-in-the-vault"
SETTINGS = Settings(tenant_id="t", client_id="c", vault_url="https://v.vault.azure.net")


def jwt(roles: list[str]) -> str:
    body = base64.urlsafe_b64encode(json.dumps({"roles": roles}).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJub25lIn0.{body}.signature"


class Issuer:
    def __init__(self, given: Issued | IdentityError) -> None:
        self.given = given

    def issue(self, *, doubt: bool = False) -> Issued:
        if isinstance(self.given, IdentityError):
            raise self.given
        return self.given


async def run[T](work: Callable[[], T], /) -> T:
    return await asyncio.to_thread(work)


async def fine() -> str:
    return "there"


def failing(error: Exception) -> Callable[[], Awaitable[str]]:
    async def look() -> str:
        raise error

    return look


async def ask(
    *,
    settings: Settings = SETTINGS,
    token: Issued | IdentityError | None = None,
    vault: Secret | VaultError | None = None,
    **looks: Any,
) -> Health:
    def read() -> Secret:
        if isinstance(vault, VaultError):
            raise vault
        return vault or Secret(SECRET, "v1", NOW + 100 * DAY)

    return await check_health(
        settings,
        run=run,
        tokens=TokenSource(Issuer(token or Issued(jwt(["Ti.ReadWrite.All"]), NOW + 3600)), now=lambda: NOW),
        secrets=SecretSource(read, max_age=3600) if settings.credential == "secret" else None,
        now=lambda: NOW,
        **({name: fine for name in ("queue", "tables", "blobs", "call")} | looks),
    )


def by_name(health: Health) -> dict[str, Check]:
    return {check.name: check for check in health.checks}


async def test_health_all_is_well() -> None:
    health = await ask()
    assert health.status == "ok"
    assert [c.name for c in health.checks] == [
        "settings", "vault", "secret", "token", "roles", "queue", "tables", "blobs", "call",
    ]  # fmt: skip
    found = by_name(health)
    assert found["secret"].detail == "100 days left" and found["token"].detail == "valid for 60 minutes"
    assert found["roles"].detail == "Ti.ReadWrite.All"
    text = json.dumps(health.as_json())
    assert SECRET not in text and "eyJ" not in text


@pytest.mark.parametrize(
    ("name", "changes", "ok", "status", "said"),
    [
        ("settings", {"settings": Settings()}, False, "failing", "RELAY_TENANT_ID"),
        ("settings", {"settings": dataclasses.replace(SETTINGS, vault_url="v")}, False, "failing", "RELAY_VAULT_URL"),
        ("vault", {"vault": VaultError("answered 403", status=403, remediation="Grant X")}, False, "degraded", "403"),
        ("secret", {"vault": VaultError("answered 403", status=403)}, None, "degraded", "not known"),
        ("secret", {"vault": Secret(SECRET, "v", NOW + 29 * DAY)}, None, "degraded", "29.0 days"),
        ("secret", {"vault": Secret(SECRET, "v", NOW - DAY)}, False, "degraded", "expired 1.0 days ago"),
        ("secret", {"vault": Secret(SECRET, "v", None)}, None, "degraded", "no expiry"),
        ("token", {"token": TokenError("AADSTS700016")}, False, "failing", "AADSTS700016"),
        ("roles", {"token": TokenError("AADSTS700016")}, None, "failing", "there is no token"),
        ("roles", {"token": Issued(jwt(["Score.Read.All"]), NOW + 3600)}, False, "failing", "Score.Read.All"),
        ("token", {"token": RoleError("holds no role", remediation="Grant it")}, True, "failing", "issued"),
        ("roles", {"token": Issued("opaque", NOW + 3600)}, None, "ok", "cannot be read"),
        ("queue", {"queue": failing(StorageError("no such queue"))}, False, "failing", "no such queue"),
        ("tables", {"tables": failing(StorageError("403"))}, False, "failing", "403"),
        ("blobs", {"blobs": failing(StorageError("403"))}, False, "failing", "403"),
        ("call", {"call": failing(DeniedError("answered 403", status=403))}, False, "failing", "403"),
        ("call", {"call": failing(NotSentError("no permit to spare"))}, None, "ok", "not asked"),
    ],
)  # fmt: skip
async def test_health_says_what_is_wrong(
    name: str, changes: dict[str, Any], ok: bool | None, status: str, said: str
) -> None:
    health = await ask(**changes)
    check = by_name(health)[name]
    assert (check.ok, health.status) == (ok, status), health
    assert said in check.detail
    assert check.ok is not False or check.remedy, "whatever is wrong has a remedy"
    text = json.dumps(health.as_json())
    assert SECRET not in text and "eyJ" not in text


@pytest.mark.parametrize("kind", ["federated", "managed-identity"])
async def test_health_without_a_secret_nothing_is_asked_of_a_vault(kind: Any) -> None:
    settings = Settings(credential=kind, tenant_id="t", client_id="c", managed_identity_client_id="m")
    health = await ask(settings=settings)
    assert health.status == "ok" and kind in by_name(health)["vault"].detail


async def test_health_a_check_that_hangs_ends() -> None:
    async def hang() -> str:
        await asyncio.Event().wait()
        return ""

    health = await ask(queue=hang, timeout=0.05)
    assert by_name(health)["queue"].detail == "no answer within 0.05 s" and health.status == "failing"


async def test_health_checks_run_at_once() -> None:
    """Each of four waits for all the others to have begun."""
    barrier = asyncio.Barrier(4)

    async def meet() -> str:
        await barrier.wait()
        return "there"

    assert (await ask(queue=meet, tables=meet, blobs=meet, call=meet)).status == "ok"


async def test_health_what_others_say_is_cleared() -> None:
    health = await ask(queue=failing(StorageError(f"bad header Bearer {jwt(['x'])}")))
    assert "eyJ" not in json.dumps(health.as_json())


@pytest.mark.parametrize(("days", "ok"), [(30.1, True), (30, None), (0.1, None), (0, False), (-5, False)])
def test_health_days_of_the_secret(days: float, ok: bool | None) -> None:
    check = judge_secret(NOW + days * DAY, NOW, 30)
    assert check.ok is ok and (ok is True or check.remedy)


def test_health_overall() -> None:
    good, unknown = Check("call", True, ""), Check("call", None, "")
    assert overall((good, unknown)) == "ok"
    assert overall((good, Check("vault", False, "", "r"))) == "degraded"
    assert overall((good, Check("secret", None, "", "r"))) == "degraded"
    assert overall((Check("secret", None, "", "r"), Check("queue", False, ""))) == "failing"


def test_health_start_up_line() -> None:
    assert start_up_line(SETTINGS) == "cloud=commercial credential=secret tenant=t settings=ok"
    bare = start_up_line(Settings(cloud="dod"))
    assert "cloud=dod" in bare and "tenant=not set" in bare and "RELAY_VAULT_URL" in bare
    trap = start_up_line(dataclasses.replace(SETTINGS, token_resource="https://api.security.microsoft.com"))
    assert "Microsoft Threat Protection" in trap and "Remove RELAY_TOKEN_RESOURCE" in trap
