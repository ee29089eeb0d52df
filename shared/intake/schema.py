"""The native contract as JSON Schema, made from the model: `python -m shared.intake.schema` prints it.

docs/queue-contract.schema.json holds it for senders, and a test holds the two in step. It describes what senders should
write; the app takes more (names in any case, aliases of types and actions), and checks more (values, times, guards).
"""

from __future__ import annotations

import json
from typing import Any

from shared.indicators.model import Action, IndicatorType, Severity
from shared.indicators.names import ALIASES, FIELDS, OVERRIDE, READ_ONLY
from shared.indicators.parse import LIST_MAX, OVERRIDE_MAX, TEXT_MAX
from shared.intake.native import INDEX_MAX, SCHEMA
from shared.settings import Settings

_TEXT = {"type": ["string", "null"], "maxLength": TEXT_MAX}
_INDEX = {"type": ["string", "integer", "null"], "maxLength": INDEX_MAX}


def _fields(settings: Settings) -> dict[str, Any]:
    names = {"type": ["array", "string", "null"], "items": {"type": "string"}, "maxItems": LIST_MAX}
    special: dict[str, Any] = {
        "indicatorValue": {
            "type": "string",
            "minLength": 1,
            "description": f"The value; at most {settings.value_max} characters once it is refanged and trimmed.",
        },
        "indicatorType": {
            "enum": [*IndicatorType, None],
            "description": "Inferred from the value when absent; a thumbprint is never inferred.",
        },
        "action": {
            "enum": [*Action, "Alert", "AlertAndBlock", None],
            "description": f"{settings.default_action} when absent, unless the app is set otherwise. Alert and "
            "AlertAndBlock are retired and become Audit and BlockAndRemediate with an alert. Allowed: over HTTP only, "
            "with the role Indicators.Allow.",
        },
        OVERRIDE: {
            "type": ["string", "null"],
            "minLength": 1,
            "maxLength": OVERRIDE_MAX,
            "description": "Over HTTP only, with the role Guards.Override: why a guard is to be overridden. On the "
            "queue it rejects the indicator.",
        },
        "title": {"type": ["string", "null"], "maxLength": settings.title_max},
        "description": {"type": ["string", "null"], "maxLength": settings.description_max},
        "severity": {"enum": [*Severity, None]},
        "expirationTime": {
            "type": ["string", "null"],
            "description": "ISO 8601, a duration (P30D, PT12H, 30d) or `never`; a default per type when absent.",
            "examples": ["2030-12-12T00:00:00Z", "P30D", "never"],
        },
        "generateAlert": {"type": ["boolean", "null"]},
        "historicalDetection": {"type": ["boolean", "null"]},
        "bypassDurationHours": {"type": ["integer", "null"], "minimum": 0, "maximum": 8760},
        "category": {"type": ["string", "integer", "null"]},
        "educateUrl": {**_TEXT, "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://"},
        "rbacGroupNames": names,
        "mitreTechniques": {**names, "examples": [["T1059.001"]]},
        "certificateInfo": {
            "type": ["object", "null"],
            "properties": {key: _TEXT for key in ("issuer", "serial", "sha256", "subject")},
            "additionalProperties": False,
        },
    }
    fields: dict[str, Any] = {name: special.get(name, _TEXT) for name in (*FIELDS, OVERRIDE)}
    fields |= {alias: {**fields[name], "description": f"Another name of {name}."} for alias, name in ALIASES.items()}
    fields |= {name: {"description": "Set by Defender; ignored."} for name in READ_ONLY}
    return fields


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a native message, with the lengths of the default settings."""
    settings = Settings()
    fields = _fields(settings)
    envelope = {
        "schema": {"enum": [SCHEMA, None]},
        "source": _INDEX,
        "incident": {"anyOf": [_INDEX, {"type": "object"}]},
        "correlationId": _INDEX,
    }
    own: dict[str, Any] = {"^[Xx]-": {}}
    valued = [{"required": ["indicatorValue"]}, {"required": ["value"]}]
    defaults = {name: field for name, field in fields.items() if name not in ("indicatorValue", "value")}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Native message of Defender Indicator Relay",
        "oneOf": [{"$ref": "#/$defs/single"}, {"$ref": "#/$defs/list"}, {"$ref": "#/$defs/batch"}],
        "$defs": {
            "indicator": {
                "type": "object",
                "properties": fields,
                "patternProperties": own,
                "additionalProperties": False,
                "oneOf": valued,
            },
            "single": {
                "type": "object",
                "properties": {**fields, **envelope},
                "patternProperties": own,
                "additionalProperties": False,
                "oneOf": valued,
            },
            "list": {
                "type": "array",
                "minItems": 1,
                "maxItems": settings.max_items,
                "items": {"anyOf": [{"$ref": "#/$defs/indicator"}, {"type": "string", "minLength": 1}]},
            },
            "batch": {
                "type": "object",
                "properties": {
                    **envelope,
                    "defaults": {
                        "type": ["object", "null"],
                        "properties": defaults,
                        "patternProperties": own,
                        "additionalProperties": False,
                    },
                    "indicators": {"$ref": "#/$defs/list"},
                },
                "patternProperties": own,
                "additionalProperties": False,
                "required": ["indicators"],
            },
        },
    }


def as_text() -> str:
    """The schema as it lies in docs/queue-contract.schema.json."""
    return json.dumps(schema(), indent=2) + "\n"


if __name__ == "__main__":
    print(as_text(), end="")  # noqa: T201
