"""A workspace with the deployed playbooks beside the local stack."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import requests

from local.stack import Stack
from tests.support.logicapps.doubles import Identity, QueueDoor, Sentinel
from tests.support.logicapps.engine import Run, Workflow
from tests.support.logicapps.world import World

PLAYBOOKS = Path(__file__).resolve().parents[3] / "infra" / "playbooks"
QUEUE_ON_INCIDENT, SUBMIT_ON_INCIDENT, SUBMIT_ON_ENTITY = (
    json.loads((PLAYBOOKS / f"{name}.json").read_text("utf-8"))
    for name in ("queue-on-incident", "submit-on-incident", "submit-on-entity")
)
SUBMITTER = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/submitter"
CONNECTION = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/connections/azuresentinel"


@dataclasses.dataclass(slots=True)
class Lab:
    """A workspace with its playbooks beside the stack; a caller of its own for each test."""

    stack: Stack
    door: QueueDoor
    queuer: Identity
    submitter: Identity
    sentinel: Sentinel
    world: World

    def workflow(self, definition: dict[str, Any], **parameters: Any) -> Workflow:
        queues = "queueUrl" in definition["parameters"]
        authentication: dict[str, Any] = {"type": "ManagedServiceIdentity"}
        if queues:
            given = {"queueUrl": self.door.url}
        else:
            authentication["identity"] = SUBMITTER
            given = {
                "relayUrl": self.stack.url,
                "relayAudience": self.stack.tenant["api_client_id"],
                "identity": SUBMITTER,
            }
        about = {"connectionId": CONNECTION, "connectionProperties": {"authentication": authentication}}
        return Workflow(
            definition, parameters={"$connections": {"azuresentinel": about}, **given, **parameters}, world=self.world
        )

    def run(self, definition: dict[str, Any], trigger: dict[str, Any], run_name: str = "", **parameters: Any) -> Run:
        return self.workflow(definition, **parameters).run(trigger, run_name)

    def ask(self, path: str, *roles: str, body: Any = None) -> Any:
        with requests.Session() as session:
            session.trust_env = False
            session.headers["Authorization"] = f"Bearer {self.stack.admin.caller_token(*roles)}"
            method = "GET" if body is None else "POST"
            answer = session.request(method, f"{self.stack.url}/api/{path}", json=body, timeout=60)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def submissions(self, number: int, expected: int = 1) -> list[dict[str, Any]]:
        """Those of an incident, once there are as many as expected and all are finished."""
        end = time.monotonic() + 60
        while True:
            found = self.ask(f"submissions?incident={number}", "Indicators.Read")["submissions"]
            if len(found) >= expected and all(one["state"] == "finished" for one in found):
                return list(found)
            assert time.monotonic() < end, found
            time.sleep(0.2)

    def held(self, value: str) -> dict[str, Any]:
        """The one indicator that Defender has for it."""
        [found] = self.stack.admin.indicators(value)
        return found
