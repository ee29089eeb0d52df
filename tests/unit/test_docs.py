"""The documents against the code: links lead somewhere, and alarms, routes and host.json are all described."""

from __future__ import annotations

import ast
import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from functions.routes import TABLE

ROOT = Path(__file__).resolve().parents[2]
_NOT_OURS = {"node_modules", "__pycache__"}

# Alarms whose kind is not written at the call: the verdict's own reason (an `Again` with alarm=True), or passed on.
_PASSED_ON = {
    ("shared/publishing/answers.py", "one.reason"),
    ("shared/publishing/answers.py", "verdict.reason"),
    ("shared/publishing/adapters.py", "kind"),
    ("shared/telemetry.py", "kind"),
}


def documents() -> list[Path]:
    """All Markdown of the project."""
    return sorted(
        file
        for file in ROOT.rglob("*.md")
        if not any(part.startswith(".") or part in _NOT_OURS for part in file.relative_to(ROOT).parts)
    )


@functools.cache
def sources(*folders: str) -> list[tuple[str, ast.Module]]:
    """(path from the root, syntax tree) of the Python files below these folders."""
    files = [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]
    return [(str(file.relative_to(ROOT)), ast.parse(file.read_text("utf-8"))) for file in files]


def prose(text: str) -> str:
    """Without fenced blocks, whose contents are no links and no headings."""
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


def anchors(text: str) -> set[str]:
    """The names that headings get: lower case, blanks as hyphens, no other punctuation; repeats are numbered."""
    found: dict[str, int] = {}
    names = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *$", prose(text), flags=re.M):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        names.add(f"{name}-{found[name]}" if name in found else name)
        found[name] = found.get(name, 0) + 1
    return names


def described(name: str) -> str:
    return (ROOT / "docs" / name).read_text("utf-8")


@pytest.mark.parametrize("document", documents(), ids=lambda file: str(file.relative_to(ROOT)))
def test_internal_links_lead_somewhere(document: Path) -> None:
    text = document.read_text("utf-8")
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        place = (document.parent / path).resolve() if path else document
        there = place.exists() and place.is_relative_to(ROOT)
        if not there or (anchor and anchor not in anchors(place.read_text("utf-8"))):
            broken.append(target)
    assert not broken, f"links of {document.name} that lead nowhere: {broken}"


@pytest.mark.parametrize("document", documents(), ids=lambda file: str(file.relative_to(ROOT)))
def test_files_that_are_named_exist(document: Path) -> None:
    """`shared/...`, `tests/...` and their like in a text; a star stands for several."""
    folders = "functions|shared|local|tests|scripts|docs|samples"
    named = re.findall(rf"`((?:{folders})/[\w./*-]+\.\w+|scripts/\w+)`", document.read_text("utf-8"))
    missing = [name for name in named if not list(ROOT.glob(name))]
    assert not missing, f"{document.name} names files that are not there: {missing}"


@functools.cache
def alarm_kinds() -> frozenset[str]:
    """Every kind that the code raises: written at the call, or the reason of a verdict that asks for an alarm."""
    kinds: set[str] = set()
    constants: dict[str, str] = {}
    calls: list[tuple[str, ast.Call]] = []
    for path, tree in sources("shared", "functions"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                constants |= {
                    target.id: str(node.value.value) for target in node.targets if isinstance(target, ast.Name)
                }
            if isinstance(node, ast.Call):
                calls.append((path, node))
    for path, call in calls:
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if name == "Again":
            if not any(word.arg == "alarm" for word in call.keywords):
                continue
        elif name != "alarm":
            continue
        match call.args[0]:
            case ast.Constant(value=str(kind)):
                kinds.add(kind)
            case ast.JoinedStr(values=[ast.Constant(value=str(begin)), *_]):
                kinds.add(begin)
            case ast.Name(id=name) if name in constants and name.isupper():
                kinds.add(constants[name])
            case other:
                assert (path, ast.unparse(other)) in _PASSED_ON, f"{path}: an alarm whose kind this test cannot tell"
    return frozenset(kinds)


def test_every_alarm_is_explained() -> None:
    kinds = alarm_kinds()
    assert {"poison", "tenant_full", "denied_", "identity"} <= kinds
    told = set(
        re.findall(r"`([a-z0-9_]+)`", "".join(re.findall(r"^\| (`.*?) \|", described("operate.md"), flags=re.M)))
    )
    assert not kinds - told, f"alarms that docs/operate.md does not explain: {sorted(kinds - told)}"


def routes() -> set[tuple[str, str]]:
    """(method, path) of every HTTP function."""
    prefix = json.loads((ROOT / "host.json").read_text("utf-8"))["extensions"]["http"]["routePrefix"]
    return {(entry.method, f"/{prefix}/{entry.path}") for entry in TABLE}


def test_every_route_is_described() -> None:
    assert routes() >= {("POST", "/api/submissions"), ("GET", "/api/health")}
    text = described("http-api.md")
    missing = [f"{method} {path}" for method, path in sorted(routes()) if f"## {method} {path}\n" not in text]
    assert not missing, f"routes without a section in docs/http-api.md: {missing}"


def test_every_problem_type_is_described() -> None:
    kinds = set()
    for _, tree in sources("functions"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "problem":
                status, kind = (ast.literal_eval(argument) for argument in node.args[:2])
                kinds.add((kind, status))
    assert ("unreadable", 422) in kinds
    text = described("http-api.md")
    missing = [f"{kind} {status}" for kind, status in sorted(kinds) if f"| `{kind}` | {status} |" not in text]
    assert not missing, f"problems that docs/http-api.md does not have: {missing}"


def test_every_value_of_host_json_has_its_reason() -> None:
    host = json.loads((ROOT / "host.json").read_text("utf-8"))
    text = described("host-json.md")
    for key, value in host["extensions"]["queues"].items():
        assert re.search(rf"^\| `{key}` \| `?{re.escape(str(value))}`? \|", text, flags=re.M), (
            f"docs/host-json.md lacks {key} = {value}"
        )

    def leaves(value: object) -> Iterator[tuple[str, str]]:
        if isinstance(value, dict):
            for name, inner in value.items():
                if isinstance(inner, dict):
                    yield from leaves(inner)
                else:
                    yield str(name), str(inner).lower() if isinstance(inner, bool) else str(inner)

    missing = [(key, value) for key, value in leaves(host) if value not in text]
    assert not missing, f"docs/host-json.md lacks {missing}"
