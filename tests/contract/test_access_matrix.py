"""Who may what: every route with every role, key and principal, in both modes, through the genuine runtime.

What is expected stands in tests/contract/access.py. The app's own gate decides; behind it stand handlers that tell who
came in (tests/contract/only_the_gate.py). Whether the doors do what they should is for other tests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, get_args

import pytest

from functions.routes import TABLE
from local.host.easyauth import Claims
from tests.contract.access import (
    ALLOW,
    API,
    EXPECTED,
    FIVE,
    KEYS,
    OPERATE,
    OVERRIDE,
    OWN,
    READ,
    SUBMIT,
    TENANT,
    Answer,
    Gate,
    address,
    claims,
    function_key,
    header,
    key,
    raw,
    urls,
)
from tests.contract.test_app import load

EASY = {"RELAY_AUTH": "easy-auth", "RELAY_AUTH_CLIENT_ID": API, "WEBSITE_AUTH_ENABLED": "True"}
OTHER = "99999999-9999-4999-8999-999999999999"
SPELLINGS: tuple[Claims, ...] = get_args(Claims)
MASTER = key(KEYS["master"])

# None of these holds a role of ours.
STRANGE_ROLES: dict[str, dict[str, Any]] = {
    "none": {},
    "somebody else's": {"roles": ["Ti.ReadWrite.All", "Directory.Read.All"]},
    "in lower case": {"roles": [role.lower() for role in FIVE]},
    "all in one": {"roles": [",".join(FIVE)]},
    "all in one, as JSON": {"roles": [json.dumps(FIVE)]},
    "with blanks": {"roles": [f" {role} " for role in FIVE]},
    "as groups": {"groups": list(FIVE)},
    "as scopes": {"scp": " ".join(FIVE)},
    "as directory roles": {"wids": list(FIVE)},
    "as a name": {"name": OPERATE, "app_displayname": OPERATE},
    "overage": {"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": OPERATE}}},
}


def bad_principals() -> dict[str, dict[str, str]]:
    """Headers that prove nothing, each with all roles in it where it has any."""
    good = claims(*FIVE)
    return {
        "none": {},
        "empty": {"X-MS-CLIENT-PRINCIPAL": ""},
        "not base64": {"X-MS-CLIENT-PRINCIPAL": "%%% no base64 %%%"},
        "twice": {"X-MS-CLIENT-PRINCIPAL": ",".join([header(good)["X-MS-CLIENT-PRINCIPAL"]] * 2)},
        "not JSON": raw(b"roles=Operations.Manage"),
        "not UTF-8": raw(b'{"auth_typ":"aad","claims":[{"typ":"roles","val":"\xff\xfe"}]}'),
        "a list": raw(json.dumps([{"typ": "roles", "val": OPERATE}]).encode()),
        "a text": raw(b'"Operations.Manage"'),
        "claims are no list": raw(b'{"auth_typ":"aad","claims":{"roles":["Operations.Manage"]}}'),
        "claims of wrong types": raw(b'{"auth_typ":"aad","claims":[null,1,"x",{"typ":1,"val":2},{"typ":"tid"}]}'),
        "deep": raw(b"[" * 20_000),
        "huge": raw(json.dumps({"auth_typ": "aad", "claims": [], "x": "y" * 20_000}).encode()),
        "another provider": header(good, auth_typ="github"),
        "a provider named alike": header(good, auth_typ="AAD "),
        "no provider": header(good, auth_typ=None),
        "another tenant": header(good | {"tid": OTHER}),
        "two tenants": header(good | {"tid": [TENANT, OTHER]}),
        "no tenant": header(claims(*FIVE, tid=None)),
        "another audience": header(good | {"aud": "https://api.securitycenter.microsoft.com"}),
        "an audience that begins alike": header(good | {"aud": f"api://{API}.evil.example"}),
        "an audience beside ours": header(good | {"aud": [f"api://{API}", "api://other"]}),
        "no audience": header(claims(*FIVE, aud=None)),
        "expired": header(good | {"exp": 1_700_000_000}),
        "no end": header(claims(*FIVE, exp=None)),
        "an end that is no time": header(good | {"exp": "never"}),
        "an end in another script": header(good | {"exp": "٩٩٩٩٩٩٩٩٩٩"}),
        "two ends": header(good | {"exp": [1, 9_999_999_999]}),
        "nobody": header(claims(*FIVE, oid=None, sub=None, appid=None)),
        "an id that is none": header(claims(*FIVE, oid="../../x", appid="key")),
        "only the other headers": {
            "X-MS-CLIENT-PRINCIPAL-ID": "0b0b0b0b-0000-4000-8000-000000000001",
            "X-MS-CLIENT-PRINCIPAL-NAME": "admin@tenant.example",
            "X-MS-CLIENT-PRINCIPAL-IDP": "aad",
        },
    }


@pytest.fixture(scope="module")
def gates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Gate]]:
    """One process a mode, with the platform in agreement."""
    with ExitStack() as running:
        made = {
            "keys": Gate(tmp_path_factory.mktemp("keys"), {}),
            "easy-auth": Gate(tmp_path_factory.mktemp("easy"), EASY),
        }
        for gate in made.values():
            running.push(gate)  # both start at once, and are ended whatever becomes of the other
        yield {name: gate.__enter__() for name, gate in made.items()}


@pytest.fixture
def easy(gates: dict[str, Gate]) -> Gate:
    return gates["easy-auth"]


@pytest.fixture
def keys(gates: dict[str, Gate]) -> Gate:
    return gates["keys"]


def is_refusal(answer: Answer, status: int) -> bool:
    """Whether it is a problem of this status that let nobody in."""
    problem = answer.headers.get("content-type", "").startswith("application/problem+json")
    return answer.status == status == answer.told.get("status") and problem and answer.reached is None


# The table


def test_the_table_is_what_was_agreed() -> None:
    written = {entry.function: (entry.method, entry.path, entry.level, frozenset(entry.roles)) for entry in TABLE}
    assert written == {name: (*rest, frozenset(roles)) for name, (*rest, roles) in EXPECTED.items()}
    assert sorted(entry.function for entry in TABLE if entry.own) == sorted(OWN)
    assert len({(entry.method, entry.path) for entry in TABLE}) == len(TABLE)


@pytest.mark.parametrize("mode", ["keys", "easy-auth"])
def test_the_host_asks_for_the_key_of_the_mode_and_serves_nothing_else(mode: str) -> None:
    functions, _, _ = load({"RelayStorage": "UseDevelopmentStorage=true", **(EASY if mode == "easy-auth" else {})})
    doors = {
        name: (sorted(binding["methods"]), binding["route"], binding["authLevel"].lower())
        for name, bindings in functions.items()
        for binding in bindings
        if binding["type"] == "httpTrigger"
    }
    other = doors.pop("ZNoSuchRoute")
    assert other[1:] == ("{*path}", "anonymous")
    assert doors == {
        name: (["GET", "HEAD"] if method == "GET" else [method], path, level if mode == "keys" else "anonymous")
        for name, (method, path, level, _) in EXPECTED.items()
    }


# Easy Auth


@pytest.mark.parametrize("function", EXPECTED)
def test_a_role_opens_what_the_table_says(easy: Gate, function: str) -> None:
    opening = EXPECTED[function][3]
    some = [*[(role,) for role in FIVE], (SUBMIT, ALLOW), (OVERRIDE, ALLOW), (SUBMIT, READ), FIVE, (OPERATE, "X")]
    for roles in some:
        for spelling in SPELLINGS:
            for person in (False, True):
                answer = easy.call(function, header(claims(*roles, person=person), spelling))
                case = (roles, spelling, person, answer)
                if not set(roles) & set(opening):
                    assert is_refusal(answer, 403), case
                    continue
                assert answer.status == 200 and answer.reached == function, case
                assert answer.told["caller"]["roles"] == sorted(set(roles) & set(FIVE)), case
                alone = function in OWN and not {READ, OPERATE} & set(roles)
                assert answer.told["ownOnly"] is alone, case


@pytest.mark.parametrize("function", EXPECTED)
def test_what_is_no_role_of_ours_opens_nothing(easy: Gate, function: str) -> None:
    for case, more in STRANGE_ROLES.items():
        for spelling in SPELLINGS:
            for person in (False, True):
                answer = easy.call(function, header(claims(person=person, **more), spelling))
                assert is_refusal(answer, 403), (case, spelling, person, answer)


@pytest.mark.parametrize("function", EXPECTED)
def test_a_principal_that_proves_nothing_is_401(easy: Gate, function: str) -> None:
    for case, given in bad_principals().items():
        for more in ({}, MASTER) if case in ("none", "expired") else ({},):  # a key opens nothing in this mode
            answer = easy.call(function, given | more)
            assert is_refusal(answer, 401), (case, answer)
            assert answer.headers["www-authenticate"] == "Bearer", case
            assert answer.told["remedy"] and OPERATE not in json.dumps(answer.told), case


def test_who_it_was(easy: Gate) -> None:
    ours, object_id = "0a0a0a0a-0000-4000-8000-00000000000a", "0B0B0B0B-0000-4000-8000-00000000000B"

    def caller(told: dict[str, Any], spelling: Claims) -> tuple[str, str, str]:
        answer = easy.call("GetHealth", header(told, spelling))
        assert answer.reached, answer
        return answer.told["caller"]["kind"], answer.told["caller"]["id"], answer.told["caller"]["name"]

    for spelling in SPELLINGS:
        app = claims(READ, appid=ours, oid=object_id, app_displayname="Playbook")
        assert caller(app, spelling) == ("app", f"app:{ours}", "Playbook")
        second = claims(READ, appid=None, azp=ours.upper(), oid=object_id, ver="2.0", aud=API)
        assert caller(second, spelling) == ("app", f"app:{ours}", "")
        assert caller(second | {"idtyp": "app"}, spelling) == ("app", f"app:{ours}", "")
        person = claims(READ, person=True, oid=object_id)
        assert caller(person, spelling) == ("person", f"person:{object_id.lower()}", "ann@tenant.example")
        assert caller(person | {"idtyp": "user"}, spelling)[0] == "person"
        newer = claims(READ, oid=object_id, scp="user_impersonation", preferred_username="bo@tenant.example", ver="2.0")
        assert caller(newer, spelling) == ("person", f"person:{object_id.lower()}", "bo@tenant.example")
        # Signed in by a browser: an ID token has neither scopes nor an application beside the audience.
        signed_in = claims(READ, appid=None, oid=object_id, aud=API, name="Cy", email="cy@elsewhere.example")
        assert caller(signed_in, spelling) == ("person", f"person:{object_id.lower()}", "cy@elsewhere.example")


def test_names_are_shown_as_text_of_one_line(easy: Gate) -> None:
    for name in ("a\r\nX-Injected: 1", "\x00\x1b[31m", "\ud800", "x" * 5_000, "\u202e\u2066"):
        answer = easy.call("GetHealth", header(claims(READ, person=True, upn=name)))
        assert answer.status == 200 and "x-injected" not in answer.headers, answer
        shown = answer.told["caller"]["name"]
        assert len(shown) <= 200 and (shown == "" or shown.isprintable()), ascii(shown)
        refused = easy.call("ReplayDeadLetter", header(claims(READ, person=True, upn=name)))
        assert is_refusal(refused, 403) and "x-injected" not in refused.headers, refused


@pytest.mark.parametrize("function", EXPECTED)
def test_a_browsers_session_alone_changes_nothing(easy: Gate, function: str) -> None:
    """A foreign page can make a browser send a form with its cookies; it cannot make it send a token."""
    signed_in = header(claims(*FIVE, person=True)) | {"Cookie": "a=b; AppServiceAuthSession=x; c=d"}
    answer = easy.call(function, signed_in)
    if EXPECTED[function][0] == "GET":
        assert answer.reached == function
    else:
        assert is_refusal(answer, 403) and "session" in answer.told["detail"]
    assert easy.call(function, signed_in | {"Authorization": "Bearer x"}).reached == function


# Keys


@pytest.mark.parametrize("function", EXPECTED)
def test_a_key_opens_its_level_and_a_forged_principal_changes_nothing(keys: Gate, function: str) -> None:
    admin = EXPECTED[function][2] == "admin"
    other = next(name for name in EXPECTED if name != function)
    given = {
        "": False,
        "wrong": False,
        KEYS["master"]: True,
        KEYS["host"]: not admin,
        function_key(function): not admin,
        function_key(other): False,
        KEYS["host"][:-1]: False,
        KEYS["host"] + "x": False,
    }
    forged = [{}, header(claims(*FIVE)), header(claims(*FIVE, person=True)), *bad_principals().values()]
    for text, opens in given.items():
        for principal in forged if text == KEYS["master"] else forged[:2]:
            answer = keys.call(function, principal | key(text))
            case = (text, principal, answer)
            if not opens:
                assert answer.status == 401 and answer.reached is None, case
                continue
            assert answer.status == 200 and answer.reached == function, case
            caller = answer.told["caller"]
            assert (caller["kind"], caller["id"], caller["name"]) == ("key", "admin-key" if admin else "key", ""), case
            assert not {OVERRIDE, ALLOW} & set(caller["roles"]), case
            assert answer.told["ownOnly"] is False, case


# Nothing else


@pytest.mark.parametrize("mode", ["keys", "easy-auth"])
def test_other_methods_are_405_and_other_paths_404(gates: dict[str, Gate], mode: str) -> None:
    gate = gates[mode]
    full = MASTER | header(claims(*FIVE))
    taken: dict[str, set[str]] = {}
    for method, path, *_ in EXPECTED.values():
        taken.setdefault(path, {"OPTIONS"}).update({"GET", "HEAD"} if method == "GET" else {method})
    for name, (_, path, *_) in EXPECTED.items():
        here = taken[path]
        if path == "dead-letters/replay":
            here = here | {"GET", "HEAD"}  # as dead-letters/{id}
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            answer = gate.ask(method, address(name)[1], full)
            case = (method, path, answer)
            if method == "OPTIONS":
                assert answer.status == 204 and not answer.body, case
            elif method in here:
                assert answer.status == 200, case
            else:
                assert answer.status == 405 and answer.reached is None, case
                assert {text.strip() for text in answer.headers["allow"].split(",")} >= taken[path], case
    unknown = ["", "x", "submission", "submissions/x1/y", "health/x", "pause/x", "openapi", "admin"]
    unknown += [
        "dead-letters/x1/bury",
        "dead-letters/x1/replay/x",
        "indicators/http:/evil.example.com/a",
        "host/status",
    ]
    unknown += ["submissions/../pause/x", "..%2Fadmin%2Fhost%2Fstatus", "%2e%2e/admin/host/status", ".", "%00", "*"]
    for url in urls(unknown):
        for method in ("GET", "POST", "DELETE"):
            answer = gate.ask(method, url, full)
            assert answer.status in (404, 405) and answer.reached is None, (method, url, answer)


@pytest.mark.parametrize("mode", ["keys", "easy-auth"])
def test_other_spellings_of_a_path_meet_the_same_gate(gates: dict[str, Gate], mode: str) -> None:
    gate = gates[mode]
    weak = key(KEYS["host"]) | header(claims(READ, SUBMIT))
    for path in ("pause", "PAUSE", "Pause/", "pAuse?x=1", "%70ause", "/pause", "./pause", "pause%20", "pause;x"):
        for given in ({}, weak):
            answer = gate.ask("POST", f"/api/{path}", given)
            assert answer.status in (401, 403, 404) and answer.reached is None, (path, answer)


@pytest.mark.parametrize("mode", ["keys", "easy-auth"])
def test_head_is_told_what_get_is_told(gates: dict[str, Gate], mode: str) -> None:
    gate = gates[mode]
    callers = [{}, key(KEYS["host"]) | header(claims(READ)), MASTER | header(claims(OPERATE)), header(claims(ALLOW))]
    for name, (method, *_) in EXPECTED.items():
        for given in callers if method == "GET" else ():
            path = address(name)[1]
            get, head = gate.ask("GET", path, given), gate.ask("HEAD", path, given)
            assert (head.status, head.body) == (get.status, b""), (name, given)


def test_what_a_caller_may_not_do_is_refused_before_its_request_is_looked_at(easy: Gate) -> None:
    """A 400 would tell a stranger something of the route."""
    for function in EXPECTED:
        method, path = address(function)
        assert is_refusal(easy.ask(method, f"{path}?nonsense=1"), 401)
        assert is_refusal(easy.ask(method, f"{path}?nonsense=1", header(claims())), 403)


# Closed


DISAGREEING = {
    "the platform says nothing": {"WEBSITE_AUTH_ENABLED": ""},
    "the platform says no": {"WEBSITE_AUTH_ENABLED": "False"},
    "the platform says something else": {"WEBSITE_AUTH_ENABLED": "1"},
    "no audience is set": {"RELAY_AUTH_CLIENT_ID": ""},
    "no tenant is set": {"RELAY_TENANT_ID": ""},
    "a setting cannot be read": {"RELAY_CALL_SIZE": "many"},
    "a setting does not exist": {"RELAY_NO_SUCH_THING": "1"},
    "the mode is spelled wrong": {"RELAY_AUTH": "easyauth"},
    "the mode is in upper case": {"RELAY_AUTH": "EASY-AUTH"},
}
UNREADABLE = (
    "a setting cannot be read",
    "a setting does not exist",
    "the mode is spelled wrong",
    "the mode is in upper case",
)


@pytest.mark.parametrize("case", DISAGREEING)
def test_it_fails_closed(case: str, tmp_path: Path) -> None:
    perfect = [header(claims(*FIVE)), header(claims(*FIVE, person=True), "mapped")]
    with Gate(tmp_path, EASY | DISAGREEING[case]) as gate:
        for function in EXPECTED:
            for given in [{}, key(KEYS["host"]), MASTER, *perfect, perfect[0] | MASTER]:
                answer = gate.call(function, given)
                assert answer.status in (401, 503) and answer.reached is None, (function, given, answer)
            if case in UNREADABLE:  # what is wrong with the settings is told to those who have a key
                assert gate.call(function, perfect[0]).status == 401
            last = gate.call(function, perfect[0] | MASTER)
            assert is_refusal(last, 503) and last.told["remedy"], last


def test_in_key_mode_the_platforms_word_changes_nothing(tmp_path: Path) -> None:
    with Gate(tmp_path, {"WEBSITE_AUTH_ENABLED": "True", "RELAY_AUTH_CLIENT_ID": API}) as gate:
        for function in EXPECTED:
            assert gate.call(function, header(claims(*FIVE))).status == 401
            assert gate.call(function, MASTER).reached == function


def test_no_key_and_no_principal_is_in_any_log(gates: dict[str, Gate]) -> None:
    for mode, gate in gates.items():
        assert gate.call("GetHealth", MASTER | header(claims(*FIVE))).reached
        logs = gate.logs()
        assert "eyJ" not in logs, mode
        assert not [text for text in (*KEYS.values(), function_key("Pause")) if text in logs], mode
