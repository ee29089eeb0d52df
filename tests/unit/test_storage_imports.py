"""The SDKs are imported by one thread at a time: imports that begin at once can end in Python's own deadlock error."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from local.processes import plain_environment

ROOT = Path(__file__).resolve().parents[2]

_LOOK = """
import json, sys, threading
from shared.relay import relay
pool = relay().pool
before = sorted(sys.modules)
together = threading.Barrier(8)
def look():
    together.wait(60)
    return sorted(sys.modules)
found = [task.result() for task in [pool.submit(look) for _ in range(8)]]
print(json.dumps([before, *found]))
"""


def test_every_thread_of_the_pool_begins_with_the_sdks_imported() -> None:
    settings = {"RelayStorage": "UseDevelopmentStorage=true", "RELAY_TENANT_ID": "t", "RELAY_CLIENT_ID": "c"}
    done = subprocess.run(
        [sys.executable, "-c", _LOOK],
        env=plain_environment() | settings | {"PYTHONPATH": str(ROOT), "RELAY_VAULT_URL": "https://v.example"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    before, *found = (set(names) for names in json.loads(done.stdout))
    wanted = {"requests", "urllib3.util.retry", "azure.data.tables", "azure.storage.blob", "azure.storage.queue"}
    assert not wanted & before, "building the app imports nothing heavy"
    assert len(found) == 8 and all(wanted <= names for names in found)
