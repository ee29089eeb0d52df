"""Operating the app on the whole stack: stop and go, a look at everything, dead letters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from local.client import AppClient
from local.stack import HostOptions, Stack, StackOptions
from shared.storage.connection import POISON
from tests.support.stacklab import wait_for

# What a pause puts off would come back after ten minutes: in these tests it comes because somebody resumes.
SETTINGS = {"RELAY_UNSENT_STEP": "600", "RELAY_UNSENT_MAX": "600", "RELAY_CALL_LATEST_START": "5"}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    host = HostOptions(timers={"Poison": 1.0, "Heartbeat": 1.0, "Sweep": 1.0})
    options = StackOptions(folder=tmp_path_factory.mktemp("operate"), settings=SETTINGS, host=host)
    with Stack(options) as stack:
        yield App(stack)


class App:
    """The stack's app with both keys."""

    def __init__(self, stack: Stack) -> None:
        self.stack, self.admin, self.client = stack, stack.admin, AppClient(stack)

    def ask(self, method: str, path: str, body: Any = None, *, key: str = "host") -> requests.Response:
        url = path if path.startswith("http") else f"{self.stack.url}/api/{path}"
        data = None if body is None else json.dumps(body)
        with requests.Session() as session:
            session.trust_env = False
            return session.request(
                method, url, data=data, headers={"x-functions-key": self.stack.keys[key]}, timeout=120
            )

    def order(self, path: str, body: Any = None, status: int = 200) -> dict[str, Any]:
        answer = self.ask("POST", path, body, key="master")
        assert answer.status_code == status, answer.text
        told: dict[str, Any] = answer.json()
        return told

    def told(self, path: str, status: int = 200) -> dict[str, Any]:
        answer = self.ask("GET", path)
        assert answer.status_code == status, answer.text
        told: dict[str, Any] = answer.json()
        return told

    def submit(self, *names: str) -> dict[str, Any]:
        answer = self.ask("POST", "submissions", {"indicators": [domain(name) for name in names]})
        assert answer.status_code == 202, answer.text
        told: dict[str, Any] = answer.json()
        return told

    def letters(self, query: str = "") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.told(f"dead-letters{query}")["deadLetters"]
        return found

    def poison(self, text: str) -> str:
        """Put a message where the host puts what failed ten times; the id of the letter that it becomes."""
        from azure.core.exceptions import ResourceExistsError
        from azure.storage.queue import QueueClient

        known = {letter["id"] for letter in self.letters()}
        with QueueClient.from_connection_string(self.stack.connection_string, POISON) as queue:
            try:
                queue.create_queue()
            except ResourceExistsError:
                pass
            queue.send_message(text)

        def look() -> set[str]:
            return {letter["id"] for letter in self.letters()} - known

        [name] = wait_for(look, "the message is a dead letter")
        return name


def domain(name: str, **fields: Any) -> dict[str, Any]:
    return {"indicatorValue": f"{name}.evil-operate.com", "action": "Audit", "title": "t", "description": "d", **fields}


def test_stop_and_go(app: App) -> None:
    told = app.order("pause", {"reason": "the tenant moves"})
    try:
        assert told["changed"] and told["paused"]["reason"] == "the tenant moves" and "until" not in told["paused"]
        assert told["paused"]["by"] == "admin-key"
        taken = app.submit("stop1", "stop2")
        for answer in (taken, app.told(f"submissions/{taken['id']}", 202), app.told("submissions")):
            assert answer["paused"] == told["paused"]
            assert "paused since" in answer["text"] and "the tenant moves" in answer["text"]
        wait_for(lambda: app.told(f"submissions/{taken['id']}?top=1", 202)["counts"]["pending"] == 2, "it is looked at")
        health = app.told("health")
        assert health["status"] == "degraded" and health["paused"] == told["paused"]
        [check] = [check for check in health["checks"] if check["name"] == "paused"]
        assert check["ok"] is None and "POST /api/resume" in check["remedy"]
        # Its pointer is put off for ten minutes: nobody asks for a call meanwhile.
        wait_for(lambda: app.told("operations")["openParts"]["deferred"] == 1, "the part waits")
        told = app.order("pause", {"reason": "mine too", "until": "PT5M"})
        assert not told["changed"] and "already" in told["text"]
        assert app.admin.indicators("stop1.evil-operate.com") == []
        listed = app.told("operations")
        assert listed["paused"]["reason"] == "the tenant moves" and "paused since" in listed["text"]
    finally:
        told = app.order("resume", {"reason": "it has moved"})
    assert told["changed"] and told["parts"] == 1 and told["resumed"]["reason"] == "the tenant moves"
    known = wait_for(
        lambda: (answer := app.ask("GET", f"submissions/{taken['id']}?wait=60")).status_code == 200 and answer.json(),
        "it goes on at once",
    )
    assert known["counts"]["accepted"] == 2 and "paused" not in known and "paused" not in known["text"]
    assert not app.order("resume", {"reason": "once more"})["changed"]
    assert [(line["what"], line["reason"]) for line in app.told("operations")["pauses"]][:2] == [
        ("resume", "it has moved"),
        ("pause", "the tenant moves"),
    ]
    assert app.told("health").get("paused") is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (None, "reason"),
        ({}, "reason"),
        ({"reason": ""}, "reason"),
        ({"reason": "x" * 401}, "400"),
        ({"reason": 5}, "reason"),
        ({"reason": "r", "until": "yesterday"}, "until"),
        ({"reason": "r", "until": (datetime.now(UTC) - timedelta(minutes=5)).isoformat()}, "future"),
        ({"reason": "r", "untill": "PT5M"}, "untill"),
        ([], "object"),
    ],
)
def test_an_order_that_is_not_clear_stops_nothing(app: App, body: Any, words: str) -> None:
    answer = app.ask("POST", "pause", body, key="master")
    assert answer.status_code == 400 and answer.headers["content-type"] == "application/problem+json"
    assert words in answer.json()["detail"] and answer.json()["remedy"]
    assert "paused" not in app.told("operations")


def test_a_function_key_neither_stops_nor_starts(app: App) -> None:
    for path in ("pause", "resume", "dead-letters/replay", "dead-letters/x/discard"):
        assert app.ask("POST", path, {"reason": "r"}).status_code == 401


def test_a_pause_ends_by_itself(app: App) -> None:
    until = datetime.now(UTC) + timedelta(seconds=20)
    told = app.order("pause", {"reason": "for a moment", "until": until.isoformat()})
    ends = datetime.fromisoformat(told["paused"]["until"])
    assert timedelta(seconds=-1) <= until - ends < timedelta(seconds=1)
    taken = app.submit("byitself")
    wait_for(lambda: app.told("operations")["openParts"]["deferred"] == 1, "the part waits")
    wait_for(
        lambda: app.ask("GET", f"submissions/{taken['id']}").status_code == 200, "it goes on when the time is up", 180.0
    )
    assert datetime.now(UTC) >= ends
    assert app.told("operations")["pauses"][0]["what"] == "end"


def test_a_look_at_everything(app: App) -> None:
    taken = app.submit("look")
    wait_for(lambda: app.ask("GET", f"submissions/{taken['id']}").status_code == 200, "it is finished")

    def look() -> dict[str, Any] | None:
        told = app.told("operations")
        return told if set(told["timers"]) >= {"Heartbeat", "Sweep", "Poison"} and told["workers"] else None

    told = wait_for(look, "worker and timers were seen")
    assert told["problems"] == [] and told["holds"] == []
    [worker] = told["workers"]
    assert worker["messages"] >= 1 and worker["host"] and worker["version"] == "0.1.0"
    newest = told["submissions"][0]
    assert newest["id"] == taken["id"] and newest["counts"]["accepted"] == 1
    assert app.ask("GET", newest["link"]).status_code == 200
    assert told["queue"]["poison"] == 0 and isinstance(told["text"], str)


def test_an_unreadable_message_is_found_read_and_discarded(app: App) -> None:
    sent = "this is no JSON: é"
    name = app.client.send(sent)
    [letter] = wait_for(lambda: app.letters(f"?submission={name}"), "it is a dead letter")
    assert letter["state"] == "open" and letter["reason"] in ("unreadable", "not_json", "unknown_format"), letter
    whole = app.told(f"dead-letters/{letter['id']}")
    assert (whole["encoding"], whole["body"]) == ("utf-8", sent)
    assert app.order(f"dead-letters/{letter['id']}/replay", status=422)["remedy"]
    assert app.letters(f"?submission={name}&state=open")
    app.order(f"dead-letters/{letter['id']}/discard", {}, status=400)
    gone = app.order(f"dead-letters/{letter['id']}/discard", {"reason": "a typing error"})
    assert (gone["state"], gone["discardReason"], gone["by"]) == ("discarded", "a typing error", "admin-key")
    assert not app.letters(f"?submission={name}&state=open")
    assert [one["id"] for one in app.letters(f"?submission={name}&state=discarded")] == [letter["id"]]
    assert app.told(f"dead-letters/{letter['id']}")["body"] == sent
    refused = app.order(f"dead-letters/{letter['id']}/replay", status=409)
    assert "discarded by admin-key" in refused["detail"]


def test_the_list_of_letters_takes_no_nonsense(app: App) -> None:
    for query in ("?state=lost", "?since=yesterday", "?colour=red", "?top=1001"):
        assert app.ask("GET", f"dead-letters{query}").status_code == 400, query
    assert app.letters("?since=2099-01-01") == []
    assert app.ask("GET", "dead-letters/nothing-like-it").status_code == 404
    assert app.ask("POST", "dead-letters/nothing-like-it/replay", key="master").status_code == 404
    assert app.ask("POST", "dead-letters/nothing-like-it/discard", {"reason": "r"}, key="master").status_code == 404


def test_a_letter_replayed_by_many_at_once_is_one_submission(app: App) -> None:
    letter = app.poison(json.dumps(domain("crowd")))
    with ThreadPoolExecutor(8) as crowd:
        answers = list(crowd.map(lambda _: app.ask("POST", f"dead-letters/{letter}/replay", key="master"), range(8)))
    names = {answer.json()["id"] for answer in answers if answer.status_code == 202}
    assert len(names) == 1 and {answer.status_code for answer in answers} <= {202, 409}
    [name] = names
    known = wait_for(
        lambda: (answer := app.ask("GET", f"submissions/{name}?wait=60")).status_code == 200 and answer.json(), name
    )
    assert known["replayOf"] == letter and known["caller"] == "admin-key" and known["counts"]["accepted"] == 1
    replays = [one for one in app.told("submissions?top=100")["submissions"] if one.get("replayOf") == letter]
    assert len(replays) == 1
    [shown] = [one for one in app.letters("?state=replayed") if one["id"] == letter]
    assert (shown["replayedAs"], shown["by"]) == (name, "admin-key")


def test_letters_replayed_by_filter(app: App) -> None:
    before = app.letters("?state=open")
    for letter in before:
        app.order(f"dead-letters/{letter['id']}/discard", {"reason": "of another test"})
    letters = [app.poison(json.dumps(domain(f"filter{n}"))) for n in range(3)]
    wrong = [
        {},
        {"most": 5},
        {"reason": "exhausted", "most": 0},
        {"reason": "exhausted", "most": True},
        {"reason": 5},
        {"reason": "exhausted", "dry_run": "yes"},
        {"reason": "exhausted", "colour": "red"},
        {"since": "yesterday"},
    ]
    for body in wrong:
        assert app.order("dead-letters/replay", body, status=400)["remedy"], body
    dry = app.order("dead-letters/replay", {"reason": "exhausted", "dry_run": True})
    assert dry["dryRun"] and [one["id"] for one in dry["deadLetters"]] == letters and not dry["more"]
    assert len(app.letters("?state=open")) == 3
    first = app.order("dead-letters/replay", {"reason": "exhausted", "since": "P1D", "most": 2})
    assert [one["id"] for one in first["deadLetters"]] == letters[:2] and first["more"]
    second = app.order("dead-letters/replay", {"reason": "exhausted", "most": 2, "after": first["after"]})
    assert [one["id"] for one in second["deadLetters"]] == letters[2:] and not second["more"]
    for one in first["deadLetters"] + second["deadLetters"]:
        assert one["link"].endswith(one["submission"])
        wait_for(lambda one=one: app.ask("GET", one["link"]).status_code == 200, "it is finished")
    assert app.admin.indicators("filter2.evil-operate.com")
    assert app.letters("?state=open") == []
