"""What Sentinel sends to a playbook: the bodies of the incident and the entity trigger, entities in both shapes.

The shapes are recorded by others; the values are made up here.
"""

from __future__ import annotations

import uuid
from typing import Any

SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
_WORKSPACE = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-siem/providers/Microsoft.OperationalInsights/workspaces/law-sentinel"
    "/providers/Microsoft.SecurityInsights"
)


def entity(kind: str, **properties: Any) -> dict[str, Any]:
    """As it stands in an incident."""
    name = str(uuid.uuid4())
    return {
        "id": f"{_WORKSPACE}/Entities/{name}",
        "name": name,
        "type": "Microsoft.SecurityInsights/Entities",
        "kind": kind,
        "properties": {**properties, "friendlyName": "made up"},
    }


def flat(kind: str, **properties: Any) -> dict[str, Any]:
    """As the connector's "Entities - Get ..." actions and older incidents have it: flat, with capitals, and `Type`."""
    return {**{name[0].upper() + name[1:]: value for name, value in properties.items()}, "Type": kind}


def ip(address: str) -> dict[str, Any]:
    return entity("Ip", address=address)


def url(address: str) -> dict[str, Any]:
    return entity("Url", url=address)


def domain(name: str) -> dict[str, Any]:
    return entity("DnsResolution", domainName=name, dnsServerIpEntityId="x", ipAddressEntityIds=["y"])


def filehash(value: str, algorithm: str) -> dict[str, Any]:
    return entity("FileHash", hashValue=value, algorithm=algorithm)


def host(name: str) -> dict[str, Any]:
    return entity("Host", hostName=name, dnsDomain="corp.example", additionalData={"MdatpDeviceId": "95ff"})


def account(name: str) -> dict[str, Any]:
    return entity("Account", accountName=name, upnSuffix="acme.example", ntDomain="ACME")


def incident(
    *entities: dict[str, Any], number: int, title: str = "Malware C2 contact", **changes: Any
) -> dict[str, Any]:
    """The body of the incident trigger; `changes` replace its outermost members."""
    name = str(uuid.uuid5(uuid.NAMESPACE_URL, f"incident {number}"))
    return {
        "eventUniqueId": str(uuid.uuid4()),
        "objectSchemaType": "Incident",
        "objectEventType": "Create",
        "workspaceInfo": {
            "SubscriptionId": SUBSCRIPTION,
            "ResourceGroupName": "rg-siem",
            "WorkspaceName": "law-sentinel",
        },
        "workspaceId": "00000000-0000-0000-0000-000000000002",
        "object": {
            "id": f"{_WORKSPACE}/Incidents/{name}",
            "name": name,
            "etag": '"0300bf09-0000-0000-0000-000000000000"',
            "type": "Microsoft.SecurityInsights/Incidents",
            "properties": {
                "title": title,
                "description": "made up",
                "severity": "High",
                "status": "New",
                "owner": {"objectId": None, "email": None, "assignedTo": None, "userPrincipalName": None},
                "labels": [],
                "firstActivityTimeUtc": "2026-01-10T09:00:00Z",
                "lastActivityTimeUtc": "2026-01-10T09:05:00Z",
                "lastModifiedTimeUtc": "2026-01-10T09:06:00Z",
                "createdTimeUtc": "2026-01-10T09:06:00Z",
                "incidentNumber": number,
                "additionalData": {"alertsCount": 1, "tactics": ["CommandAndControl"], "techniques": ["T1071"]},
                "relatedAnalyticRuleIds": [f"{_WORKSPACE}/alertRules/00000000-0000-0000-0000-000000000003"],
                "providerName": "Azure Sentinel",
                "providerIncidentId": str(number),
                "alerts": [
                    {"name": "0a", "kind": "SecurityAlert", "properties": {"additionalData": {"Query": "x" * 70_000}}}
                ],
                "bookmarks": [],
                "relatedEntities": list(entities),
                "comments": [],
            },
        },
        **changes,
    }


def chosen(kind: str, in_incident: int | None = None, **properties: Any) -> dict[str, Any]:
    """The body of the entity trigger: one entity, run by an analyst; `in_incident` when it was in an incident."""
    given = {name[0].upper() + name[1:]: value for name, value in properties.items()}
    found: dict[str, Any] = {"Entity": {**entity(kind), "properties": {**given, "FriendlyName": "made up"}}}
    if in_incident is not None:
        found["IncidentArmID"] = incident(number=in_incident)["object"]["id"]
    return found
