"""The expanded result of a parameter file: what would be deployed, resource by resource.

The results are kept under `golden/`, so that what is said about them here needs no tool, and a change to infra/ shows
in review as a change of what it deploys. Where `bicheck` lies beside the project a test makes them anew and compares;
`INFRA_GOLDEN=write` renews them.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra"
PARAMS = INFRA / "params"
GOLDEN = Path(__file__).resolve().parent / "golden"
# Not the official tool: it cannot be told the cloud, and words what it cannot evaluate in another way.
BICHECK = ROOT.parent / "shared" / "tools" / "bicheck" / "bicheck"
WRITE = "INFRA_GOLDEN"

SUBSCRIPTION = "00000000-0000-4000-8000-000000000001"
TENANT = "00000000-0000-4000-8000-000000000002"
GROUP = "rg-relay"
GROUP_ID = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"

#: Parameter sets of main.bicep, and of the steps before it.
SETS = ("dev", "production", "private", "gcc-high")
BEFORE = ("production.identity", "dev.entra", "production.entra")
CLOUDS = {"gcc-high": "AzureUSGovernment"}


@dataclasses.dataclass(frozen=True)
class Expanded:
    """What a parameter file would deploy."""

    name: str
    resources: list[dict[str, Any]]
    outputs: dict[str, Any]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The resources of one type."""
        return [one for one in self.resources if one["type"].lower() == kind.lower()]

    def one(self, kind: str, ending: str = "") -> dict[str, Any]:
        """The only resource of a type, or the one whose name has this ending."""
        found = [one for one in self.of(kind) if one["name"].endswith(ending)]
        assert len(found) == 1, f"{self.name}: {len(found)} resources {kind} {ending}"
        return found[0]

    @property
    def settings(self) -> dict[str, str]:
        """Application settings."""
        properties: dict[str, str] = self.one("Microsoft.Web/sites/config", "/appsettings")["properties"]
        return properties

    def short(self, kind: str, of: str = "") -> list[str]:
        """Last parts of the names of a type's resources, below an account whose name contains `of`."""
        return [one["name"].rpartition("/")[2] for one in self.of(kind) if of in one["name"].partition("/")[0]]


def read(text: str, name: str) -> Expanded:
    """From what `snapshot` prints."""
    told = json.loads(text)
    assert not told["diagnostics"], f"{name}: {told['diagnostics']}"
    return Expanded(name, told["predictedResources"], told["outputs"])


def expand(file: Path, name: str, cloud: str = "AzureCloud") -> str:
    """What `bicheck snapshot` prints for a parameter file; fails with its diagnostics."""
    command = [str(BICHECK), "snapshot", str(file), "--stdout", "--cloud", cloud, "--location", "westeurope"]
    command += ["--subscription-id", SUBSCRIPTION, "--tenant-id", TENANT]
    if not name.endswith(".identity"):  # which is of the subscription's scope
        command += ["--resource-group", GROUP]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr.strip(), f"{name}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def kept(text: str) -> str:
    """An expansion as a golden file: of playbooks only that they are there, and what they start and do by name.

    What they do is reviewed in infra/playbooks, and run by test_playbooks_*.py.
    """
    told = json.loads(text)
    for one in told["predictedResources"]:
        if one["type"] == "Microsoft.Logic/workflows":
            definition = one["properties"]["definition"]
            one["properties"]["definition"] = {part: sorted(definition[part]) for part in ("triggers", "actions")}
    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"


@functools.cache
def golden(name: str) -> Expanded:
    """A parameter set as it is kept."""
    return read((GOLDEN / f"{name}.json").read_text("utf-8"), name)


def linter() -> list[str]:
    """The official `bicep`, else `bicheck`; empty when there is neither."""
    official = shutil.which("bicep")
    if official:
        return [official, "lint"]
    return [str(BICHECK), "lint"] if BICHECK.exists() else []


def templates() -> list[Path]:
    """Every template and parameter file."""
    return sorted([*INFRA.rglob("*.bicep"), *INFRA.rglob("*.bicepparam")])


def writing() -> bool:
    """Whether the golden files are to be renewed."""
    return os.environ.get(WRITE) == "write"


def parameters(template: str) -> dict[str, tuple[str, str]]:
    """Parameters of a template: name to (description, default as written; "" when it has none)."""
    text = (INFRA / template).read_text("utf-8")
    found = {}
    for block in re.finditer(r"((?:^@.*\n)+)^param (\w+)([^\n=]*(?:\{[^}]*\}\[\])?)(?: = (.*))?$", text, flags=re.M):
        told = re.search(r"@description\('((?:[^'\\]|\\.)*)'\)", block[1])
        found[block[2]] = (told[1] if told else "", (block[4] or "").strip())
    return found
