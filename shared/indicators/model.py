"""What an indicator is: the seven types, the actions, and every field that Defender's API lets a caller write.

Source of names and values: Microsoft's pages ti-indicator, post-ti-indicator and indicators-overview.
"""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple


class IndicatorType(StrEnum):
    """The seven types the API takes, spelled as on the wire."""

    FILE_SHA1 = "FileSha1"
    FILE_SHA256 = "FileSha256"
    FILE_MD5 = "FileMd5"
    CERTIFICATE_THUMBPRINT = "CertificateThumbprint"
    IP_ADDRESS = "IpAddress"
    DOMAIN_NAME = "DomainName"
    URL = "Url"


class Action(StrEnum):
    """The actions that are sent; the legacy ones (Alert, AlertAndBlock) are input only."""

    ALLOWED = "Allowed"
    AUDIT = "Audit"
    WARN = "Warn"
    BLOCK = "Block"
    BLOCK_AND_REMEDIATE = "BlockAndRemediate"


class Severity(StrEnum):
    """Alert severities, spelled as on the wire."""

    INFORMATIONAL = "Informational"
    LOW = "Low"
    MEDIUM = "Medium"
    HIGH = "High"


@functools.lru_cache(1024)  # few moments for many items
def format_time(moment: datetime) -> str:
    """`2030-12-12T00:00:00Z`: UTC with whole seconds; the service deletes at expiry to the second."""
    return moment.astimezone(UTC).replace(microsecond=0).strftime("%Y-%m-%dT%H:%M:%SZ")


class Indicator(NamedTuple):
    """One indicator, normalised and checked, as it will be sent. Give its fields by name.

    `expiration` is None only when `never` was asked for by name. Fields that are None are not sent.

    A tuple, since that is made in a tenth of the time of a frozen dataclass, which would take longer than all else that
    is done for an item. First come the fields that differ from item to item.
    """

    value: str
    title: str
    description: str
    type: IndicatorType
    action: Action
    severity: Severity
    expiration: datetime | None
    generate_alert: bool
    external_id: str | None = None
    recommended_actions: str | None = None
    rbac_group_names: tuple[str, ...] = ()
    application: str | None = None
    educate_url: str | None = None
    category: str | int | None = None
    mitre_techniques: tuple[str, ...] = ()
    look_back_period: str | None = None
    historical_detection: bool | None = None
    bypass_duration_hours: int | None = None
    notification_id: str | None = None
    notification_body: str | None = None
    version: str | None = None
    additional_info: str | None = None
    certificate_info: dict[str, str] | None = None

    @property
    def key(self) -> tuple[str, str]:
        """(type, value): what intents are kept by, whatever the action."""
        return (self.type.value, self.value)

    def payload(self) -> dict[str, Any]:
        """The JSON object for the API, with the API's own (case-sensitive) names."""
        body: dict[str, Any] = {
            "indicatorValue": self.value,
            "indicatorType": self.type.value,
            "action": self.action.value,
            "title": self.title,
            "description": self.description,
            "severity": self.severity.value,
            "generateAlert": self.generate_alert,
            "expirationTime": format_time(self.expiration) if self.expiration else None,
            "rbacGroupNames": list(self.rbac_group_names),
        }
        for name, attribute in _OPTIONAL.items():
            value = getattr(self, attribute)
            if value is not None and value != ():
                body[name] = list(value) if isinstance(value, tuple) else value
        return body

    @classmethod
    def from_payload(cls, body: dict[str, Any]) -> Indicator:
        """The inverse of `payload`, for what the app itself stored; raises KeyError or ValueError on anything else."""
        expiration = body.get("expirationTime")
        optional: dict[str, Any] = {}
        for name, attribute in _OPTIONAL.items():
            if name in body:
                optional[attribute] = tuple(body[name]) if attribute in _TUPLES else body[name]
        return cls(
            value=body["indicatorValue"],
            type=IndicatorType(body["indicatorType"]),
            action=Action(body["action"]),
            title=body["title"],
            description=body["description"],
            severity=Severity(body["severity"]),
            expiration=datetime.fromisoformat(expiration) if expiration else None,
            generate_alert=body["generateAlert"],
            rbac_group_names=tuple(body.get("rbacGroupNames", ())),
            **optional,
        )


_OPTIONAL = {
    "recommendedActions": "recommended_actions",
    "application": "application",
    "educateUrl": "educate_url",
    "category": "category",
    "mitreTechniques": "mitre_techniques",
    "externalId": "external_id",
    "lookBackPeriod": "look_back_period",
    "historicalDetection": "historical_detection",
    "bypassDurationHours": "bypass_duration_hours",
    "notificationId": "notification_id",
    "notificationBody": "notification_body",
    "version": "version",
    "additionalInfo": "additional_info",
    "certificateInfo": "certificate_info",
}
_TUPLES = frozenset({"mitre_techniques"})
