"""The token for Defender: cached, renewed in time, fetched by one thread while the others wait or use the old one."""

from __future__ import annotations

import base64
import binascii
import copy
import dataclasses
import json
import threading
import time
from collections.abc import Callable
from typing import Any

from shared.errors import IdentityError, RoleError, TokenError
from shared.identity.clouds import Endpoints, endpoints, missing_settings
from shared.identity.credentials import FederatedIssuer, Issued, Issuer, ManagedIdentityIssuer, SecretIssuer
from shared.identity.vault import SecretSource, vault_secret_source
from shared.settings import Settings

ROLES = ("Ti.ReadWrite", "Ti.ReadWrite.All")

_RENEW_BEFORE = 300.0
# A token that cannot be renewed serves until so shortly before its end.
_LAST_USE = 60.0
_HOLD_ROLES = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class Token:
    """A bearer token. `expires_at` is in seconds since 1970; `roles`, `app_id`, `tenant_id` are what it says of itself.

    `readable` is False when its claims could not be read; then they are empty and prove nothing.
    """

    value: str = dataclasses.field(repr=False)
    expires_at: float
    roles: tuple[str, ...] = ()
    app_id: str = ""
    tenant_id: str = ""
    readable: bool = True


def read_token(issued: Issued) -> Token:
    """The claims of a token, read without checking its signature.

    That is right here: the token is for Defender, which does check it. We came by it from Entra itself over TLS and
    read `roles` for one purpose, to name a missing role before Defender answers 403. No decision about what somebody
    may do is ever based on it. A token that is not a JWT is passed on unread.
    """
    try:
        part = issued.value.split(".")[1]
        claims: Any = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (IndexError, ValueError, binascii.Error):
        claims = None
    if not isinstance(claims, dict):
        return Token(issued.value, issued.expires_at, readable=False)
    roles = claims.get("roles")
    return Token(
        issued.value,
        issued.expires_at,
        roles=tuple(str(role) for role in roles) if isinstance(roles, list) else (),
        app_id=str(claims.get("appid") or claims.get("azp") or ""),
        tenant_id=str(claims.get("tid") or ""),
    )


class TokenSource:
    """Hands out the token. Thread safe; built for a bounded pool of threads that make blocking calls.

    It is renewed five minutes before its end, by one thread, while the others go on with the one that still holds. If
    that fails, the old one serves until a minute before its end. A failure is remembered for a few seconds and told
    to all who ask, so that a pool of threads does not queue up for the same time-out.
    """

    def __init__(
        self,
        issuer: Issuer,
        *,
        pause: float = 5.0,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`pause`: seconds for which a failure is remembered."""
        self._issuer = issuer
        self._pause = pause
        self._now = now
        self._clock = clock
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._doubt = False
        self._failure: tuple[IdentityError, float] | None = None
        self._flight: threading.Event | None = None

    def get(self) -> Token:
        """The token, from memory when it lasts another five minutes.

        Raises:
            TokenError, VaultError: none can be had.
            RoleError: it holds neither Ti.ReadWrite nor Ti.ReadWrite.All.
        """
        while True:
            with self._lock:
                token, left = self._token, 0.0
                if token is not None:
                    left = token.expires_at - self._now()
                    if left > _RENEW_BEFORE:
                        return token
                usable = token if left > _LAST_USE else None
                if self._failure is not None and self._clock() < self._failure[1]:
                    if usable is not None:
                        return usable
                    # A copy, since each raise writes its traceback into the exception.
                    raise copy.copy(self._failure[0])
                flight = self._flight
                if flight is None:
                    self._flight = flight = threading.Event()
                    doubt, self._doubt = self._doubt, False
                    break
                if usable is not None:
                    return usable
            flight.wait()
        try:
            return self._fetch(doubt, usable)
        finally:
            with self._lock:
                self._flight = None
            flight.set()

    def _fetch(self, doubt: bool, usable: Token | None) -> Token:
        """Get a new token and remember it or the failure; `usable` stands in when that is possible."""
        try:
            token = read_token(self._issuer.issue(doubt=doubt))
            if token.readable and not set(token.roles) & set(ROLES):
                raise RoleError(
                    f"the token for {token.app_id or 'the app'} holds "
                    + (f"only the roles {', '.join(token.roles)}" if token.roles else "no application role"),
                    remediation="Grant the application permission Ti.ReadWrite or Ti.ReadWrite.All of "
                    "WindowsDefenderATP with admin consent (a managed identity: by an app role assignment). It can "
                    "take an hour to show. If it is granted, check RELAY_TOKEN_RESOURCE.",
                )
            if token.expires_at <= self._now():
                raise TokenError(
                    "Entra ID issued a token that has expired already",
                    remediation="Check the clock of this machine.",
                )
        except IdentityError as error:
            hold = _HOLD_ROLES if isinstance(error, RoleError) else self._pause
            with self._lock:
                self._failure = (copy.copy(error), self._clock() + hold)
                if doubt:
                    self._doubt = True
            if usable is not None:
                return usable
            raise
        with self._lock:
            self._token, self._failure = token, None
        return token

    def invalidate(self, token: Token) -> None:
        """Defender answered 401 to `token`: forget it, unless a newer one has taken its place already.

        The next `get` asks for a new one and looks at the secret in the vault again, once.
        """
        with self._lock:
            if self._token is not None and self._token.value == token.value:
                self._token = None
                self._doubt = True


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """What the app needs to be somebody. `secrets` is None where no secret is used."""

    endpoints: Endpoints
    tokens: TokenSource
    secrets: SecretSource | None


def build_identity(settings: Settings) -> Identity:
    """Put the parts together as `settings` say. No network traffic, no SDK import.

    Raises:
        SettingsError: an address is wrong. A setting that is merely absent shows when a token is asked for.
    """
    places = endpoints(settings)
    pause = settings.token_pause
    missing = missing_settings(settings)
    if missing:
        return Identity(places, TokenSource(_Incomplete(missing), pause=pause), None)
    if settings.credential == "federated":
        return Identity(places, TokenSource(FederatedIssuer(settings, places), pause=pause), None)
    if settings.credential == "managed-identity":
        return Identity(places, TokenSource(ManagedIdentityIssuer(settings, places), pause=pause), None)
    secrets = vault_secret_source(settings)
    return Identity(places, TokenSource(SecretIssuer(settings, places, secrets), pause=pause), secrets)


class _Incomplete:
    """Stands for a credential that lacks settings: the app starts, takes submissions and says what is missing."""

    def __init__(self, missing: tuple[str, ...]) -> None:
        self._missing = missing

    def issue(self, *, doubt: bool = False) -> Issued:
        raise TokenError(
            "these settings are missing: " + ", ".join(self._missing),
            remediation="Set " + ", ".join(self._missing) + ".",
        )
