"""scripts/package: the app and its packages as one zip, the same bytes for the same commit.

What goes in: function_app.py, host.json, requirements.txt, functions/ and shared/ as git knows them, and the wheels
that requirements.txt names with their hashes, for CPython 3.13 on x86_64 Linux, below the folder where the worker looks
(`.python_packages/lib/site-packages`: documented). Nothing is built on the platform.

Entries are sorted, with one fixed time and fixed rights. What a wheel's installation leaves that depends on the machine
(console scripts with the path of a Python, markers of the installer) is left out, and taken out of each RECORD.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from deploy.say import Failed, show, tell, write

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
ZIP = DIST / "relay.zip"
#: What of the project goes in.
PARTS = ("function_app.py", "host.json", "requirements.txt", "functions", "shared")
#: What else decides about the bytes.
_MAKERS = ("deploy/package.py", "scripts/uv.lock.txt")
PACKAGES = ".python_packages/lib/site-packages"
PLATFORM = "x86_64-manylinux_2_28"
_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can hold
_MODE = 0o100644 << 16
_UNIX = 3
#: Made by the installer and not by the wheel.
_LEFT_OUT = frozenset({".lock", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json"})


@dataclasses.dataclass(frozen=True, slots=True)
class Package:
    """A finished zip. `content` is a digest of names and contents alone: it is the same whatever compressed them."""

    path: Path
    commit: str
    dirty: bool
    size: int
    unpacked: int
    files: int
    sha256: str
    content: str

    def as_json(self) -> dict[str, object]:
        """For dist/relay.json and `--json`."""
        return {
            "path": str(self.path),
            "commit": self.commit,
            "dirty": self.dirty,
            "bytes": self.size,
            "unpackedBytes": self.unpacked,
            "files": self.files,
            "sha256": self.sha256,
            "contentSha256": self.content,
        }


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(
            f"git {arguments[0]} failed: {done.stderr.strip()[:300]}",
            "The package is made from what git knows: run this in a clone of the project.",
        )
    return done.stdout


def changed() -> list[str]:
    """The files that decide about the package and are not as in the last commit. Raises Failed without git."""
    told = _git("status", "--porcelain", "-z", "--untracked-files=all", "--no-renames", "--", *PARTS, *_MAKERS)
    return sorted(line[3:] for line in told.split("\0") if line)


def sources() -> dict[str, bytes]:
    """Name in the zip -> content, of the project's own files: tracked by git, or new and not ignored."""
    told = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *PARTS)
    found = {}
    for name in told.split("\0"):
        file = ROOT / name
        if name and file.is_file():  # one that was deleted and not committed is still listed
            found[name] = file.read_bytes()
    missing = [part for part in PARTS if not any(name == part or name.startswith(f"{part}/") for name in found)]
    if missing:
        raise Failed(f"The project lacks {', '.join(missing)}.", "Restore it from git.")
    return found


def _install(folder: Path) -> None:
    uv = ROOT / ".tools" / "uv" / "bin" / "uv"
    command = [str(uv), "pip", "install", "--quiet", "--target", str(folder), "--python", sys.executable]
    command += ["--python-platform", PLATFORM, "--python-version", "3.13", "--only-binary", ":all:"]
    command += ["--require-hashes", "--no-deps", "--no-compile-bytecode", "--link-mode", "copy"]
    command += ["-r", str(ROOT / "requirements.txt")]
    said = ""
    # Where the registry is reached through somebody's own authority only the system knows its certificate.
    for more in ({}, {"UV_SYSTEM_CERTS": "true"}):
        shutil.rmtree(folder, ignore_errors=True)
        try:
            done = subprocess.run(
                command, env=os.environ | more, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
            )
        except OSError as error:
            raise Failed(
                f"uv cannot be run: {error.strerror}.", "Run this through scripts/package, which sets it up."
            ) from None
        if done.returncode == 0:
            return
        said = done.stderr.strip()
    raise Failed(
        f"The packages of requirements.txt could not be installed:\n{said[-1500:]}",
        "Check that this machine reaches its package registry, and that requirements.txt is in step (scripts/check).",
    )


def wheels(folder: Path) -> dict[str, bytes]:
    """Name in the zip -> content, of what is installed in `folder`, without what depends on this machine."""
    found: dict[str, bytes] = {}
    for file in sorted(folder.rglob("*")):
        place = file.relative_to(folder)
        if not file.is_file() or place.parts[0] == "bin" or "__pycache__" in place.parts or place.name in _LEFT_OUT:
            continue
        found[f"{PACKAGES}/{place.as_posix()}"] = file.read_bytes()
    for name in [name for name in found if name.endswith(".dist-info/RECORD")]:
        found[name] = _record(found[name], found)
    return found


def _record(content: bytes, kept: dict[str, bytes]) -> bytes:
    """A RECORD with the lines of those files that are in the zip, in order."""
    lines = content.decode("utf-8").splitlines()
    return "".join(f"{line}\n" for line in sorted(lines) if f"{PACKAGES}/{_recorded(line)}" in kept).encode()


def _recorded(line: str) -> str:
    """The file that a line of RECORD is about; the name is quoted when it has a comma (the format is CSV)."""
    return line[1:].partition('"')[0] if line.startswith('"') else line.partition(",")[0]


def _entries(content: dict[str, bytes]) -> Iterator[tuple[zipfile.ZipInfo, bytes]]:
    for name in sorted(content):
        entry = zipfile.ZipInfo(name, _TIME)
        entry.compress_type = zipfile.ZIP_DEFLATED
        entry.external_attr = _MODE
        entry.create_system = _UNIX
        yield entry, content[name]


def build(target: Path = ZIP, *, allow_dirty: bool = False) -> Package:
    """Make the zip at `target`, and a .json with the same name beside it.

    Raises:
        Failed: files are not committed, there is no git, or a package cannot be had.
    """
    dirty = changed()
    if dirty and not allow_dirty:
        listed = "".join(f"\n    {name}" for name in dirty[:10]) + ("\n    ..." if len(dirty) > 10 else "")
        raise Failed(
            f"These files are not as in the last commit:{listed}",
            "Commit them, or pass --allow-dirty to package them as they are.",
        )
    commit = _git("rev-parse", "HEAD").strip()
    tell("Installing the packages ...")
    with tempfile.TemporaryDirectory(prefix="relay-package-") as scratch:
        installed = Path(scratch) / "site"
        _install(installed)
        content = sources() | wheels(installed)
    tell("Packing ...")
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    every = hashlib.sha256()
    try:
        with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as file:
            for entry, data in _entries(content):
                file.writestr(entry, data, compresslevel=6)
                every.update(f"{hashlib.sha256(data).hexdigest()}  {entry.filename}\n".encode())
        unfinished.replace(target)  # nobody ever sees half of it
    finally:
        unfinished.unlink(missing_ok=True)
    package = Package(
        path=target,
        commit=commit,
        dirty=bool(dirty),
        size=target.stat().st_size,
        unpacked=sum(map(len, content.values())),
        files=len(content),
        sha256=hashlib.sha256(target.read_bytes()).hexdigest(),
        content=every.hexdigest(),
    )
    target.with_suffix(".json").write_text(json.dumps(package.as_json(), indent=2) + "\n", "utf-8")
    return package


def main() -> int:
    """Exit status: 0, or 1 with what is in the way."""
    parser = argparse.ArgumentParser(prog="scripts/package")
    parser.add_argument("--output", type=Path, default=ZIP)
    parser.add_argument("--allow-dirty", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        package = build(options.output.absolute(), allow_dirty=options.allow_dirty)
    except Failed as error:
        tell(f"\nNot packaged. {error}")
        return 1
    if options.json:
        show(package.as_json())
        return 0
    write(f"{package.path}")
    write(f"  commit   {package.commit}{' with changes' if package.dirty else ''}")
    write(f"  size     {package.size:,} bytes, {package.unpacked:,} unpacked")
    write(f"  files    {package.files:,}")
    write(f"  sha256   {package.sha256}")
    write(f"  content  {package.content}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
