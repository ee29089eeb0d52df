"""Every setting of the relay: an environment variable RELAY_<NAME>, typed, with its default and meaning.

`docs/settings.md` is made from this file (`python -m shared.settings`), and a test holds the two together.
Storage is not here: the binding connection `RelayStorage` names it (see shared/storage/connection.py).
"""

from __future__ import annotations

import dataclasses
import os
import typing
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from shared.errors import SettingsError

PREFIX = "RELAY_"

Cloud = Literal["commercial", "gcc", "gcc-high", "dod"]
CredentialKind = Literal["secret", "federated", "managed-identity"]
AuthKind = Literal["keys", "easy-auth"]


def _setting(default: Any, meaning: str) -> Any:
    return dataclasses.field(default=default, metadata={"meaning": meaning})


@dataclasses.dataclass(frozen=True, slots=True)
class Limit:
    """At most `calls` in any `seconds`; written `30/63` in a setting."""

    calls: int
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings. Durations are seconds. Build it with `load`, or directly in tests."""

    # Identity
    cloud: Cloud = _setting("commercial", "Cloud of the tenant; it decides sign-in host, API host and token resource.")
    tenant_id: str = _setting("", "Entra tenant id (GUID) whose Defender is written to.")
    client_id: str = _setting("", "Client id of the Entra app that holds Ti.ReadWrite or Ti.ReadWrite.All.")
    credential: CredentialKind = _setting(
        "secret",
        "How the app proves who it is: `secret` (client secret in Key Vault), `federated` (managed identity as "
        "federated credential of the app), `managed-identity` (the managed identity holds the role itself).",
    )
    vault_url: str = _setting("", "Key Vault URL, such as https://NAME.vault.azure.net; only for `secret`.")
    secret_name: str = _setting("defender-client-secret", "Name of the client secret in the vault.")
    secret_max_age: float = _setting(3600.0, "The secret is read again when the copy in memory is older than this.")
    secret_warn_days: float = _setting(30.0, "/api/health warns when the secret expires within so many days.")
    token_pause: float = _setting(
        5.0, "After a failure to get a token nobody asks for one for so long; all are told the same."
    )
    managed_identity_client_id: str = _setting("", "Client id of a user-assigned identity; empty: system-assigned.")
    authority: str = _setting("", "Sign-in host, when it is not the cloud's own.")
    instance_discovery: bool = _setting(True, "Off only where the sign-in host is unknown to public discovery.")
    federated_audience: str = _setting("api://AzureADTokenExchange", "Audience of the federated assertion.")
    token_resource: str = _setting("", "Resource the token is for, when it is not the cloud's own.")
    defender_url: str = _setting("", "Base URL of the API (such as a regional host), when it is not the cloud's own.")

    # Doors
    auth: AuthKind = _setting(
        "keys",
        "Who may call over HTTP: `keys` (a function key submits and reads, the admin key operates) or `easy-auth` (App "
        "Service authentication checks the caller's token, and the app its roles).",
    )
    auth_client_id: str = _setting("", "Client id of the API's Entra app: the audience callers ask tokens for.")
    auth_tenant_id: str = _setting("", "Tenant of the callers, when it is not RELAY_TENANT_ID.")
    cors_origins: str = _setting("", "Origins (https://host, commas between) whose browser pages may call the app.")
    caller_at_once: int = _setting(32, "Requests of one caller at a time, in one instance.")
    caller_rate: tuple[Limit, ...] = _setting((Limit(3000, 60.0),), "Requests of one caller, in one instance.")
    unpacked_max: int = _setting(10 * 1024 * 1024, "What a compressed HTTP body may unpack to, in bytes.")

    # Intake
    default_action: str = _setting("Audit", "Action of an indicator that names none.")
    default_severity: str = _setting("Informational", "Severity of an indicator that names none.")
    default_title: str = _setting("Indicator from Defender Indicator Relay", "Title of an indicator that names none.")
    certificate_convert: str = _setting(
        "", "Actions (of Block, Warn, Audit; commas between) that a certificate gets turned into BlockAndRemediate."
    )
    expiry_days_ip: float = _setting(30.0, "Expiration of an IP address that names none, in days.")
    expiry_days_network: float = _setting(90.0, "Expiration of a domain or URL that names none, in days.")
    expiry_days_file: float = _setting(180.0, "Expiration of a file hash that names none, in days.")
    expiry_days_certificate: float = _setting(365.0, "Expiration of a certificate that names none, in days.")
    expiry_days_max: float = _setting(730.0, "Longest expiration that may be asked for, in days, but for `never`.")
    allow_never: bool = _setting(True, "Whether `never` may be asked for as an expiration.")
    title_max: int = _setting(200, "Longest title in characters; longer is rejected, never cut.")
    description_max: int = _setting(100, "Longest description in characters; longer is rejected, never cut.")
    value_max: int = _setting(800, "Longest value in characters; longer is rejected, never cut.")
    max_items: int = _setting(15_000, "Most items in one submission.")
    max_body_bytes: int = _setting(10 * 1024 * 1024, "Largest HTTP body in bytes.")

    key_resume_after: float = _setting(
        120.0, "A request with an Idempotency-Key that has not ended by then is resumed by the next one with the key."
    )

    # Calls
    limit_import: tuple[Limit, ...] = _setting((Limit(30, 63.0),), "Budget of import calls, shared by all workers.")
    limit_suspect: tuple[Limit, ...] = _setting((Limit(8, 63.0),), "Share of it for items under suspicion.")
    limit_list: tuple[Limit, ...] = _setting((Limit(100, 63.0), Limit(1500, 3603.0)), "Budget of list calls.")
    limit_delete: tuple[Limit, ...] = _setting((Limit(100, 63.0), Limit(1500, 3603.0)), "Budget of delete calls.")
    limit_batch_delete: tuple[Limit, ...] = _setting(
        (Limit(30, 63.0), Limit(1500, 3603.0)), "Budget of batch delete calls."
    )
    limit_look: tuple[Limit, ...] = _setting(
        (Limit(30, 63.0), Limit(500, 3603.0)),
        "Share of the list calls for looking: GET /api/indicators and /api/capacity.",
    )
    tenant_max: int = _setting(15_000, "Indicators a tenant may hold; /api/capacity counts against it.")
    call_size: int = _setting(500, "Indicators in one import call; the service takes 500.")
    call_timeout: float = _setting(25.0, "Time limit of one call.")
    call_latest_start: float = _setting(60.0, "No call starts later than this after its oldest invocation began.")
    invocation_deadline: float = _setting(90.0, "What a queue invocation may take.")
    calls_at_once: int = _setting(4, "Import calls in flight in one worker.")
    storage_timeout: float = _setting(20.0, "Time limit of one storage operation.")
    storage_backoff: float = _setting(
        0.3, "First pause between the three tries of a storage operation that fails; they grow from there."
    )
    pool_threads: int = _setting(16, "Threads for blocking SDK calls in one worker.")
    decoded_max: int = _setting(5_000, "Decoded indicators in one worker at a time.")

    # Deferral
    defer_first: float = _setting(60.0, "Delay after the first retryable failure; it doubles from there, with jitter.")
    defer_max: float = _setting(3600.0, "Longest delay after a retryable failure.")
    unsent_step: float = _setting(60.0, "Delay for each 30 open parts when nothing was sent.")
    unsent_max: float = _setting(600.0, "Longest delay when nothing was sent.")
    exhausted_after: float = _setting(7 * 86_400.0, "What failed for so long since first seen is rejected(exhausted).")
    overdue_after: float = _setting(900.0, "An open part overdue by this gets a new pointer.")
    failure_pause: float = _setting(
        15.0, "A delivery that failed (storage, a setting) holds its message so long; doubling each time, up to 240."
    )
    isolate_from: int = _setting(4, "From this delivery on a message joins no call with others.")
    expiry_margin: float = _setting(60.0, "What expires within this is not sent any more: rejected(expired).")
    known_bad_for: float = _setting(86_400.0, "An indicator that Defender refused alone is remembered for so long.")

    # Keeping
    keep_outcomes_days: float = _setting(90.0, "Submissions and outcomes are kept so long.")
    keep_intents_days: float = _setting(90.0, "Intents are kept so long after expiry or retraction.")
    keep_permits_days: float = _setting(2.0, "Permits are kept so long.")
    keep_keys_days: float = _setting(7.0, "An Idempotency-Key stands for its submission so long.")

    # Telling
    log_level: str = _setting("INFO", "Level of the relay's own log lines.")


def _parse(kind: Any, text: str) -> Any:
    """Turn text into `kind`; raises ValueError with a reason."""
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise ValueError("one of " + ", ".join(get_args(kind)))
        return text
    if get_origin(kind) is tuple:
        limits = []
        for piece in text.split(","):
            calls, _, seconds = piece.partition("/")
            limits.append(Limit(int(calls), float(seconds)))
            if limits[-1].calls < 1 or limits[-1].seconds <= 0:
                raise ValueError("calls/seconds, both positive")
        return tuple(limits)
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError("true or false")
        return text.lower() == "true"
    if kind is int or kind is float:
        number = kind(text)
        if number < 0:
            raise ValueError("a number that is not negative")
        return number
    return text


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from `environ` (default: os.environ). An empty value counts as absent.

    Raises:
        SettingsError: naming every setting that cannot be understood, and every RELAY_ name that does not exist.
    """
    environ = os.environ if environ is None else environ
    hints = typing.get_type_hints(Settings)
    names = {PREFIX + field.name.upper(): field.name for field in dataclasses.fields(Settings)}
    values: dict[str, Any] = {}
    faults: list[str] = []
    for key, text in environ.items():
        if not key.startswith(PREFIX) or not text.strip():
            continue
        if key not in names:
            faults.append(f"{key} is not a setting of this app")
            continue
        try:
            values[names[key]] = _parse(hints[names[key]], text.strip())
        except ValueError as error:
            shown = text if len(text) <= 40 else text[:37] + "..."
            faults.append(f"{key}={shown!r} cannot be understood: {error}")
    if faults:
        raise SettingsError("; ".join(faults), remediation="Correct these settings; docs/settings.md lists all.")
    return Settings(**values)


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(f"{limit.calls}/{limit.seconds:g}" for limit in value)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def as_markdown() -> str:
    """The settings as a Markdown table, for docs/settings.md."""
    rows = ["| setting | default | meaning |", "| --- | --- | --- |"]
    for field in dataclasses.fields(Settings):
        shown = _shown(field.default)
        default = f"`{shown}`" if shown else ""
        rows.append(f"| `{PREFIX}{field.name.upper()}` | {default} | {field.metadata['meaning']} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(as_markdown(), end="")  # noqa: T201
