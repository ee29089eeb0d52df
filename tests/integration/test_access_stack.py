"""Who may what on the whole stack: real tokens, App Service authentication as the double plays it, the real doors."""

from __future__ import annotations

import base64
import http.client
import json
import re
import urllib.parse
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import requests

from local.client import AppClient
from local.stack import Stack, StackOptions
from tests.contract.access import (
    ALLOW,
    EXPECTED,
    FIVE,
    OPERATE,
    OVERRIDE,
    READ,
    SUBMIT,
    Answer,
    address,
    claims,
    header,
)
from tests.support.stacklab import leaks, texts, wait_for

OTHER_TENANT = "99999999-9999-4999-8999-999999999999"


class Callers:
    """The stack's app, and tokens for those who call it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.admin = stack.admin
        self.tokens: list[str] = []
        self._address = urllib.parse.urlsplit(stack.url)

    def token(self, *roles: str, **options: Any) -> str:
        """A token of the tenant double; kept, to be looked for in the logs."""
        self.tokens.append(self.admin.caller_token(*roles, **options))
        return self.tokens[-1]

    def ask(
        self, method: str, path: str, token: str = "", body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request; a POST has a JSON body."""
        connection = http.client.HTTPConnection(self._address.hostname or "", self._address.port, timeout=180)
        given = {"Authorization": f"Bearer {token}"} if token else {}
        content = None
        if method == "POST":
            content, given["Content-Type"] = json.dumps({} if body is None else body).encode(), "application/json"
        try:
            connection.request(method, path, content, given | dict(headers or {}))
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def submit(self, token: str, *values: str, **more: Any) -> Answer:
        """A submission of these values, waited for."""
        items = [{"indicatorValue": value, "action": "Audit", "title": "t", "description": "d"} for value in values]
        return self.ask("POST", "/api/submissions?wait=60", token, {"indicators": items, **more})


def unpacked(cursor: str) -> str:
    """A cursor's content, as anybody can look into it."""
    text = urllib.parse.unquote(cursor)
    return text + base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("utf-8", "replace")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callers]:
    options = StackOptions(
        folder=tmp_path_factory.mktemp("access"),
        easy_auth=True,
        tenant_arguments=("--config", json.dumps({"other_tenants": [OTHER_TENANT]})),
        settings={"RELAY_CALLER_RATE": "100000/60"},
    )
    with Stack(options) as stack:
        yield Callers(stack)


@pytest.mark.parametrize("function", EXPECTED)
def test_the_real_doors_open_to_their_roles_alone(app: Callers, function: str) -> None:
    method, path = address(function)
    for role in (*FIVE, ""):
        answer = app.ask(method, path, app.token(*([role] if role else [])))
        if role in EXPECTED[function][3]:
            assert answer.status < 500 and answer.status not in (401, 403, 405), (role, answer)
        else:
            assert answer.status == 403 == answer.told["status"], (role, answer)


@pytest.mark.parametrize("function", EXPECTED)
def test_what_the_platform_does_not_vouch_for_never_comes_in(app: Callers, function: str) -> None:
    method, path = address(function)
    tenant = app.stack.tenant
    perfect = header(claims(*FIVE, tid=tenant["tenant_id"], aud=f"api://{tenant['api_client_id']}"))
    refused: dict[str, tuple[str, Mapping[str, str]]] = {
        "nothing": ("", {}),
        "a forged principal": ("", perfect),
        "a key": ("", {"x-functions-key": app.stack.keys["master"]}),
        "a key and a forged principal": ("", perfect | {"x-functions-key": app.stack.keys["master"]}),
        "another tenant": (app.token(*FIVE, tenant=OTHER_TENANT), {}),
        "another audience": (app.token(*FIVE, audience="https://api.securitycenter.microsoft.com"), {}),
        "expired": (app.token(*FIVE, expires_in=-3600), {}),
        "no token": ("nonsense", perfect),
    }
    for case, (token, headers) in refused.items():
        answer = app.ask(method, path, token, headers=headers)
        assert answer.status == 401 and not answer.told, (case, answer)
    answer = app.ask(method, path, app.token(), headers=perfect)
    assert answer.status == 403, ("a token without roles and a forged principal", answer)


def test_one_who_only_submits_sees_its_own_and_nothing_else(app: Callers) -> None:
    first, second = str(uuid.uuid4()), str(uuid.uuid4())
    ours, theirs = app.token(SUBMIT, client_id=first), app.token(SUBMIT, ALLOW, client_id=second)
    value = "both.access-own.com"
    mine = app.submit(ours, value, "a.access-own.com", incident="own-1", source="first-tool")
    other = app.submit(theirs, value, "b.access-own.com", incident="own-1", source="second-tool")
    assert mine.status == other.status == 200, (mine, other)
    assert mine.told["caller"] == f"app:{first}" and other.told["caller"] == f"app:{second}"

    for token, own, foreign in ((ours, mine, other), (theirs, other, mine)):
        path = f"/api/submissions/{own.told['id']}"
        assert app.ask("GET", path, token).told["items"][1]["value"] == own.told["items"][1]["value"]
        hidden = app.ask("GET", f"/api/submissions/{foreign.told['id']}", token)
        nowhere = app.ask("GET", "/api/submissions/20261122a0123456789abcdef", token)
        assert hidden.status == nowhere.status == 404 and hidden.told["type"] == nowhere.told["type"]
        assert hidden.told["detail"].replace(foreign.told["id"], "ID") == nowhere.told["detail"].replace(
            "20261122a0123456789abcdef", "ID"
        )
        assert app.ask("HEAD", f"/api/submissions/{foreign.told['id']}", token).status == 404
        stranger = foreign.told["caller"]
        queries = [
            "",
            "?incident=own-1",
            "?source=first-tool",
            "?source=second-tool",
            f"?caller={urllib.parse.quote(stranger)}",
        ]
        queries += [f"?value={name}.access-own.com" for name in ("both", "a", "b", "nobody")]
        for query in [*queries, *(f"{one}{'&' if one else '?'}top=1" for one in queries)]:
            found = app.ask("GET", f"/api/submissions{query}", token)
            assert found.status == 200, (query, found)
            for text in (foreign.told["id"], stranger, foreign.told["source"]):
                assert text not in found.body.decode().replace(query[1:], ""), (query, text, found)
            assert found.told.get("examined", 0) <= 1, (query, found)
            for link in re.findall(r"cursor=([^&\"]+)", found.body.decode()):
                assert foreign.told["id"] not in unpacked(link), (query, link)
        searched = app.ask("GET", f"/api/submissions?value={value}", token)
        assert own.told["id"] in searched.body.decode(), searched
        assert app.ask("DELETE", path, token).status == 403
        assert app.ask("GET", f"/api/indicators?value={value}", token).status == 403

    for role in (READ, OPERATE):
        all_seen = app.token(role, SUBMIT)
        assert app.ask("GET", f"/api/submissions/{mine.told['id']}", all_seen).status == 200
        searched = app.ask("GET", f"/api/submissions?value={value}", all_seen)
        assert mine.told["id"] in searched.body.decode() and other.told["id"] in searched.body.decode(), searched


def test_the_same_key_of_two_callers_is_two_submissions(app: Callers) -> None:
    once = {"Idempotency-Key": "the-same-key-of-two"}
    body = {"indicators": [{"indicatorValue": "c.access-own.com", "action": "Audit"}]}
    ours, theirs = app.token(SUBMIT), app.token(SUBMIT)
    first = app.ask("POST", "/api/submissions", ours, body, once).told["id"]
    assert app.ask("POST", "/api/submissions", ours, body, once).told["id"] == first
    assert app.ask("POST", "/api/submissions", theirs, body, once).told["id"] != first


def test_the_ledger_says_who_it_was(app: Callers) -> None:
    person = app.token(SUBMIT, kind="person", version=2, name="ann@tenant.example", object_id=str(uuid.uuid4()))
    guest = app.token(SUBMIT, kind="person", name="bo_else.example#EXT#@tenant.example", overage=True)
    program = app.token(SUBMIT, display_name="Console", client_id=str(uuid.uuid4()), version=1)
    app.admin.api_roles("system", SUBMIT)
    tenant = app.stack.tenant
    answer = requests.get(
        tenant["identity_endpoint"],
        params={"api-version": "2019-08-01", "resource": f"api://{tenant['api_client_id']}"},
        headers={"X-IDENTITY-HEADER": tenant["identity_header"]},
        timeout=30,
    )
    playbook = str(answer.json()["access_token"])
    app.tokens.append(playbook)

    reader = app.token(READ)
    kinds = {
        person: ("person:", "ann@tenant.example"),
        guest: ("person:", "bo_else.example#EXT#@tenant.example"),
        program: ("app:", "Console"),
        playbook: (f"app:{tenant['system_identity']}", "relay-system"),
    }
    for number, (token, (kind, name)) in enumerate(kinds.items()):
        made = app.submit(token, f"who{number}.access-own.com")
        assert made.status == 200, made
        seen = app.ask("GET", f"/api/submissions/{made.told['id']}", reader).told
        assert seen["caller"].startswith(kind) and re.fullmatch(r"(app|person):[0-9a-f-]{36}", seen["caller"]), seen
        assert seen["callerName"] == name, seen


def test_what_somebody_operates_is_written_down_with_who_it_was(app: Callers) -> None:
    holder = str(uuid.uuid4())
    person = app.token(SUBMIT, OPERATE, kind="person", version=2, name="cy@tenant.example", object_id=holder)
    who = {"by": f"person:{holder}", "byName": "cy@tenant.example"}

    paused = app.ask("POST", "/api/pause", person, {"reason": "look first"})
    try:
        assert paused.status == 200 and who.items() <= paused.told["paused"].items(), paused
        assert "cy@tenant.example" in app.ask("GET", "/api/operations", app.token(READ)).body.decode()
    finally:
        resumed = app.ask("POST", "/api/resume", person, {"reason": "looked"})
    assert resumed.status == 200, resumed

    made = app.submit(app.token(SUBMIT), "undone.access-own.com")
    undo = app.ask("DELETE", f"/api/submissions/{made.told['id']}", person)
    assert undo.status in (200, 202) and undo.told["undoOf"] == made.told["id"], undo
    assert (undo.told["caller"], undo.told["callerName"]) == (who["by"], who["byName"])

    AppClient(app.stack).send("no message of ours")
    letters = wait_for(lambda: app.ask("GET", "/api/dead-letters", person).told["deadLetters"], "a dead letter")
    discarded = app.ask("POST", f"/api/dead-letters/{letters[0]['id']}/discard", person, {"reason": "noise"})
    assert discarded.status == 200, discarded
    shown = app.ask("GET", f"/api/dead-letters/{letters[0]['id']}", person).told
    assert who.items() <= shown.items(), shown


@pytest.mark.parametrize("claims_spelled", ["short", "mapped"])
def test_the_other_spellings_of_claims(
    app: Callers, claims_spelled: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The usual one is `mixed`; here the platform spells otherwise, in front of the same app."""
    from local.host.easyauth import stack_settings

    file = app.stack.folder / "easyauth.json"
    before = file.read_text("utf-8")
    file.write_text(json.dumps(stack_settings(app.stack.tenant, claims_spelled)), "utf-8")  # type: ignore[arg-type]
    try:
        app.stack.workers.hold(app.stack.workers.find("http"))
        app.stack.workers.resume(app.stack.workers.find("http"))
        for kind in ("app", "person"):
            assert app.ask("GET", "/api/health", app.token(READ, OVERRIDE, kind=kind)).status == 200
            assert app.ask("GET", "/api/health", app.token(OVERRIDE, kind=kind)).status == 403
    finally:
        file.write_text(before, "utf-8")


def test_a_platform_that_is_switched_off_closes_the_app(app: Callers) -> None:
    """Somebody turns App Service authentication off: from then on headers can be forged, and nothing opens."""
    tenant = app.stack.tenant
    perfect = header(claims(*FIVE, tid=tenant["tenant_id"], aud=f"api://{tenant['api_client_id']}"))
    file = app.stack.folder / "easyauth.json"
    before = file.read_text("utf-8")
    file.write_text(json.dumps(json.loads(before) | {"platform": {"enabled": False}}), "utf-8")
    workers = app.stack.workers
    try:
        workers.hold(workers.find("http"))
        workers.resume(workers.find("http"))
        for function in EXPECTED:
            for headers in ({}, perfect, perfect | {"x-functions-key": app.stack.keys["master"]}):
                answer = app.ask(*address(function), token=app.token(*FIVE), headers=headers)
                assert answer.status == 503 and answer.told["type"].endswith(":settings"), (function, answer)
                assert "WEBSITE_AUTH_ENABLED" in answer.told["detail"]
    finally:
        file.write_text(before, "utf-8")
        workers.hold(workers.find("http"))
        workers.resume(workers.find("http"))
    assert app.ask("GET", "/api/health", app.token(READ)).status == 200


def test_no_token_no_key_and_no_secret_is_in_any_log(app: Callers) -> None:
    assert app.ask("GET", "/api/health", app.token(READ)).status == 200
    secrets = {f"token {number}": token.rpartition(".")[2] for number, token in enumerate(app.tokens[-20:])}
    secrets |= {"master key": app.stack.keys["master"], "host key": app.stack.keys["host"]}
    secrets |= {"client secret": app.stack.tenant["client_secret"]}
    found = leaks(texts(app.stack.folder), secrets)
    assert texts(app.stack.folder) and not found, "; ".join(found)
