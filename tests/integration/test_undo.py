"""Undo on the whole stack: submit, look, undo, look again; what others made, renewed, or an outage put off."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from local.stack import Stack, StackOptions
from tests.support.stacklab import wait_for

QUICK = {"RELAY_DEFER_FIRST": "1", "RELAY_DEFER_MAX": "2", "RELAY_UNSENT_STEP": "1", "RELAY_UNSENT_MAX": "2"}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    options = StackOptions(folder=tmp_path_factory.mktemp("undo"), workers=2, settings=QUICK)
    with Stack(options) as stack:
        yield App(stack)


class App:
    """The stack's app: submitting with a function key, undoing with the master key."""

    def __init__(self, stack: Stack) -> None:
        self.stack, self.admin = stack, stack.admin
        self.session = requests.Session()
        self.session.trust_env = False

    def ask(self, method: str, path: str, key: str = "host", body: Any = None) -> requests.Response:
        url = path if path.startswith("http") else f"{self.stack.url}/api/{path}"
        data = None if body is None else json.dumps(body)
        return self.session.request(
            method, url, data=data, headers={"x-functions-key": self.stack.keys[key]}, timeout=180
        )

    def submit(self, *items: dict[str, Any], wait: int = 60, **fields: Any) -> dict[str, Any]:
        answer = self.ask("POST", f"submissions?wait={wait}", body={**fields, "indicators": list(items)})
        assert answer.status_code in (200, 202), answer.text
        told: dict[str, Any] = answer.json()
        return told

    def undo(self, name: str) -> requests.Response:
        return self.ask("DELETE", f"submissions/{name}", "master")

    def finished(self, name: str, query: str = "") -> dict[str, Any]:
        """A submission once it is finished."""

        def look() -> dict[str, Any] | None:
            answer = self.ask("GET", f"submissions/{name}?wait=60&top=1000{query}")
            assert answer.status_code in (200, 202), answer.text
            return answer.json() if answer.status_code == 200 else None

        return wait_for(look, f"{name} is finished", 300.0)

    def held(self, value: str) -> list[tuple[str, str]]:
        return sorted((row["action"], row["createdByDisplayName"]) for row in self.admin.indicators(value))


def domain(name: str, action: str = "Block", **fields: Any) -> dict[str, Any]:
    return {"indicatorValue": f"{name}.evil-undo.com", "action": action, "title": "t", "description": "d", **fields}


def counted(told: dict[str, Any]) -> dict[str, int]:
    return {state: number for state, number in told["counts"].items() if number and state != "submitted"}


def test_submit_look_undo_look_again(app: App) -> None:
    name = app.submit(domain("a"), domain("b", "Audit"), incident=4711, source="playbook")["id"]
    assert counted(app.finished(name)) == {"accepted": 2}
    assert app.held("a.evil-undo.com") and app.held("b.evil-undo.com")
    answer = app.undo(name)
    assert answer.status_code == 202, answer.text
    told = answer.json()
    assert answer.headers["Location"] == told["link"] and int(answer.headers["Retry-After"]) > 0
    assert (told["undoOf"], told["incident"], told["source"], told["caller"]) == (name, "4711", "playbook", "admin-key")
    assert (told["retracting"], told["left"], told["leftTotal"]) == (2, [], 0)
    undone = app.finished(told["id"])
    assert counted(undone) == {"accepted": 2}
    assert {item["action"] for item in undone["items"]} == {"Retraction"}
    assert all(item["text"].startswith("Withdrawn from Defender.") for item in undone["items"])
    assert "2 withdrawn" in undone["text"] and "block" not in undone["text"].lower()
    assert not app.held("a.evil-undo.com") and not app.held("b.evil-undo.com")
    assert app.finished(name)["undoneBy"] == [told["id"]]
    again = app.undo(name)
    assert again.status_code == 200 and again.json()["id"] == told["id"]
    anew = app.submit(domain("a"))
    assert counted(app.finished(anew["id"])) == {"accepted": 1} and app.held("a.evil-undo.com")


def test_what_somebody_else_made_or_a_newer_submission_renewed_survives(app: App) -> None:
    theirs = app.admin.portal_create(
        indicatorValue="theirs.evil-undo.com", indicatorType="DomainName", action="Block", title="t", description="d"
    )
    name = app.submit(domain("theirs"), domain("renewed"), domain("ours"), {"indicatorValue": "10.0.0.1"})["id"]
    assert counted(app.finished(name)) == {"accepted": 3, "rejected": 1}
    newer = app.submit(domain("renewed", title="newer"))["id"]
    app.finished(newer)
    told = app.undo(name).json()
    assert [(left["ordinal"], left["value"], left["state"]) for left in told["left"]] == [(3, "10.0.0.1", "rejected")]
    items = {item["value"]: item for item in app.finished(told["id"])["items"]}
    assert items["ours.evil-undo.com"]["state"] == "accepted"
    assert items["theirs.evil-undo.com"]["state"] == "unchanged"
    assert "Somebody else's indicator" in items["theirs.evil-undo.com"]["text"]
    assert items["renewed.evil-undo.com"]["state"] == "superseded" and newer in items["renewed.evil-undo.com"]["text"]
    assert [row["id"] for row in app.admin.indicators("theirs.evil-undo.com")] == [theirs["id"]]
    assert [row["title"] for row in app.admin.indicators("renewed.evil-undo.com")] == ["newer"]
    assert not app.held("ours.evil-undo.com")


def test_a_changed_action_leaves_what_somebody_else_made(app: App) -> None:
    theirs = app.admin.portal_create(
        indicatorValue="beside.evil-undo.com", indicatorType="DomainName", action="Block", title="t", description="d"
    )
    app.finished(app.submit(domain("beside"))["id"])
    told = app.finished(app.submit(domain("beside", "Audit"))["id"])
    assert "Somebody else's indicator of the same value was left: Block" in told["items"][0]["text"]
    rows = {row["action"]: row for row in app.admin.indicators("beside.evil-undo.com")}
    assert rows["Block"]["id"] == theirs["id"] and "Audit" in rows
    told = app.undo(told["id"]).json()
    assert counted(app.finished(told["id"])) == {"accepted": 1}
    assert [row["id"] for row in app.admin.indicators("beside.evil-undo.com")] == [theirs["id"]]


def test_what_an_outage_has_put_off_is_never_published(app: App) -> None:
    fault = app.admin.fault("import", "status", times=None, status=503)
    http = app.submit(*(domain(f"late{n}") for n in range(5)), wait=0)["id"]
    wait_for(lambda: counted(app.ask("GET", f"submissions/{http}").json()) == {"deferred": 5}, "all of it is put off")
    told = app.undo(http).json()
    assert told["retracting"] == 5 and not told["left"]
    app.admin.clear_faults(fault)
    assert counted(app.finished(told["id"])) == {"unchanged": 5}
    done = app.finished(http)
    assert counted(done) == {"superseded": 5}
    assert all(told["id"] in item["text"] for item in done["items"])
    assert not any(app.held(f"late{n}.evil-undo.com") for n in range(5))


def test_three_thousand(app: App) -> None:
    before = app.admin.counters()
    name = app.submit(*(domain(f"many{n}") for n in range(3000)), wait=120)["id"]
    assert counted(app.finished(name)) == {"accepted": 3000}
    told = app.undo(name).json()
    assert told["retracting"] == 3000
    undone = app.finished(told["id"])
    # What a slow machine had to try twice finds its own first attempt's work done, and says so.
    twice = [item["text"] for item in app.finished(told["id"], "&state=unchanged")["items"]]
    assert undone["counts"]["accepted"] + len(twice) == 3000
    assert all("an earlier attempt may have withdrawn it" in text for text in twice)
    left = [row["indicatorValue"] for row in app.admin.indicators() if row["indicatorValue"].startswith("many")]
    assert not left
    after = app.admin.counters()
    assert after["throttled"] == before["throttled"]
    assert app.undo(name).status_code == 200


def test_what_cannot_be_undone_is_told_with_the_remedy(app: App) -> None:
    name = app.submit(domain("x"))["id"]
    app.finished(name)
    undo = app.undo(name).json()["id"]
    refused = app.undo(undo)
    assert refused.status_code == 409 and refused.json()["type"].endswith(":undo-of-undo")
    assert name in refused.json()["detail"] and refused.json()["remedy"]
    for unknown in ("20261122" + "0" * 17, "nonsense", "a" * 500):
        assert app.undo(unknown).status_code == 404
    assert app.ask("DELETE", f"submissions/{name}").status_code == 401, "a function key may not undo"
    assert app.ask("DELETE", f"submissions/{name}?force=1", "master").status_code == 400
