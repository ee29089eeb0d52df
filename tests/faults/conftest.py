"""Stacks for fault tests: each ends with a look through all its logs for secrets and tokens."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from local.stack import HostOptions, Stack, StackOptions
from tests.faults.table import in_the_share
from tests.support import share, summary
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


@pytest.hookimpl(trylast=True)  # after -m and -k
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of the fault table a share of each row and column, unless cells are asked for: by name, by -k, or all of them."""
    asked = config.option.keyword or any("test_fault_table" in argument for argument in config.args)
    if asked or os.environ.get("TEST_FAULTS") == "all":
        return
    cells = [item for item in items if item.name.startswith("test_cell[")]
    left_out = {item for item in cells if not _in_the_share(item)}
    config.hook.pytest_deselected(items=[item for item in cells if item in left_out])
    items[:] = [item for item in items if item not in left_out]
    if cells:
        summary.SHARES["fault table"] = f"{len(cells) - len(left_out)} of {len(cells)} cells (all: TEST_FAULTS=all)"


def _in_the_share(item: pytest.Item) -> bool:
    cell = getattr(item, "callspec").params  # noqa: B009
    return in_the_share(cell["dependency"], cell["fault"], share.seed())


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
