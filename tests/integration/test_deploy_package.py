"""scripts/package: what is in the zip, that it is always the same, and that it runs by itself."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import deploy.package
from deploy.package import PACKAGES, PARTS, Package, build
from deploy.say import Failed
from functions.routes import ENTRIES
from local.processes import plain_environment
from local.stack import Stack

ROOT = Path(__file__).resolve().parents[2]
DRIVER = ROOT / "tests" / "support" / "packaged.py"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return build(tmp_path_factory.mktemp("package") / "relay.zip", allow_dirty=True)


@pytest.fixture(scope="module")
def contents(package: Package) -> Iterator[zipfile.ZipFile]:
    with zipfile.ZipFile(package.path) as file:
        yield file


@pytest.mark.slow
def test_a_second_build_by_the_script_has_the_same_bytes(package: Package, tmp_path: Path) -> None:
    done = subprocess.run(
        [ROOT / "scripts" / "package", "--allow-dirty", "--json", "--output", "another name.zip"],
        cwd=tmp_path,
        env=plain_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    again = tmp_path / "another name.zip"
    assert again.read_bytes() == package.path.read_bytes()
    told = json.loads(done.stdout)
    assert told == package.as_json() | {"path": str(again)} == json.loads(again.with_suffix(".json").read_text())
    assert told["bytes"] == again.stat().st_size
    assert told["sha256"] == hashlib.sha256(again.read_bytes()).hexdigest()


def test_it_holds_the_app_and_its_packages_and_nothing_else(contents: zipfile.ZipFile) -> None:
    names = contents.namelist()
    assert names == sorted(names) and len(set(names)) == len(names)
    own = [name for name in names if not name.startswith(f"{PACKAGES}/")]
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *PARTS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert own == sorted(name for name in tracked if (ROOT / name).exists())
    assert {"function_app.py", "host.json", "requirements.txt", "functions/examples.json"} <= set(own)
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", "local.settings.json"))]
    assert not [name for name in own if name.startswith(("tests/", "local/", "deploy/", ".git"))]


def test_no_entry_tells_when_or_where_it_was_made(contents: zipfile.ZipFile) -> None:
    for entry in contents.infolist():
        assert entry.date_time == (1980, 1, 1, 0, 0, 0)
        assert entry.external_attr >> 16 == 0o100644 and entry.create_system == 3 and not entry.extra
        data = contents.read(entry)
        for place in (str(ROOT), sys.prefix, tempfile.gettempdir() + "/relay-package"):
            assert place.encode() not in data, (entry.filename, place)


def test_every_package_of_requirements_is_there_as_its_wheel_has_it(contents: zipfile.ZipFile) -> None:
    names = set(contents.namelist())
    pinned = {
        line.split("==")[0].strip().lower().replace("-", "_")
        for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines()
        if "==" in line and not line.startswith((" ", "#"))
    }
    records = [name for name in names if name.endswith(".dist-info/RECORD")]
    installed = {name.removeprefix(f"{PACKAGES}/").split("-")[0].lower() for name in records}
    assert installed == pinned and len(pinned) > 20
    listed = set()
    for record in records:
        for name, digest, size in csv.reader(contents.read(record).decode().splitlines()):
            listed.add(f"{PACKAGES}/{name}")
            if digest:
                data = contents.read(f"{PACKAGES}/{name}")
                made = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
                assert digest == f"sha256={made}" and int(size) == len(data), name
    assert listed == {name for name in names if name.startswith(f"{PACKAGES}/")}


def test_what_is_compiled_is_for_the_machines_of_azure(contents: zipfile.ZipFile) -> None:
    compiled = [name for name in contents.namelist() if name.endswith(".so")]
    assert any("cryptography" in name for name in compiled)
    for name in compiled:
        head = contents.read(name)[:20]
        assert head[:5] == b"\x7fELF\x02" and head[18:20] == b"\x3e\x00", f"{name} is not for 64-bit x86"
        assert "cpython-313-x86_64-linux-gnu" in name or ".abi3." in name
    tags = [
        line.removeprefix("Tag: ")
        for name in contents.namelist()
        if name.endswith(".dist-info/WHEEL")
        for line in contents.read(name).decode().splitlines()
        if line.startswith("Tag: ")
    ]
    assert tags and not [tag for tag in tags if not tag.endswith(("-any", "x86_64"))]


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="the zip is for Linux on x86_64: RUN IT THERE"
)
def test_the_zip_alone_runs_in_the_genuine_worker_runtime(
    contents: zipfile.ZipFile, stack: Callable[..., Stack], tmp_path: Path
) -> None:
    unpacked = tmp_path / "app"
    contents.extractall(unpacked)
    running = stack(queue_functions=("Publish",))
    environ = running.environment()
    bare = Path(getattr(sys, "_base_executable", sys.executable))
    done = subprocess.run(
        [bare, "-I", "-S", "-B", DRIVER, unpacked, ROOT],
        env={name: value for name, value in environ.items() if name != "PYTHONPATH"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert Path(told["library"]).is_relative_to(unpacked / PACKAGES)
    assert Path(told["runtime"]).is_relative_to(unpacked / PACKAGES)
    assert told["strangers"] == []
    timers = {"Sweep", "Poison", "Heartbeat", "Retention"}
    assert told["functions"] == {name: "httpTrigger" for name in (*ENTRIES, "ZNoSuchRoute")} | {
        "Publish": "queueTrigger",
        **dict.fromkeys(timers, "timerTrigger"),
    }
    assert told["status"] == "200", told["health"]
    # Token, vault, tables, queue, blobs and Defender were asked: every SDK in the zip has worked.
    assert told["health"]["status"] == "ok" and len(told["health"]["checks"]) >= 9
    assert not [check for check in told["health"]["checks"] if check["ok"] is False]
    assert any("cryptography" in name for name in told["binaries"])


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of its own, with what matters of this one."""
    place = tmp_path / "project"
    for name in ("deploy", "scripts", *PARTS):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, _parent(place / name))
    environ = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    (place / ".gitignore").write_text("__pycache__/\n")
    as_someone = ["-c", "user.name=t", "-c", "user.email=t@tenant.example", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], [*as_someone, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", *command], cwd=place, check=True, capture_output=True)
    monkeypatch.setattr(deploy.package, "ROOT", place)
    return place


def _parent(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_what_is_not_committed_is_refused_by_name(clone: Path) -> None:
    assert deploy.package.changed() == []
    (clone / "functions" / "new.py").write_text("")
    (clone / "host.json").write_text("{}")
    (clone / "shared" / "errors.py").unlink()
    (clone / "README.md").write_text("this is not packaged")
    assert deploy.package.changed() == ["functions/new.py", "host.json", "shared/errors.py"]
    with pytest.raises(Failed, match=r"(?s)functions/new\.py.*host\.json.*shared/errors\.py.*--allow-dirty"):
        build(clone / "relay.zip")
    assert not (clone / "relay.zip").exists()
    found = deploy.package.sources()
    assert "functions/new.py" in found and "shared/errors.py" not in found and "README.md" not in found


def test_no_uv_and_no_git_are_said_in_words(clone: Path) -> None:
    with pytest.raises(Failed, match="scripts/package"):
        build(clone / "relay.zip")
    shutil.rmtree(clone / ".git")
    with pytest.raises(Failed, match="clone of the project"):
        build(clone / "relay.zip")
