"""What travels over HTTP, as schemas of OpenAPI 3.0: the native message from the model, the answers as they are shown.

tests/integration/test_openapi.py holds every answer of the running app to them.
"""

from __future__ import annotations

from typing import Any

from shared.indicators.model import Action, IndicatorType
from shared.intake.schema import schema
from shared.ledger.outcomes import State

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_TIME: Schema = {"type": "string", "format": "date-time", "description": "UTC."}
_FLAG: Schema = {"type": "boolean"}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _list(of: Schema) -> Schema:
    return {"type": "array", "items": of}


def _object(required: dict[str, Schema], optional: dict[str, Schema] | None = None, text: str = "") -> Schema:
    made: Schema = {"type": "object", "properties": {**required, **(optional or {})}}
    if required:
        made["required"] = list(required)
    if text:
        made["description"] = text
    return made


def _native() -> dict[str, Schema]:
    """The native message's JSON Schema as OpenAPI 3.0 has it, by component name."""
    whole = schema()
    definitions = {f"Native{name.capitalize()}": _older(value) for name, value in whole["$defs"].items()}
    variants = [_ref(f"Native{name.capitalize()}") for name in ("batch", "single", "list")]
    return {"NativeMessage": {"anyOf": variants, "description": "docs/queue-contract.md describes it."}, **definitions}


def _older(value: Any) -> Any:
    """A JSON Schema of 2020-12 in the dialect of OpenAPI 3.0: no lists of types, no patterns of names."""
    if isinstance(value, list):
        return [_older(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    made: Schema = {}
    kinds: list[str] = []
    for key, entry in value.items():
        match key:
            case "$ref":
                made["$ref"] = "#/components/schemas/Native" + entry.rpartition("/")[2].capitalize()
            case "properties":
                made["properties"] = {name: _older(inner) for name, inner in entry.items()}
            case "type" if isinstance(entry, list):
                kinds = [kind for kind in entry if kind != "null"]
                if "null" in entry:
                    made["nullable"] = True
            case "enum":
                made["enum"] = entry
                if None in entry:
                    made["nullable"] = True
            case "examples":
                made["example"] = entry[0]
            case "patternProperties":
                pass
            case "oneOf" if all(inner.keys() == {"required"} for inner in entry):
                pass  # one of two names of the same field: no generator of clients knows what to make of it
            case "additionalProperties" if "patternProperties" in value:
                pass  # names that begin with x- are the sender's own
            case _:
                made[key] = _older(entry)
    if len(kinds) == 1:
        made["type"] = kinds[0]
    elif kinds:
        limits = {
            "string": ("maxLength", "minLength", "pattern"),
            "array": ("items", "maxItems"),
            "integer": ("minimum", "maximum"),
        }
        own = {name: made.pop(name) for names in limits.values() for name in names if name in made}
        made["anyOf"] = [
            {"type": kind, **{name: own[name] for name in limits.get(kind, ()) if name in own}} for kind in kinds
        ]
    return made


_STATES = [state.value for state in State]
_INDICATOR_TYPES = [kind.value for kind in IndicatorType]
_ACTIONS = [action.value for action in Action]

_COUNTS = _object(
    {name: _COUNT for name in ("submitted", *_STATES)},
    text="submitted = accepted + unchanged + superseded + rejected + held + deferred + pending, at any moment.",
)
_SUBMISSION = {
    "id": _TEXT,
    "state": {"type": "string", "enum": ["finished", "in_progress"]},
    "text": {"type": "string", "description": "The counts in plain words."},
    "counts": _ref("Counts"),
    "reasons": {"type": "object", "additionalProperties": _COUNT, "description": "Rejected items by reason."},
    "intentAt": _TIME,
    "door": {"type": "string", "enum": ["http", "queue"]},
    "link": _TEXT,
}
_SUBMISSION_MORE = {
    "source": _TEXT,
    "incident": _TEXT,
    "correlationId": _TEXT,
    "caller": _TEXT,
    "callerName": _TEXT,
    "replayOf": _TEXT,
    "undoOf": _TEXT,
    "undoneBy": _list(_TEXT),
    "paused": _ref("Paused"),
}
_VERDICT = _object(
    {"ordinal": _COUNT, "verdict": {"type": "string", "enum": ["taken", "rejected"]}, "value": _TEXT},
    {"type": _TEXT, "action": _TEXT, "reason": _TEXT, "text": _TEXT, "notes": _list(_TEXT)},
    "The door's verdict. Taken: it goes on its way; it does not say that Defender has it.",
)
_VERDICTS = {
    "verdicts": _object({name: _COUNT for name in ("submitted", "taken", "rejected")}),
    "items": _list(_ref("Verdict")),
}
_ITEM = _object(
    {"ordinal": _COUNT, "value": _TEXT, "state": {"type": "string", "enum": _STATES}, "text": _TEXT},
    {"type": _TEXT, "action": _TEXT, "reason": _TEXT, "notes": _list(_TEXT)},
)
_LEFT = _object(
    {"ordinal": _COUNT, "value": _TEXT, "state": {"type": "string", "enum": _STATES}, "why": _TEXT},
    text="An item of the submission that is left as it is; at most 1,000 are listed.",
)

_OPEN: Schema = {"type": "string", "nullable": True}
_MAYBE: Schema = {"type": "boolean", "nullable": True}
_SEES: Schema = {
    "type": "string",
    "enum": ["everyone", "own", "unknown"],
    "description": "Whose indicators Defender shows this app.",
}
_SEEN = {"asOf": _TIME, "sees": _SEES}
_SEEN_MORE = {"seesText": _TEXT, "note": _TEXT, "history": _TEXT}
_INDICATOR = _object(
    {
        **{name: _TEXT for name in ("id", "value", "type", "action")},
        **{
            name: _OPEN
            for name in ("severity", "title", "description", "expiration", "created", "lastUpdate", "lastUpdatedBy")
        },
        **{name: _OPEN for name in ("createdBy", "createdByName", "source")},
        "generateAlert": _MAYBE,
        "rbacGroupNames": {"type": "array", "items": _TEXT, "nullable": True},
        "mine": _MAYBE | {"description": "Whether this app created it; null when it cannot be told."},
    },
    text="An indicator as Defender's list has it; times and names are Defender's own.",
)
_INTENT = _object(
    {
        "type": _TEXT,
        "value": _TEXT,
        "action": {"type": "string", "enum": [*_ACTIONS, "Retraction"]},
        "agrees": _MAYBE | {"description": "Whether Defender holds what was meant; null when it cannot be told."},
        "text": _TEXT,
        "intentAt": _TIME,
        "submission": _TEXT,
        "ordinal": _COUNT,
    },
    {
        "state": {"type": "string", "enum": _STATES},
        "stateText": _TEXT,
        "title": _TEXT,
        "severity": _TEXT,
        "expiration": _OPEN,
        "source": _TEXT,
        "incident": _TEXT,
        "caller": _TEXT,
        "callerName": _TEXT,
        "undoOf": _TEXT,
    },
    "The newest intent of a type and value, as the ledger has it.",
)
_VALUE = {"value": _TEXT, "types": _list(_TEXT), "text": _TEXT, "intents": _list(_ref("Intent"))}
_COUNTED: Schema = {"type": "object", "additionalProperties": _COUNT}
_CAPACITY = _object(
    {
        **_SEEN,
        "held": _COUNT,
        "most": _COUNT,
        "percent": {"type": "number", "nullable": True, "description": "Null when not everyone's are seen."},
        "text": _TEXT,
        "byType": _COUNTED,
        "byAction": _COUNTED,
        "byOwner": _list(_object({"createdBy": _OPEN, "name": _TEXT, "source": _OPEN, "mine": _MAYBE, "held": _COUNT})),
        "expiring": _object(
            {"first": _OPEN, "withinDay": _COUNT, "withinWeek": _COUNT, "never": _COUNT},
            text="Of what is held; an expiry that cannot be read is in none.",
        ),
        "calls": {
            "type": "object",
            "description": "By route of Defender's API, and the shares `suspect` and `look`.",
            "additionalProperties": _object(
                {
                    "windows": _list(_object({"used": _COUNT, "calls": _COUNT, "seconds": {"type": "number"}})),
                    "nextCall": _OPEN,
                    "heldUntil": _OPEN,
                    "heldReason": _TEXT,
                    "paused": _FLAG,
                }
            ),
        },
    },
    {"seesText": _TEXT},
)

_WHO = {name: _TEXT for name in ("door", "source", "incident", "caller", "callerName", "replayOf", "undoOf")}
_USE = {
    "submission": _TEXT,
    "link": _TEXT,
    "at": _TIME,
    "type": _TEXT,
    "action": {"type": "string", "enum": [*_ACTIONS, "Retraction"]},
}
_EXPIRES: Schema = {"type": "string", "description": "UTC, or `never`."}

_LETTER = {
    "id": _TEXT,
    "state": {"type": "string", "enum": ["open", "replaying", "replayed", "discarded"]},
    "kind": {"type": "string", "enum": ["raw", "items"]},
    "at": _TIME,
    "reason": _TEXT,
    "text": _TEXT,
    "items": _COUNT,
    "bytes": _COUNT,
    "intentAt": _TIME,
    "submissions": _list(_TEXT),
}
_LETTER_MORE = {
    "replayedAs": _TEXT,
    "by": _TEXT | {"description": "Who replayed or discarded it."},
    "byName": _TEXT,
    "changedAt": _TIME,
    "discardReason": _TEXT,
}

_PAUSED = _object({"since": _TIME, "by": _TEXT, "reason": _TEXT}, {"byName": _TEXT, "until": _TIME})
_OPERATIONS = _object(
    {"at": _TIME, "text": _TEXT, "problems": _list(_object({"part": _TEXT, "detail": _TEXT}))},
    {
        "paused": _ref("Paused"),
        "pauses": _list(
            _object(
                {
                    "what": {"type": "string", "enum": ["pause", "resume", "end"]},
                    "at": _TIME,
                    "by": _TEXT,
                    "reason": _TEXT,
                },
                {"byName": _TEXT, "until": _TIME},
            )
        ),
        "queue": _object(
            {
                "depth": _COUNT,
                "poison": _COUNT,
                "oldestPendingSeconds": {"type": "number", "minimum": 0, "nullable": True},
            }
        ),
        "openParts": _object(
            {"parts": _COUNT, "items": _COUNT, "deferred": _COUNT, "afterFailure": _COUNT, "complete": _FLAG},
            {"soonest": _TIME, "latest": _TIME},
        ),
        "holds": _list(_object({"route": _TEXT, "until": _TIME, "reason": _TEXT})),
        "workers": _list(
            _object(
                {
                    **{name: _TEXT for name in ("id", "host", "version")},
                    **{name: _TIME for name in ("begun", "lastSeen")},
                    **{name: _COUNT for name in ("inFlight", "messages", "calls")},
                }
            )
        ),
        "timers": {"type": "object", "additionalProperties": _TIME},
        "deadLetters": _object({"open": _COUNT, "byReason": {"type": "object", "additionalProperties": _COUNT}}),
        "submissions": _list(_ref("FoundSubmission")),
    },
    "A part that could not be told is left out, and named among the problems.",
)

_STOPPED = {"paused": _ref("Paused"), "text": _TEXT | {"description": "There while calls are paused."}}

SCHEMAS: dict[str, Schema] = {
    **_native(),
    "Problem": _object(
        {"type": _TEXT, "title": _TEXT, "status": {"type": "integer"}, "detail": _TEXT},
        {"remedy": _TEXT},
        "RFC 9457, with what the caller can do.",
    ),
    "Counts": _COUNTS,
    "Verdict": _VERDICT,
    "Item": _ITEM,
    "Paused": _PAUSED,
    "PauseOrder": _object(
        {"reason": {"type": "string", "minLength": 1, "maxLength": 400}},
        {"until": _TEXT | {"description": "A time or a duration (PT30M); without it: until somebody resumes."}},
    ),
    "PauseAnswer": _object({"paused": _ref("Paused"), "changed": _FLAG, "text": _TEXT}),
    "ResumeAnswer": _object({"changed": _FLAG, "parts": _COUNT, "text": _TEXT}, {"resumed": _ref("Paused")}),
    "Operations": _OPERATIONS,
    "Taken": {
        "oneOf": [_ref("TakenSubmission"), _ref("DryRun")],
    },
    "TakenSubmission": _object({**_SUBMISSION, **_VERDICTS}, _SUBMISSION_MORE),
    "DryRun": _object({"dryRun": _FLAG, **_VERDICTS}),
    "Submission": _object({**_SUBMISSION, "items": _list(_ref("Item"))}, {**_SUBMISSION_MORE, "nextLink": _TEXT}),
    "Undo": _object(
        {
            **_SUBMISSION,
            "undoOf": _TEXT,
            "retracting": _COUNT,
            "left": _list(_LEFT),
            "leftTotal": _COUNT,
        },
        {name: schema for name, schema in _SUBMISSION_MORE.items() if name != "undoOf"},
        "The undo, which is a submission of one retraction for each value, and what it leaves alone.",
    ),
    "Found": {"oneOf": [_ref("Submissions"), _ref("Uses")]},
    "Submissions": _object(
        {"submissions": _list(_ref("FoundSubmission")), "examined": _COUNT},
        {"nextLink": _TEXT, **_STOPPED},
        "Newest first. A page may be short or empty and yet have a nextLink; one without it is the last.",
    ),
    "FoundSubmission": _object({**_SUBMISSION, "at": _TIME}, _SUBMISSION_MORE),
    "Uses": _object(
        {"value": _TEXT, "types": _list(_TEXT), "uses": _list(_ref("Use"))},
        {
            "notes": _list(_TEXT),
            "standing": {"allOf": [_ref("Standing")], "nullable": True},
            "alsoStanding": _list(_ref("Standing")),
            "waiting": _ref("Waiting"),
            "verdict": _object({"taken": _FLAG, "text": _TEXT}, {"reason": _TEXT}, "What the guards say now."),
            "nextLink": _TEXT,
            **_STOPPED,
        },
        "One value. Its uses newest first; what stands and waits, and the verdict, are in the first page.",
    ),
    "Use": _object(
        {
            **_USE,
            "ordinal": _COUNT,
            "value": _TEXT,
            "state": {"type": "string", "enum": [*_STATES, "forgotten"]},
            "text": _TEXT,
            "newest": _FLAG,
            "link": _TEXT,
        },
        {**_WHO, "expires": _EXPIRES, "title": _TEXT, "reason": _TEXT, "notes": _list(_TEXT)},
        "One item of a submission that was chosen for a call, and what became of it.",
    ),
    "Standing": _object(
        {**_USE, "text": _TEXT},
        {
            **_WHO,
            "title": _TEXT,
            "expires": _EXPIRES,
            "state": {"type": "string", "enum": _STATES},
            "mayHold": _list(_TEXT) | {"description": "Actions of this app's that Defender holds, or may hold."},
        },
        "The newest intent for the value.",
    ),
    "Waiting": _object(
        {"items": _list(_object({**_USE, "ordinal": _COUNT, "part": _TEXT}, _WHO)), "complete": _FLAG},
        {"text": _TEXT},
        "Items that were not chosen for a call yet. When it is not complete there may be more.",
    ),
    "Indicators": _object(
        {**_SEEN, "indicators": _list(_ref("Indicator"))}, {**_VALUE, **_SEEN_MORE, "nextLink": _TEXT}
    ),
    "Value": _object({**_SEEN, **_VALUE, "indicators": _list(_ref("Indicator"))}, _SEEN_MORE),
    "Indicator": _INDICATOR,
    "Intent": _INTENT,
    "Capacity": _CAPACITY,
    "DeadLetter": _object(_LETTER, _LETTER_MORE),
    "DeadLetters": _object({"total": _COUNT, "deadLetters": _list(_ref("DeadLetter"))}, {"nextLink": _TEXT}),
    "WholeDeadLetter": _object(
        _LETTER,
        {
            **_LETTER_MORE,
            "encoding": {"type": "string", "enum": ["utf-8", "base64"]},
            "body": _TEXT | {"description": "Of a raw letter: the message as it came."},
            "content": _list({"type": "object"}) | {"description": "Of a letter of items: each with all its fields."},
            "note": _TEXT,
        },
    ),
    "Replayed": _object({"id": _TEXT, "replayOf": _TEXT, "link": _TEXT}),
    "ReplayOrder": _object(
        {},
        {
            "reason": _TEXT,
            "since": _TEXT,
            "until": _TEXT,
            "submission": _TEXT,
            "most": {"type": "integer", "minimum": 1, "maximum": 500, "default": 100},
            "after": _TEXT | {"description": "The last letter of the call before."},
            "dry_run": _FLAG,
        },
        "At least one of reason, since, until and submission.",
    ),
    "Replays": _object(
        {
            "dryRun": _FLAG,
            "matching": _COUNT,
            "deadLetters": _list(_object({"id": _TEXT}, {"submission": _TEXT, "link": _TEXT, "problem": _TEXT})),
            "more": _FLAG,
        },
        {"after": _TEXT},
    ),
    "Reason": _object({"reason": {"type": "string", "minLength": 1, "maxLength": 400}}),
    "Health": _object(
        {
            "status": {"type": "string"},
            "checks": _list(_object({"name": _TEXT, "ok": _MAYBE, "detail": _TEXT, "remedy": _TEXT})),
        },
        {"paused": _ref("Paused")},
    ),
}
