"""What a workflow meets outside: time, HTTP, managed identities, API connections."""

from __future__ import annotations

import base64
import dataclasses
import json
import random
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import requests

from tests.support.logicapps.expressions import WorkflowError, to_json
from tests.support.logicapps.functions import to_bytes

_REQUEST_LIMIT = 110  # seconds; the platform ends a synchronous request after 120
_RETRIED = (408, 429)


class Clock:
    """Time of a run. A pause takes a moment only; the clock is put forward by the rest of it."""

    def __init__(self, moment: float = 0.05) -> None:
        self._moment = moment
        self._ahead = 0.0
        self.pauses: list[float] = []

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self._ahead)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        real = min(seconds, self._moment)
        time.sleep(real)
        self._ahead += seconds - real


@dataclasses.dataclass(slots=True)
class Fault:
    """Answers instead of the service, to requests of this method whose URL holds `part`, so many times."""

    method: str
    part: str
    status: int
    times: int = 1
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: Any = None
    lost: bool = False  # the service gets the request, and its answer is lost


@dataclasses.dataclass(frozen=True, slots=True)
class Connection:
    """A managed API behind a connection: `call(method, path, body, identity)` gives status and body."""

    call: Callable[[str, str, Any, str], tuple[int, Any]]


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What an HTTP action gets; status 0: nothing came."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class World:
    """Everything outside of a workflow.

    tokens: by the identity's resource id ("" for the system-assigned one), a function from audience to token.
    problem_is_json: whether the platform reads `application/problem+json` as JSON; not documented, so try both.
    """

    def __init__(
        self,
        *,
        tokens: Mapping[str, Callable[[str], str]],
        connections: Mapping[str, Connection] | None = None,
        clock: Clock | None = None,
        problem_is_json: bool = True,
    ) -> None:
        self.tokens = tokens
        self.connections = connections or {}
        self.clock = clock or Clock()
        self.faults: list[Fault] = []
        self.sent: list[tuple[str, str, int]] = []  # method, URL, status
        self._problem_is_json = problem_is_json
        self._random = random.Random(0)

    def token(self, authentication: Mapping[str, Any]) -> str:
        """A managed identity's token. Raises WorkflowError for anything else."""
        if set(authentication) - {"type", "identity", "audience"} or authentication["type"] != "ManagedServiceIdentity":
            raise WorkflowError(f"authentication {dict(authentication)} is not known")
        identity = authentication.get("identity", "")
        if identity not in self.tokens:
            raise WorkflowError(f"the workflow does not have the identity {identity!r}")
        return self.tokens[identity](authentication["audience"])

    def request(self, inputs: Mapping[str, Any], retry: Mapping[str, Any]) -> Answer:
        """An HTTP action's request, repeated as its retry policy says."""
        answer = self._once(inputs)
        for pause in self._pauses(retry):
            if answer.status and answer.status not in _RETRIED and answer.status < 500:
                break
            self.clock.sleep(pause)
            answer = self._once(inputs)
        return answer

    def _pauses(self, policy: Mapping[str, Any]) -> list[float]:
        """The pauses before each retry; documented ranges, a random moment in each. Retry-After plays no part in it."""
        if policy["type"] == "none":
            return []
        if policy["type"] != "exponential" or set(policy) - {
            "type",
            "interval",
            "count",
            "minimumInterval",
            "maximumInterval",
        }:
            raise WorkflowError(f"retry policy {dict(policy)} is not known")
        interval, count = seconds(policy["interval"]), policy["count"]
        least, most = seconds(policy.get("minimumInterval", "PT5S")), seconds(policy.get("maximumInterval", "P1D"))
        if not (1 <= count <= 90 and 5 <= interval <= 86_400 and least <= interval):
            raise WorkflowError(f"retry policy {dict(policy)} is out of bounds")
        bounds = [(0.0 if n == 0 else interval * 2 ** (n - 1), interval * 2**n) for n in range(count)]
        return [self._random.uniform(min(most, max(low, least)), min(high, most)) for low, high in bounds]

    def _once(self, inputs: Mapping[str, Any]) -> Answer:
        method, url = inputs["method"], inputs["uri"]
        if urlsplit(url).hostname not in ("127.0.0.1", "localhost"):
            raise WorkflowError(f"{url} is not on this machine")
        headers = dict(inputs.get("headers", {}))
        if not all(isinstance(value, str) for value in headers.values()):
            raise WorkflowError(f"a header is no text: {headers}")
        body = inputs.get("body")
        if body is not None and not isinstance(body, str):
            headers.setdefault("Content-Type", "application/json; charset=utf-8")
        data = None if body is None else to_bytes(body if isinstance(body, str) else to_json(body))
        if "authentication" in inputs:
            headers["Authorization"] = f"Bearer {self.token(inputs['authentication'])}"
        fault = next((one for one in self.faults if one.times and one.method == method and one.part in url), None)
        if fault:
            fault.times -= 1
        if not fault or fault.lost:
            answer = self._send(method, url, headers, data)
        if fault:
            content = b"" if fault.body is None else to_bytes(to_json(fault.body))
            answer = Answer(0 if fault.lost else fault.status, fault.headers, content)
        self.sent.append((method, url, answer.status))
        return answer

    def _send(self, method: str, url: str, headers: Mapping[str, str], data: bytes | None) -> Answer:
        with requests.Session() as session:
            session.trust_env = False
            try:
                got = session.request(
                    method, url, headers=headers, data=data, timeout=_REQUEST_LIMIT, allow_redirects=False
                )
            except requests.RequestException:
                return Answer(0, {}, b"")
        return Answer(got.status_code, dict(got.headers), got.content)

    def outputs(self, answer: Answer) -> dict[str, Any] | None:
        """An HTTP action's outputs: JSON as JSON, text as text, and anything else in an envelope."""
        if not answer.status:
            return None
        found: dict[str, Any] = {"statusCode": answer.status, "headers": dict(answer.headers)}
        if not answer.content:
            return found
        kind = next((value for name, value in answer.headers.items() if name.lower() == "content-type"), "")
        bare = kind.split(";")[0].strip().lower()
        if bare == "application/json" or (bare.endswith("+json") and self._problem_is_json):
            found["body"] = json.loads(answer.content)
        elif bare.startswith("text/"):
            found["body"] = answer.content.decode()
        else:
            found["body"] = {"$content-type": kind, "$content": base64.b64encode(answer.content).decode()}
        return found


def seconds(duration: str) -> float:
    """An ISO 8601 duration of days, hours, minutes and seconds. Raises WorkflowError."""
    found = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?", duration)
    if not found or not any(found.groups()):
        raise WorkflowError(f"{duration!r} is no duration")
    days, hours, minutes, rest = (int(part or 0) for part in found.groups())
    return days * 86_400 + hours * 3600 + minutes * 60 + rest
