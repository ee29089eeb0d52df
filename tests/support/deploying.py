"""What the tests of scripts/deploy and scripts/secret share: a tenant's files, and what was changed."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support.fakecloud import Cloud

ROOT = Path(__file__).resolve().parents[2]


def copy(folder: Path, sample: str, **changes: str) -> Path:
    place = folder / "infra" / "params"
    place.mkdir(parents=True, exist_ok=True)
    for template in (ROOT / "infra").glob("*.bicep"):
        shutil.copy(template, place.parent)
    for file in (ROOT / "infra" / "params").glob(f"{sample}.*bicepparam"):
        text = file.read_text("utf-8")
        for old, new in changes.items():
            text = text.replace(old, new)
        (place / file.name).write_text(text, "utf-8")
    (folder / "small.zip").write_bytes(b"PK the package")
    return place / f"{sample}.bicepparam"


def changing(cloud: Cloud) -> list[str]:
    """The commands that change something, in short."""
    words = []
    for line in cloud.az["calls"]:
        if line[:3] in (["deployment", "sub", "create"], ["deployment", "group", "create"]):
            words.append(f"create {line[line.index('--name') + 1]}")
        elif line[:2] in (["keyvault", "recover"], ["group", "delete"], ["lock", "delete"]):
            words.append(" ".join(line[:2]))
    return words


#: Without a question, and without an app that could be verified.
DEPLOY = ("--yes", "--no-verify")
