"""Fixtures of the tests of scripts/deploy and scripts/secret: a plugin that their modules name."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import deploy.deploy
import deploy.secret
from tests.support.deploying import copy
from tests.support.fakecloud import Cloud

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
