"""The secret and the token in memory: when they are fetched, by whom, and what happens when they cannot be."""

from __future__ import annotations

import base64
import json
import threading
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from shared.errors import IdentityError, RoleError, TokenError, VaultError
from shared.identity import credentials
from shared.identity.clouds import endpoints
from shared.identity.credentials import Issued, SecretIssuer
from shared.identity.tokens import TokenSource, build_identity, read_token
from shared.identity.vault import Secret, SecretSource
from shared.settings import Settings

START = 1_900_000_000.0


def jwt(claims: dict[str, Any]) -> str:
    def part(content: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'none'})}.{part(claims)}.signature"


class Clock:
    """Wall and steady clock in one, moved by the test."""

    def __init__(self) -> None:
        self.at = START

    def __call__(self) -> float:
        return self.at


class Issuer:
    """Issues numbered tokens of an hour, or fails as planned."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.doubts: list[bool] = []
        self.fails: IdentityError | None = None
        self.roles: list[str] = ["Ti.ReadWrite"]
        self.hook: Callable[[], None] = lambda: None

    def issue(self, *, doubt: bool = False) -> Issued:
        self.doubts.append(doubt)
        self.hook()
        if self.fails is not None:
            raise self.fails
        claims = {"n": len(self.doubts), "roles": self.roles, "appid": "app", "tid": "tenant"}
        return Issued(jwt(claims), self.clock.at + 3600)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def issuer(clock: Clock) -> Issuer:
    return Issuer(clock)


@pytest.fixture
def source(issuer: Issuer, clock: Clock) -> TokenSource:
    return TokenSource(issuer, now=clock, clock=clock)


# --- the token -------------------------------------------------------------------------------------------------------


def test_identity_token_says_what_it_holds_and_hides_itself(source: TokenSource) -> None:
    token = source.get()
    assert (token.roles, token.app_id, token.tenant_id) == (("Ti.ReadWrite",), "app", "tenant")
    assert token.value not in repr(token) and token.value not in repr(Issued(token.value, 0))


@pytest.mark.parametrize("text", ["opaque", "a.b.c", "a.!!!.c", f"a.{base64.b64encode(b'[1]').decode()}.c", ""])
def test_identity_a_token_that_cannot_be_read_is_passed_on(text: str) -> None:
    token = read_token(Issued(text, START))
    assert (token.value, token.readable, token.roles) == (text, False, ())


def test_identity_token_is_fetched_once_and_renewed_five_minutes_before_its_end(
    source: TokenSource, issuer: Issuer, clock: Clock
) -> None:
    first = source.get()
    clock.at += 3299
    assert source.get() is first and len(issuer.doubts) == 1
    clock.at += 1
    second = source.get()
    assert second.value != first.value and issuer.doubts == [False, False]


def test_identity_a_token_that_cannot_be_renewed_serves_to_its_end(
    source: TokenSource, issuer: Issuer, clock: Clock
) -> None:
    first = source.get()
    issuer.fails = TokenError("the sign-in host cannot be reached")
    clock.at += 3400
    assert source.get() is first
    assert source.get() is first and len(issuer.doubts) == 2, "the failure is remembered for some seconds"
    clock.at += 6
    assert source.get() is first and len(issuer.doubts) == 3
    clock.at += 140
    with pytest.raises(TokenError):
        source.get()
    issuer.fails = None
    clock.at += 6
    assert source.get() is not first


def test_identity_a_failure_is_told_to_all_for_some_seconds(source: TokenSource, issuer: Issuer, clock: Clock) -> None:
    issuer.fails = VaultError("Key Vault answered 403", status=403, remediation="Grant the role.")
    seen = []
    for _ in range(3):
        with pytest.raises(VaultError) as caught:
            source.get()
        seen.append(caught.value)
    assert len(issuer.doubts) == 1
    assert len({id(error) for error in seen}) == 3, "each raise has an exception of its own"
    assert {(str(e), e.status, e.remediation) for e in seen} == {("Key Vault answered 403", 403, "Grant the role.")}
    clock.at += 5
    issuer.fails = None
    assert source.get().roles == ("Ti.ReadWrite",)


@pytest.mark.parametrize("roles", [[], ["Score.Read.All"], ["Ti.Read.All"], ["ti.readwrite"], "Ti.ReadWrite"])
def test_identity_roles_that_do_not_serve(source: TokenSource, issuer: Issuer, clock: Clock, roles: Any) -> None:
    issuer.roles = roles
    with pytest.raises(RoleError) as caught:
        source.get()
    assert "Ti.ReadWrite.All" in caught.value.remediation
    clock.at += 59
    with pytest.raises(RoleError):
        source.get()
    assert len(issuer.doubts) == 1
    issuer.roles = ["Ti.ReadWrite.All", "Score.Read.All"]
    clock.at += 1
    assert "Ti.ReadWrite.All" in source.get().roles


def test_identity_a_token_that_has_expired_already_is_refused(issuer: Issuer, clock: Clock) -> None:
    late = TokenSource(issuer, now=lambda: clock.at + 4000, clock=clock)
    with pytest.raises(TokenError, match="expired already"):
        late.get()


def test_identity_401_drops_only_the_token_it_was_about(source: TokenSource, issuer: Issuer) -> None:
    first = source.get()
    source.invalidate(first)
    second = source.get()
    source.invalidate(first)
    assert source.get() is second
    assert issuer.doubts == [False, True], "the secret is doubted once, not for ever"
    source.invalidate(second)
    source.get()
    assert issuer.doubts == [False, True, True]


def test_identity_doubt_outlives_a_failed_attempt(source: TokenSource, issuer: Issuer, clock: Clock) -> None:
    source.invalidate(source.get())
    issuer.fails = TokenError("no answer")
    with pytest.raises(TokenError):
        source.get()
    issuer.fails = None
    clock.at += 6
    source.get()
    assert issuer.doubts == [False, True, True]


def test_identity_many_threads_one_request(source: TokenSource, issuer: Issuer) -> None:
    inside, release = threading.Event(), threading.Event()

    def hold() -> None:
        inside.set()
        assert release.wait(60)

    issuer.hook = hold
    got: list[str] = []
    threads = [threading.Thread(target=lambda: got.append(source.get().value)) for _ in range(12)]
    for thread in threads:
        thread.start()
    assert inside.wait(60)
    release.set()
    for thread in threads:
        thread.join(60)
    assert len(got) == 12 and len(set(got)) == 1 and len(issuer.doubts) == 1


def test_identity_nobody_waits_while_the_old_token_serves(source: TokenSource, issuer: Issuer, clock: Clock) -> None:
    first = source.get()
    clock.at += 3400
    inside, release = threading.Event(), threading.Event()

    def hold() -> None:
        inside.set()
        assert release.wait(60)

    issuer.hook = hold
    renewing = threading.Thread(target=source.get)
    renewing.start()
    assert inside.wait(60)
    assert source.get() is first
    release.set()
    renewing.join(60)
    assert source.get() is not first


def test_identity_a_bug_in_an_issuer_does_not_block_the_others(source: TokenSource, issuer: Issuer) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    issuer.hook = broken
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            source.get()


# --- the secret ------------------------------------------------------------------------------------------------------


class Vault:
    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.reads = 0
        self.secret = Secret("first-secret", "v1", None)
        self.fails: VaultError | None = None

    def __call__(self) -> Secret:
        self.reads += 1
        if self.fails is not None:
            raise self.fails
        return self.secret


@pytest.fixture
def vault(clock: Clock) -> Vault:
    return Vault(clock)


@pytest.fixture
def secrets(vault: Vault, clock: Clock) -> SecretSource:
    return SecretSource(vault, max_age=3600, clock=clock)


def test_identity_secret_is_cached_for_its_age(secrets: SecretSource, vault: Vault, clock: Clock) -> None:
    assert secrets.get().value == "first-secret" and "first-secret" not in repr(secrets.get())
    vault.secret = Secret("second-secret", "v2", None)
    clock.at += 3599
    assert (secrets.get().version, vault.reads) == ("v1", 1)
    clock.at += 1
    assert (secrets.get().version, vault.reads) == ("v2", 2)


@pytest.mark.parametrize(("status", "serves"), [(0, True), (503, True), (429, True), (403, False), (404, False)])
def test_identity_an_outage_of_the_vault_is_survived_but_not_its_refusal(
    secrets: SecretSource, vault: Vault, clock: Clock, status: int, serves: bool
) -> None:
    secrets.get()
    clock.at += 3600
    vault.fails = VaultError("no", status=status)
    if serves:
        for _ in range(3):
            assert secrets.get().version == "v1"
        assert vault.reads == 2, "asked again in a minute, not at every call"
        clock.at += 60
        vault.fails, vault.secret = None, Secret("second-secret", "v2", None)
        assert secrets.get().version == "v2"
    else:
        with pytest.raises(VaultError):
            secrets.get()


@pytest.mark.parametrize(
    "value", ["@Microsoft.KeyVault(SecretUri=https://v.example/secrets/s/)", " @Microsoft.KeyVault(x)", "", " \n"]
)
def test_identity_p19_an_unresolved_reference_is_no_secret(secrets: SecretSource, vault: Vault, value: str) -> None:
    """P19: the literal reference, or nothing, is told for what it is instead of being sent to Entra."""
    vault.secret = Secret(value, "v1", None)
    with pytest.raises(VaultError) as caught:
        secrets.get()
    assert "client secret" in caught.value.remediation


def test_identity_a_doubted_secret_is_read_again_once_a_minute(
    secrets: SecretSource, vault: Vault, clock: Clock
) -> None:
    first = secrets.get()
    assert secrets.reread(first) is not None and vault.reads == 2
    for _ in range(5):
        assert secrets.reread(first).version == "v1"
    assert vault.reads == 2
    clock.at += 60
    vault.secret = Secret("second-secret", "v2", None)
    assert (secrets.reread(first).version, vault.reads) == ("v2", 3)
    assert (secrets.reread(first).version, vault.reads) == ("v2", 3), "somebody has found the newer one already"
    vault.secret = Secret("third-secret", "v3", None)
    assert secrets.reread(vault.secret).version == "v2", "never seen, so the one in memory is the newest known"
    assert secrets.reread(Secret("", "v2", None)).version == "v3", "a second rotation within the minute is found too"


# --- both together ---------------------------------------------------------------------------------------------------


class Entra:
    """Accepts one secret; takes the place of the SDK call."""

    def __init__(self, accepts: str) -> None:
        self.accepts = accepts
        self.shown: list[str] = []
        self.code = "AADSTS7000215"

    def ask(self, build: Callable[[], Any], places: Any, *known: str) -> Issued:
        (secret,) = known
        self.shown.append(secret)
        if secret != self.accepts:
            raise TokenError(f"Entra ID issues no token: {self.code}", code=self.code)
        return Issued("token", START + 3600)


@pytest.fixture
def entra(monkeypatch: pytest.MonkeyPatch) -> Entra:
    double = Entra("first-secret")
    monkeypatch.setattr(credentials, "_ask", double.ask)
    return double


@pytest.fixture
def by_secret(secrets: SecretSource, clock: Clock, entra: Entra) -> SecretIssuer:
    return SecretIssuer(Settings(), endpoints(Settings()), secrets, clock=clock)


@pytest.mark.parametrize("code", ["AADSTS7000215", "AADSTS7000222"])
def test_identity_rotation_is_found_when_entra_refuses_the_old_secret(
    by_secret: SecretIssuer, vault: Vault, entra: Entra, code: str
) -> None:
    by_secret.issue()
    vault.secret, entra.accepts, entra.code = Secret("second-secret", "v2", None), "second-secret", code
    by_secret.issue()
    assert (vault.reads, entra.shown) == (2, ["first-secret", "first-secret", "second-secret"])


def test_identity_a_wrong_secret_does_not_hammer_entra_or_the_vault(
    by_secret: SecretIssuer, vault: Vault, entra: Entra, clock: Clock
) -> None:
    entra.accepts = "another"
    for _ in range(10):
        with pytest.raises(TokenError) as caught:
            by_secret.issue()
        assert caught.value.code == "AADSTS7000215"
    assert (vault.reads, entra.shown) == (2, ["first-secret"])
    clock.at += 60
    with pytest.raises(TokenError):
        by_secret.issue()
    assert (vault.reads, entra.shown) == (3, ["first-secret", "first-secret"])
    vault.secret, entra.accepts = Secret("another", "v2", None), "another"
    clock.at += 60
    assert by_secret.issue().value == "token"


def test_identity_both_versions_refused_ends_after_two_tries(
    by_secret: SecretIssuer, vault: Vault, entra: Entra
) -> None:
    by_secret.issue()
    vault.secret, entra.accepts = Secret("second-secret", "v2", None), "another"
    with pytest.raises(TokenError):
        by_secret.issue()
    assert entra.shown == ["first-secret", "first-secret", "second-secret"]


def test_identity_other_refusals_do_not_touch_the_vault(by_secret: SecretIssuer, vault: Vault, entra: Entra) -> None:
    entra.accepts, entra.code = "another", "AADSTS700016"
    with pytest.raises(TokenError):
        by_secret.issue()
    assert vault.reads == 1


def test_identity_401_of_the_api_looks_at_the_vault_once(by_secret: SecretIssuer, vault: Vault, entra: Entra) -> None:
    by_secret.issue()
    vault.secret, entra.accepts = Secret("second-secret", "v2", None), "second-secret"
    by_secret.issue(doubt=True)
    assert (vault.reads, entra.shown) == (2, ["first-secret", "second-secret"])


# --- what is built ---------------------------------------------------------------------------------------------------


def test_identity_p19_the_app_starts_without_a_vault_and_without_settings() -> None:
    """P19: nothing is read at start, and what is missing shows when a token is asked for."""
    there = build_identity(Settings(tenant_id="t", client_id="c", vault_url="https://nobody.invalid", secret_name="s"))
    assert there.secrets is not None
    empty = build_identity(Settings())
    assert empty.secrets is None
    with pytest.raises(TokenError, match="RELAY_TENANT_ID, RELAY_CLIENT_ID, RELAY_VAULT_URL"):
        empty.tokens.get()


def test_identity_p13_no_exception_shows_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """P13: even when the SDK's own error holds it; neither the text nor the traceback nor what hangs on the error."""
    from azure.core.exceptions import ClientAuthenticationError

    hidden = "abc8Q~0123456789-0123456789-0123456789-012"

    class Credential:
        def __enter__(self) -> Credential:
            return self

        def __exit__(self, *_: object) -> None: ...

        def get_token(self, scope: str) -> None:
            raise ClientAuthenticationError(f"AADSTS7000215: client_secret={hidden} '{hidden}' {jwt({'a': 1})}")

    with pytest.raises(TokenError) as caught:
        credentials._ask(Credential, endpoints(Settings()), hidden)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + caught.value.remediation
    assert caught.value.code == "AADSTS7000215"
    assert hidden not in shown and "eyJ" not in shown and caught.value.__context__ is None
