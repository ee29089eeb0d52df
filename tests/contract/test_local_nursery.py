"""A process from the nursery is what it would be if it had been started anew, and ends as one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from local import nursery
from local.processes import StackError, plain_environment
from tests.contract.host_process import ROOT, wait_for

pytestmark = pytest.mark.skipif(not nursery.FORKS, reason="the nursery is for Linux")

_TELL = """
import json, os, signal, sys, threading
print(json.dumps({
    "environ": dict(os.environ), "path": sys.path, "arguments": sys.argv[1:], "folder": os.getcwd(),
    "leads": os.getsid(0) == os.getpid(), "threads": [one.name for one in threading.enumerate()],
    "signals": [str(signal.getsignal(one)) for one in (signal.SIGCHLD, signal.SIGTERM)],
    "files": sorted(set(map(int, os.listdir("/proc/self/fd"))) & set(range(3, 20)))[1:],
}), flush=True)
os._exit(7)
"""


def environment(**more: str) -> dict[str, str]:
    return plain_environment() | {"PYTHONPATH": str(ROOT), **more}


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"LONG": "x" * 100_000, "EMPTY": "", "NAME": "Größe"},
        {"LANG": "", "LC_ALL": ""},
        {"LANG": "C", "LC_ALL": ""},
        {"LANG": "C.UTF-8", "LC_ALL": ""},
        {"LANG": "C", "LC_ALL": "POSIX"},
    ],
    ids=["plain", "long", "no locale", "C", "UTF-8", "all"],
)
def test_it_finds_what_one_that_is_started_anew_finds(tmp_path: Path, more: dict[str, str]) -> None:
    (tmp_path / "telling.py").write_text(_TELL, "utf-8")
    environ = environment(PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]), **more)
    arguments = ["--app", "no app", "--group", "http", "--keys", "none", "--preload", "telling"]
    told: list[dict[str, Any]] = []
    for fresh in (True, False):
        child = nursery.start("local.host", arguments, environ, tmp_path, name=f"child-{fresh}", fresh=fresh)
        told.append(child.first_line())
        wait_for(lambda child=child: child.status == 7, "its own exit status")  # type: ignore[misc]
        assert child.tail() == ""
        child.stop()
    anew, from_nursery = told
    assert from_nursery == anew
    assert from_nursery["environ"].items() >= environ.items() and from_nursery["leads"]


def test_what_it_says_last_and_its_status(tmp_path: Path) -> None:
    child = nursery.start("local.host", ["--nonsense"], environment(), tmp_path, name="child")
    with pytest.raises(StackError, match=r"status 2 at start:\n(.*\n)*.*--app, --group"):
        child.first_line()
    child.stop()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 0), (signal.SIGSEGV, -11)])
def test_signals(tmp_path: Path, number: signal.Signals, status: int) -> None:
    (tmp_path / "tenant").mkdir()
    child = nursery.start("local.tenant", ["--folder", "tenant"], environment(), tmp_path, name="tenant")
    assert child.first_line()["tenant_id"] and child.status is None and child.usage().rss > 0
    os.kill(child.pid, number)
    wait_for(lambda: child.status is not None, "its end")
    assert child.status == status and gone(child.pid)
    child.kill()  # of one that has ended: nothing
    child.stop()


def test_all_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    text = (
        "import json, os, sys, pathlib, time\n"
        "from local import nursery\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "made = [nursery.start('local.tenant', [], dict(os.environ), folder, name=name) for name in 'ab']\n"
        "for one in made: one.first_line()\n"
        "print(json.dumps([*(one.pid for one in made), nursery.nursery()._process.pid]), flush=True)\n"
        "time.sleep(600)\n"
    )
    starter = subprocess.Popen(
        [sys.executable, "-P", "-c", text, str(tmp_path)], env=environment(), stdout=subprocess.PIPE
    )
    assert starter.stdout is not None
    pids = json.loads(starter.stdout.readline())
    assert not any(map(gone, pids))
    starter.kill()
    starter.wait()
    starter.stdout.close()
    wait_for(lambda: all(map(gone, pids)), "no process is left")


def test_after_the_nursery_was_killed_another_one_is_used(tmp_path: Path) -> None:
    def tenant(name: str) -> Any:
        return nursery.start("local.tenant", [], environment(), tmp_path, name=name)

    first = tenant("first")
    first.first_line()
    ours = nursery.nursery()
    ours._process.kill()
    ours._process.wait()
    wait_for(lambda: first.status is not None, "nobody can tell any more how it goes on")
    second = tenant("second")
    assert second.first_line()["tenant_id"]
    for child in (first, second):
        child.stop()
    wait_for(lambda: gone(first.pid) and gone(second.pid), "both have ended")


def test_many_at_once(tmp_path: Path) -> None:
    """Each request keeps its own streams, long ones too."""
    (tmp_path / "telling.py").write_text(_TELL, "utf-8")

    def told(number: int) -> tuple[str, str]:
        more = {"NUMBER": str(number), "LONG": "x" * (number % 3) * 90_000}
        environ = environment(PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]), **more)
        arguments = ["--app", "no app", "--group", "http", "--keys", f"{number}", "--preload", "telling"]
        child = nursery.start("local.host", arguments, environ, tmp_path, name=f"child-{number}")
        line = child.first_line()
        child.stop()
        return line["environ"]["NUMBER"], line["arguments"][5]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(told, range(24))) == [(str(number), str(number)) for number in range(24)]


def test_a_nursery_that_cannot_be_asked_is_told(tmp_path: Path) -> None:
    lost = nursery.Nursery(environment())
    lost._process.kill()
    lost._process.wait()
    with (tmp_path / "log").open("ab") as log, pytest.raises(StackError, match="start anew"):
        lost.start(["local.tenant"], environment(), log.fileno(), tmp_path)
    lost.stop()
