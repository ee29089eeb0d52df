"""The app's own OpenAPI against the running app: what it answers is documented, and generated clients work."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from functions.openapi import document
from functions.routes import TABLE
from local.processes import plain_environment
from local.stack import Stack, StackOptions
from tests.support import share

# Whether valid requests are accepted and others refused is not asked here: a schema cannot say everything that is
# checked (guards, times, cursors), and the platform drops empty parameters before the app sees them.
_CHECKS = ",".join(
    (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    )
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    # Much is asked from one place, and some of it pauses everything.
    settings = {"RELAY_CALLER_RATE": "100000/60", "RELAY_LIMIT_LOOK": "1000/63", "RELAY_LIMIT_LIST": "1000/63"}
    with Stack(StackOptions(folder=tmp_path_factory.mktemp("openapi"), settings=settings)) as running:
        running.admin.rules(limits={"list": [[100_000, 60.0]], "import": [[30, 60.0]]})
        yield running


@pytest.fixture(scope="module")
def described(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    session = requests.Session()
    session.trust_env = False
    answer = session.get(f"{stack.url}/api/openapi.json", headers={"x-functions-key": stack.keys["host"]}, timeout=30)
    assert answer.status_code == 200
    told = answer.json()
    for parameter in (
        told["paths"]["/submissions"]["post"]["parameters"] + told["paths"]["/submissions/{id}"]["get"]["parameters"]
    ):
        if parameter["name"] == "wait":
            parameter["schema"]["maximum"] = 1  # some of what is asked pauses everything, and the time is bounded
    assert told["servers"] == [{"url": f"{stack.url}/api"}]
    file = tmp_path_factory.mktemp("described") / "openapi.json"
    file.write_text(json.dumps(told), "utf-8")
    return file


def _run(command: list[str | Path], cwd: Path, timeout: float = 570) -> subprocess.CompletedProcess[str]:
    environ = plain_environment() | {"PYTHONUTF8": "1", "NO_COLOR": "1", "COLUMNS": "120", "no_proxy": "127.0.0.1"}
    environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ.get('PATH', '')}"
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environ,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=timeout,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_answer_is_one_that_is_documented(stack: Stack, described: Path, tmp_path: Path) -> None:
    """schemathesis: coverage, fuzzing and stateful phases, from a seed, so many examples for each operation."""
    examples = "30" if share.exhaustive() else "4"
    config = tmp_path / "schemathesis.toml"
    # The key goes by a file that only this test reads, not by the command line.
    config.write_text(f'[headers]\n"x-functions-key" = "{stack.keys["master"]}"\n', "utf-8")
    config.chmod(0o600)
    command: list[str | Path] = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"]
    command += ["--config-file", config]
    command += ["run", described, "--url", f"{stack.url}/api", "--checks", _CHECKS, "--max-examples", examples]
    command += ["--seed", "20261122", "--generation-deterministic"]
    command += ["--request-timeout", "130", "--workers", "1", "--suppress-health-check", "all"]
    done = _run(command, tmp_path)
    print(done.stdout[-1500:])
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert f"{len(TABLE)} selected / {len(TABLE)} total" in done.stdout


def test_a_generated_client_submits_and_polls(stack: Stack, described: Path, tmp_path: Path) -> None:
    """openapi-python-client makes a package; it is used as its users would."""
    made = _run(
        [
            sys.executable,
            "-c",
            "from openapi_python_client.cli import app; app()",
            "generate",
            "--path",
            described,
            "--output-path",
            tmp_path / "made",
            "--meta",
            "none",
            "--fail-on-warning",
        ],
        tmp_path,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    script = f"""
import json, sys, time
from made import AuthenticatedClient
from made.api.submissions import get_submission, post_submission
from made.models import NativeBatch, NativeIndicator, TakenSubmission, Submission
key = sys.stdin.readline().strip()
client = AuthenticatedClient({stack.url + "/api"!r}, key, prefix="", auth_header_name="x-functions-key")
one = NativeIndicator(indicator_value="generated.client-door.com", action="Audit")
batch = NativeBatch(indicators=[one], source="client")
taken = post_submission.sync(client=client, body=batch)
assert isinstance(taken, TakenSubmission), taken
for _ in range(200):
    answer = get_submission.sync_detailed(taken.id, client=client)
    assert isinstance(answer.parsed, Submission), answer
    if answer.status_code == 200:
        break
    assert answer.status_code == 202
    time.sleep(0.2)
print(json.dumps(answer.parsed.counts.to_dict()))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=stack.keys["host"],
        cwd=tmp_path,
        env=plain_environment() | {"no_proxy": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1])["accepted"] == 1


def _schemas(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from _schemas(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _schemas(inner)


def test_every_reference_leads_somewhere_and_every_route_shows_an_example() -> None:
    whole = document()
    for reference in _schemas(whole):
        place: Any = whole
        for piece in reference.removeprefix("#/").split("/"):
            place = place[piece]
    for entry in TABLE:
        operation = whole["paths"][f"/{entry.path}"][entry.method.lower()]
        assert operation["operationId"] == entry.function
        for status in entry.answers:
            content = operation["responses"][str(status)]["content"]["application/json"]
            assert (entry.shows and "$ref" in content["schema"]) or entry.function == "GetOpenApi"
            assert "example" in content or "examples" in content
        if entry.body:
            assert "example" in operation["requestBody"]["content"]["application/json"]


def test_examples_are_what_the_schemas_say() -> None:
    validators = importlib.import_module("jsonschema_rs")
    whole = _newer(document())
    for path in whole["paths"].values():
        for operation in path.values():
            bodies = [operation["requestBody"]] if "requestBody" in operation else []
            for holder in [*bodies, *(r for r in operation["responses"].values() if "content" in r)]:
                content = holder["content"].get("application/json", {})
                if "example" in content and content["schema"]:
                    schema = {**content["schema"], "components": whole["components"]}
                    validators.Draft202012Validator(schema).validate(content["example"])


def _newer(value: Any) -> Any:
    """OpenAPI 3.0's `nullable` in words that a validator of JSON Schema knows."""
    if isinstance(value, list):
        return [_newer(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    made = {key: (inner if key == "example" else _newer(inner)) for key, inner in value.items()}
    if made.pop("nullable", None) is True:
        return {"anyOf": [made, {"type": "null"}]}
    return made
