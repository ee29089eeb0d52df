"""Stacks for fault tests: each ends with a look through all its logs for secrets and tokens."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from local.stack import HostOptions, Stack, StackOptions
from tests.support.stacklab import Lab

_SHOWN = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """A place for what the tests write."""
    config.stash[_SHOWN] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep what each test wrote to its output and its log."""
    report = yield
    item.config.stash[_SHOWN].extend(text for _, text in report.sections)
    return report


@contextlib.contextmanager
def running(config: pytest.Config, folder: Any, **options: Any) -> Iterator[Lab]:
    """A stack with its lab; once it has ended, its logs are looked through. `host` are HostOptions as a dictionary."""
    options["host"] = HostOptions(**options.get("host", {}))
    with Stack(StackOptions(folder=folder, **options)) as stack:
        lab = Lab(stack)
        try:
            yield lab
        finally:
            lab.stop()
    # The stack has ended, so all that its parts ever wrote is there.
    shown: list[str] = config.stash[_SHOWN]
    lab.check_logs("\n".join(shown))


@pytest.fixture
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Lab]]:
    """Starts stacks for one test: `lab(workers=3, settings={...})` takes what StackOptions takes."""
    with contextlib.ExitStack() as open_:

        def start(**options: Any) -> Lab:
            return open_.enter_context(running(request.config, tmp_path_factory.mktemp("stack"), **options))

        yield start


@pytest.fixture(scope="session")
def steady(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One stack for tests that keep to their own values: one worker, a wide budget, short delays."""
    settings = {
        "RELAY_LIMIT_IMPORT": "600/63",
        "RELAY_LIMIT_SUSPECT": "300/63",
        "RELAY_DEFER_FIRST": "1",
        "RELAY_DEFER_MAX": "20",
        "RELAY_UNSENT_STEP": "1",
        "RELAY_UNSENT_MAX": "2",
    }
    host = {"timers": {"Poison": 1.0}}
    with running(request.config, tmp_path_factory.mktemp("steady"), settings=settings, host=host) as lab:
        lab.admin.rules(limits={"import": [[600, 60]]})
        yield lab


@pytest.fixture
def here(steady: Lab) -> Iterator[Lab]:
    """The steady stack with nothing wrong; whatever trouble the test makes is lifted after it."""
    steady.admin.reset("metrics", "throttle", "indicators")
    yield steady
    steady.admin.clear_faults()
    steady.admin.up("defender")
    steady.admin.rules(poison=dict.fromkeys(steady.admin.rules()["poison"]))
