"""The sample app in a host double of its own, and a queue to feed it."""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from azure.core.exceptions import ResourceNotFoundError
from azure.storage.queue import QueueClient

from local.processes import Child, plain_environment

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = Path(__file__).resolve().with_name("sample_app")
KEYS = {"master": "the-master-key", "host": "the-host-key", "functions": {"Echo": "the-echo-key"}}


def wait_for[T](look: Callable[[], T], what: str, timeout: float = 30.0) -> T:
    """Look until it is true. The bound only keeps a failing test from hanging."""
    deadline = time.monotonic() + timeout
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"did not happen within {timeout:g} s: {what}")
        time.sleep(0.03)
    return found


class Host:
    """A queue of its own, and host processes that serve the sample app; ended by the context manager."""

    def __init__(self, folder: Path, connection_string: str) -> None:
        self._folder = folder
        self._connection_string = connection_string
        self.name = f"q{uuid.uuid4().hex[:16]}"
        self.queue = QueueClient.from_connection_string(connection_string, self.name)
        self.poison = QueueClient.from_connection_string(connection_string, f"{self.name}-poison")
        self._children: list[Child] = []
        self._seen = folder / "seen.jsonl"
        self._seen.touch()
        (folder / "keys.json").write_text(json.dumps(KEYS), "utf-8")
        self.url = ""
        self.status: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self.queue.create_queue()
        return self

    def __exit__(self, *_exc: object) -> None:
        for child in self._children:
            child.kill()
        self.queue.close()
        self.poison.close()

    def start(
        self, group: str, *arguments: str, settings: Mapping[str, str] | None = None, app: Path = SAMPLE
    ) -> Child:
        """One more host process; `url` is its address."""
        environ = plain_environment() | {
            "PYTHONPATH": str(ROOT),
            "RelayStorage": self._connection_string,
            "SAMPLE_QUEUE": self.name,
            "SAMPLE_SCHEDULE": "0 0 0 1 1 *",
            "SAMPLE_SEEN": str(self._seen),
            **(settings or {}),
        }
        command = [sys.executable, "-P", "-m", "local.guarded", "local.host", "--app", str(app), "--group", group]
        command += ["--keys", str(self._folder / "keys.json"), *arguments]
        child = Child(f"host-{len(self._children)}", command, environ, self._folder)
        self._children.append(child)
        self.url = f"http://127.0.0.1:{child.first_line()['port']}"
        return child

    def seen(self, **fields: Any) -> list[dict[str, Any]]:
        """What the app wrote down so far, those lines that have these fields."""
        lines = [json.loads(line) for line in self._seen.read_text("utf-8").splitlines()]
        return [line for line in lines if all(line.get(name) == value for name, value in fields.items())]

    def begun(self, text: str) -> list[dict[str, Any]]:
        """Starts of the queue function with this message text."""
        return [line for line in self.seen(text=text) if "begun" in line]

    def poisoned(self) -> list[Any]:
        """Messages in the poison queue, as they lie there."""
        try:
            return list(self.poison.peek_messages(max_messages=32))
        except ResourceNotFoundError:
            return []

    def left(self) -> int:
        """Messages in the queue, whether visible or not."""
        return int(self.queue.get_queue_properties().approximate_message_count or 0)
