"""One budget for all workers, and what keeps the package and the host as they are meant to be."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from tests.support.stacklab import Lab, batch

ROOT = Path(__file__).resolve().parents[2]


def test_p4_p21_first_sends_of_all_workers_count_in_one_budget(lab: Callable[..., Lab]) -> None:
    # Five calls in four seconds, of a service that takes five in one: the same three seconds apart as in life.
    here = lab(workers=3, settings={"RELAY_LIMIT_IMPORT": "5/4", "RELAY_CALL_SIZE": "5"})
    here.admin.rules(limits={"import": [[5, 1]]})
    values = [f"n{number}.budget.example" for number in range(45)]
    told = [here.app.submit(batch(values[at : at + 15])) for at in range(0, 45, 15)]
    for one in told:
        assert here.outcome(one["id"])["counts"]["accepted"] == 15
    starts = [call["at"] for call in here.admin.imports()]
    assert len(starts) >= 9
    assert {call["status"] for call in here.admin.imports()} == {200}
    # A permit's start may be half a second off and the call a second late; no retry was ever needed.
    assert all(later - first > 1.0 for first, later in zip(starts, starts[5:], strict=False))
    assert here.admin.counters()["throttled"] == 0


def test_p21_the_host_is_told_how_much_to_take_at_once() -> None:
    queues = json.loads((ROOT / "host.json").read_text("utf-8"))["extensions"]["queues"]
    assert queues["batchSize"] == 32
    assert queues["newBatchThreshold"] == 1000
    assert queues["maxDequeueCount"] == 10
    assert queues["messageEncoding"] == "none"


def test_p23_bundle_and_packages_are_pinned() -> None:
    bundle = json.loads((ROOT / "host.json").read_text("utf-8"))["extensionBundle"]
    assert bundle == {"id": "Microsoft.Azure.Functions.ExtensionBundle", "version": "[4.*, 5.0.0)"}
    for name in ("requirements.txt", "requirements-dev.txt"):
        lines = (ROOT / name).read_text("utf-8").replace("\\\n", " ").splitlines()
        entries = [line.split(maxsplit=1) for line in lines if line and line[0] not in " #"]
        assert len(entries) > 20
        for entry, rest in entries:
            assert re.fullmatch(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==[^=*]+", entry), f"{name}: {entry}"
            assert "--hash=sha256:" in rest, f"{name}: {entry}"
    lock = json.loads((ROOT / "local" / "azurite" / "package-lock.json").read_text("utf-8"))
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert packages
    assert all(entry.get("integrity", "").startswith("sha512-") for entry in packages.values())
