"""Where each cloud signs in, where its indicators API lives and which resource the token must be for.

The API host and the token resource are separate things: the token for https://api.security.microsoft.com is issued for
`https://api.securitycenter.microsoft.com` (documented, exposed-apis-create-app-webapp). Sources: Microsoft's pages
`exposed-apis-list`, `gov` and `improve-request-performance`.
"""

from __future__ import annotations

import dataclasses
from urllib.parse import SplitResult, urlsplit

from shared.errors import SettingsError
from shared.settings import Settings


@dataclasses.dataclass(frozen=True, slots=True)
class Endpoints:
    """Three addresses, each `https://host[:port]` without a trailing slash."""

    authority: str
    api: str
    token_resource: str

    @property
    def scope(self) -> str:
        """The scope to ask a token for."""
        return self.token_resource + "/.default"


_GCC = "https://api-gcc.securitycenter.microsoft.us"
_GOV = "https://api-gov.securitycenter.microsoft.us"

CLOUDS: dict[str, Endpoints] = {
    "commercial": Endpoints(
        "https://login.microsoftonline.com",
        "https://api.security.microsoft.com",
        "https://api.securitycenter.microsoft.com",
    ),
    "gcc": Endpoints("https://login.microsoftonline.com", _GCC, _GCC),
    "gcc-high": Endpoints("https://login.microsoftonline.us", _GOV, _GOV),
    "dod": Endpoints("https://login.microsoftonline.us", _GOV, _GOV),
}

# As a resource this host is Microsoft Threat Protection, another service principal, which has no Ti.* role: Entra
# issues a token gladly and every call of the indicators API is then refused.
_TRAP = "api.security.microsoft.com"


def endpoints(settings: Settings) -> Endpoints:
    """The addresses that `settings` mean: those of the cloud, each replaced where a setting says so.

    Raises:
        SettingsError: an address is not a plain https one, or the token resource is the one of another service.
    """
    cloud = CLOUDS[settings.cloud]
    authority = cloud.authority
    if settings.authority:
        named = settings.authority if "//" in settings.authority else "https://" + settings.authority
        authority = _https("RELAY_AUTHORITY", named)
    api = _https("RELAY_DEFENDER_URL", settings.defender_url) if settings.defender_url else cloud.api
    resource = cloud.token_resource
    if settings.token_resource:
        named = settings.token_resource.removesuffix("/.default")
        resource = _https("RELAY_TOKEN_RESOURCE", named, path_allowed=True)
        host = urlsplit(resource).hostname or ""
        if host == _TRAP or host.endswith("." + _TRAP):
            raise SettingsError(
                f"RELAY_TOKEN_RESOURCE is {resource}: as a token resource that is Microsoft Threat Protection, "
                "which has no Ti.ReadWrite role, so Defender would refuse every call",
                remediation=f"Remove RELAY_TOKEN_RESOURCE (the cloud's own is {cloud.token_resource}); "
                "an API host goes into RELAY_DEFENDER_URL.",
            )
    return Endpoints(authority, api, resource)


def missing_settings(settings: Settings) -> tuple[str, ...]:
    """What has to be set for the chosen credential and is not, as `RELAY_...` names; empty when all is there."""
    needed = {
        "secret": ("tenant_id", "client_id", "vault_url", "secret_name"),
        "federated": ("tenant_id", "client_id", "managed_identity_client_id", "federated_audience"),
        "managed-identity": (),
    }[settings.credential]
    return tuple(f"RELAY_{name.upper()}" for name in needed if not getattr(settings, name))


def vault_address(settings: Settings) -> str:
    """The vault's `https://host`.

    Raises:
        SettingsError: it is absent or not a plain https address (such as a whole secret identifier).
    """
    if not settings.vault_url:
        raise SettingsError("RELAY_VAULT_URL is not set", remediation="Set it to https://NAME.vault.azure.net.")
    return _https("RELAY_VAULT_URL", settings.vault_url)


def _https(name: str, address: str, *, path_allowed: bool = False) -> str:
    """`address` without a trailing slash; raises SettingsError unless it is https://host[:port]."""
    try:
        parts: SplitResult | None = urlsplit(address)
        sound = (
            parts is not None
            and parts.scheme == "https"
            and bool(parts.hostname)
            and (parts.port is None or parts.port > 0)
            and not (parts.username or parts.password or parts.query or parts.fragment)
            and (path_allowed or parts.path in ("", "/"))
        )
    except ValueError:
        sound = False
    if not sound:
        raise SettingsError(
            f"{name} must be an address of the form https://host",
            remediation=f"Correct {name}: https, a host, no path, no query, no user name.",
        )
    return address.rstrip("/")
