"""Defender and telemetry for tests of publishing: small, exact, and with every call on record."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from shared.errors import DefenderError, DeniedError, NotSentError, ThrottledError, UnavailableError
from shared.indicators.model import Action, Indicator, IndicatorType, Severity
from shared.publishing.ports import Held


@dataclasses.dataclass(frozen=True)
class FakeResult:
    """As shared.defender.answers.ImportResult."""

    failed: bool = False
    reason: str = ""
    id: str | None = None


Fault = Callable[[Sequence[dict[str, Any]]], DefenderError | None]


@dataclasses.dataclass
class FakeTenant:
    """What Defender holds, keyed (type, value, action), and the calls made. Shared by all workers."""

    limit: int = 30
    window: float = 60.0
    held: dict[tuple[str, str, str], dict[str, Any]] = dataclasses.field(default_factory=dict)
    calls: list[tuple[float, int]] = dataclasses.field(default_factory=list)
    throttled: int = 0
    refused: set[str] = dataclasses.field(default_factory=set)  # values that fail alone, inside a 200
    sinking: set[str] = dataclasses.field(default_factory=set)  # values that sink their whole call with 400
    fault: Fault | None = None
    theirs: set[str] = dataclasses.field(default_factory=set)  # ids of what somebody else created
    page: int = 10_000  # rows in one answer of the list
    lists: int = 0
    answer: Any = None  # to the last call
    _ids: itertools.count[int] = dataclasses.field(default_factory=lambda: itertools.count(1))

    def put(self, payload: dict[str, Any]) -> str:
        key = (payload["indicatorType"], payload["indicatorValue"], payload["action"])
        known = self.held.get(key)
        name = known["id"] if known else str(next(self._ids))
        self.held[key] = {**payload, "id": name}
        return name

    def portal(self, payload: dict[str, Any]) -> str:
        """Somebody else creates an indicator; or updates the one that is there, which stays its creator's."""
        known = {row["id"] for row in self.held.values()}
        name = self.put(payload)
        if name not in known:
            self.theirs.add(name)
        return name

    def actions(self, value: str) -> list[str]:
        return sorted(key[2] for key in self.held if key[1] == value)


class TooLateError(Exception):
    """Raised by a gate: the caller gives up now, and the operation is carried out so many seconds later."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class FakeDefender:
    """shared.publishing.ports.Defender for one worker. `seconds` is the service time of a call."""

    def __init__(self, tenant: FakeTenant, *, seconds: float = 0.3, gate: Any = None) -> None:
        self.tenant = tenant
        self.seconds = seconds
        self.gate = gate

    async def _gate(self, when: str, what: str) -> None:
        if self.gate is not None:
            await self.gate(when, what)

    async def _before(self, what: str, work: Callable[[], object]) -> None:
        """The gate before an operation; `work` is what is done of it when its caller has given up."""
        try:
            await self._gate("before", what)
        except TooLateError as late:
            asyncio.get_running_loop().call_later(late.seconds, work)
            raise UnavailableError("no answer in time") from None

    async def prepare(self) -> None:
        return None

    async def import_indicators(self, payloads: Sequence[dict[str, Any]], *, within: float) -> list[FakeResult]:
        from shared.errors import BatchRefusedError

        assert 1 <= len(payloads) <= 500
        keys = [(payload["indicatorType"], payload["indicatorValue"]) for payload in payloads]
        assert len(set(keys)) == len(keys), "one value twice in a call"
        if within <= 0:
            raise NotSentError("too late")
        await self._before("import", lambda: self._put(payloads))
        tenant, now = self.tenant, asyncio.get_running_loop().time()
        recent = [start for start, _ in tenant.calls if start > now - tenant.window]
        tenant.calls.append((now, len(payloads)))
        if len(recent) >= tenant.limit:
            tenant.throttled += 1
            raise ThrottledError("quota", retry_after=8.0)
        await asyncio.sleep(self.seconds / 2)
        fault = tenant.fault(payloads) if tenant.fault else None
        if fault is not None:
            raise fault
        sinking = [payload for payload in payloads if payload["indicatorValue"] in tenant.sinking]
        if sinking:
            raise BatchRefusedError("400", message_text="Request body is incorrect")
        results = tenant.answer = self._put(payloads)
        await asyncio.sleep(self.seconds / 2)
        await self._gate("after", "import")
        return results

    def _put(self, payloads: Sequence[dict[str, Any]]) -> list[FakeResult]:
        results = []
        for payload in payloads:
            if payload["indicatorValue"] in self.tenant.refused:
                results.append(FakeResult(failed=True, reason="it is bad"))
            else:
                results.append(FakeResult(id=self.tenant.put(payload)))
        return results

    def _drop(self, ids: Sequence[str]) -> None:
        for key, row in list(self.tenant.held.items()):
            if row["id"] in ids:
                del self.tenant.held[key]

    def _held(self) -> list[Held]:
        theirs = self.tenant.theirs
        return [Held(*key, row["id"], row["id"] not in theirs) for key, row in self.tenant.held.items()]

    async def held(self, kind: str, value: str, *, within: float) -> list[Held]:
        if within <= 0:
            raise NotSentError("too late")
        await self._before("list", lambda: None)
        self.tenant.lists += 1
        found = self.tenant.answer = [held for held in self._held() if (held.kind, held.value) == (kind, value)]
        await self._gate("after", "list")
        return found

    async def all_held(self, cursor: str | None, *, within: float) -> tuple[list[Held], str | None]:
        if within <= 0:
            raise NotSentError("too late")
        await self._before("list", lambda: None)
        self.tenant.lists += 1
        start = int(cursor or 0)
        end = start + self.tenant.page
        everything = self._held()
        await asyncio.sleep(self.seconds)
        self.tenant.answer = everything
        await self._gate("after", "list")
        return everything[start:end], str(end) if end <= len(everything) else None

    async def delete(self, id_: str, *, within: float) -> None:
        if within <= 0:
            raise NotSentError("too late")
        await self._before("delete", lambda: self._drop([id_]))
        await asyncio.sleep(self.seconds)
        self._drop([id_])
        self.tenant.answer = None
        await self._gate("after", "delete")

    async def delete_many(self, ids: Sequence[str], *, within: float) -> None:
        if within <= 0:
            raise NotSentError("too late")
        await self._before("delete", lambda: self._drop(ids))
        await asyncio.sleep(self.seconds)
        missing = set(ids) - {row["id"] for row in self.tenant.held.values()}
        if missing:
            raise DeniedError("404", status=404)
        self._drop(ids)
        self.tenant.answer = None
        await self._gate("after", "delete")


class FakeTell:
    """shared.publishing.ports.Tell, with everything on record."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.values: dict[str, list[float]] = {}
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.alarms: list[tuple[str, str]] = []

    def count(self, name: str, number: int = 1) -> None:
        self.counters[name] += number

    def rejected(self, reason: str, number: int = 1) -> None:
        self.counters[f"rejected:{reason}"] += number

    def observe(self, name: str, value: float) -> None:
        self.values.setdefault(name, []).append(value)

    def event(self, name: str, **fields: Any) -> None:
        self.events.append((name, fields))

    def alarm(self, kind: str, detail: str) -> None:
        self.alarms.append((kind, detail))


def indicator(value: str, action: Action = Action.BLOCK, **fields: Any) -> Indicator:
    """A domain indicator."""
    made: dict[str, Any] = {
        "value": value,
        "type": IndicatorType.DOMAIN_NAME,
        "action": action,
        "title": "t",
        "description": "d",
        "severity": Severity.HIGH,
        "expiration": datetime(2036, 1, 1, tzinfo=UTC),
        "generate_alert": True,
        **fields,
    }
    return Indicator(**made)
