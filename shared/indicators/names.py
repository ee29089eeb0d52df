"""The names of the fields and types that a sender may write, as data; matched without regard to case."""

from __future__ import annotations

from collections.abc import Mapping

from shared.indicators import parse
from shared.indicators.model import IndicatorType
from shared.indicators.parse import Parser

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

# Over HTTP, from who may override guards: the reason why. Else it is one of the names above, and rejected as such.
OVERRIDE = "override"
CANONICAL: dict[str, str] = {name.lower(): name for name in FIELDS} | dict(ALIASES)
IGNORED = {name.lower(): name for name in READ_ONLY}
