"""What people and tools expect of HTTP, and what the app does with callers that mean it harm; on the whole stack."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest

from local.stack import Stack, StackOptions

ORIGIN = "https://console.example"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    settings = {"RELAY_CORS_ORIGINS": f"{ORIGIN}, https://other.example", "RELAY_CALLER_AT_ONCE": "6"}
    with Stack(StackOptions(folder=tmp_path_factory.mktemp("behaviour"), settings=settings)) as running:
        yield running


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def json(self) -> Any:
        body = gzip.decompress(self.body) if self.headers.get("content-encoding") == "gzip" else self.body
        return json.loads(body)


def ask(stack: Stack, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
    address = urlsplit(stack.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=120)
    try:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            given.setdefault("content-type", "application/json")
        connection.request(method, f"/api/{path}", body, {"x-functions-key": stack.keys["host"], **given})
        return Answer(connection.getresponse())
    finally:
        connection.close()


def items(*names: str) -> bytes:
    return json.dumps([{"indicatorValue": name, "action": "Audit"} for name in names]).encode()


@pytest.fixture(scope="module")
def finished(stack: Stack) -> str:
    answer = ask(stack, "POST", "submissions?wait=60", items(*(f"b{n}.behaviour-door.com" for n in range(60))))
    assert answer.status == 200
    return str(answer.json["id"])


def test_polling_what_has_not_changed_costs_nothing(stack: Stack, finished: str) -> None:
    first = ask(stack, "GET", f"submissions/{finished}")
    assert first.status == 200 and first.headers["etag"]
    again = ask(stack, "GET", f"submissions/{finished}", if_none_match=f'"other", {first.headers["etag"]}')
    assert again.status == 304 and again.body == b"" and again.headers["etag"] == first.headers["etag"]
    other = ask(stack, "GET", f"submissions/{finished}?top=1", if_none_match=first.headers["etag"])
    assert other.status == 200 and len(other.json["items"]) == 1


def test_head_is_get_without_the_body(stack: Stack, finished: str) -> None:
    get, head = (ask(stack, method, f"submissions/{finished}") for method in ("GET", "HEAD"))
    assert head.status == 200 and head.body == b""
    assert head.headers["etag"] == get.headers["etag"]


def test_answers_and_bodies_may_be_packed(stack: Stack, finished: str) -> None:
    plain = ask(stack, "GET", f"submissions/{finished}")
    thin = ask(stack, "GET", f"submissions/{finished}", accept_encoding="gzip")
    assert thin.headers["content-encoding"] == "gzip" and "Accept-Encoding" in thin.headers["vary"]
    assert len(thin.body) < len(plain.body) / 3 and thin.json == plain.json
    assert thin.headers["etag"] == plain.headers["etag"]
    answer = ask(
        stack, "POST", "submissions?dry_run=true", gzip.compress(items("p.behaviour-door.com")), content_encoding="gzip"
    )
    assert answer.status == 200 and answer.json["verdicts"]["taken"] == 1


def test_a_method_that_is_not_there_and_a_path_that_is_not_there(stack: Stack) -> None:
    answer = ask(stack, "PUT", "submissions", b"{}")
    assert answer.status == 405 and "POST" in answer.headers["allow"] and answer.json["type"].endswith(":method")
    answer = ask(stack, "GET", "submission")
    assert answer.status == 404 and answer.json["type"].endswith(":no-route")
    answer = ask(stack, "PATCH", "dead-letters/x/replay", b"{}")
    assert answer.status == 405 and answer.headers["allow"] == "OPTIONS, POST"
    answer = ask(stack, "OPTIONS", "health")
    assert answer.status == 204 and answer.headers["allow"] == "GET, HEAD, OPTIONS"
    assert "access-control-allow-origin" not in answer.headers


def test_pages_of_the_named_origins_may_call_and_no_others(stack: Stack) -> None:
    asked = {"origin": ORIGIN, "access-control-request-method": "POST"}
    preflight = ask(stack, "OPTIONS", "submissions", None, **asked, x_functions_key="")
    assert preflight.status == 204 and preflight.headers["access-control-allow-origin"] == ORIGIN
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert "x-functions-key" in preflight.headers["access-control-allow-headers"]
    answer = ask(stack, "GET", "openapi.json", origin=ORIGIN)
    assert answer.headers["access-control-allow-origin"] == ORIGIN and "Origin" in answer.headers["vary"]
    for stranger in ("https://evil.example", "null", f"{ORIGIN}.evil.example"):
        answer = ask(stack, "GET", "openapi.json", origin=stranger)
        assert "access-control-allow-origin" not in answer.headers


def test_every_answer_has_a_request_id(stack: Stack) -> None:
    assert ask(stack, "GET", "openapi.json", x_request_id="run-42").headers["x-request-id"] == "run-42"
    made = ask(stack, "GET", "openapi.json", x_request_id="no good").headers["x-request-id"]
    assert made != "no good" and len(made) == 32
    assert ask(stack, "GET", "nowhere").headers["x-request-id"]


def test_a_parameter_that_is_misspelt_is_said_and_never_ignored(stack: Stack, finished: str) -> None:
    answer = ask(stack, "GET", f"submissions/{finished}?stat=accepted")
    assert answer.status == 400 and "'stat'" in answer.json["detail"] and "state" in answer.json["remedy"]


@pytest.mark.parametrize(
    ("headers", "status", "word"),
    [
        ({"content_type": "application/x-www-form-urlencoded"}, 415, "application/json"),
        ({"content_type": "multipart/form-data; boundary=x"}, 415, "application/json"),
        ({"content_encoding": "br"}, 415, "gzip"),
        ({"content_type": "text/plain; charset=utf-8"}, 200, ""),
        ({"content_type": "application/vnd.soc+json"}, 200, ""),
    ],
)
def test_media_types(stack: Stack, headers: dict[str, str], status: int, word: str) -> None:
    answer = ask(stack, "POST", "submissions?dry_run=true", items("m.behaviour-door.com"), **headers)
    assert answer.status == status
    assert not word or word in answer.json["remedy"]


# Harm


def _rss(stack: Stack) -> int:
    return stack.usage()["http"].rss


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (gzip.compress(bytes(40_000_000), 9) * 10, {"content_encoding": "gzip"}, 413),
        (b"[" * 2_000_000, {}, 400),
        (b'{"a":' * 500_000, {}, 400),
        (json.dumps([{"indicatorValue": "x" * 1_000_000, "action": "Block"}]).encode(), {}, 200),
        (json.dumps([{"indicatorValue": "http://u.example/" + "%41" * 300_000}]).encode(), {}, 200),
        (json.dumps({"indicators": ["a.example"], "x-deep": [[[[[[[["x"]]]]]]]] * 9}).encode(), {}, 200),
        (b"[" + b",".join([b"1"] * 15_001) + b"]", {}, 413),
        (b"[" + b"1e999," * 10_000 + b"1]", {}, 400),
        (b"\xff\xfe" * 100_000, {}, 400),
        (b" " * (10 * 1024 * 1024 + 1), {}, 413),
    ],
    ids=["bomb", "brackets", "braces", "million", "escapes", "inside", "too many", "numbers", "bytes", "blanks"],
)
def test_harm_is_answered_in_words_and_bounded_memory(
    stack: Stack, body: bytes, headers: dict[str, str], status: int
) -> None:
    before = _rss(stack)
    answer = ask(stack, "POST", "submissions?dry_run=true", body, **headers)
    assert answer.status == status, answer.body[:300]
    if status != 200:
        assert answer.json["remedy"] and len(answer.body) < 2_000
    else:
        assert len(answer.body) < 3_000_000
    assert _rss(stack) < before + 250_000_000


def test_the_largest_submission_is_taken_and_found_again(stack: Stack) -> None:
    entries = [
        {"indicatorValue": f"w{n}.largest-door.com", "action": "Audit", "recommendedActions": "y" * 560}
        for n in range(15_000)
    ]
    body = json.dumps(entries).encode()
    assert 9_500_000 < len(body) <= 10 * 1024 * 1024
    answer = ask(stack, "POST", "submissions", body)
    assert answer.status == 202 and answer.json["verdicts"] == {"submitted": 15_000, "taken": 15_000, "rejected": 0}
    page = ask(stack, "GET", f"submissions/{answer.json['id']}?skip=14999")
    assert [item["value"] for item in page.json["items"]] == ["w14999.largest-door.com"]
    done = ask(stack, "GET", f"submissions/{answer.json['id']}?top=0")
    assert done.json["counts"]["submitted"] == 15_000 and not done.json["counts"]["rejected"]


def test_one_tool_cannot_starve_the_rest(stack: Stack) -> None:
    waiting = ask(stack, "POST", "submissions", items("slow.behaviour-door.com"), x_forwarded_for="198.51.100.1:5000")
    path = f"submissions/{waiting.json['id']}?wait=3"
    stack.admin.down()
    greedy = {"x_forwarded_for": "9.9.9.9, 203.0.113.7:4711"}
    try:
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda _: ask(stack, "GET", path, **greedy), range(20)))
    finally:
        stack.admin.up()
    assert {answer.status for answer in answers} == {202, 429}
    for refused in (answer for answer in answers if answer.status == 429):
        assert int(refused.headers["retry-after"]) >= 1 and refused.json["type"].endswith(":busy")
    with ThreadPoolExecutor(8) as pool:
        several = [{"x_forwarded_for": f"203.0.113.{n}:1"} for n in range(8)]
        assert {a.status for a in pool.map(lambda who: ask(stack, "GET", "openapi.json", **who), several)} == {200}


def test_slow_senders_hold_nobody_up(stack: Stack) -> None:
    address = urlsplit(stack.url)
    slow = []
    try:
        for _ in range(40):
            line = socket.create_connection((address.hostname or "", address.port or 0), timeout=60)
            head = (
                f"POST /api/submissions HTTP/1.1\r\nHost: {address.netloc}\r\nx-functions-key: {stack.keys['host']}\r\n"
                "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n["
            )
            line.sendall(head.encode())
            slow.append(line)
        answer = ask(stack, "POST", "submissions?dry_run=true", items("quick.behaviour-door.com"))
        assert answer.status == 200
    finally:
        for line in slow:
            line.close()
    assert ask(stack, "GET", "openapi.json").status == 200


def test_many_large_bodies_at_once_are_taken_one_after_the_other(stack: Stack) -> None:
    entries = [{"indicatorValue": f"g{n}.many-door.com", "recommendedActions": "z" * 900} for n in range(8_000)]
    body = json.dumps(entries).encode()
    sizes: list[int] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            sizes.append(_rss(stack))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda _: ask(stack, "POST", "submissions?dry_run=true", body), range(6)))
            small = ask(stack, "GET", "openapi.json", x_forwarded_for="203.0.113.99:1")
    finally:
        stop.set()
        watcher.join()
    assert [answer.status for answer in answers] == [200] * 6 and small.status == 200
    print(f"http worker: at most {max(sizes) / 1e6:.0f} MB")
    assert max(sizes) < 700_000_000
