"""Who calls: the platform's principal, read with the settings that say whose principals count."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from shared.errors import AccessError, SettingsError
from shared.identity.caller import PLATFORM, Caller, Role, who
from shared.settings import Settings

TENANT = "11111111-2222-4333-8444-555555555555"
API = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
APP = "0a0a0a0a-0000-4000-8000-000000000001"
NOW = 1_800_000_000.0
ON = {PLATFORM: "True"}
SETTINGS = Settings(auth="easy-auth", tenant_id=TENANT, auth_client_id=API)


def claims(**changes: Any) -> list[dict[str, Any]]:
    made: dict[str, Any] = {"tid": TENANT, "aud": f"api://{API}", "exp": str(int(NOW) + 60), "appid": APP}
    made |= {"roles": ["Indicators.Read"], **changes}
    return [
        {"typ": kind, "val": value}
        for kind, values in made.items()
        for value in (values if isinstance(values, list) else [values])
    ]


def ask(listed: Any, settings: Settings = SETTINGS, environ: dict[str, str] = ON, **more: Any) -> Caller:
    content = json.dumps({"auth_typ": "aad", "claims": listed, "role_typ": "roles", **more}).encode()
    return who({"x-ms-client-principal": base64.b64encode(content).decode()}, settings, environ, NOW)


def test_a_principal_of_this_tenant_for_this_app_now() -> None:
    assert ask(claims()) == Caller("app", f"app:{APP}", "", frozenset({Role.READ}))


@pytest.mark.parametrize("aud", [API, API.upper(), f"api://{API}", f"api://{API}/"])
def test_the_audience_is_the_apps_id_with_or_without_scheme(aud: str) -> None:
    assert ask(claims(aud=aud)).id == f"app:{APP}"


@pytest.mark.parametrize("aud", [f"https://{API}", f"api://{API}/x", f"{API}0", "", f"api://api://{API}"])
def test_no_other_audience(aud: str) -> None:
    with pytest.raises(AccessError, match="another application"):
        ask(claims(aud=aud))


@pytest.mark.parametrize(("seconds", "good"), [(60, True), (0, True), (-299, True), (-301, False), (-(10**9), False)])
def test_the_end_with_the_leeway_of_clocks(seconds: int, good: bool) -> None:
    listed = claims(exp=str(int(NOW) + seconds))
    if good:
        assert ask(listed).roles
    else:
        with pytest.raises(AccessError, match="expired"):
            ask(listed)


@pytest.mark.parametrize("end", ["", "-1", "1e12", "9" * 13, "१८००००००६०", " 1800000060", "0x7fffffff", "1800000060.0"])
def test_an_end_that_is_not_seconds(end: str) -> None:
    with pytest.raises(AccessError, match="until when"):
        ask(claims(exp=end))


@pytest.mark.parametrize("text", ["", " ", "False", "0", "1", "yes", "TrueX", "on"])
def test_only_the_platforms_true_counts(text: str) -> None:
    with pytest.raises(SettingsError, match=PLATFORM) as caught:
        ask(claims(), environ={PLATFORM: text})
    assert "authsettingsV2" in caught.value.remediation


@pytest.mark.parametrize("text", ["True", "true", "TRUE"])
def test_the_platforms_true_in_any_case(text: str) -> None:
    assert ask(claims(), environ={PLATFORM: text}).roles


def test_without_a_tenant_or_audience_nobody_comes_in() -> None:
    for settings in (Settings(tenant_id=TENANT), Settings(auth_client_id=API)):
        with pytest.raises(SettingsError, match="RELAY_AUTH_CLIENT_ID or RELAY_TENANT_ID"):
            ask(claims(tid="", aud=""), settings)


def test_callers_may_be_of_another_tenant_than_defender_but_of_one() -> None:
    other = "99999999-9999-4999-8999-999999999999"
    settings = Settings(auth="easy-auth", tenant_id=TENANT, auth_tenant_id=other, auth_client_id=API)
    assert ask(claims(tid=other.upper()), settings).roles
    with pytest.raises(AccessError, match="another tenant"):
        ask(claims(), settings)


def test_the_largest_header() -> None:
    filler = claims(groups=["g" * 100] * 300)
    assert ask(filler).roles
    with pytest.raises(AccessError, match="larger"):
        ask(claims(groups=["g" * 100] * 1000))


def test_base64_without_padding_is_read_and_with_foreign_letters_not() -> None:
    content = base64.b64encode(json.dumps({"auth_typ": "aad", "claims": claims(), "x": "~~?"}).encode()).decode()
    bare = content.rstrip("=")
    assert who({"x-ms-client-principal": bare}, SETTINGS, ON, NOW).id == f"app:{APP}"
    for text in (bare[:9] + "-" + bare[10:], bare[:9] + " " + bare[9:], bare + "é", "="):
        with pytest.raises(AccessError):
            who({"x-ms-client-principal": text}, SETTINGS, ON, NOW)


def test_the_principal_says_which_claim_holds_its_roles() -> None:
    listed = [*claims(roles=[]), {"typ": "urn:roles", "val": "Operations.Manage"}]
    assert ask(listed, role_typ="urn:roles").roles == {Role.OPERATE}
    assert ask(listed).roles == frozenset()


@pytest.mark.parametrize("role_type", ["roles", "urn:other", None])
def test_both_spellings_of_roles_count_whatever_the_principal_calls_them(role_type: str | None) -> None:
    long = {"typ": "http://schemas.microsoft.com/ws/2008/06/identity/claims/role", "val": "Operations.Manage"}
    assert ask([*claims(), long], role_typ=role_type).roles == {Role.READ, Role.OPERATE}


def test_what_is_refused_names_no_claim_of_the_caller() -> None:
    for changes in ({"tid": "t-secret"}, {"aud": "a-secret"}, {"exp": "e-secret"}, {"appid": "i-secret"}):
        with pytest.raises(AccessError) as caught:
            ask(claims(**changes))
        assert caught.value.status == 401 and "secret" not in str(caught.value) + caught.value.remediation
