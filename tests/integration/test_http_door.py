"""The HTTP door on the whole stack: what a person or a tool sends, and what it is told."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from local.stack import Stack, StackOptions
from tests.support.stacklab import wait_for
from tests.support.webapp import WebApp

PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with Stack(StackOptions(folder=tmp_path_factory.mktemp("http-door"))) as stack:
        yield App(stack)


class App(WebApp):
    """The door for submissions besides."""

    def post(self, body: Any, query: str = "", **headers: str) -> requests.Response:
        data = body if isinstance(body, bytes | str) else json.dumps(body)
        url = self.url(f"submissions{query}")
        return self.session.post(url, data=data, headers=self.key | headers, timeout=180)


def domain(n: int, **fields: Any) -> dict[str, Any]:
    return {"indicatorValue": f"h{n}.evil-door.com", "action": "Block", **fields}


def test_a_submission_is_taken_then_finished(app: App) -> None:
    answer = app.post([domain(1), {"indicatorValue": "10.0.0.1", "action": "Block"}])
    assert answer.status_code == 202
    assert answer.headers["Location"].endswith(answer.json()["id"]) and int(answer.headers["Retry-After"]) > 0
    assert [item["verdict"] for item in answer.json()["items"]] == ["taken", "rejected"]
    known = app.get(answer.headers["Location"] + "?wait=60")
    assert known.status_code == 200 and known.json()["state"] == "finished"
    counts = known.json()["counts"]
    assert counts["submitted"] == 2 == counts["accepted"] + counts["rejected"]
    assert known.json()["reasons"] == {"private_address": 1}
    assert "10.0.0.1" in known.json()["items"][1]["text"]
    assert "block" not in known.json()["text"].lower()


def test_a_dry_run_tells_and_does_nothing(app: App) -> None:
    answer = app.post([domain(2), domain(3, colour="red")], "?dry_run=true")
    assert answer.status_code == 200 and answer.json()["dryRun"] is True
    assert "id" not in answer.json() and "colour" in answer.json()["items"][1]["text"]
    assert answer.json()["verdicts"] == {"submitted": 2, "taken": 1, "rejected": 1}


@pytest.mark.parametrize(
    ("body", "query", "status", "words"),
    [
        (b"", "", 400, "empty"),
        (b"   ", "", 400, ""),
        (b"{not json", "", 400, ""),
        (b"[]", "", 400, ""),
        (b'{"v":1,"part":"20261122a0123456789-0000"}', "", 400, "queue"),
        (b'{"schema": 2, "indicators": [{"value": "a.com"}]}', "", 400, "schema"),
        (b"[1]", "?wait=121", 400, "wait"),
        (b"[1]", "?dry_run=maybe", 400, "dry_run"),
    ],
)
def test_what_cannot_be_taken_is_a_problem_with_a_remedy(
    app: App, body: bytes, query: str, status: int, words: str
) -> None:
    answer = app.post(body, query)
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"].startswith(PROBLEM)
    told = answer.json()
    assert told["status"] == status and told["type"] and told["title"] and told["detail"]
    assert words in json.dumps(told)


def test_a_body_without_content_length_is_refused_not_counted_as_nothing(app: App) -> None:
    parts = urlsplit(app.stack.url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)
    body = iter([json.dumps([domain(4)]).encode()])
    connection.request("POST", "/api/submissions", body=body, headers=app.key, encode_chunked=True)
    answer = connection.getresponse()
    told = json.loads(answer.read())
    connection.close()
    assert answer.status == 411 and "Content-Length" in told["remedy"]


def test_no_key_no_answer_and_operations_need_the_admin_key(app: App) -> None:
    url = app.stack.url
    assert app.session.get(f"{url}/api/health", timeout=30).status_code == 401
    replay = f"{url}/api/dead-letters/x20261122a0123456789abcdef/replay"
    assert app.session.post(replay, headers=app.key, timeout=30).status_code == 401
    master = {"x-functions-key": app.stack.keys["master"]}
    assert app.session.post(replay, headers=master, timeout=30).status_code == 404


def test_unknown_submissions_are_404_whatever_the_id(app: App) -> None:
    for name in ("20261122a0123456789abcdef", "x", "..%2F..%2Fh", "20261122a0123456789abcde'", "%00"):
        answer = app.get(f"submissions/{name}")
        assert answer.status_code == 404, (name, answer.text)


def test_fifteen_thousand_items_and_paging(app: App) -> None:
    items = [domain(n, description="d") for n in range(15_000)]
    items[7777] = {"indicatorValue": "http://user@evil-door.com/", "action": "Block"}
    answer = app.post({"source": "big", "incident": 4711, "indicators": items})
    assert answer.status_code == 202, answer.text[:300]
    assert answer.json()["verdicts"] == {"submitted": 15_000, "taken": 14_999, "rejected": 1}
    link = answer.headers["Location"]
    counts = dict(app.get(link).json()["counts"])
    assert counts.pop("submitted") == 15_000 == sum(counts.values())
    seen: list[int] = []
    following: str | None = link + "?top=1000"
    while following:
        page = app.get(following).json()
        seen += [item["ordinal"] for item in page["items"]]
        following = page.get("nextLink")
    assert seen == list(range(15_000))
    rejected = app.get(link + "?state=rejected").json()["items"]
    assert [item["ordinal"] for item in rejected] == [7777]
    assert "user" in rejected[0]["text"]


def test_too_many_items_or_bytes_are_refused_whole(app: App) -> None:
    answer = app.post([domain(n) for n in range(15_001)])
    assert answer.status_code == 413 and "15000" in answer.text.replace(",", "")
    answer = app.post(b"[" + b" " * (10 * 1024 * 1024) + b"]")
    assert answer.status_code == 413


def test_unicode_values_keep_their_form_and_domains_become_idna(app: App) -> None:
    answer = app.post([{"value": "bücher-evil.de", "type": "domainname", "action": "BLOCK", "title": "Gefährlich 🦊"}])
    item = answer.json()["items"][0]
    assert item["value"] == "xn--bcher-evil-9db.de" and item["verdict"] == "taken" and item["notes"]


def test_health_says_ok_for_each_thing_and_no_secret(app: App) -> None:
    answer = app.get("health")
    assert answer.status_code == 200, answer.text
    names = {check["name"] for check in answer.json()["checks"]}
    assert {"settings", "vault", "secret", "token", "roles", "queue", "tables", "blobs", "call"} <= names
    assert app.stack.tenant["client_secret"] not in answer.text


def test_dead_letters_are_listed_whole_and_replayed_once(app: App, tmp_path: Path) -> None:
    from azure.storage.queue import QueueClient

    queue = QueueClient.from_connection_string(app.stack.connection_string, "indicators")
    queue.send_message("\x7fneither")
    letters = wait_for(lambda: app.get("dead-letters").json()["deadLetters"], "a dead letter is there")
    assert letters[0]["kind"] == "raw" and letters[0]["bytes"] == 8 and letters[0]["state"] == "open"
    master = {"x-functions-key": app.stack.keys["master"]}
    url = f"{app.stack.url}/api/dead-letters/{letters[0]['id']}/replay"
    answer = app.session.post(url, headers=master, timeout=60)
    assert answer.status_code == 422 and answer.headers["Content-Type"].startswith(PROBLEM)
    assert app.get("dead-letters").json()["deadLetters"][0]["state"] == "open"
