"""The asynchronous pattern of a Logic Apps HTTP action, replayed by a client that does what its documentation says.

Documented (Logic Apps, "asynchronous request-response"): an action that gets 202 keeps asking the `Location` with GET,
after `Retry-After` seconds (20 when there is none), with its own authentication, until the answer is not 202. Custom
headers of the first request do not go with those GETs (observed by its users), so nothing here relies on them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from local.stack import Stack, StackOptions

_ANSWERS_MOST = 60


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    options = StackOptions(
        folder=tmp_path_factory.mktemp("logic-app"), easy_auth=True, settings={"RELAY_DEFER_FIRST": "3"}
    )
    with Stack(options) as running:
        yield running


class HttpAction:
    """One HTTP action whose authentication is the Logic App's managed identity."""

    def __init__(self, stack: Stack, token: str) -> None:
        self._stack = stack
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"Bearer {token}"
        self.asked: list[tuple[str, int]] = []

    def run(self, body: Any, **headers: str) -> requests.Response:
        """The action: its last answer is what the workflow goes on with."""
        url = f"{self._stack.url}/api/submissions"
        answer = self._session.post(url, json=body, headers=headers, timeout=100)
        self.asked.append(("POST", answer.status_code))
        while answer.status_code == 202 and len(self.asked) < _ANSWERS_MOST:
            time.sleep(float(answer.headers.get("Retry-After", 20)))
            answer = self._session.get(answer.headers["Location"], timeout=100)
            self.asked.append(("GET", answer.status_code))
        return answer


def body(name: str) -> dict[str, Any]:
    return {
        "source": "sentinel-playbook",
        "incident": {"number": 4711},
        "indicators": [{"indicatorValue": name, "action": "Block", "title": "C2", "description": "Seen in 4711"}],
    }


def test_the_action_polls_until_the_end_through_an_outage(stack: Stack) -> None:
    stack.admin.fault("import", "status", times=2, status=503)
    identity = stack.admin.caller_token("Submissions.Write", kind="managed-identity")
    action = HttpAction(stack, identity)
    last = action.run(body("c2.logic-app-door.com"), **{"Idempotency-Key": "run-08584-action-1"})
    assert last.status_code == 200, last.text
    told = last.json()
    assert told["state"] == "finished" and told["counts"]["accepted"] == 1 and told["incident"] == "4711"
    assert told["caller"].startswith("app:")
    assert action.asked[0] == ("POST", 202) and action.asked[-1] == ("GET", 200)
    assert {status for _, status in action.asked[:-1]} == {202}
    # The engine runs an action again when it lost the answer: the same submission, and no second one.
    again = HttpAction(stack, identity).run(body("c2.logic-app-door.com"), **{"Idempotency-Key": "run-08584-action-1"})
    assert again.status_code == 200 and again.json()["id"] == told["id"]
    assert len(stack.admin.indicators("c2.logic-app-door.com")) == 1


def test_an_action_without_the_role_ends_at_once_and_is_told_why(stack: Stack) -> None:
    action = HttpAction(stack, stack.admin.caller_token("Indicators.Read", kind="managed-identity"))
    last = action.run(body("no.logic-app-door.com"))
    assert action.asked == [("POST", 403)]
    assert "Submissions.Write" in json.loads(last.content)["detail"]
