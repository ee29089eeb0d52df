"""The real function_app.py through the genuine runtime: it loads, binds and answers as Azure would have it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from functions.routes import TABLE
from local.processes import plain_environment

ROOT = Path(__file__).resolve().parents[2]

_LOAD = """
import asyncio, json, logging, sys
from pathlib import Path
from local.host import runtime
async def main():
    functions = await runtime.load(Path(sys.argv[1]))
    print(json.dumps({name: list(f.bindings) for name, f in functions.items()}))
    print(json.dumps(sorted(name for name in sys.modules if name.count(".") < 3)))
asyncio.run(main())
"""


def load(environ: dict[str, str]) -> tuple[dict[str, list[dict[str, Any]]], list[str], str]:
    """Function bindings by name, modules imported, and what was logged, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, str(ROOT)],
        env=plain_environment() | {"PYTHONPATH": str(ROOT)} | environ,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    functions, modules = done.stdout.splitlines()[-2:]
    return json.loads(functions), json.loads(modules), done.stdout + done.stderr


@pytest.fixture(scope="module")
def loaded() -> tuple[dict[str, list[dict[str, Any]]], list[str], str]:
    return load({"RelayStorage": "UseDevelopmentStorage=true"})


def test_every_function_is_there_with_its_trigger(loaded: Any) -> None:
    functions, _, _ = loaded
    triggers = {name: next(b for b in bindings if b["type"].endswith("rigger")) for name, bindings in functions.items()}
    assert {name: trigger["type"] for name, trigger in triggers.items()} == {
        "Publish": "queueTrigger",
        **{entry.function: "httpTrigger" for entry in TABLE},
        "ZNoSuchRoute": "httpTrigger",
        "Sweep": "timerTrigger",
        "Poison": "timerTrigger",
        "Heartbeat": "timerTrigger",
        "Retention": "timerTrigger",
    }
    assert triggers["Publish"]["queueName"] == "indicators"
    assert triggers["Publish"]["connection"] == "RelayStorage"


def test_what_takes_every_route_is_the_last_by_name(loaded: Any) -> None:
    """The host tries functions by name, so one with a catch-all route would swallow those with later names."""
    functions, _, _ = loaded
    doors = {name: b["route"] for name, bindings in functions.items() for b in bindings if b["type"] == "httpTrigger"}
    assert doors["ZNoSuchRoute"] == "{*path}" and max(doors, key=str.lower) == "ZNoSuchRoute"
    # No other two overlap: of routes with equal methods and lengths, one segment at least is fixed in both and differs.
    entries = [entry for entry in TABLE]
    for one in entries:
        for other in entries:
            ours, theirs = one.path.split("/"), other.path.split("/")
            if one is other or one.method != other.method or len(ours) != len(theirs):
                continue
            fixed = [(a, b) for a, b in zip(ours, theirs, strict=True) if "{" not in a + b]
            assert any(a != b for a, b in fixed), f"{one.path} and {other.path}"


def test_operations_need_the_admin_key_and_the_rest_a_function_key(loaded: Any) -> None:
    functions, _, _ = loaded
    levels = {
        name: binding["authLevel"].lower()
        for name, bindings in functions.items()
        for binding in bindings
        if binding["type"] == "httpTrigger"
    }
    assert levels.pop("ZNoSuchRoute") == "anonymous"
    admin = {name for name, level in levels.items() if level == "admin"}
    assert admin >= {"ReplayDeadLetter"}
    assert {levels[name] for name in levels.keys() - admin} == {"function"}
    for entry in TABLE:
        assert levels[entry.function] == entry.level
        assert entry.level == "admin" or entry.method == "GET" or entry.function == "PostSubmission"


def test_p19_loading_needs_no_service_and_imports_no_heavy_sdk(loaded: Any) -> None:
    """A vault that is down cannot keep the functions from being there, and a cold start pays for no SDK."""
    _, modules, _ = loaded
    heavy = ("azure.identity", "azure.keyvault", "azure.data", "azure.storage", "requests", "opentelemetry", "msal")
    assert not [name for name in modules if name.startswith(heavy)]


def test_p19_the_app_loads_with_wrong_settings_and_says_so() -> None:
    functions, _, told = load({"RELAY_CALL_SIZE": "many", "RELAY_NO_SUCH_THING": "1"})
    assert "GetHealth" in functions
    assert "RELAY_CALL_SIZE" in told and "RELAY_NO_SUCH_THING" in told


def test_p21_p23_the_host_is_pinned_and_bounded() -> None:
    host = json.loads((ROOT / "host.json").read_text("utf-8"))
    assert host["extensionBundle"]["version"] == "[4.*, 5.0.0)"
    queues = host["extensions"]["queues"]
    assert queues["messageEncoding"] == "none"
    assert queues["batchSize"] == 32 and queues["newBatchThreshold"] == 1000
    assert queues["maxDequeueCount"] == 10
    assert queues["maxPollingInterval"] == "00:00:02"
    assert queues["visibilityTimeout"] > "00:00:00", "0 would burn every attempt within a second"


def test_what_is_deployed_holds_no_tests_and_every_lock_line_a_hash() -> None:
    ignored = (ROOT / ".funcignore").read_text("utf-8").split()
    assert {"tests", "local", "infra", "docs", ".venv", "local.settings.json"} <= set(ignored)
    lock = (ROOT / "requirements.txt").read_text("utf-8")
    pins = re.findall(r"^[a-z0-9][^\s]*==[^\s]+ \\\n    --hash=sha256:", lock, re.MULTILINE)
    assert len(pins) == len(re.findall(r"^[a-z0-9]", lock, re.MULTILINE)) > 10
    assert "azure-functions-worker" not in lock and "://" not in re.sub(r"#.*", "", lock)


def test_shared_knows_nothing_of_azure_functions() -> None:
    wrong = [str(path) for path in (ROOT / "shared").rglob("*.py") if "azure.functions" in path.read_text("utf-8")]
    assert wrong == []
