"""One parser a kind of field: from a JSON value to what the model holds, or a rejection by name.

Each takes (field name as in the API, JSON value, context) and returns the value, adding to `notes` what it changed.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.indicators.model import IndicatorType, Severity
from shared.indicators.problem import Problem, json_type, shorten
from shared.settings import Settings

# Microsoft publishes no maximum for the other texts; this is ours, so that nothing without bounds is stored.
TEXT_MAX = 4_000
LIST_MAX = 100
OVERRIDE_MAX = 400
NEVER = "never"


class Rejected(Exception):
    """An item cannot be taken; caught by the builder, never let out of it."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.problem = Problem(reason, text)


@dataclasses.dataclass(slots=True)
class Context:
    """What parsers need besides the value: settings, the moment of the message (UTC), and where notes go."""

    settings: Settings
    now: datetime
    notes: list[str]


type Parser = Callable[[str, Any, Context], Any]

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def clean_text(name: str, value: Any, limit: int) -> str | None:
    """Trimmed text of at most `limit` characters, None when nothing is left; longer is rejected, never cut."""
    if type(value) is not str:
        raise Rejected("wrong_type", f"{name} is {json_type(value)}; write text in quotes.")
    text = value.strip()
    if len(text) > limit:
        raise Rejected(
            "text_too_long",
            f"{name} {shorten(text, 40)!r} has {len(text)} characters, more than {limit}. It is not cut; shorten it.",
        )
    if not text.isprintable() and _CONTROL.search(text):
        raise Rejected("control_character", f"{name} {shorten(text, 40)!r} has control characters; remove them.")
    return text or None


def override(name: str, value: Any) -> str:
    """The reason why guards are to be overridden: 1 to 400 characters on one line."""
    reason = clean_text(name, value, OVERRIDE_MAX)
    if not reason or not reason.isprintable():
        raise Rejected("bad_override", f"{name} is the reason why a guard is overridden; write it in one line.")
    return reason


def title(name: str, value: Any, context: Context) -> str | None:
    return clean_text(name, value, context.settings.title_max)


def description(name: str, value: Any, context: Context) -> str | None:
    return clean_text(name, value, context.settings.description_max)


def text(name: str, value: Any, context: Context) -> str | None:
    return clean_text(name, value, TEXT_MAX)


def flag(name: str, value: Any, context: Context) -> bool:
    """A JSON boolean; the words true and false are taken too, since Microsoft's page calls the field an enum."""
    if type(value) is bool:
        return value
    if type(value) is str and value.strip().lower() in ("true", "false"):
        context.notes.append(f"{name} was the text {value.strip()!r} and was read as a boolean")
        return value.strip().lower() == "true"
    raise Rejected("wrong_type", f"{name} is {_seen(value)}; write true or false.")


def hours(name: str, value: Any, context: Context) -> int:
    """A whole number from 0 to 8760 (a year)."""
    if type(value) is not int or not 0 <= value <= 8760:
        raise Rejected("wrong_type", f"{name} is {_seen(value)}; write a whole number of hours from 0 to 8760.")
    return value


def category(name: str, value: Any, context: Context) -> str | int | None:
    """Any text or whole number: the service reads back a number, its CSV import takes a Pascal-case name."""
    if type(value) is int:
        if 0 <= value <= 1_000_000:
            return value
        raise Rejected("wrong_type", f"{name} is out of range; write a category's name or number.")
    return clean_text(name, value, TEXT_MAX)


def severity(name: str, value: Any, context: Context) -> Severity:
    if type(value) is str:
        found = _SEVERITIES.get(value.strip().lower())
        if found is not None:
            return found
    raise Rejected("unknown_severity", f"{name} is {_seen(value)}; use Informational, Low, Medium or High.")


def web_address(name: str, value: Any, context: Context) -> str | None:
    address = clean_text(name, value, TEXT_MAX)
    if address and not _WEB(address):
        raise Rejected("bad_url", f"{name} {shorten(address)!r} is not an http or https URL.")
    return address


def names(name: str, value: Any, context: Context) -> tuple[str, ...]:
    """A list of texts, or one text with commas between; repetitions count once."""
    pieces = value.split(",") if type(value) is str else value
    if type(pieces) is not list:
        raise Rejected("wrong_type", f"{name} is {_seen(value)}; write a list of texts.")
    if len(pieces) > LIST_MAX:
        raise Rejected("too_many", f"{name} has {len(pieces)} entries, more than {LIST_MAX}.")
    found: list[str] = []
    for piece in pieces:
        entry = clean_text(name, piece, TEXT_MAX)
        if entry is None:
            if type(value) is str and not value.strip():
                return ()
            raise Rejected("empty_entry", f"{name} has an empty entry; remove it.")
        if entry not in found:
            found.append(entry)
    if len(found) < len(pieces):
        context.notes.append(f"{name} had repetitions, which count once")
    return tuple(found)


def techniques(name: str, value: Any, context: Context) -> tuple[str, ...]:
    """ATT&CK techniques such as T1059 and T1059.001."""
    found = []
    for entry in names(name, value, context):
        code = entry.upper()
        if not _TECHNIQUE(code):
            raise Rejected("bad_technique", f"{name} has {shorten(entry)!r}; write techniques such as T1059.001.")
        if code != entry:
            context.notes.append(f"{name} {entry} written as {code}")
        found.append(code)
    return tuple(dict.fromkeys(found))


def certificate(name: str, value: Any, context: Context) -> dict[str, str]:
    """The object {issuer, serial, sha256, subject}, each a text and each optional."""
    if type(value) is not dict:
        raise Rejected("wrong_type", f"{name} is {_seen(value)}; write an object.")
    found = {}
    for key, entry in value.items():
        if key not in ("issuer", "serial", "sha256", "subject"):
            raise Rejected("unknown_field", f"{name} has an unknown field {shorten(key)!r}.")
        content = None if entry is None else clean_text(f"{name}.{key}", entry, TEXT_MAX)
        if content is not None:
            found[key] = content
    return found


def expiration(name: str, value: Any, context: Context) -> datetime | str:
    """A moment in UTC with whole seconds, or `NEVER`. Takes ISO 8601, a duration (P30D, PT12H, 30d, 12h), `never`."""
    if type(value) is not str or len(value) > 64:
        raise Rejected(
            "bad_expiration", f"{name} is {_seen(value)}; write a time such as 2030-12-12T00:00:00Z, P30D or never."
        )
    written = value.strip()
    if written.lower() == NEVER:
        if not context.settings.allow_never:
            raise Rejected(
                "never_not_allowed", f"{name} is never, which the setting RELAY_ALLOW_NEVER forbids; name a time."
            )
        return NEVER
    try:
        moment = _relative(written, context.now) or _absolute(name, written, context)
    except (ValueError, OverflowError):
        raise Rejected(
            "bad_expiration",
            f"{name} {shorten(value)!r} is not a time. Write one such as 2030-12-12T00:00:00Z, a duration in weeks, "
            "days, hours or minutes such as P30D or 30d, or never.",
        ) from None
    if moment <= context.now:
        raise Rejected("expired", f"{name} {shorten(value)!r} is not in the future; send a later time, or none.")
    days = context.settings.expiry_days_max
    if (moment - context.now).total_seconds() > days * 86_400:
        raise Rejected(
            "expiration_too_far",
            f"{name} {shorten(value)!r} is more than {days:g} days ahead. Send an earlier time, or `never` by name.",
        )
    return moment


def default_expiration(kind: IndicatorType, settings: Settings, now: datetime) -> datetime:
    """The moment at which an indicator of type `kind` expires when its sender named none; within the maximum."""
    match kind:
        case IndicatorType.IP_ADDRESS:
            days = settings.expiry_days_ip
        case IndicatorType.DOMAIN_NAME | IndicatorType.URL:
            days = settings.expiry_days_network
        case IndicatorType.CERTIFICATE_THUMBPRINT:
            days = settings.expiry_days_certificate
        case _:
            days = settings.expiry_days_file
    return (now + timedelta(days=min(days, settings.expiry_days_max))).replace(microsecond=0)


def _relative(written: str, now: datetime) -> datetime | None:
    match = _DURATION(written)
    if match is None:
        return None
    weeks, days, hrs, minutes, count, unit = match.groups()
    if count is not None:
        length = timedelta(**{_UNITS[unit.lower()]: int(count)})
    elif weeks or days or hrs or minutes:
        length = timedelta(weeks=int(weeks or 0), days=int(days or 0), hours=int(hrs or 0), minutes=int(minutes or 0))
    else:
        raise ValueError(written)
    return (now + length).replace(microsecond=0)


def _absolute(name: str, written: str, context: Context) -> datetime:
    moment = datetime.fromisoformat(written)
    if moment.tzinfo is None:
        context.notes.append(f"{name} {written} has no offset and was read as UTC")
        moment = moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC).replace(microsecond=0)


def _seen(value: object) -> str:
    return repr(shorten(value, 40)) if isinstance(value, str) else json_type(value)


_SEVERITIES: Mapping[str, Severity] = {member.value.lower(): member for member in Severity}
_WEB = re.compile(r"https?://[^\s/?#]+\S*", re.IGNORECASE).fullmatch
_TECHNIQUE = re.compile(r"T[0-9]{4}(?:\.[0-9]{3})?").fullmatch
# No months and years: how long they are depends on when they begin.
_DURATION = re.compile(
    r"P(?:([0-9]{1,6})W)?(?:([0-9]{1,6})D)?(?:T(?:([0-9]{1,6})H)?(?:([0-9]{1,6})M)?)?|([0-9]{1,6}) ?([wdhWDH])"
).fullmatch
_UNITS = {"w": "weeks", "d": "days", "h": "hours"}
