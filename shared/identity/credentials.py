"""The three ways to a token for Defender: client secret, federated managed identity, managed identity directly.

Each issuer builds its credential anew for each token, about once an hour: so no cache inside an SDK can hand out a
token that Defender has refused, and there is one cache only, in `tokens.py`.
"""

from __future__ import annotations

import dataclasses
import re
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from shared.errors import TokenError
from shared.identity.clouds import Endpoints
from shared.identity.sdk import PATIENCE, managed_identity, quiet_sdk_loggers
from shared.identity.vault import Secret, SecretSource
from shared.redaction import redact, shorten
from shared.settings import Settings

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken

_STALE_SECRET = frozenset({"AADSTS7000215", "AADSTS7000222"})
_HOLD = 60.0

_REMEDIES = {
    "AADSTS7000215": "Store the app's current client secret (its value, not its id) in the vault.",
    "AADSTS7000222": "The client secret has expired: make a new one and store it in the vault.",
    "AADSTS700016": "RELAY_CLIENT_ID is no app of the tenant RELAY_TENANT_ID, or nobody has consented to it there.",
    "AADSTS90002": "RELAY_TENANT_ID is not known to this sign-in host; check it and RELAY_CLOUD.",
    "AADSTS900023": "RELAY_TENANT_ID must be a tenant id (GUID).",
    "AADSTS500011": "The tenant does not know the token resource: is Defender for Endpoint licensed there, and do "
    "RELAY_CLOUD and RELAY_TOKEN_RESOURCE fit the tenant?",
    "AADSTS7000112": "The app is disabled in the tenant; enable its enterprise application.",
    "AADSTS53003": "A Conditional Access policy for workload identities blocks the app.",
    "AADSTS70021": "Add a federated credential to the app: issuer of the tenant, subject = object id of the identity.",
    "AADSTS700213": "The app's federated credential names another subject: it must be the identity's object id.",
    "AADSTS700211": "The app's federated credential names another issuer: it must be the tenant's v2.0 issuer.",
    "AADSTS700212": "The app's federated credential names another audience than RELAY_FEDERATED_AUDIENCE.",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Issued:
    """What Entra ID issued: the token, and its expiry in seconds since 1970."""

    value: str = dataclasses.field(repr=False)
    expires_at: float


class Issuer(Protocol):
    """Something that gets a new token each time it is asked."""

    def issue(self, *, doubt: bool = False) -> Issued:
        """A new token. `doubt`: Defender refused the last one, so whatever it rested on should be looked at again.

        Raises:
            TokenError, VaultError.
        """


def _ask(build: Callable[[], Any], endpoints: Endpoints, *known: str) -> Issued:
    """One token from a credential; whatever goes wrong becomes a TokenError that holds none of the `known` secrets."""
    from azure.core.exceptions import AzureError, ServiceRequestError, ServiceResponseError
    from azure.identity import CredentialUnavailableError

    quiet_sdk_loggers()
    try:
        with build() as credential:
            token: AccessToken = credential.get_token(endpoints.scope)
    except CredentialUnavailableError as error:
        failure = TokenError(
            f"the managed identity gives no token: {shorten(redact(str(error), *known))}",
            remediation="Assign a managed identity to the app; for a user-assigned one set "
            "RELAY_MANAGED_IDENTITY_CLIENT_ID to its client id.",
        )
    except (ServiceRequestError, ServiceResponseError) as error:
        failure = TokenError(
            f"the sign-in host cannot be reached: {shorten(redact(str(error), *known))}",
            remediation=f"Check that the app reaches {endpoints.authority} (DNS, firewall, proxy).",
        )
    except (AzureError, ValueError) as error:
        said = redact(str(error), *known)
        found = re.search(r"AADSTS\d+", said)
        code = found.group() if found else ""
        failure = TokenError(
            f"Entra ID issues no token: {shorten(said)}",
            code=code,
            remediation=_REMEDIES.get(code, "Check RELAY_TENANT_ID, RELAY_CLIENT_ID, RELAY_CLOUD and RELAY_AUTHORITY."),
        )
    else:
        return Issued(token.token, float(token.expires_on))
    # Raised out here so that the SDK's exception, with the request it made, does not hang on ours.
    raise failure


class SecretIssuer:
    """Client secret from Key Vault. A secret that Entra calls wrong or expired is looked up again, once.

    A version that was refused is not shown to Entra again for a minute, however many callers ask.
    """

    def __init__(
        self,
        settings: Settings,
        endpoints: Endpoints,
        secrets: SecretSource,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._endpoints = endpoints
        self._secrets = secrets
        self._clock = clock
        self._lock = threading.Lock()
        self._refused: tuple[str, float, str, str, str] | None = None

    def issue(self, *, doubt: bool = False) -> Issued:
        secret = self._secrets.get()
        if doubt:
            secret = self._secrets.reread(secret)
        try:
            return self._issue_with(secret)
        except TokenError as error:
            if error.code not in _STALE_SECRET:
                raise
            newer = self._secrets.reread(secret)
            if newer.version == secret.version:
                raise
        return self._issue_with(newer)

    def _issue_with(self, secret: Secret) -> Issued:
        with self._lock:
            if self._refused is not None:
                version, until, text, code, remedy = self._refused
                if version == secret.version and self._clock() < until:
                    raise TokenError(text, code=code, remediation=remedy)
        try:
            return _ask(lambda: self._credential(secret), self._endpoints, secret.value)
        except TokenError as error:
            if error.code in _STALE_SECRET:
                with self._lock:
                    until = self._clock() + _HOLD
                    self._refused = (secret.version, until, str(error), error.code, error.remediation)
            raise

    def _credential(self, secret: Secret) -> Any:
        from azure.identity import ClientSecretCredential

        return ClientSecretCredential(
            self._settings.tenant_id,
            self._settings.client_id,
            secret.value,
            **_options(self._settings, self._endpoints),
        )


class FederatedIssuer:
    """The managed identity vouches for the app (federated identity credential); there is no secret at all."""

    def __init__(self, settings: Settings, endpoints: Endpoints) -> None:
        self._settings = settings
        self._endpoints = endpoints

    def issue(self, *, doubt: bool = False) -> Issued:
        return _ask(self._credential, self._endpoints)

    def _credential(self) -> Any:
        from azure.identity import ClientAssertionCredential

        return ClientAssertionCredential(
            self._settings.tenant_id,
            self._settings.client_id,
            self._assertion,
            **_options(self._settings, self._endpoints),
        )

    def _assertion(self) -> str:
        with managed_identity(self._settings) as identity:
            audience = self._settings.federated_audience.removesuffix("/.default")
            return str(identity.get_token(audience + "/.default").token)


class ManagedIdentityIssuer:
    """The managed identity holds the Defender role itself."""

    def __init__(self, settings: Settings, endpoints: Endpoints) -> None:
        self._settings = settings
        self._endpoints = endpoints

    def issue(self, *, doubt: bool = False) -> Issued:
        return _ask(lambda: managed_identity(self._settings), self._endpoints)


def _options(settings: Settings, endpoints: Endpoints) -> dict[str, Any]:
    return {
        "authority": endpoints.authority,
        "disable_instance_discovery": not settings.instance_discovery,
        **PATIENCE,
    }
