"""From a JSON object and defaults to an Indicator: field names, what may be named, and the building.

Names are matched without regard to case. Unknown fields reject the item by name, but for `x-*` (the sender's own) and
the API's read-only ones, which are ignored with a note. Nothing in an item can raise what its sender may do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

from shared.indicators import parse
from shared.indicators.matrix import parse_convert, resolve
from shared.indicators.model import Action, Indicator, IndicatorType
from shared.indicators.normalise import infer_type, normalise
from shared.indicators.parse import Context, Parser, Rejected
from shared.indicators.problem import Problem, json_type, shorten
from shared.settings import Settings

NESTING_MAX = 16

# API name -> (attribute of the model, parser). The first four are read item by item, the rest once per combination.
FIELDS: Mapping[str, tuple[str, Parser]] = {
    "indicatorValue": ("value", parse.text),
    "title": ("title", parse.title),
    "description": ("description", parse.description),
    "externalId": ("external_id", parse.text),
    "indicatorType": ("type", parse.text),
    "action": ("action", parse.text),
    "severity": ("severity", parse.severity),
    "expirationTime": ("expiration", parse.expiration),
    "generateAlert": ("generate_alert", parse.flag),
    "recommendedActions": ("recommended_actions", parse.text),
    "rbacGroupNames": ("rbac_group_names", parse.names),
    "application": ("application", parse.text),
    "educateUrl": ("educate_url", parse.web_address),
    "category": ("category", parse.category),
    "mitreTechniques": ("mitre_techniques", parse.techniques),
    "lookBackPeriod": ("look_back_period", parse.text),
    "historicalDetection": ("historical_detection", parse.flag),
    "bypassDurationHours": ("bypass_duration_hours", parse.hours),
    "notificationId": ("notification_id", parse.text),
    "notificationBody": ("notification_body", parse.text),
    "version": ("version", parse.text),
    "additionalInfo": ("additional_info", parse.text),
    "certificateInfo": ("certificate_info", parse.certificate),
}
ALIASES: Mapping[str, str] = {
    "value": "indicatorValue",
    "type": "indicatorType",
    "expiration": "expirationTime",
    "expires": "expirationTime",
}
# Set by the service, or retired; they come with indicators that were read from Defender.
READ_ONLY = (
    "id", "createdBy", "createdByDisplayName", "createdBySource", "creationTimeDateTimeUtc", "lastUpdateTime",
    "lastUpdatedBy", "rbacGroupIds", "source", "sourceType",
)  # fmt: skip
# Names by which a sender might try to be more than it is.
NOT_PERMITTED = frozenset(
    (
        "admin", "allow", "allowed", "allowlist", "bypass", "bypassguards", "caller", "force", "guard", "guards",
        "isadmin", "override", "overridereason", "overrides", "permission", "permissions", "privilege", "privileged",
        "privileges", "role", "roles", "skipguard", "skipguards", "trust", "trusted",
    )
)  # fmt: skip
TYPE_NAMES: Mapping[str, IndicatorType] = {kind.value.lower(): kind for kind in IndicatorType} | {
    "sha1": IndicatorType.FILE_SHA1,
    "sha256": IndicatorType.FILE_SHA256,
    "md5": IndicatorType.FILE_MD5,
    "ip": IndicatorType.IP_ADDRESS,
    "ipv4": IndicatorType.IP_ADDRESS,
    "ipv6": IndicatorType.IP_ADDRESS,
    "domain": IndicatorType.DOMAIN_NAME,
    "certificate": IndicatorType.CERTIFICATE_THUMBPRINT,
    "thumbprint": IndicatorType.CERTIFICATE_THUMBPRINT,
}

_CANONICAL: dict[str, str] = {name.lower(): name for name in FIELDS} | dict(ALIASES)
_IGNORED = {name.lower(): name for name in READ_ONLY}
_SINGLE = frozenset({"indicatorValue", "title", "description", "externalId"})
_SPACING = str.maketrans("", "", " -_")
# Stand for the booleans where 1 and 0 must not: they equal nothing but themselves.
_TRUE, _FALSE = object(), object()
_SUGGESTIONS_MAX = 50
_TEMPLATES_MAX = 1_024


@dataclasses.dataclass(frozen=True, slots=True)
class Built:
    """What became of one object: exactly one of `indicator` and `problem` is set; `notes` are the changes made."""

    indicator: Indicator | None
    problem: Problem | None
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class _Template:
    """All fields but the single ones, for one combination of what was sent."""

    fields: dict[str, Any]
    notes: tuple[str, ...]


class Builder:
    """Builds the indicators of one message. Not for several threads at once."""

    def __init__(
        self,
        *,
        settings: Settings,
        now: datetime,
        defaults: Mapping[str, object] | None = None,
        incident: str = "",
        allow_allowed: bool = False,
    ) -> None:
        """
        Args:
            now: the moment of the message, with its offset; expirations count from it.
            defaults: fields that every item has unless it says otherwise, by the same names as in an item.
            incident: for the description of items that have none.
            allow_allowed: whether the sender may ask for Allowed.
        """
        self._settings = settings
        self._now = now.astimezone(UTC)
        self._allow_allowed = allow_allowed
        self._convert = parse_convert(settings.certificate_convert)
        self._names: dict[str, str] = {name: name for name in FIELDS}
        self._suggestions: dict[str, str] = {}
        self._templates: dict[tuple[object, ...], _Template | Problem] = {}
        self._default_problem: Problem | None = None
        self._default_notes: list[str] = []
        self._defaults: dict[str, Any] = {}
        try:
            self._defaults = self._named(defaults or {}, self._default_notes, " in `defaults`")
        except Rejected as rejected:
            self._default_problem = rejected.problem
        self._description = _default_description(incident, settings.description_max)

    def build(self, raw: Mapping[str, Any]) -> Built:
        """The indicator that `raw` describes, or the first thing that is wrong with it; never raises."""
        if self._default_problem is not None:
            return Built(None, self._default_problem)
        try:
            return self._build(raw)
        except Rejected as rejected:
            return Built(None, rejected.problem)

    def _build(self, raw: Mapping[str, Any]) -> Built:
        notes: list[str] = self._default_notes.copy()
        fields = self._named(raw, notes, "")
        written = fields.pop("indicatorValue", None)
        if written is None:
            raise Rejected("missing_value", "indicatorValue is missing. Give the address, name, URL or hash.")
        if type(written) is not str:
            raise Rejected("wrong_type", f"indicatorValue is {json_type(written)}; write text in quotes.")
        title = self._single(fields, "title")
        description = self._single(fields, "description")
        external_id = self._single(fields, "externalId")

        kind = self._kind(fields, written)
        result = normalise(kind, written, self._settings.value_max)
        if isinstance(result, Problem):
            return Built(None, result)
        value, changed = result

        key = _key(kind, fields)
        template = self._templates.get(key) if key is not None else None
        if template is None:
            template = self._template(kind, fields)
            if key is not None and len(self._templates) < _TEMPLATES_MAX:
                self._templates[key] = template
        if isinstance(template, Problem):
            return Built(None, template)
        indicator = Indicator(
            value=value,
            type=kind,
            title=title or self._settings.default_title,
            description=description or self._description,
            external_id=external_id,
            **template.fields,
        )
        return Built(indicator, None, (*notes, *changed, *template.notes))

    def _named(self, raw: Mapping[str, Any], notes: list[str], place: str) -> dict[str, Any]:
        """`raw` by the API's own names, without what is null or ignored."""
        found: dict[str, Any] = {}
        ignored: list[str] = []
        names = self._names
        for key, value in raw.items():
            name = names.get(key) or self._name(key, value, place)
            if not name:
                ignored.append(shorten(key))
            elif name in found:
                raise Rejected(
                    "duplicate_field", f"{name} is given twice{place}, once as {shorten(key)!r}. Give it once."
                )
            elif value is not None:
                found[name] = value
            elif name == "expirationTime":
                notes.append("expirationTime null counts as not given; write `never` to ask for no expiration")
        shown = [name for name in ignored if name[:2].lower() != "x-"]
        if shown:
            notes.append("ignored, since Defender sets it itself: " + ", ".join(shown))
        return found

    def _name(self, key: str, value: object, place: str) -> str:
        """The API's name for `key`, "" for one that is ignored; remembers the common spellings."""
        lowered = key.lower()
        name = _CANONICAL.get(lowered)
        if name is not None:
            self._names[key] = name
            return name
        if lowered.startswith("x-"):
            if too_deep(value, NESTING_MAX):
                raise Rejected("too_deep", f"{shorten(key)} is nested more than {NESTING_MAX} levels deep.")
            return ""
        if lowered in _IGNORED or lowered.startswith("@odata."):
            return ""
        if lowered.translate(_SPACING) in NOT_PERMITTED:
            raise Rejected(
                "not_permitted", f"the field {shorten(key)!r}{place} is not for the sender to set. Leave it out."
            )
        raise Rejected("unknown_field", f"unknown field {shorten(key)!r}{place}.{self._suggest(lowered)}")

    def _suggest(self, lowered: str) -> str:
        if lowered not in self._suggestions:
            # Comparing costs 0.1 ms and more; a body of nothing but unknown names must not buy seconds of it.
            if len(self._suggestions) >= _SUGGESTIONS_MAX or len(lowered) > 40:
                return ""
            near = get_close_matches(lowered, _CANONICAL, n=1, cutoff=0.75)
            self._suggestions[lowered] = f" Did you mean {_CANONICAL[near[0]]}?" if near else ""
        return self._suggestions[lowered] or " Take it out, or name it x-... if it is your own."

    def _single(self, fields: dict[str, Any], name: str) -> str | None:
        value = fields.pop(name, None)
        if value is None:
            value = self._defaults.get(name)
            if value is None:
                return None
        context = Context(self._settings, self._now, [])
        found: str | None = FIELDS[name][1](name, value, context)
        return found

    def _kind(self, fields: dict[str, Any], written: str) -> IndicatorType:
        if len(written) > 4 * self._settings.value_max + 256:  # before any work whose cost grows with the length
            raise Rejected(
                "value_too_long",
                f"value {shorten(written)!r} has {len(written)} characters, more than {self._settings.value_max}. It "
                "is not cut; send a shorter one.",
            )
        named = fields.pop("indicatorType", None)
        if named is None:
            named = self._defaults.get("indicatorType")
        if named is None:
            inferred = infer_type(written)
            if inferred is None:
                raise Rejected(
                    "empty_value" if not written.strip() else "unknown_value",
                    f"value {shorten(written)!r} is not an IP address, domain name, http(s) URL or hash. Correct it, "
                    "or give indicatorType.",
                )
            return inferred
        kind = _TYPE_EXACT.get(named) if type(named) is str else None
        if kind is None and type(named) is str:
            kind = TYPE_NAMES.get(named.translate(_SPACING).strip().lower())
        if kind is None:
            seen = repr(shorten(named)) if type(named) is str else json_type(named)
            raise Rejected("unknown_type", f"indicatorType is {seen}; use one of {', '.join(IndicatorType)}.")
        return kind

    def _template(self, kind: IndicatorType, fields: dict[str, Any]) -> _Template | Problem:
        try:
            return self._combine(kind, fields)
        except Rejected as rejected:
            return rejected.problem

    def _combine(self, kind: IndicatorType, fields: dict[str, Any]) -> _Template:
        settings = self._settings
        context = Context(settings, self._now, [])
        merged = {name: value for name, value in self._defaults.items() if name not in _SINGLE} | fields
        merged.pop("indicatorType", None)
        parsed: dict[str, Any] = {}
        for name, value in merged.items():
            attribute, parser = FIELDS[name]
            found = parser(name, value, context)
            if found is not None:
                parsed[attribute] = found
        resolution = resolve(
            kind,
            _short_action(parsed.pop("action", None) or settings.default_action),
            generate_alert=parsed.pop("generate_alert", None),
            convert=self._convert,
        )
        if isinstance(resolution, Problem):
            raise Rejected(resolution.reason, resolution.text)
        if resolution.action is Action.ALLOWED and not self._allow_allowed:
            raise Rejected(
                "not_permitted",
                "action Allowed switches protection off for this value and is not for this sender to ask for.",
            )
        if "severity" not in parsed:
            parsed["severity"] = parse.severity("RELAY_DEFAULT_SEVERITY", settings.default_severity, context)
        expiration = parsed.pop("expiration", None)
        if expiration is None:
            expiration = parse.default_expiration(kind, settings, self._now)
        parsed["expiration"] = None if expiration == parse.NEVER else expiration
        parsed["action"] = resolution.action
        parsed["generate_alert"] = resolution.generate_alert
        return _Template(parsed, (*context.notes, *resolution.notes))


_TYPE_EXACT: Mapping[str, IndicatorType] = {kind.value: kind for kind in IndicatorType}


def _short_action(name: str) -> str:
    # resolve() remembers its arguments; a text of any length must not stay there.
    return name if len(name) <= 64 else name[:64] + "..."


def _key(kind: IndicatorType, fields: dict[str, Any]) -> tuple[object, ...] | None:
    """What decides the template, None when it cannot be told apart cheaply (True equals 1, lists do not hash)."""
    key: list[object] = [kind]
    value: object
    for name, value in fields.items():
        if type(value) is bool:
            value = _TRUE if value else _FALSE
        elif type(value) is list:
            if not all(type(entry) is str for entry in value):
                return None
            value = tuple(value)
        elif type(value) is not str:
            return None
        key.append(name)
        key.append(value)
    return tuple(key)


def _default_description(incident: str, limit: int) -> str:
    plain = "Published by Defender Indicator Relay"
    full = f"Incident {incident}: published by Defender Indicator Relay"
    return full if incident and len(full) <= limit and full.isprintable() else plain


def too_deep(value: object, levels: int) -> bool:
    """Whether lists and objects in `value` lie more than `levels` deep; not recursive."""
    layer = [value]
    for _ in range(levels + 1):
        inner: list[object] = []
        for entry in layer:
            if isinstance(entry, dict):
                inner.extend(entry.values())
            elif isinstance(entry, list):
                inner.extend(entry)
        if not inner:
            return False
        layer = inner
    return any(isinstance(entry, dict | list) for entry in layer)
