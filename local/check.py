"""scripts/check: lint, types, locks in step, settings documented, shell syntax, Bicep."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from local.azurite.server import node

ROOT = Path(__file__).resolve().parents[1]
_AZURITE = ROOT / "local" / "azurite"
_NPM = (_AZURITE, ROOT / "tests" / "infra" / "kql")
_COMPILE = ["pip", "compile", "--generate-hashes", "--no-emit-index-url", "--no-emit-find-links"]
_COMPILE += ["--python-version", "3.13"]
#: Lock file -> what it is compiled from. requirements-dev.txt comes second: it keeps to the versions deployed.
_LOCKS = {
    "requirements.txt": ["pyproject.toml"],
    "requirements-dev.txt": ["--extra", "dev", "-c", "requirements.txt", "pyproject.toml"],
}


def _run(command: Sequence[str | Path], cwd: Path = ROOT, **environ: str) -> tuple[bool, str]:
    done = subprocess.run(
        [str(piece) for piece in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=os.environ | environ,
        check=False,
    )
    return done.returncode == 0, (done.stdout + done.stderr).strip()


def _run_online(command: Sequence[str | Path], cwd: Path) -> tuple[bool, str]:
    """With the tool's own certificates and the system's, as in scripts/_env.sh."""
    fine, said = _run(command, cwd, NODE_OPTIONS="--use-system-ca")
    if fine:
        return fine, said
    return _run(command, cwd, UV_SYSTEM_CERTS="true")


def _python(*arguments: str) -> tuple[bool, str]:
    return _run([sys.executable, "-m", *arguments])


def lint(fix: bool) -> str | None:
    """ruff check"""
    fine, said = _python("ruff", "check", *(["--fix"] if fix else []), ".")
    return None if fine else said


def form(fix: bool) -> str | None:
    """ruff format"""
    fine, said = _python("ruff", "format", *([] if fix else ["--check"]), ".")
    return None if fine else said


def types(_fix: bool) -> str | None:
    """mypy --strict"""
    targets = [
        name
        for name in ("function_app.py", "functions", "shared", "local", "bench", "deploy")
        if _has_python(ROOT / name)
    ]
    fine, said = _python("mypy", "--strict", *targets)
    return None if fine else said


def _has_python(path: Path) -> bool:
    return (path.suffix == ".py" and path.exists()) or any(path.glob("**/*.py"))


def python_locks(fix: bool) -> str | None:
    """requirements*.txt in step with pyproject.toml"""
    uv = ROOT / ".tools" / "uv" / "bin" / "uv"
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("pyproject.toml", *_LOCKS):
            shutil.copy(ROOT / name, scratch)  # as preferences: what is locked stays unless it no longer fits
        for name, sources in _LOCKS.items():
            fine, said = _run_online([uv, *_COMPILE, "--quiet", *sources, "-o", name], Path(scratch))
            if not fine:
                faults.append(f"{name} cannot be compiled:\n{said}")
                continue
            locked, fresh = ((folder / name).read_text("utf-8") for folder in (ROOT, Path(scratch)))
            if _requirements(locked) == _requirements(fresh):
                continue
            if fix:
                shutil.copy(Path(scratch) / name, ROOT / name)
            else:
                faults.append(f"{name} is out of step with pyproject.toml; scripts/check --fix renews it:")
                faults += _differences(locked, fresh)
    return "\n".join(faults) or None


def _requirements(text: str) -> list[str]:
    """A lock without its comments, which name the command line that made it."""
    return [line.rstrip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def _differences(old: str, new: str) -> list[str]:
    lines = difflib.unified_diff(_requirements(old), _requirements(new), lineterm="", n=0)
    return [line for line in lines if re.match(r"[+-][^+-]", line)][:20]


def npm_locks(fix: bool) -> str | None:
    """package-lock.json in step with package.json"""
    faults = [said for folder in _NPM if (said := _npm_lock(folder, fix)) is not None]
    return "\n".join(faults) or None


def _npm_lock(folder: Path, fix: bool) -> str | None:
    binary = node()
    cli = binary.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    name = folder.relative_to(ROOT) / "package-lock.json"
    with tempfile.TemporaryDirectory() as scratch:
        for file in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(folder / file, scratch)
        fine, said = _run_online([binary, cli, "install", "--package-lock-only", "--ignore-scripts"], Path(scratch))
        if not fine:
            return f"npm cannot resolve {name.with_name('package.json')}:\n{said}"
        locked, fresh = ((place / "package-lock.json").read_text("utf-8") for place in (folder, Path(scratch)))
        if json.loads(locked) == json.loads(fresh):
            return None
        if fix:
            shutil.copy(Path(scratch) / "package-lock.json", folder)
            return None
        return f"{name} is out of step with package.json; scripts/check --fix renews it"


def addresses(_fix: bool) -> str | None:
    """no registry addresses in the locks, an integrity hash for everything"""
    faults = []
    for name in (*_LOCKS, "scripts/uv.lock.txt"):
        for number, line in enumerate((ROOT / name).read_text("utf-8").splitlines(), 1):
            if re.search(r"https?://|file:|--(extra-)?index-url|--find-links|--trusted-host", line.partition("#")[0]):
                faults.append(f"{name}:{number}: {line.strip()}")
    for folder in _NPM:
        lock = folder / "package-lock.json"
        for place, entry in json.loads(lock.read_text("utf-8"))["packages"].items():
            if "resolved" in entry:
                faults.append(f"{lock.relative_to(ROOT)}: {place} names where it was fetched from")
            if place and "integrity" not in entry:
                faults.append(f"{lock.relative_to(ROOT)}: {place} has no integrity hash")
    return "\n".join(faults) or None


def settings(fix: bool) -> str | None:
    """docs/settings.md in step with shared/settings.py"""
    fine, fresh = _python("shared.settings")
    if not fine:
        return fresh
    file = ROOT / "docs" / "settings.md"
    text = file.read_text("utf-8") if file.exists() else "# Settings\n\n"
    if fresh in text:
        return None
    if fix:
        table = re.compile(r"\| setting \| default \| meaning \|\n(\|.*\n?)+")
        renewed = table.sub(lambda _: fresh + "\n", text) if table.search(text) else f"{text.rstrip()}\n\n{fresh}\n"
        file.write_text(renewed, "utf-8")
        return None
    return "docs/settings.md lacks the table that `python -m shared.settings` prints; scripts/check --fix renews it"


def contract(fix: bool) -> str | None:
    """docs/queue-contract.schema.json in step with the model"""
    fine, fresh = _python("shared.intake.schema")
    if not fine:
        return fresh
    file = ROOT / "docs" / "queue-contract.schema.json"
    if file.exists() and file.read_text("utf-8").strip() == fresh:
        return None
    if fix:
        file.write_text(fresh + "\n", "utf-8")
        return None
    return f"{file.name} is not what `python -m shared.intake.schema` prints; scripts/check --fix renews it"


def shell(_fix: bool) -> str | None:
    """bash -n"""
    faults = []
    for file in [*sorted((ROOT / "scripts").iterdir()), ROOT / ".ci" / "run"]:
        if file.is_file() and (file.suffix == ".sh" or file.read_text("utf-8").startswith("#!/usr/bin/env bash")):
            fine, said = _run(["bash", "-n", file])
            if not fine:
                faults.append(said)
    return "\n".join(faults) or None


def bicep(_fix: bool) -> str | None:
    """bicep lint"""
    files = sorted((ROOT / "infra").glob("**/*.bicep")) + sorted((ROOT / "infra").glob("**/*.bicepparam"))
    cli = shutil.which("bicep")
    if not files:
        return None
    if cli is None:
        said = f"no bicep CLI on PATH, so {len(files)} files in infra/ were NOT checked by it; see tests/infra"
        print(f"  SKIPPED: {said}", file=sys.stderr)
        return None
    faults = []
    for file in files:
        # Most mistakes inside `properties` are warnings with status 0: what is said counts, not the status.
        fine, said = _run([cli, "lint", file])
        if not fine or re.search(r"\b(Error|Warning|Info)\b", said):
            faults.append(said)
    return "\n".join(faults) or None


CHECKS: tuple[Callable[[bool], str | None], ...] = (
    lint,
    form,
    types,
    python_locks,
    npm_locks,
    addresses,
    settings,
    contract,
    shell,
    bicep,
)


def main() -> int:
    """Exit status: 0, or 1 with the names of the checks that failed."""
    parser = argparse.ArgumentParser(prog="scripts/check")
    parser.add_argument("--fix", action="store_true")
    options = parser.parse_args()
    os.chdir(ROOT)
    failed = []
    for check in CHECKS:
        title = (check.__doc__ or check.__name__).strip()
        print(f"{title} ...", file=sys.stderr, flush=True)
        said = check(options.fix)
        if said is not None:
            failed.append(title)
            print(said, file=sys.stderr)
    if failed:
        print("\nFAILED: " + "; ".join(failed), file=sys.stderr)
        return 1
    print("\nAll checks passed.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
