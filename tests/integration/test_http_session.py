"""The session of docs/http-session.md, run as it stands there."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from local.processes import plain_environment
from local.stack import Stack, StackOptions

ROOT = Path(__file__).resolve().parents[2]
_MARK = "--- end of block ---"


def blocks() -> list[tuple[str, str]]:
    """(commands, expected output) of each block of commands; the output is "" where none is shown."""
    text = (ROOT / "docs" / "http-session.md").read_text("utf-8")
    found = re.findall(r"^```(sh|text)\n(.*?)^```$", text, flags=re.M | re.S)
    made: list[tuple[str, str]] = []
    for kind, content in found:
        if kind == "sh":
            made.append((content, ""))
        else:
            made[-1] = (made[-1][0], content)
    return made


def matches(shown: str, real: str) -> bool:
    """Whether the real output is what is shown, where `...` stands for anything."""
    pattern = ".*".join(re.escape(piece) for piece in shown.strip().split("..."))
    return re.fullmatch(pattern, real.strip(), flags=re.S) is not None


def test_dots_stand_for_anything_and_nothing_else_does() -> None:
    assert matches("a ... c\n", "a b c") and matches("...", "")
    assert not matches("a ... c", "a b d") and not matches("a.c", "abc")


@pytest.mark.skipif(shutil.which("curl") is None or shutil.which("bash") is None, reason="needs curl and bash")
def test_the_session_goes_as_its_page_says(tmp_path: Path) -> None:
    parts = blocks()
    assert len(parts) >= 9 and sum(bool(expected) for _, expected in parts) >= 7
    script = "set -euo pipefail\n" + "".join(f"{commands}\necho '{_MARK}'\n" for commands, _ in parts)
    with Stack(StackOptions(folder=tmp_path / "stack")) as stack:
        environ = plain_environment() | {
            "APP": stack.url,
            "KEY": stack.keys["host"],
            "ADMIN": stack.keys["master"],
            "no_proxy": "127.0.0.1",
        }
        place = tmp_path / "session"
        place.mkdir()
        done = subprocess.run(
            ["bash", "-c", script],
            env=environ,
            cwd=place,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=200,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    outputs = done.stdout.split(f"{_MARK}\n")
    for (commands, expected), output in zip(parts, outputs, strict=False):
        assert matches(expected, output), f"{commands}\nshould print\n{expected}\nand printed\n{output}"
