"""Fixtures and helpers of the tests of scripts/deploy and its kin: a plugin that their modules name."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import deploy.deploy
import deploy.secret
from tests.support.fakecloud import Cloud

ROOT = Path(__file__).resolve().parents[2]
_REAL_SLEEP = time.sleep


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    with Cloud(tmp_path).running() as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(time, "sleep", lambda seconds: _REAL_SLEEP(min(seconds, 0.02)))
        before = signal.getsignal(signal.SIGTERM)
        yield running
        signal.signal(signal.SIGTERM, before)


@pytest.fixture
def tenant(tmp_path: Path) -> Path:
    """A tenant with a secret and keys: the sample, with the files beside it; the templates are the real ones."""
    return copy(tmp_path, "dev")


def copy(folder: Path, sample: str, **changes: str) -> Path:
    place = folder / "infra" / "params"
    place.mkdir(parents=True, exist_ok=True)
    for template in (ROOT / "infra").glob("*.bicep"):
        shutil.copy(template, place.parent)
    for file in (ROOT / "infra" / "params").glob(f"{sample}.*bicepparam"):
        text = file.read_text("utf-8")
        for old, new in changes.items():
            text = text.replace(old, new)
        (place / file.name).write_text(text, "utf-8")
    (folder / "small.zip").write_bytes(b"PK the package")
    return place / f"{sample}.bicepparam"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """`run(tenant, ...)`: exit status, result, and what was said."""

    def go(tenant: Path, *arguments: str, zip_file: bool = True) -> tuple[int, dict[str, Any], str]:
        line = ["scripts/deploy", str(tenant), "--json", *arguments]
        line += ["--zip", str(tmp_path / "small.zip")] if zip_file else []
        monkeypatch.setattr(sys, "argv", line)
        status = deploy.deploy.main()
        said = capsys.readouterr()
        return status, json.loads(said.out), said.err

    return go


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """`secret("rotate", tenant)`: exit status, and what was said."""

    def go(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["scripts/secret", *map(str, arguments)])
        status = deploy.secret.main()
        said = capsys.readouterr()
        return status, said.out + said.err

    return go


def changing(cloud: Cloud) -> list[str]:
    """The commands that change something, in short."""
    words = []
    for line in cloud.az["calls"]:
        if line[:3] in (["deployment", "sub", "create"], ["deployment", "group", "create"]):
            words.append(f"create {line[line.index('--name') + 1]}")
        elif line[:2] in (["keyvault", "recover"], ["group", "delete"], ["lock", "delete"]):
            words.append(" ".join(line[:2]))
    return words


#: Without a question, and without an app that could be verified.
DEPLOY = ("--yes", "--no-verify")
