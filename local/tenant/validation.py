"""What the service refuses in an indicator, and in which class: the whole request, the item alone, or not at all."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from local.tenant import clock
from local.tenant.rules import Class, Rules

TYPES = ("FileSha1", "FileSha256", "FileMd5", "CertificateThumbprint", "IpAddress", "DomainName", "Url")
ACTIONS = ("Warn", "Block", "Audit", "Alert", "AlertAndBlock", "BlockAndRemediate", "Allowed")
SEVERITIES = ("Informational", "Low", "Medium", "High")
REQUIRED = ("indicatorValue", "indicatorType", "action", "title", "description")
NETWORK = ("IpAddress", "DomainName", "Url")

# Property -> what it must be in JSON. A wrong type makes the body unreadable. null is allowed everywhere.
WRITABLE: dict[str, tuple[type, ...]] = {
    "indicatorValue": (str,),
    "indicatorType": (str,),
    "action": (str,),
    "title": (str,),
    "description": (str,),
    "application": (str,),
    "expirationTime": (str,),
    "recommendedActions": (str,),
    "severity": (str,),
    "rbacGroupNames": (list, str),  # documented as a comma-separated string, shown and sent by all as an array
    "rbacGroupIds": (list,),
    "educateUrl": (str,),
    "generateAlert": (bool,),
    "category": (int, str),
    "bypassDurationHours": (int, float),
    "notificationId": (str,),
    "notificationBody": (str,),
    "version": (int, str),
    "mitreTechniques": (list,),
    "historicalDetection": (bool,),
    "lookBackPeriod": (int, str),
    "additionalInfo": (str, dict),
    "externalId": (str,),
    "certificateInfo": (dict,),
}
READ_ONLY = frozenset(
    {
        "id",
        "createdBy",
        "createdByDisplayName",
        "createdBySource",
        "creationTimeDateTimeUtc",
        "lastUpdateTime",
        "lastUpdatedBy",
        "source",
        "sourceType",
    }
)
_KINDS = {name: frozenset((type(None), *kinds)) for name, kinds in WRITABLE.items()}
_EXACT = {name.lower(): name for name in (*WRITABLE, *READ_ONLY)}
_HEX_LENGTH = {"FileSha1": 40, "FileSha256": 64, "FileMd5": 32}
_HEX = re.compile(r"^[0-9a-fA-F]+$")
_DOMAIN = re.compile(
    r"^(?=.{1,253}$)(?:(?!-)[a-zA-Z0-9_-]{1,63}(?<!-)\.)+(?=[a-zA-Z0-9-]*[a-zA-Z])[a-zA-Z0-9-]{2,63}(?<!-)$"
)
_URL = re.compile(
    r"^(?:[a-zA-Z][a-zA-Z0-9+.-]*://)?(?:[^/?#@\s]*@)?(\[[0-9a-fA-F:.]+\]|[^/?#@:\s\[\]]+)(?::\d{1,5})?(?:[/?#]\S*)?$"
)
_INTERNAL = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "224.0.0.0/3",
        "::/127",
        "fc00::/7",
        "fe80::/10",
        "ff00::/8",
    )
)

_MALFORMED = "Request body is incorrect"


class Fault(Exception):
    """A rule is broken. `how` says whether the whole request falls or this item alone."""

    def __init__(self, how: Class, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.how = how
        self.code = code
        self.message = message
        self.status = status


def check(item: Any, rules: Rules, now_ticks: int) -> tuple[Fault | None, dict[str, Any]]:
    """Check one indicator of a request; the first fault, or None, and the indicator as understood.

    Of several faults in an item the one named is the first by the order below; what the service would name first is
    unknown.
    """
    fault = _check_form(item, rules)
    if fault is not None:
        return fault, item if isinstance(item, dict) else {}
    expires = item.get("expirationTime")
    if expires is not None:
        try:
            item = {**item, "expirationTime": clock.parse(expires)}
        except ValueError:
            return _fault(rules, "malformed", rules.malformed_code, _MALFORMED), item
    return _check_meaning(item, rules, now_ticks), item


def _fault(rules: Rules, name: str, code: str, message: str) -> Fault | None:
    how = rules.classes[name]
    return None if how == "off" else Fault(how, code, message)


def _check_form(item: Any, rules: Rules) -> Fault | None:
    if not isinstance(item, dict):
        return Fault("batch", rules.malformed_code, _MALFORMED)
    for name, value in item.items():
        kinds = _KINDS.get(name)
        if kinds is not None:
            if type(value) not in kinds:
                return _fault(rules, "malformed", rules.malformed_code, _MALFORMED)
        elif name not in READ_ONLY and (exact := _EXACT.get(name.lower())) is not None:
            # Names are case-sensitive (documented). A stranger is ignored; whether the service minds is unknown.
            if exact in REQUIRED and exact not in item:
                return _fault(rules, "missing", "MissingRequiredParameter", f"Parameter {exact} is missing")
            return _fault(rules, "malformed", rules.malformed_code, _MALFORMED)
    for name in REQUIRED:
        if item.get(name) is None:
            return _fault(rules, "missing", "MissingRequiredParameter", f"Parameter {name} is missing")
    severity = item.get("severity")
    if (
        item.get("indicatorType") not in TYPES
        or item.get("action") not in ACTIONS
        or (severity is not None and severity not in SEVERITIES)
    ):
        return _fault(rules, "malformed", rules.malformed_code, _MALFORMED)
    return None


def _check_meaning(item: dict[str, Any], rules: Rules, now_ticks: int) -> Fault | None:
    value, kind, action = item["indicatorValue"], item["indicatorType"], item["action"]
    expires = item.get("expirationTime")
    found: Fault | None = None
    if not value.strip():
        # The spelling is the service's own (recorded).
        found = _fault(rules, "empty_value", "InvalidInput", "Recieved an empty indicator value.")
    elif value != value.strip():
        found = _fault(rules, "whitespace", "InvalidInput", f"Invalid input {value}")
    if found is None and expires is not None and expires <= now_ticks:
        message = f"Indicator {value} is inactive. (Expiration time should be set to a future date time)"
        found = _fault(rules, "expired", "BadRequest", message)
    if found is None and action == "Audit" and item.get("generateAlert") is not True:
        message = rules.audit_message.replace("{value}", value)
        found = _fault(rules, "audit_without_alert", "InvalidInput", message)
    if found is None and action in ("Alert", "AlertAndBlock"):
        found = _fault(rules, "legacy_action", "InvalidInput", f"Invalid input {action}")
    if found is None and kind in NETWORK and action == "BlockAndRemediate":
        message = f"Action {action} is not supported for indicator type {kind}"
        found = _fault(rules, "network_remediate", "InvalidInput", message)
    if found is None and kind == "CertificateThumbprint" and action in ("Audit", "Warn", "Block"):
        message = f"Action {action} is not supported for indicator type {kind}"
        found = _fault(rules, "certificate_action", "InvalidInput", message)
    if found is None:
        found = _check_value(value, kind, rules)
    for name in ("value", "title", "description"):
        most = getattr(rules, f"{name}_max")
        field = "indicatorValue" if name == "value" else name
        if found is None and most and len(item.get(field) or "") > most:
            found = _fault(rules, "length", "InvalidInput", f"{field} is longer than {most} characters")
    return found


def _check_value(value: str, kind: str, rules: Rules) -> Fault | None:
    bad_hash = f"Hash value {value} is invalid"
    match kind:
        case "IpAddress":
            return _check_address(value, rules)
        case "DomainName":
            if not _DOMAIN.match(value):
                return _fault(rules, "domain", "InvalidDomainName", f"Domain name {value} is invalid")
        case "Url":
            found = _URL.match(value)
            if found is None or not (found[1].startswith("[") or "." in found[1]):
                return _fault(rules, "url", "InvalidUrl", f"URL {value} is invalid")
        case "CertificateThumbprint":
            lengths = (40, 64) if rules.sha256_thumbprint else (40,)
            if len(value) not in lengths or not _HEX.match(value):
                return _fault(rules, "thumbprint", "InvalidHashValue", bad_hash)
        case _:
            if len(value) != _HEX_LENGTH[kind] or not _HEX.match(value):
                return _fault(rules, "hash", "InvalidHashValue", bad_hash)
            if kind == "FileMd5":
                return _fault(rules, "md5", "InvalidHashValue", bad_hash)
    return None


def _check_address(value: str, rules: Rules) -> Fault | None:
    message = f"IP address {value} is invalid"
    try:
        # A scope ("%eth0") is no part of an address, and IPv6 wants all eight groups written out (documented).
        address = ipaddress.ip_address(value) if "%" not in value else None
    except ValueError:
        address = None
    if address is None or (address.version == 6 and (value.count(":") != 7 or "::" in value)):
        return _fault(rules, "ip", "InvalidIpAddress", message)
    if any(address in network for network in _INTERNAL):
        return _fault(rules, "private_ip", "InvalidIpAddress", message)
    return None
