"""The indicators of one tenant: upsert by key, expiry to the second, the cap, and who owns what."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import Any

from local.tenant.clock import TICKS, Clock, dotnet
from local.tenant.rules import Rules
from local.tenant.validation import WRITABLE, Fault

Row = dict[str, Any]

# The order in which a property comes on the wire (recorded); all 31 are always there.
PROPERTIES = (
    "id",
    "indicatorValue",
    "indicatorType",
    "action",
    "createdBy",
    "severity",
    "category",
    "application",
    "educateUrl",
    "bypassDurationHours",
    "title",
    "description",
    "recommendedActions",
    "creationTimeDateTimeUtc",
    "expirationTime",
    "lastUpdateTime",
    "lastUpdatedBy",
    "rbacGroupNames",
    "rbacGroupIds",
    "notificationId",
    "notificationBody",
    "version",
    "mitreTechniques",
    "historicalDetection",
    "lookBackPeriod",
    "generateAlert",
    "additionalInfo",
    "createdByDisplayName",
    "externalId",
    "createdBySource",
    "certificateInfo",
)
_ONLY_AT_CREATION = ("application", "version", "certificateInfo")
_BLANK: Row = dict.fromkeys(PROPERTIES)
_CLEARED: Row = dict.fromkeys(WRITABLE.keys() - {"indicatorValue", "indicatorType", "action", *_ONLY_AT_CREATION})


class Caller:
    """Who asks: the app's id and name, and whether it may touch what others made."""

    def __init__(self, app: str, name: str, *, sees_all: bool, source: str = "PublicApi") -> None:
        self.app = app
        self.name = name
        self.sees_all = sees_all
        self.source = source

    def may(self, row: Row) -> bool:
        """Whether this indicator is the caller's business."""
        return self.sees_all or row["createdBy"] == self.app


class Store:
    """The active indicators. Expired ones are gone at every look, so nobody can tell that no timer runs."""

    def __init__(self, clock: Clock, rules: Rules) -> None:
        self._clock = clock
        self._rules = rules
        self._rows: dict[int, Row] = {}
        self._keys: dict[tuple[Any, ...], int] = {}
        self._values: dict[str, set[int]] = {}
        self._expiry: list[tuple[int, int]] = []
        self._expires: dict[int, int] = {}
        self._key_of: dict[int, tuple[Any, ...]] = {}
        self._next = 1

    def __len__(self) -> int:
        self.sweep()
        return len(self._rows)

    def clear(self) -> None:
        """Delete everything; ids go on upwards."""
        for index in (self._rows, self._keys, self._values, self._expires, self._key_of):
            index.clear()
        self._expiry.clear()

    def sweep(self) -> None:
        """Delete what has expired."""
        now = self._clock.ticks()
        while self._expiry and self._expiry[0][0] <= now:
            moment, number = heapq.heappop(self._expiry)
            if self._expires.get(number) == moment:
                self._remove(number)

    def rows(self, caller: Caller, value: str | None = None) -> Iterator[Row]:
        """What the caller sees, by ascending id; with `value` only what has this very value."""
        self.sweep()
        numbers: Iterable[int] = self._rows if value is None else sorted(self._values.get(value, ()))
        return (row for number in numbers if caller.may(row := self._rows[number]))

    def get(self, identifier: str, caller: Caller) -> Row | None:
        """The indicator with this id, if the caller sees it."""
        self.sweep()
        row = self._rows.get(int(identifier)) if identifier.isdecimal() else None
        return row if row is not None and caller.may(row) else None

    def delete(self, identifier: str) -> None:
        """Delete an indicator that exists."""
        self._remove(int(identifier))

    def upsert(self, item: dict[str, Any], caller: Caller, now: int) -> Row:
        """Create or update; `item` has been checked and its expirationTime is in ticks. `now` is in ticks.

        Raises:
            Fault: the cap is reached, the indicator belongs to another, or (when switched on) actions conflict.
        """
        key = self._key(item)
        number = self._keys.get(key)
        classes = self._rules.classes
        if number is None:
            others = self._values.get(item["indicatorValue"], ())
            if classes["conflict"] != "off" and any(
                self._rows[other]["indicatorType"] == item["indicatorType"] for other in others
            ):
                message = f"Indicator {item['indicatorValue']} exists with another action"
                raise Fault(classes["conflict"], "Conflict", message, 409)
            total, limit = len(self._rows), self._rules.capacity
            if total >= limit and classes["capacity"] != "off":
                raise Fault(
                    classes["capacity"],
                    "BadRequest",
                    f"Max capacity exceeded. Current Total: {total}, Limit: {limit} "
                    f"(Parameter 'Capacity: {total}/{limit}')",
                )
            return self._create(key, item, caller, now)
        row = self._rows[number]
        if not caller.may(row) and classes["foreign"] != "off":
            message = f"The application may not update indicator {row['id']}, which it did not create"
            raise Fault(classes["foreign"], "Forbidden", message, 403)
        self._write(row, item, creating=False)
        row["lastUpdateTime"] = dotnet(now)
        row["lastUpdatedBy"] = caller.app
        return row

    def _key(self, item: dict[str, Any]) -> tuple[Any, ...]:
        key: tuple[Any, ...] = (item["indicatorType"], item["indicatorValue"], item["action"])
        return (*key, *sorted(map(str, _names(item.get("rbacGroupNames"))))) if self._rules.rbac_in_key else key

    def _create(self, key: tuple[Any, ...], item: dict[str, Any], caller: Caller, now: int) -> Row:
        number, self._next = self._next, self._next + 1
        moment = dotnet(now)
        row = _BLANK | {
            "id": str(number),
            "indicatorValue": item["indicatorValue"],
            "createdBy": caller.app,
            "createdByDisplayName": caller.name,
            "createdBySource": caller.source,
            "creationTimeDateTimeUtc": moment,
            # About ten milliseconds later through the API, the same moment in the portal (recorded).
            "lastUpdateTime": moment if caller.source == "Portal" else dotnet(now + TICKS // 100),
        }
        self._rows[number] = row
        self._keys[key] = number
        self._key_of[number] = key
        self._values.setdefault(item["indicatorValue"], set()).add(number)
        self._write(row, item, creating=True)
        return row

    def _write(self, row: Row, item: dict[str, Any], *, creating: bool) -> None:
        number = int(row["id"])
        if not creating and not self._rules.update_keeps_omitted:
            row |= _CLEARED
        for name, value in item.items():
            if name in WRITABLE and (creating or name not in _ONLY_AT_CREATION):
                row[name] = value
        row["severity"] = row["severity"] or "Informational"
        row["category"] = row["category"] if row["category"] is not None else 1
        row["generateAlert"] = bool(row["generateAlert"])
        row["historicalDetection"] = bool(row["historicalDetection"])
        row["mitreTechniques"] = row["mitreTechniques"] or []
        row["rbacGroupNames"] = _names(row["rbacGroupNames"])
        groups = self._rules.groups
        known = [groups[name] for name in row["rbacGroupNames"] if name in groups]
        row["rbacGroupIds"] = row["rbacGroupIds"] or known
        expires = row["expirationTime"]
        if isinstance(expires, int):
            row["expirationTime"] = dotnet(expires)
            self._expires[number] = expires
            heapq.heappush(self._expiry, (expires, number))
        elif expires is None:
            self._expires.pop(number, None)

    def _remove(self, number: int) -> None:
        row = self._rows.pop(number)
        self._expires.pop(number, None)
        del self._keys[self._key_of.pop(number)]
        held = self._values[row["indicatorValue"]]
        held.discard(number)
        if not held:
            del self._values[row["indicatorValue"]]


def _names(given: Any) -> list[Any]:
    if isinstance(given, str):
        return [name.strip() for name in given.split(",") if name.strip()]
    return list(given or [])
