"""Looking on the whole stack: a full tenant of three owners, read through the app's own doors with the real client."""

from __future__ import annotations

import asyncio
import csv
import importlib
import io
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import requests

from functions.openapi import document
from local.stack import Stack, StackOptions
from local.tenant import RunningTenant
from shared.publishing.budget import TABLE, Budget
from shared.settings import Limit
from tests.integration.tenant_helpers import Client, item
from tests.integration.test_openapi import _newer as newer
from tests.support.stacklab import Lab, batch, wait_for

LOOK = Limit(200, 600.0)  # a window that these tests do not outlast
OURS, THEIRS, PORTAL = 1_000, 13_990, 10
ACTIONS = ("Allowed", "Audit", "Warn", "Block", "BlockAndRemediate")
DIGITS = "ab" * 20
ANALYST = "analyst@tenant.example"
_WIDE: dict[str, Any] = {
    "limits": {"import": [(10_000, 60.0)], "submit": [(10_000, 60.0)], "list": [(10_000, 60.0)]},
    "service_time": {"import": 0.0, "submit": 0.0, "list": 0.0},
}


class App:
    """The stack's app with a function key."""

    def __init__(self, stack: Stack, lab: Lab) -> None:
        self.stack, self.lab, self.admin = stack, lab, stack.admin
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["x-functions-key"] = stack.keys["host"]

    def get(self, path: str, **headers: str) -> requests.Response:
        return self.session.get(self.url(path), headers=headers, timeout=120)

    def url(self, path: str) -> str:
        return path if path.startswith("http") else f"{self.stack.url}/api/{path}"

    def told(self, path: str) -> dict[str, Any]:
        answer = self.get(path)
        assert answer.status_code == 200, answer.text[:400]
        content: dict[str, Any] = answer.json()
        name = {"capacity": "Capacity", "indicators": "Indicators"}.get(urlsplit(self.url(path)).path[5:], "Value")
        documented(name, content)
        return content

    def walk(self, path: str) -> list[dict[str, Any]]:
        """The indicators of all pages."""
        found = []
        while path:
            told = self.told(path)
            found += told["indicators"]
            path = told.get("nextLink", "")
        return found


def documented(name: str, content: Any) -> None:
    """Hold an answer to its schema in the app's OpenAPI."""
    whole = newer(document())
    schema = {"$ref": f"#/components/schemas/{name}", "components": whole["components"]}
    importlib.import_module("jsonschema_rs").Draft202012Validator(schema).validate(content)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """A full tenant: the direct client's, the app's own and a person's."""
    settings = {"RELAY_LIMIT_LOOK": f"{LOOK.calls}/{LOOK.seconds:g}", "RELAY_LIMIT_LIST": "500/63"}
    with Stack(StackOptions(folder=tmp_path_factory.mktemp("look"), settings=settings)) as stack:
        lab = Lab(stack)
        try:
            stack.admin.rules(**_WIDE)
            with Client(RunningTenant.of(stack.tenant)) as direct:
                theirs = [
                    item(f"{number:064x}", "FileSha256", ACTIONS[number % 5], generateAlert=True)
                    for number in range(THEIRS)
                ]
                for at in range(0, THEIRS, 500):
                    answer = direct.send(*theirs[at : at + 500])
                    assert answer.status_code == 200 and not any(one["isFailed"] for one in answer.json()["value"])
            portal = [(DIGITS, "CertificateThumbprint")]
            portal += [(f"portal{number}.evil.com", "DomainName") for number in range(PORTAL - 1)]
            for value, kind in portal:
                action = "BlockAndRemediate" if kind == "CertificateThumbprint" else "Warn"
                stack.admin.portal_create(**item(value, kind, action), user=ANALYST)
            ours = stack_submit(lab, [f"h{number}.evil-door.com" for number in range(OURS)])
            assert ours["counts"]["accepted"] == OURS, ours
            yield App(stack, lab)
        finally:
            lab.stop()


def stack_submit(lab: Lab, values: list[str], action: str = "Block") -> dict[str, Any]:
    """Submit and wait for the end."""
    return lab.outcome(lab.app.submit(batch(values, action))["id"])


def test_a_full_tenant_is_counted_by_its_owners(app: App) -> None:
    answer = app.get("capacity")
    told = answer.json()
    assert answer.status_code == 200, told
    documented("Capacity", told)
    assert (told["held"], told["most"], told["percent"], told["sees"]) == (15_000, 15_000, 100.0, "everyone")
    assert told["byType"] == {"FileSha256": THEIRS, "DomainName": OURS + PORTAL - 1, "CertificateThumbprint": 1}
    wanted = Counter({action: THEIRS // 5 for action in ACTIONS})
    wanted += Counter({"Block": OURS, "Warn": PORTAL - 1, "BlockAndRemediate": 1})
    assert told["byAction"] == wanted
    assert [(one["held"], one["mine"]) for one in told["byOwner"]] == [(THEIRS, False), (OURS, True), (PORTAL, False)]
    assert told["byOwner"][2] == {
        "createdBy": ANALYST,
        "name": ANALYST,
        "source": "Portal",
        "mine": False,
        "held": PORTAL,
    }
    (window,) = told["calls"]["look"]["windows"]
    assert (window["calls"], window["seconds"]) == (LOOK.calls, LOOK.seconds)
    assert set(told["calls"]) == {"import", "suspect", "list", "look", "delete", "batch_delete"}
    assert told["calls"]["import"]["windows"][0]["used"] >= 2
    again = app.get("capacity")
    assert again.json()["asOf"] == told["asOf"] and int(again.headers["Age"]) >= int(answer.headers["Age"])


def test_all_pages_hold_every_row_once(app: App) -> None:
    found = app.walk("indicators?top=1000")
    assert len(found) == 15_000 == len({one["id"] for one in found})
    assert Counter(one["mine"] for one in found) == {True: OURS, False: 15_000 - OURS}


@pytest.mark.parametrize("refused", [False, True], ids=["filtered by Defender", "Defender refuses the filter"])
def test_types_actions_and_owners_are_asked_for(app: App, refused: bool) -> None:
    """The double takes all documented filters; where the service would not, the answer is the same."""
    if refused:
        body = {"error": {"code": "ODataError", "message": "no such filter", "target": "|0-0."}}
        app.admin.fault("list", "status", status=400, body=body)
    kinds = {(one["type"], one["mine"]) for one in app.walk("indicators?top=1000&type=domainname&owner=mine")}
    assert kinds == {("DomainName", True)}
    warned = app.walk("indicators?top=1000&type=DomainName&action=Warn")
    assert {one["createdBy"] for one in warned} == {ANALYST} and len(warned) == PORTAL - 1
    assert app.walk("indicators?type=WebCategory") == []


def test_a_value_is_told_with_every_owner_and_what_was_meant(app: App) -> None:
    told = app.told(f"indicators/{DIGITS.upper()}")
    assert told["types"] == ["FileSha1", "CertificateThumbprint"]
    assert [(one["type"], one["mine"]) for one in told["indicators"]] == [("CertificateThumbprint", False)]
    assert told["intents"] == [] and "This app has sent nothing" in told["text"]
    told = app.told("indicators/H1[.]evil-door.com")
    (intent,) = told["intents"]
    assert intent["agrees"] is True and intent["state"] == "accepted", intent
    assert told["indicators"][0]["mine"] is True and "blocked" not in str(told).lower()
    (held,) = app.admin.indicators("h1.evil-door.com")
    assert app.admin.portal_delete(held["id"])
    (intent,) = app.told("indicators/h1.evil-door.com")["intents"]
    assert intent["agrees"] is False and "somebody deleted it" in intent["text"]


def test_a_url_is_looked_up_by_the_query(app: App) -> None:
    (held,) = app.admin.indicators("h2.evil-door.com")
    assert app.admin.portal_delete(held["id"])  # the tenant is full
    url = "https://evil-door.com/a'b?x=1&y=%252F#f"
    assert stack_submit(app.lab, [url])["counts"]["accepted"] == 1
    told = app.told(f"indicators?value={quote(url, safe='')}")
    assert told["value"] == url and [one["value"] for one in told["indicators"]] == [url]
    assert told["intents"][0]["agrees"] is True
    told = app.told(f"indicators?value={quote(url, safe='')}&action=Audit")
    assert told["indicators"] == [] and len(told["intents"]) == 1


def test_a_spreadsheet_gets_csv(app: App) -> None:
    answer = app.get("indicators?top=3&owner=mine", Accept="text/csv")
    assert answer.headers["Content-Type"].startswith("text/csv")
    lines = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert len(lines) == 3 and lines[0]["mine"] == "True" and lines[0]["type"] == "DomainName"
    following = app.get(answer.links["next"]["url"])
    more = list(csv.DictReader(io.StringIO(following.content.decode("utf-8-sig"))))
    assert not {line["id"] for line in lines} & {line["id"] for line in more}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("indicators?cursor=x", "cursor"),
        ("indicators?type=a%20b", "type"),
        ("indicators?action=%27", "action"),
        ("indicators?owner=somebody", "owner"),
        ("indicators?top=0", "top"),
        ("indicators?top=1001", "top"),
        ("indicators?value=a.com&cursor=x", "cursor"),
        ("indicators?colour=red", "colour"),
        ("capacity?top=1", "top"),
    ],
)
def test_what_cannot_be_understood_is_a_problem_that_names_it(app: App, path: str, words: str) -> None:
    before = app.admin.counters()["calls"]["list"]
    answer = app.get(path)
    assert answer.status_code == 400 and answer.json()["remedy"], answer.text[:400]
    assert words in answer.json()["detail"].lower()
    assert app.admin.counters()["calls"]["list"] == before


@pytest.mark.parametrize("status", [500, 403, 401])
@pytest.mark.parametrize("path", ["indicators", "indicators/evil.com"])
def test_when_defender_does_not_answer_the_app_says_so(app: App, status: int, path: str) -> None:
    app.admin.fault("list", "status", status=status, body={"error": {"code": "x", "message": "no", "target": ""}})
    answer = app.get(path)
    assert answer.status_code in (502, 503) and int(answer.headers["Retry-After"]) > 0
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert str(status) in answer.json()["detail"]
    assert answer.json()["remedy"]
    assert app.get(path).status_code == 200


def test_a_pause_does_not_stop_looks(app: App) -> None:
    master = {"x-functions-key": app.stack.keys["master"]}
    url = f"{app.stack.url}/api"
    paused = app.session.post(f"{url}/pause", json={"reason": "a look at it first"}, headers=master, timeout=60)
    try:
        assert paused.status_code == 200, paused.text
        assert app.get("indicators?top=1").status_code == 200
        calls = app.told("capacity")["calls"]
        assert calls["import"]["paused"] is True and calls["import"]["nextCall"] is None
        assert calls["list"]["paused"] is False is calls["look"]["paused"]
    finally:
        app.session.post(f"{url}/resume", json={"reason": "seen"}, headers=master, timeout=60)
    assert app.told("capacity")["calls"]["import"]["paused"] is False


def test_with_its_own_alone_the_app_says_that_others_are_not_shown(app: App) -> None:
    app.admin.roles("relay", "Ti.ReadWrite")
    app.admin.revoke_tokens()
    try:
        wait_for(lambda: app.get("indicators?top=1").json().get("sees") == "own", "a new token")
        told = app.told("indicators?top=1000")
        assert told["sees"] == "own" and "not counted" in told["seesText"]
        assert {one["mine"] for one in told["indicators"]} == {True}
    finally:
        app.admin.roles("relay", "Ti.ReadWrite.All")
        app.admin.revoke_tokens()
        wait_for(lambda: app.get("indicators?top=1").json().get("sees") == "everyone", "a new token")


def test_when_its_share_is_used_up_a_look_is_told_when_to_come_again(app: App) -> None:
    """And retiring has its calls still: an indicator is replaced by one with another action, and the old one goes."""

    async def use_up() -> None:
        budget = Budget(app.lab.tables, app.lab.clock, "look", (LOOK,))
        while await budget.take(await budget.look()) is not None:
            pass

    asyncio.run(use_up())
    before = app.admin.counters()["calls"]["list"]
    for path in ("indicators", "indicators/evil.com"):
        answer = app.get(path)
        assert answer.status_code == 429, answer.text[:400]
        assert 10 <= int(answer.headers["Retry-After"]) <= LOOK.seconds
        assert answer.json()["type"].endswith(":budget") and answer.json()["remedy"]
    assert app.admin.counters()["calls"]["list"] == before
    value = "h3.evil-door.com"
    assert stack_submit(app.lab, [value], "Audit")["counts"]["rejected"] == 0
    wait_for(lambda: [one["action"] for one in app.admin.indicators(value)] == ["Audit"], "the old one is deleted")


def test_permits_of_looking_are_forgotten_like_the_others(app: App) -> None:
    rows = app.lab.rows(TABLE, pk="look")
    assert rows and all(row.rk.startswith("p") for row in rows)
