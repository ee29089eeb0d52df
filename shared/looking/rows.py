"""An indicator of Defender's list as it is shown, and which of them are asked for."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from shared.defender.client import equals
from shared.errors import QuestionError
from shared.indicators.model import Action, IndicatorType
from shared.looking.ports import Who

# Our name of a field, and the service's. Whatever the service says is passed on as it is.
_FIELDS = {
    "id": "id",
    "value": "indicatorValue",
    "type": "indicatorType",
    "action": "action",
    "severity": "severity",
    "title": "title",
    "description": "description",
    "expiration": "expirationTime",
    "generateAlert": "generateAlert",
    "created": "creationTimeDateTimeUtc",
    "lastUpdate": "lastUpdateTime",
    "lastUpdatedBy": "lastUpdatedBy",
    "createdBy": "createdBy",
    "createdByName": "createdByDisplayName",
    "source": "createdBySource",
    "rbacGroupNames": "rbacGroupNames",
}
COLUMNS = (*_FIELDS, "mine")
_TYPES = {kind.value.casefold(): kind.value for kind in IndicatorType}
# The legacy actions too: others may have made such indicators.
_ACTIONS = {name.casefold(): name for name in (*(action.value for action in Action), "Alert", "AlertAndBlock")}
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9]{0,39}\Z")


def row_shown(row: dict[str, Any], who: Who) -> dict[str, Any]:
    """One indicator that Defender holds. `mine` is null when it cannot be told."""
    return {name: row.get(field) for name, field in _FIELDS.items()} | {"mine": who.mine(row)}


def sees_shown(who: Who) -> dict[str, Any]:
    """Whose indicators the list shows us, for every answer that was made from it."""
    match who.sees:
        case "everyone":
            return {"sees": "everyone"}
        case "own":
            text = "The app holds Ti.ReadWrite, so Defender shows it only what it created. Others' are not counted."
        case "unknown":
            text = "The token cannot be read, so it is not known whether Defender shows the app what others created."
    return {"sees": who.sees, "seesText": text}


@dataclasses.dataclass(frozen=True, slots=True)
class Criteria:
    """Which indicators are asked for; "" is any. Types and actions are spelled as the service does, if it is known."""

    type: str = ""
    action: str = ""
    mine: bool = False

    @classmethod
    def of(cls, type: str = "", action: str = "", owner: str = "anyone") -> Criteria:
        """From what somebody asked. A type or action that we do not know may be one that the portal makes.

        Raises:
            QuestionError: one of them cannot be what the service calls a type or action.
        """
        for name, text, known in (("type", type, _TYPES), ("action", action, _ACTIONS)):
            if text and not _WORD.match(text):
                raise QuestionError(
                    f"{name}={text[:40]!r} is no {name} of an indicator.",
                    remediation=f"Give one of {', '.join(known.values())}.",
                )
        return cls(
            _TYPES.get(type.casefold(), type), _ACTIONS.get(action.casefold(), action), owner.casefold() == "mine"
        )

    def matches(self, row: dict[str, Any], who: Who) -> bool:
        """Whether an indicator is asked for, whatever the service made of the filter."""
        return (
            (not self.type or str(row.get("indicatorType", "")).casefold() == self.type.casefold())
            and (not self.action or str(row.get("action", "")).casefold() == self.action.casefold())
            and (not self.mine or who.mine(row) is True)
        )

    def filter(self, who: Who) -> str | None:
        """The OData expression for it; None when there is none, or it would name what the service may not know."""
        if self.odd:
            return None
        parts = [
            equals(field, text)
            for field, text in (
                ("indicatorType", self.type),
                ("action", self.action),
                ("createdBy", who.app if self.mine else ""),
            )
            if text
        ]
        return " and ".join(parts) or None

    @property
    def odd(self) -> bool:
        """Whether it names a type or action that is not documented: a filter by it might be refused."""
        return bool(
            (self.type and self.type not in _TYPES.values()) or (self.action and self.action not in _ACTIONS.values())
        )

    def check(self, who: Who) -> None:
        """Raises QuestionError when `mine` is asked for and cannot be told."""
        if self.mine and not who.app:
            raise QuestionError(
                "owner=mine cannot be answered: the token cannot be read, so the app does not know its own id.",
                remediation="Ask for owner=anyone and compare createdBy with the app's client id.",
            )
