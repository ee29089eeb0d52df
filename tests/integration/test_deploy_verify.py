"""scripts/verify against the local stack: it passes in both modes, and names the step that is in the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.say import Failed
from deploy.verification import OTHERS, Credentials
from deploy.verify import credentials, verify
from functions.routes import ENTRIES
from local.processes import plain_environment
from local.stack import Stack, StackOptions
from tests.support.fakecloud import Cloud
from tests.support.stacklab import wait_for

ROOT = Path(__file__).resolve().parents[2]
ORDER = ["reach", "sign-in", "unauthenticated", "functions", "health", "wrong-role"]
ORDER += ["submit", "publish", "seen", "undo", "gone"]
ALL = ("Submissions.Write", "Indicators.Read", "Operations.Manage", "Guards.Override", "Indicators.Allow")
#: Faults are lifted at once and nobody waits long.
SETTINGS = {"RELAY_DEFER_FIRST": "1", "RELAY_DEFER_MAX": "2", "RELAY_TOKEN_PAUSE": "0.2", "RELAY_UNSENT_STEP": "1"}
SETTINGS |= {"RELAY_CALLER_RATE": "100000/60", "RELAY_OVERDUE_AFTER": "3"}


@pytest.fixture(scope="module")
def by_keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(StackOptions(folder=tmp_path_factory.mktemp("keys"), settings=SETTINGS)) as stack:
        yield stack


@pytest.fixture(scope="module")
def by_tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(StackOptions(folder=tmp_path_factory.mktemp("tokens"), settings=SETTINGS, easy_auth=True)) as stack:
        yield stack


def keys(stack: Stack, **changes: str) -> Credentials:
    return Credentials(**{"key": stack.keys["host"], "master": stack.keys["master"], **changes})


def steps(told: dict[str, Any]) -> dict[str, dict[str, Any]]:
    assert [step["name"] for step in told["steps"]] == ORDER
    return {step["name"]: step for step in told["steps"]}


def held(stack: Stack, told: dict[str, Any]) -> list[dict[str, Any]]:
    return stack.admin.indicators(told["canary"]["value"])


@pytest.mark.slow
def test_with_keys_it_passes_and_leaves_nothing(by_keys: Stack) -> None:
    before = len(by_keys.admin.imports())
    environ = {"VERIFY_KEY": by_keys.keys["host"], "VERIFY_MASTER_KEY": by_keys.keys["master"]}
    done = subprocess.run(
        [ROOT / "scripts" / "verify", "--url", by_keys.url],
        env=plain_environment() | environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    found = steps(told)
    assert told["ok"] and told["failed"] is None and told["auth"] == "keys"
    assert all(step["ok"] for step in found.values()), found
    assert found["functions"]["how"] == "GET /admin/functions" and found["functions"]["indexed"] == len(ENTRIES) + 6
    assert set(ENTRIES) | OTHERS and len(OTHERS) == 6
    # The canary was really at Defender, and is there no more.
    imports = by_keys.admin.imports()[before:]
    assert sum(call["items"] for call in imports) == 1
    assert held(by_keys, told) == [] and told["canary"]["outcome"] == "withdrawn, and seen gone"
    for secret in environ.values():
        assert secret not in done.stdout + done.stderr
    for name in ORDER:
        assert f"{name}: " in done.stderr


def test_with_tokens_it_passes_and_tells_how_it_looked(by_tokens: Stack) -> None:
    token = by_tokens.admin.caller_token("Submissions.Write", "Operations.Manage", kind="person")
    weak = by_tokens.admin.caller_token("Submissions.Write")
    told = verify(by_tokens.url, Credentials(token=token, weak_token=weak))
    found = steps(told)
    assert told["ok"] and told["auth"] == "easy-auth", told
    assert "a token without the role may not undo" in found["wrong-role"]["detail"]
    assert "Allowed" in found["wrong-role"]["detail"]
    assert "Easy Auth mode has no master key" in found["functions"]["how"]
    assert held(by_tokens, told) == []
    assert token not in json.dumps(told) and weak not in json.dumps(told)


def test_a_token_with_every_role_says_that_the_wrong_one_was_not_tried(by_tokens: Stack) -> None:
    told = verify(by_tokens.url, Credentials(token=by_tokens.admin.caller_token(*ALL)))
    step = steps(told)["wrong-role"]
    assert told["ok"] and step["ok"] is None and "VERIFY_WEAK_TOKEN" in step["detail"]


def failed(told: dict[str, Any], step: str, *words: str) -> dict[str, Any]:
    """It failed at this step, says so in these words, and has not tried the canary unless that is the step."""
    found = steps(told)
    assert told["failed"] == step and not told["ok"], told
    said = f"{found[step]['detail']} {found[step].get('remedy', '')}"
    for word in words:
        assert word in said, said
    return found


@pytest.mark.parametrize(
    ("changes", "name"),
    [({"key": "wrong"}, "VERIFY_KEY"), ({"master": "wrong"}, "VERIFY_MASTER_KEY"), ({"key": "", "master": "x"}, "KEY")],
)
def test_a_wrong_key_fails_at_signing_in(by_keys: Stack, changes: dict[str, str], name: str) -> None:
    told = verify(by_keys.url, keys(by_keys, **changes))
    found = failed(told, "sign-in", name, "401", "az functionapp keys list")
    assert all(step["ok"] is None for step in list(found.values())[2:])
    assert told["canary"]["outcome"] == "not submitted"


def test_a_master_key_in_the_place_of_the_function_key_is_noticed(by_keys: Stack) -> None:
    told = verify(by_keys.url, keys(by_keys, key=by_keys.keys["master"]))
    failed(told, "wrong-role", "VERIFY_KEY", "not the master key")
    assert told["canary"]["outcome"] == "not submitted"


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ({"roles": ("Submissions.Write",)}, ("lacks the roles Operations.Manage",)),
        ({"roles": ()}, ("403", "Submissions.Write")),
        ({"roles": ALL, "audience": "https://management.azure.com"}, ("401", "audience")),
        ({"roles": ALL, "expires_in": -3600}, ("401", "expired")),
    ],
)
def test_a_token_that_does_not_do_fails_at_signing_in(
    by_tokens: Stack, token: dict[str, Any], words: tuple[str, ...]
) -> None:
    made = by_tokens.admin.caller_token(*token.pop("roles"), **token)
    failed(verify(by_tokens.url, Credentials(token=made)), "sign-in", *words)


def test_keys_do_not_open_an_app_that_wants_tokens_and_the_remedy_says_so(by_tokens: Stack) -> None:
    failed(verify(by_tokens.url, keys(by_tokens)), "sign-in", "Easy Auth mode")


def test_a_weak_token_that_is_not_weak_is_noticed(by_tokens: Stack) -> None:
    token = by_tokens.admin.caller_token(*ALL)
    failed(verify(by_tokens.url, Credentials(token=token, weak_token=token)), "wrong-role", "VERIFY_WEAK_TOKEN")


@pytest.mark.slow
def test_a_missing_role_at_defender_is_named_by_health_and_nothing_is_submitted(stack: Callable[..., Stack]) -> None:
    running = stack(settings=SETTINGS)
    running.admin.roles("relay")
    told = verify(running.url, keys(running), timeout=5)
    found = failed(told, "health", "roles", "Ti.ReadWrite")
    assert found["submit"]["ok"] is None and told["canary"]["outcome"] == "not submitted"
    assert running.admin.imports() == []


def test_a_pause_that_stands_is_named_by_health(by_keys: Stack) -> None:
    master = {"x-functions-key": by_keys.keys["master"]}
    from deploy.web import Site

    site = Site(by_keys.url)
    site.ask("POST", "/api/pause", master, {"reason": "a test"})
    try:
        failed(verify(by_keys.url, keys(by_keys)), "health", "paused", "/api/resume")
    finally:
        site.ask("POST", "/api/resume", master, {"reason": "the test is over"})


@pytest.mark.slow
def test_without_a_queue_worker_publishing_fails_and_what_is_left_is_said(by_keys: Stack) -> None:
    worker = by_keys.queue_workers[0]
    by_keys.workers.hold(worker)
    try:
        told = verify(by_keys.url, keys(by_keys), timeout=12)
    finally:
        by_keys.workers.resume(worker)
    found = failed(told, "publish", "not published after 12 s", "messages are queued", "queue function does not run")
    assert found["health"]["ok"] and found["submit"]["ok"] and found["undo"]["ok"] is None
    assert "NOT seen gone" in told["canary"]["outcome"] and "expires by itself" in told["canary"]["outcome"]
    # It was withdrawn all the same, as soon as there is a worker.
    undo = told["canary"]["undo"]
    from deploy.web import Site

    site, key = Site(by_keys.url), {"x-functions-key": by_keys.keys["host"]}
    wait_for(lambda: site.ask("GET", f"/api/submissions/{undo}", key).status == 200, "the undo ends", 60)
    assert held(by_keys, told) == []


def test_defender_that_does_not_answer_is_named_by_health_and_nothing_is_submitted(by_keys: Stack) -> None:
    error = {"error": {"code": "InternalError", "message": "no", "target": "t"}}
    fault = by_keys.admin.fault("list", "status", times=None, status=500, body=error)
    try:
        told = verify(by_keys.url, keys(by_keys), timeout=5)
    finally:
        by_keys.admin.clear_faults(fault)
    failed(told, "health", "call")
    assert told["canary"]["outcome"] == "not submitted"


@pytest.mark.parametrize(
    ("broken", "step"),
    [
        ("POST /api/submissions", "submit"),
        (r"GET /api/submissions/\w+\?wait=\d+", "publish"),
        ("GET /api/indicators/[0-9a-f]{64}", "seen"),
        (r"DELETE /api/submissions/\w+", "undo"),
    ],
)
def test_a_failure_midway_withdraws_the_canary(
    by_keys: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, step: str
) -> None:
    """Something between here and the app loses one answer and gives one of its own."""
    with Cloud(tmp_path).running() as between:
        monkeypatch.setenv("SSL_CERT_FILE", str(between.ca_file))
        between.forward = by_keys.url
        between.breaks = [broken]
        told = verify(f"https://{between.host}", keys(by_keys), timeout=60)
    failed(told, step, "500")
    assert told["canary"]["outcome"] == "withdrawn, and seen gone"
    assert held(by_keys, told) == []


@pytest.mark.slow
def test_an_interruption_withdraws_the_canary(by_keys: Stack) -> None:
    worker = by_keys.queue_workers[0]
    by_keys.workers.hold(worker)
    environ = {"VERIFY_KEY": by_keys.keys["host"], "VERIFY_MASTER_KEY": by_keys.keys["master"]}
    process = subprocess.Popen(
        [ROOT / "scripts" / "verify", "--url", by_keys.url],
        env=plain_environment() | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "pending" in line or "submit:" in line:
                break
        time.sleep(0.5)
        os.kill(process.pid, signal.SIGTERM)
        by_keys.workers.resume(worker)
        output, errors = process.communicate(timeout=120)
    finally:
        by_keys.workers.resume(worker)
        process.kill()
    assert process.returncode == 130, errors
    told = json.loads(output)
    assert told["failed"] == "interrupted" and told["canary"]["outcome"] == "withdrawn, and seen gone"
    assert held(by_keys, told) == []


def test_an_address_where_nobody_answers_and_one_in_the_clear() -> None:
    with pytest.raises(Failed, match="must not travel over http"):
        verify("http://relay.tenant.example", Credentials(master="m"))
    for bad in ("relay.tenant.example", "https://relay.tenant.example/api", "ftp://127.0.0.1"):
        with pytest.raises(Failed, match="not the address of an app"):
            verify(bad, Credentials(master="m"))


def test_without_credentials_it_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VERIFY_KEY", "VERIFY_MASTER_KEY", "VERIFY_TOKEN", "VERIFY_WEAK_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(Failed, match="VERIFY_MASTER_KEY"):
        credentials()
    monkeypatch.setenv("VERIFY_MASTER_KEY", uuid.uuid4().hex)
    assert credentials().mode == "keys"
    monkeypatch.setenv("VERIFY_TOKEN", "t")
    assert credentials().mode == "easy-auth" and "t" not in repr(credentials()).replace("Credentials", "")
