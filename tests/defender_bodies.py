"""What the tests of the API client share: a token, request and answer bodies."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from tests.wire_server import Reply

TOKEN = "eyJhbGciOiJub25lIn0.eyJyb2xlcyI6WyJUaS5SZWFkV3JpdGUiXX0.not-a-real-signature"


@dataclasses.dataclass(frozen=True)
class AToken:
    value: str = TOKEN


class Tokens:
    def __init__(self) -> None:
        self.dropped: list[str] = []
        self.asked = 0
        self.delay = 0.0

    def get(self) -> AToken:
        self.asked += 1
        time.sleep(self.delay)
        return AToken()

    def invalidate(self, token: AToken, /) -> None:
        self.dropped.append(token.value)


def payload(value: str, type: str = "DomainName") -> dict[str, Any]:
    return {"indicatorValue": value, "indicatorType": type, "action": "Audit"}


def row(value: str, reason: str | None = None, id: str | None = "17") -> dict[str, Any]:
    return {"id": id, "indicator": value, "isFailed": reason is not None, "failureReason": reason}


def imported(*rows: dict[str, Any]) -> Reply:
    return Reply(body={"@odata.context": "https://localhost/$metadata", "value": list(rows)})


def error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "target": "|f712eef2-447d37a1beaf6d2b."}}
