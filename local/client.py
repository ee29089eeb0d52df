"""The app as a client sees it: HTTP with a key, and the queue as a playbook uses it."""

from __future__ import annotations

import http.client
import json
import urllib.parse
from typing import Any

from local.stack import Stack
from shared.ledger.ids import foreign_submission
from shared.storage.connection import QUEUE


class Problem(Exception):
    """The app refused a request; `status` and its problem+json."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        said = ": ".join(str(body[name]) for name in ("title", "detail") if body.get(name)) or "no reason given"
        super().__init__(f"{status} {said}")
        self.status = status
        self.body = body


class AppClient:
    """Talks to a running stack's app through its two doors."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def submit(self, body: bytes) -> dict[str, Any]:
        """POST /api/submissions; raises Problem."""
        return self._ask("POST", "/api/submissions", body, self._stack.keys["host"])

    def submission(self, submission: str) -> dict[str, Any] | None:
        """GET /api/submissions/{id} without its items; None while the app does not know it. Raises Problem."""
        try:
            return self._ask("GET", f"/api/submissions/{submission}?top=1", None, self._stack.keys["host"])
        except Problem as problem:
            if problem.status == 404:
                return None
            raise

    def dead_letters(self) -> list[dict[str, Any]]:
        """All of them, newest first."""
        found: list[dict[str, Any]] = []
        while True:
            path = f"/api/dead-letters?top=1000&skip={len(found)}"
            answer = self._ask("GET", path, None, self._stack.keys["host"])
            found += answer["deadLetters"]
            if "nextLink" not in answer:
                return found

    def replay(self, letter: str) -> dict[str, Any]:
        """POST /api/dead-letters/{id}/replay, which takes the master key; raises Problem."""
        return self._ask(
            "POST", f"/api/dead-letters/{urllib.parse.quote(letter)}/replay", b"", self._stack.keys["master"]
        )

    def send(self, text: str) -> str:
        """Put a message on the queue exactly as it is; the id of the submission it becomes."""
        from azure.storage.queue import QueueClient

        with QueueClient.from_connection_string(self._stack.connection_string, QUEUE) as queue:
            sent = queue.send_message(text, time_to_live=-1)
        if sent.inserted_on is None:
            raise Problem(0, {"title": "The queue service did not say when the message was inserted"})
        return foreign_submission(sent.id, sent.inserted_on)

    def _ask(self, method: str, path: str, body: bytes | None, key: str) -> dict[str, Any]:
        address = urllib.parse.urlsplit(self._stack.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=240)
        try:
            headers = {"x-functions-key": key, "content-type": "application/json"}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        try:
            said: dict[str, Any] = json.loads(content) if content else {}
        except ValueError:
            said = {"detail": content[:200].decode("utf-8", "replace")}
        if answer.status >= 300:
            raise Problem(answer.status, said)
        return said
