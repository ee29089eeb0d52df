"""The client secret: read from Key Vault with the app's own managed identity, and kept in memory only."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from shared.errors import VaultError
from shared.identity.clouds import vault_address
from shared.identity.sdk import PATIENCE, managed_identity, quiet_sdk_loggers
from shared.redaction import redact, shorten
from shared.settings import Settings

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken, AccessTokenInfo, TokenRequestOptions
    from azure.core.exceptions import AzureError
    from azure.identity import ManagedIdentityCredential

# What App Service hands on when a Key Vault reference could not be resolved: the reference itself, as the value.
_UNRESOLVED = "@Microsoft.KeyVault("
_REREAD_EVERY = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class Secret:
    """A client secret. `expires_on` is in seconds since 1970, None when the vault names no expiry."""

    value: str = dataclasses.field(repr=False)
    version: str
    expires_on: float | None


class SecretSource:
    """The secret, cached for `max_age` seconds, and read again when somebody found it to be wrong.

    Thread safe. While the vault cannot be reached an older copy goes on being used: an outage of the vault is no
    reason to stop publishing. When the vault answers and refuses (403, 404), that is somebody's decision and stands.
    """

    def __init__(
        self, read: Callable[[], Secret], *, max_age: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read = read
        self._max_age = max_age
        self._clock = clock
        self._lock = threading.Lock()
        self._secret: Secret | None = None
        self._read_at = 0.0
        self._reread: dict[str, float] = {}

    def get(self) -> Secret:
        """The secret, from memory when it is young enough.

        Raises:
            VaultError: it cannot be read, and there is no copy that may stand in.
        """
        with self._lock:
            now = self._clock()
            if self._secret is not None and now - self._read_at < self._max_age:
                return self._secret
            try:
                return self._fetch()
            except VaultError as error:
                if self._secret is None or error.status in (401, 403, 404):
                    raise
                # Ask again in a while, not at every call.
                self._read_at = now - self._max_age + min(_REREAD_EVERY, self._max_age)
                return self._secret

    def reread(self, doubted: Secret) -> Secret:
        """Another look because `doubted` was refused: at most once a minute for each version of the secret.

        Returns the newest known secret, which may be `doubted` itself.

        Raises:
            VaultError: it cannot be read.
        """
        with self._lock:
            if self._secret is not None and self._secret.version != doubted.version:
                return self._secret
            now = self._clock()
            last = self._reread.get(doubted.version)
            if last is not None and now - last < _REREAD_EVERY:
                return doubted
            self._reread = {doubted.version: now}
            return self._fetch()

    def read_now(self) -> Secret:
        """Ask the vault whatever is in memory, as a health check does; the answer also becomes the copy in memory.

        Raises:
            VaultError: it cannot be read.
        """
        with self._lock:
            return self._fetch()

    def _fetch(self) -> Secret:
        secret = self._read()
        if not secret.value.strip():
            raise VaultError("the secret in the vault is empty", remediation="Store the app's client secret there.")
        if secret.value.lstrip().startswith(_UNRESOLVED):
            raise VaultError(
                "the vault holds a Key Vault reference instead of a secret",
                remediation="Store the client secret itself; the app reads the vault directly and needs no reference.",
            )
        self._secret, self._read_at = secret, self._clock()
        return secret


def vault_secret_source(settings: Settings) -> SecretSource:
    """The SecretSource that `settings` describe. No network traffic yet.

    Raises:
        SettingsError: RELAY_VAULT_URL is absent or no plain address.
    """
    address = vault_address(settings)
    return SecretSource(lambda: _read_vault(settings, address), max_age=settings.secret_max_age)


def _read_vault(settings: Settings, address: str) -> Secret:
    """Read the newest version of the secret. Raises VaultError."""
    from azure.core.exceptions import AzureError
    from azure.keyvault.secrets import SecretClient

    quiet_sdk_loggers()
    try:
        with managed_identity(settings) as credential:
            noting = _Noting(credential)
            with SecretClient(address, noting, **PATIENCE) as client:
                found = client.get_secret(settings.secret_name)
    except AzureError as error:
        failure = _no_identity(error) if noting.failed else _explain(error, settings, address)
    except ValueError as error:
        # The SDK checks that the vault's challenge is for this host's own domain, and that the identity is well formed.
        failure = VaultError(
            f"the vault cannot be used: {shorten(redact(str(error)))}",
            remediation="Check RELAY_VAULT_URL: it must be the vault's own host name.",
        )
    else:
        expires = found.properties.expires_on
        return Secret(
            value=found.value or "",
            version=found.properties.version or "",
            expires_on=expires.timestamp() if expires else None,
        )
    # Raised out here so that the SDK's exception, with its request objects, does not hang on ours.
    raise failure


class _Noting:
    """A credential that notes when it was it that failed: the client's errors do not tell identity from vault."""

    def __init__(self, inner: ManagedIdentityCredential) -> None:
        self._inner = inner
        self.failed = False

    def get_token_info(self, *scopes: str, options: TokenRequestOptions | None = None) -> AccessTokenInfo:
        """As the SDK's protocol for credentials has it."""
        self.failed = True
        found: AccessTokenInfo = self._inner.get_token_info(*scopes, options=options)
        self.failed = False
        return found

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """The older form of the same."""
        self.failed = True
        found: AccessToken = self._inner.get_token(*scopes, **options)
        self.failed = False
        return found


def _no_identity(error: AzureError) -> VaultError:
    return VaultError(
        f"the managed identity gives no token for the vault: {shorten(redact(str(error)))}",
        remediation="Assign a managed identity to the app; for a user-assigned one set "
        "RELAY_MANAGED_IDENTITY_CLIENT_ID to its client id.",
    )


def _explain(error: AzureError, settings: Settings, address: str) -> VaultError:
    """What the SDK's error means for the reader."""
    from azure.core.exceptions import HttpResponseError

    said = shorten(redact(str(error)))
    status = (error.status_code or 0) if isinstance(error, HttpResponseError) else 0
    if status == 403 and any(word in said for word in ("ForbiddenByFirewall", "ForbiddenByConnection", "firewall")):
        remedy = "Let the app through the vault's firewall, or give it a private endpoint."
    elif status == 403 and "disabled" in said.lower():
        remedy = f"Enable the newest version of the secret {settings.secret_name!r}."
    elif status == 403:
        remedy = (
            "Grant the app's managed identity the role 'Key Vault Secrets User' on the vault "
            "(with access policies: the secret permission Get)."
        )
    elif status == 404:
        remedy = f"Create the secret {settings.secret_name!r} in {address}, or correct RELAY_SECRET_NAME."
    elif status == 401:
        remedy = "The vault trusts another tenant than the managed identity's; use a vault of the same tenant."
    elif status:
        remedy = "Nothing to do if it passes; otherwise look at the vault's own health."
    else:
        remedy = f"Check that {address} exists and can be reached from the app (DNS, private endpoint, firewall)."
    what = f"answered {status}" if status else "cannot be reached"
    return VaultError(f"Key Vault {what}: {said}", status=status, remediation=remedy)
