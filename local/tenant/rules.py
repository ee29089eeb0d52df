"""Every switch of the Defender double. A field says what is known of the real service: documented, recorded or unknown.

Where the service's behaviour is unknown both ways can be had, so that a client can be tried against either.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args

Class = Literal["batch", "item", "off"]


def _limits() -> dict[str, list[tuple[int, float]]]:
    both = [(100, 60.0), (1500, 3600.0)]
    return {
        "list": list(both),
        "get": list(both),  # not documented: throttled like the list, but with a log of its own
        "submit": list(both),
        "delete": list(both),
        "import": [(30, 60.0)],
        "batch_delete": [(30, 60.0), (1500, 3600.0)],
    }


def _service_time() -> dict[str, float]:
    return {"import": 0.3, "submit": 0.1, "list": 0.1, "get": 0.05, "delete": 0.05, "batch_delete": 0.2}


def _classes() -> dict[str, Class]:
    return {
        "malformed": "batch",  # wrong JSON type, wrong enum name: the whole body cannot be read
        "missing": "batch",
        "empty_value": "batch",
        "whitespace": "batch",
        "hash": "item",
        "thumbprint": "item",
        "domain": "item",
        "ip": "item",
        "private_ip": "item",
        "url": "item",
        "expired": "batch",  # recorded
        "audit_without_alert": "batch",
        "network_remediate": "item",
        "certificate_action": "item",
        "legacy_action": "item",
        "md5": "off",  # a client's comment says that it is refused; the documentation lists it
        "length": "item",  # bites only when title_max and its kin are set
        "capacity": "item",  # recorded
        "foreign": "item",  # an app with Ti.ReadWrite updating what another made
        "conflict": "off",  # same value and type, other action: no evidence of a refusal
    }


@dataclasses.dataclass
class Rules:
    """Settings of the Defender double; durations are seconds. `update` changes some by name."""

    limits: dict[str, list[tuple[int, float]]] = dataclasses.field(default_factory=_limits)
    count_throttled: bool = True
    retry_after_header: bool = True
    throttle_code: str = "429"  # recorded; documented is TooManyRequests
    service_time: dict[str, float] = dataclasses.field(default_factory=_service_time)
    classes: dict[str, Class] = dataclasses.field(default_factory=_classes)
    poison: dict[str, str] = dataclasses.field(default_factory=dict)
    capacity: int = 15_000
    batch_max: int = 500
    page_size: int = 10_000
    next_link: bool = False
    delete_status: int = 204
    empty_import_status: int = 400
    batch_delete_partial: bool = False
    rbac_in_key: bool = False
    update_keeps_omitted: bool = False
    sha256_thumbprint: bool = False
    title_max: int = 0
    description_max: int = 0
    value_max: int = 0
    malformed_code: str = "InvalidRequestBody"
    audit_message: str = "Indicator {value} with action Audit must generate an alert. (Parameter 'generateAlert')"
    read_roles: list[str] = dataclasses.field(default_factory=lambda: ["Ti.ReadWrite.All", "Ti.ReadWrite"])
    groups: dict[str, int] = dataclasses.field(default_factory=dict)

    def update(self, changes: dict[str, Any]) -> None:
        """Set fields by name; a dictionary is merged into the one that stands, key by key (None removes a key).

        Raises:
            ValueError: naming the field or the value that does not exist.
        """
        fields = {field.name for field in dataclasses.fields(self)}
        for name, value in changes.items():
            if name not in fields:
                raise ValueError(f"there is no rule {name!r}; known: {', '.join(sorted(fields))}")
            current = getattr(self, name)
            if name in ("limits", "service_time", "classes"):
                for key in value:
                    if key not in current:
                        raise ValueError(f"{name} has no {key!r}; known: {', '.join(sorted(current))}")
            if name == "classes" and not set(value.values()) <= set(get_args(Class)):
                raise ValueError(f"a class is one of {', '.join(get_args(Class))}")
            if name == "classes" and "off" in (value.get("malformed"), value.get("missing")):
                raise ValueError("malformed and missing cannot be off: such an item has no meaning")
            if name == "poison" and not set(value.values()) <= {"batch", "named", "item", None}:
                raise ValueError("a poison value works as batch, named or item")
            if name == "limits":
                value = {key: [(int(calls), float(span)) for calls, span in pairs] for key, pairs in value.items()}
            if isinstance(current, dict):
                merged = {**current, **value}
                setattr(self, name, {key: kept for key, kept in merged.items() if kept is not None})
            elif isinstance(current, bool) != isinstance(value, bool) or not isinstance(value, type(current)):
                raise ValueError(f"{name} is of type {type(current).__name__}")
            else:
                setattr(self, name, value)

    def reset(self) -> None:
        """Put every switch back to its default."""
        fresh = Rules()
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(fresh, field.name))
