"""From a JSON object and defaults to an Indicator: field names, what may be named, and the building.

Names are matched without regard to case. Unknown fields reject the item by name, but for `x-*` (the sender's own) and
the API's read-only ones, which are ignored with a note. Nothing in an item can raise what its sender may do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, NamedTuple

from shared.indicators import parse
from shared.indicators.matrix import parse_convert, resolve
from shared.indicators.model import Action, Indicator, IndicatorType
from shared.indicators.names import CANONICAL, FIELDS, IGNORED, NOT_PERMITTED, OVERRIDE, TYPE_NAMES
from shared.indicators.normalise import PLAIN, PLAIN_MAX, infer_type, normalise
from shared.indicators.parse import Context, Rejected
from shared.indicators.problem import Problem, json_type, shorten
from shared.indicators.shapes import SINGLE, Known, Plan, Shape, Template, key_of, parts, too_deep, usual_fields
from shared.settings import Settings

NESTING_MAX = 16

_OWN, _READ_ONLY = "x-", "read-only"  # no names of fields
_UNREAD = "\0"  # no text: control characters are rejected
_SPACING = str.maketrans("", "", " -_")
_SUGGESTIONS_MAX = 50
_SHAPES_MAX = 256
_PLANS_MAX = 1_024
_NAMES_MAX = 400  # characters of all names of an object, for it to be remembered


class Built(NamedTuple):
    """What became of one object: exactly one of `indicator` and `problem` is set; `notes` are the changes made.

    `override` is the reason why guards are to be overridden, "" when none is given.
    """

    indicator: Indicator | None
    problem: Problem | None
    notes: tuple[str, ...] = ()
    override: str = ""


class Builder:
    """Builds the indicators of one message. Not for several threads at once.

    Most messages repeat themselves but for the value, so what was found out about a set of names (a shape) and about a
    combination of the other fields (a plan) is kept for the next object.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        now: datetime,
        defaults: Mapping[str, object] | None = None,
        incident: str = "",
        allow_allowed: bool = False,
        allow_override: bool = False,
    ) -> None:
        """
        Args:
            now: the moment of the message, with its offset; expirations count from it.
            defaults: fields that every item has unless it says otherwise, by the same names as in an item.
            incident: for the description of items that have none.
            allow_allowed: whether the sender may ask for Allowed.
            allow_override: whether the sender may have guards overridden.
        """
        self._settings = settings
        self._now = now.astimezone(UTC)
        self._allow_allowed = allow_allowed
        self._allow_override = allow_override
        self._convert = parse_convert(settings.certificate_convert)
        self._suggestions: dict[str, str] = {}
        self._shapes: dict[tuple[str, ...], Shape] = {}
        self._plans = 0
        self._texts: dict[str, dict[str | None, str | None]] = {"title": {}, "description": {}, "externalId": {}}
        self._plain_max = min(PLAIN_MAX, settings.value_max)
        self._fallback = {"title": settings.default_title, "description": _default_description(incident, settings)}
        self._defaults: dict[str, Any] = {}
        self._default_notes: tuple[str, ...] = ()
        self._default_problem: Problem | None = None
        if not defaults:
            return
        try:
            shape = self._shape(defaults, " in `defaults`")
            notes = [*shape.notes]
            self._defaults = self._given(shape, defaults, notes)
            for name in SINGLE:
                spelling = getattr(shape, FIELDS[name][0])
                if spelling:
                    self._defaults[name] = defaults[spelling]
            self._default_notes = tuple(notes)
        except Rejected as rejected:
            self._default_problem = rejected.problem

    def again(self, raw: Mapping[str, Any]) -> tuple[Indicator, tuple[str, ...], str] | None:
        """What `raw` comes to if it brings nothing new but a value that is as it should be; None of any other.

        The indicator, notes and reason for an override, as `anew` would give them. Most items are such, so this is what
        a large message costs: few calls, and what can be looked up is.
        """
        shape = self._shapes.get(tuple(raw))
        if shape is None:
            return None
        try:
            written = raw[shape.value]
            head = shape.heads.get(shape.texts(raw))
            known = shape.known.get(shape.others(raw))
        except (KeyError, TypeError):  # there is no value, or a list or an object is among the others
            return None
        if head is None or known is None or type(written) is not str or len(written) > self._plain_max:
            return None
        plan, template, numbers = known
        for name, kind in numbers:
            if type(raw[name]) is not kind:
                return None
        if template is None:
            inferred = infer_type(written)
            found = plan.templates.get(inferred) if inferred else None
            if not isinstance(found, Template):
                return None
            template = found
        before, after, whole, _, told, plain = template
        if not plain(written):
            return None
        title, description, external_id = head
        fields = whole if external_id is None else (*before, external_id, *after)
        made = _tuple(Indicator, (written, title, description) + fields)  # noqa: RUF005 - unpacking takes twice as long
        return made, told, plan.override

    def anew(self, raw: Mapping[str, Any]) -> Built:
        """The indicator that any `raw` describes, or the first thing that is wrong with it; never raises."""
        if self._default_problem is not None:
            return Built(None, self._default_problem)
        try:
            return self._anew(raw)
        except Rejected as rejected:
            return Built(None, rejected.problem)

    def _anew(self, raw: Mapping[str, Any]) -> Built:
        shape = self._shapes.get(tuple(raw)) or self._shape(raw, "")
        for spelling in shape.own:
            if too_deep(raw[spelling], NESTING_MAX):
                raise Rejected("too_deep", f"{shorten(spelling)} is nested more than {NESTING_MAX} levels deep.")
        written = raw[shape.value] if shape.value else None
        if type(written) is not str:
            if written is None:
                raise Rejected("missing_value", "indicatorValue is missing. Give the address, name, URL or hash.")
            raise Rejected("wrong_type", f"indicatorValue is {json_type(written)}; write text in quotes.")
        title = self._text("title", raw[shape.title] if shape.title else None)
        description = self._text("description", raw[shape.description] if shape.description else None)
        external_id = self._text("externalId", raw[shape.external_id] if shape.external_id else None)

        rest = tuple([raw[spelling] for spelling, _ in shape.rest])
        key = key_of(rest)
        plan = shape.plans.get(key) if key is not None else None
        if plan is None:
            plan = self._plan(shape, raw)
            if key is not None and self._plans < _PLANS_MAX:
                self._plans += 1
                shape.plans[key] = plan
        kind = plan.kind or self._infer(written)
        result = normalise(kind, written, self._settings.value_max)
        if isinstance(result, Problem):
            return Built(None, result)
        value, changed = result
        template = plan.templates.get(kind)
        if template is None:
            template = plan.templates[kind] = self._template(kind, plan)
            if key is not None and shape.plans.get(key) is plan:
                _remember(shape, raw, plan, template)
        if isinstance(template, Problem):
            return Built(None, template)
        shape.heads[shape.texts(raw)] = title, description, external_id
        made = _tuple(Indicator, (value, title, description, *template.before, external_id, *template.after))
        return Built(made, None, plan.notes + changed + template.notes, plan.override)

    def _shape(self, raw: Mapping[str, Any], place: str) -> Shape:
        """The shape of `raw`; rejects names that are unknown, not permitted or given twice."""
        names = tuple(raw)
        usual = usual_fields(names) if len(names) <= len(FIELDS) and len("".join(names)) <= _NAMES_MAX else None
        if usual is not None:
            shape = Shape(*usual, (), (), {}, {}, {})
            if len(self._shapes) < _SHAPES_MAX and not place:
                self._shapes[names] = shape
            return shape
        found: dict[str, str] = {}
        own: list[str] = []
        ignored: list[str] = []
        for key in raw:
            name = self._name(key, place)
            if name == _OWN:
                own.append(key)
            elif name == _READ_ONLY:
                ignored.append(shorten(key))
            elif name in found:
                raise Rejected(
                    "duplicate_field", f"{name} is given twice{place}, once as {shorten(key)!r}. Give it once."
                )
            else:
                found[name] = key
        notes = ("ignored, since Defender sets it itself: " + ", ".join(ignored),) if ignored else ()
        shape = Shape(*parts(found), tuple(own), notes, {}, {}, {})
        if len(self._shapes) < _SHAPES_MAX and not place:
            self._shapes[tuple(raw)] = shape
        return shape

    def _given(self, shape: Shape, raw: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
        """The fields that are not single by the API's names, without what is null."""
        found = {}
        for spelling, name in shape.rest:
            if raw[spelling] is not None:
                found[name] = raw[spelling]
            elif name == "expirationTime":
                notes.append("expirationTime null counts as not given; write `never` to ask for no expiration")
        return found

    def _plan(self, shape: Shape, raw: Mapping[str, Any]) -> Plan:
        notes = [*self._default_notes, *shape.notes]
        fields = {name: value for name, value in self._defaults.items() if name not in SINGLE}
        fields |= self._given(shape, raw, notes)
        named = fields.pop("indicatorType", None)
        reason = fields.pop(OVERRIDE, None)
        override = "" if reason is None else parse.override(OVERRIDE, reason)
        return Plan(None if named is None else _kind(named), fields, tuple(notes), override, {})

    def _text(self, name: str, value: Any) -> str | None:
        """The text of a single field, or what stands for it when it is absent."""
        known = self._texts[name]
        if value is None or type(value) is str:
            text = known.get(value, _UNREAD)
            if text is not _UNREAD:
                return text
        given = self._defaults.get(name) if value is None else value
        found = None
        if given is not None:
            found = FIELDS[name][1](name, given, Context(self._settings, self._now, []))
        known[value] = found or self._fallback.get(name)
        return known[value]

    def _name(self, key: str, place: str) -> str:
        """The API's name for `key`, or how it is ignored."""
        lowered = key.lower()
        name = CANONICAL.get(lowered)
        if name is not None:
            return name
        if lowered.startswith("x-"):
            return _OWN
        if lowered in IGNORED or lowered.startswith("@odata."):
            return _READ_ONLY
        if lowered == OVERRIDE:
            if self._allow_override:
                return OVERRIDE
            raise Rejected(
                "not_permitted",
                f"the field {shorten(key)!r}{place} is taken over HTTP alone, and from a caller with the role "
                "Guards.Override. Leave it out, or ask somebody who has the role.",
            )
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
            near = get_close_matches(lowered, CANONICAL, n=1, cutoff=0.75)
            self._suggestions[lowered] = f" Did you mean {CANONICAL[near[0]]}?" if near else ""
        return self._suggestions[lowered] or " Take it out, or name it x-... if it is your own."

    def _infer(self, written: str) -> IndicatorType:
        # Before any work whose cost grows with the length; normalise says what is wrong with such a value.
        kind = infer_type(written) if len(written) <= 8 * self._settings.value_max else IndicatorType.URL
        if kind is None:
            raise Rejected(
                "empty_value" if not written.strip() else "unknown_value",
                f"value {shorten(written)!r} is not an IP address, domain name, http(s) URL or hash. Correct it, "
                "or give indicatorType.",
            )
        return kind

    def _template(self, kind: IndicatorType, plan: Plan) -> Template | Problem:
        try:
            return self._combine(kind, plan)
        except Rejected as rejected:
            return rejected.problem

    def _combine(self, kind: IndicatorType, plan: Plan) -> Template:
        settings = self._settings
        context = Context(settings, self._now, [])
        parsed: dict[str, Any] = {}
        for name, value in plan.fields.items():
            attribute, parser = FIELDS[name]
            found = parser(name, value, context)
            if found is not None:
                parsed[attribute] = found
        asked = parsed.pop("action", None)
        resolution = resolve(
            kind,
            _short_action(asked or settings.default_action),
            generate_alert=parsed.pop("generate_alert", None),
            convert=self._convert,
        )
        if isinstance(resolution, Problem):
            raise Rejected(resolution.reason, resolution.text)
        if resolution.action is Action.ALLOWED and not (self._allow_allowed and asked):
            raise Rejected(
                "not_permitted",
                "action Allowed switches protection off for this value. It is taken when it is asked for by name, over "
                "HTTP, by a caller with the role Indicators.Allow. Ask for another, or somebody who has the role.",
            )
        if "severity" not in parsed:
            parsed["severity"] = parse.severity("RELAY_DEFAULT_SEVERITY", settings.default_severity, context)
        expiration = parsed.pop("expiration", None)
        if expiration is None:
            expiration = parse.default_expiration(kind, settings, self._now)
        parsed["expiration"] = None if expiration == parse.NEVER else expiration
        whole = Indicator(
            value="",
            type=kind,
            action=resolution.action,
            title="",
            description="",
            generate_alert=resolution.generate_alert,
            **parsed,
        )
        fields = whole[_SHARED:]
        notes = (*context.notes, *resolution.notes)
        before, after = fields[: _EXTERNAL_ID - _SHARED], fields[_EXTERNAL_ID - _SHARED + 1 :]
        return Template(before, after, fields, notes, plan.notes + notes, PLAIN[kind])


_SHARED = Indicator._fields.index("type")  # value, title and description lie before
_EXTERNAL_ID = Indicator._fields.index("external_id")
# What the constructor of a named tuple comes to, without the call of a Python function.
_tuple: Callable[[type[Indicator], tuple[Any, ...]], Indicator] = tuple.__new__


def _remember(shape: Shape, raw: Mapping[str, Any], plan: Plan, template: Template | Problem) -> None:
    """Have the next item with the same fields but for value and texts find `plan` at once, where that is safe."""
    values = {spelling: raw[spelling] for spelling, _ in shape.rest}
    if shape.own or isinstance(template, Problem) or list in map(type, values.values()):
        return
    numbers = tuple((spelling, type(one)) for spelling, one in values.items() if not isinstance(one, str | None))
    shape.known.setdefault(shape.others(raw), Known(plan, template if plan.kind else None, numbers))


def _kind(named: Any) -> IndicatorType:
    kind = TYPE_NAMES.get(named.translate(_SPACING).strip().lower()) if type(named) is str else None
    if kind is None:
        seen = repr(shorten(named)) if type(named) is str else json_type(named)
        raise Rejected("unknown_type", f"indicatorType is {seen}; use one of {', '.join(IndicatorType)}.")
    return kind


def _short_action(name: str) -> str:
    # resolve() remembers its arguments; a text of any length must not stay there.
    return name if len(name) <= 64 else name[:64] + "..."


def _default_description(incident: str, settings: Settings) -> str:
    plain = "Published by Defender Indicator Relay"
    full = f"Incident {incident}: published by Defender Indicator Relay"
    return full if incident and len(full) <= settings.description_max and full.isprintable() else plain
