"""Checkov over what is deployed; what is left out of it is left out for a reason."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.infra.expanded import GOLDEN, INFRA, SETS

_CONFIG = INFRA / ".checkov.yaml"


def test_each_policy_that_is_left_out_has_its_reason() -> None:
    left = re.findall(r"^  - (CKV\w+)(.*)$", _CONFIG.read_text("utf-8"), flags=re.M)
    assert left and len(dict(left)) == len(left)
    assert not [policy for policy, told in left if not re.fullmatch(r" # .{20,}", told)]


def test_checkov_finds_nothing_else(tmp_path: Path) -> None:
    command = shutil.which("checkov")
    if command is None:
        pytest.skip("NO `checkov` on PATH: its policies were NOT checked against what infra/ deploys")
    for name in SETS:
        made = json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))
        template = {
            "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
            "contentVersion": "1.0.0.0",
            "resources": made["predictedResources"],
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(template), "utf-8")
    done = subprocess.run(
        [command, "-d", str(tmp_path), "--config-file", str(_CONFIG), "-o", "json"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    told = json.loads(done.stdout)
    assert told["summary"]["parsing_errors"] == 0 and told["summary"]["passed"] > 100, done.stderr[-2000:]
    failed = [
        f"{one['check_id']} {one['check_name']}: {one['resource']} in {one['file_path']}"
        for one in told["results"]["failed_checks"]
    ]
    assert not failed, "\n".join(failed)
