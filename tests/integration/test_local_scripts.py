"""The scripts as people and programs run them: from another folder, and with nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
STATES = ("accepted", "unchanged", "superseded", "rejected", "held", "deferred", "pending")


def children(pid: int) -> set[int]:
    """Process ids of all that descend from `pid`, from /proc."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
def test_the_demo_tells_the_fate_of_everything_in_one_json_object(tmp_path: Path) -> None:
    done = subprocess.run(
        [ROOT / "scripts" / "demo", "--json"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    expected = {"submitted", *STATES, "dead_letters", "calls", "throttled", "batch_fill", "seconds", "submissions"}
    assert set(figures) == expected
    for one in figures["submissions"]:
        assert set(one) == {"id", "source", "submitted", *STATES, "reasons"}
        assert one["submitted"] == sum(one[state] for state in STATES)
    for name in ("submitted", *STATES):
        assert figures[name] == sum(one[name] for one in figures["submissions"])
    assert figures["deferred"] == figures["pending"] == figures["throttled"] == 0
    assert figures["calls"]["import"] >= 3
    reasons = [one["reasons"] for one in figures["submissions"] if one["reasons"]]
    assert {"private_address": 1} in reasons
    assert {"exhausted": 1} in reasons
    assert figures["dead_letters"] == 2


@pytest.mark.slow
def test_the_demo_publishes_files_and_says_which_it_cannot(tmp_path: Path) -> None:
    (tmp_path / "my list.json").write_text('[{"indicatorValue": "one.example", "action": "Audit", "title": "t"}]')
    (tmp_path / "none.json").write_text("this is not it")
    command = [ROOT / "scripts" / "demo", "--json", "--input", "my list.json", "--input", "none.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert json.loads(done.stdout)["accepted"] == 1
    assert "none.json was refused: 400" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_local_stack_serves_a_direct_client_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [ROOT / "scripts" / "local", "--json"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        about = json.loads(process.stdout.readline())
        below = children(process.pid)
        assert len(below) >= 5
        if number is signal.SIGTERM:
            _call_defender_directly(about)
        os.kill(process.pid, number)
        process.wait(120)
        until = time.monotonic() + 120
        while any(alive(pid) for pid in below) and time.monotonic() < until:
            time.sleep(0.1)
        assert not [pid for pid in below if alive(pid)]
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _call_defender_directly(about: dict[str, Any]) -> None:
    trust = ssl.create_default_context(cafile=about["ca_file"])
    form = {
        "grant_type": "client_credentials",
        "client_id": about["direct_client_id"],
        "client_secret": about["direct_client_secret"],
        "scope": "https://api.securitycenter.microsoft.com/.default",
    }
    url = f"{about['entra_url']}/{about['tenant_id']}/oauth2/v2.0/token"
    with urllib.request.urlopen(url, urllib.parse.urlencode(form).encode(), context=trust) as answer:
        token = json.load(answer)["access_token"]
    request = urllib.request.Request(
        f"{about['defender_url']}/api/indicators", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(request, context=trust) as answer:
        assert json.load(answer)["value"] == []


@pytest.mark.parametrize("script", ["demo", "local", "test", "check"])
def test_help_is_there_at_once_and_sets_nothing_up(script: str, tmp_path: Path) -> None:
    copy = tmp_path / "scripts"
    copy.mkdir()
    for name in (script, "_env.sh"):
        (copy / name).write_bytes((ROOT / "scripts" / name).read_bytes())
    done = subprocess.run(["bash", copy / script, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"scripts/{script}")
    assert not (tmp_path / ".tools").exists()
