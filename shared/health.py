"""Is the app able to do its work, and if not, what should who do? The answer of GET /api/health.

Storage, the pool of threads and the permit for the one call come from outside, so this file knows no SDK.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol

from shared.errors import NotSentError, RelayError, RoleError, SettingsError
from shared.identity.clouds import endpoints, missing_settings, vault_address
from shared.identity.tokens import ROLES, Token, TokenSource
from shared.identity.vault import SecretSource
from shared.redaction import redact, shorten
from shared.settings import Settings

Status = Literal["ok", "degraded", "failing"]

# Without the vault and the secret the app goes on for as long as its token and its copy of the secret last.
_MAY_FAIL = frozenset({"vault", "secret"})
_DAY = 86_400.0


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. `ok` None: it could not be told, or it works now and will not for long (then with a remedy).

    `detail` and `remedy` never hold a secret.
    """

    name: str
    ok: bool | None
    detail: str
    remedy: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Health:
    """All checks, and the whole in one word."""

    status: Status
    checks: tuple[Check, ...]
    paused: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """The body of the answer."""
        told = {"paused": self.paused} if self.paused else {}
        return {"status": self.status, **told, "checks": [dataclasses.asdict(check) for check in self.checks]}


class Runner(Protocol):
    """Runs a blocking function in the app's pool of threads."""

    def __call__[T](self, work: Callable[[], T], /) -> Awaitable[T]: ...


# Looks at one thing and returns what it found in a few words; raises a RelayError that says what is wrong.
Look = Callable[[], Awaitable[str]]


async def check_health(
    settings: Settings,
    *,
    run: Runner,
    tokens: TokenSource,
    secrets: SecretSource | None,
    queue: Look,
    tables: Look,
    blobs: Look,
    call: Look,
    timeout: float = 20.0,
    now: Callable[[], float] = time.time,
) -> Health:
    """Look at everything at once; each check has `timeout` seconds.

    queue, tables, blobs: one cheap read each. call: one cheap authorised call of the API under a permit; it raises
    NotSentError when there is no permit to spare, which is told as "not asked" and is nobody's fault.
    """

    async def look(name: str, found: Look, remedy: str = "") -> Check:
        try:
            async with asyncio.timeout(timeout):
                return Check(name, True, shorten(redact(await found())))
        except NotSentError as error:
            return Check(name, None, f"not asked: {_said(error)}")
        except RelayError as error:
            return Check(name, False, _said(error), error.remediation or remedy)
        except TimeoutError:
            return Check(name, False, f"no answer within {timeout:g} s", remedy)

    async def token_and_roles() -> list[Check]:
        held: list[Token | RoleError] = []

        async def issued() -> str:
            try:
                token = await run(tokens.get)
            except RoleError as error:
                # The token was issued; what it lacks is the other check's matter.
                held.append(error)
                return "issued"
            held.append(token)
            return f"valid for {max(0.0, token.expires_at - now()) / 60:.0f} minutes"

        check = await look("token", issued, "Look at the settings and at the sign-in logs of Entra ID.")
        if not held:
            return [check, Check("roles", None, "not known: there is no token")]
        return [check, judge_roles(held[0])]

    async def vault_and_secret() -> list[Check]:
        if settings.credential != "secret":
            words = f"not used with credential {settings.credential}"
            return [Check("vault", True, words), Check("secret", True, words)]
        if secrets is None:
            words = "not asked: settings are missing"
            return [Check("vault", None, words), Check("secret", None, words)]
        held: list[float | None] = []

        async def read() -> str:
            held.append((await run(secrets.read_now)).expires_on)
            return "the secret can be read"

        vault = await look("vault", read, "Check that the app reaches the vault (DNS, private endpoint, firewall).")
        if not held:
            return [vault, Check("secret", None, "not known: the vault gave none")]
        return [vault, judge_secret(held[0], now(), settings.secret_warn_days)]

    storage = "Check that the app reaches its storage account and its identity holds the data roles there."
    found = await asyncio.gather(
        vault_and_secret(),
        token_and_roles(),
        _each(look("queue", queue, storage), look("tables", tables, storage), look("blobs", blobs, storage)),
        _each(look("call", call, "Look at the answer of Defender in the detail.")),
    )
    checks = (check_settings(settings), *(check for group in found for check in group))
    return Health(overall(checks), checks)


def with_pause(found: Health, paused: dict[str, Any], text: str) -> Health:
    """The same with a warning that somebody has paused the calls."""
    check = Check("paused", None, text, "POST /api/resume when the reason is gone.")
    checks = (*found.checks, check)
    return Health(overall(checks), checks, paused)


async def _each(*checks: Awaitable[Check]) -> list[Check]:
    return list(await asyncio.gather(*checks))


def _said(error: RelayError) -> str:
    return shorten(redact(str(error)))


def check_settings(settings: Settings) -> Check:
    """Whether all is set that the chosen credential needs, and all addresses are sound. No I/O."""
    try:
        places = endpoints(settings)
        missing = missing_settings(settings)
        if settings.credential == "secret" and settings.vault_url:
            vault_address(settings)
    except SettingsError as error:
        return Check("settings", False, _said(error), error.remediation)
    if missing:
        return Check("settings", False, "missing: " + ", ".join(missing), "Set " + ", ".join(missing) + ".")
    return Check("settings", True, f"{settings.cloud}, {settings.credential}, API {places.api}")


def judge_secret(expires_on: float | None, now: float, warn_days: float) -> Check:
    """The days that the secret has left. Times are seconds since 1970."""
    remedy = "Make a new client secret of the app and store it in the vault as a new version; nothing need restart."
    if expires_on is None:
        return Check(
            "secret",
            None,
            "the vault knows no expiry of it, so nobody can warn before it expires",
            "Give the secret in the vault the expiry date of the client secret.",
        )
    days = (expires_on - now) / _DAY
    if days <= 0:
        return Check("secret", False, f"expired {-days:.1f} days ago", remedy)
    if days <= warn_days:
        return Check("secret", None, f"expires in {days:.1f} days", remedy)
    return Check("secret", True, f"{days:.0f} days left")


def judge_roles(found: Token | RoleError) -> Check:
    """What the token says of its roles."""
    if isinstance(found, RoleError):
        return Check("roles", False, _said(found), found.remediation)
    if not found.readable:
        return Check("roles", None, "the token cannot be read; the check `call` tells whether it serves")
    return Check("roles", True, ", ".join(role for role in found.roles if role in ROLES))


def overall(checks: tuple[Check, ...]) -> Status:
    """failing: something stops the work. degraded: something will, or it works on what is in memory. Else ok."""
    if any(check.ok is False and check.name not in _MAY_FAIL for check in checks):
        return "failing"
    if any(check.ok is False or (check.ok is None and check.remedy) for check in checks):
        return "degraded"
    return "ok"


def start_up_line(settings: Settings) -> str:
    """One line for the log at start: who the app is and what it lacks. No I/O."""
    check = check_settings(settings)
    line = f"cloud={settings.cloud} credential={settings.credential} tenant={settings.tenant_id or 'not set'}"
    return f"{line} settings=ok" if check.ok else f"{line} settings: {check.detail} Remedy: {check.remedy}"
