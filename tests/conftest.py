"""Fixtures for all tests. Real sockets, real processes; every process a test starts is ended by it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from local.azurite import Azurite
from local.stack import Stack, StackOptions
from tests.support import share, summary

_STEERING = (
    "RELAY_",
    "Relay",
    "AZURE_",
    "AzureWebJobs",
    "AzureFunctionsJobHost",
    "IDENTITY_",
    "MSI_",
    "APPLICATIONINSIGHTS_",
)


def pytest_configure(config: pytest.Config) -> None:
    """Before the processes that run parts of the tests are started."""
    share.begin()


def pytest_report_header(config: pytest.Config) -> str:
    """What chooses the share of a run, also of one that is broken off."""
    return f"{share.SEED}={share.seed()} (docs/tests.md)"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the tests by files: those with slow ones first, so that none comes last."""
    if config.getoption("dist", "no") != "no" or hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process that runs a part of the tests hands on what they have covered."""
    handed_on = getattr(session.config, "workeroutput", None)
    if handed_on is not None:
        handed_on["covered"] = summary.packed()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Takes it."""
    summary.add(getattr(node, "workeroutput", {}).get("covered"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the long tests have covered, in a line each."""
    for line in summary.lines():
        terminalreporter.write_line(line)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on the settings of whoever runs it."""
    for name in list(os.environ):
        if name.startswith(_STEERING) or name.lower() in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Connection string of one Azurite for the whole run: use names of your own for queues, containers, tables."""
    with Azurite(tmp_path_factory.mktemp("azurite")) as running:
        yield running.connection_string


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """Starts local stacks: `stack(workers=3, settings={...})` takes what StackOptions takes; ended after the test."""
    with ExitStack() as running:

        def start(**options: Any) -> Stack:
            options.setdefault("folder", tmp_path / f"stack-{len(list(tmp_path.glob('stack-*')))}")
            return running.enter_context(Stack(StackOptions(**options)))

        yield start
