"""The HTTP side of the host double: what a request looks like when it reaches the app."""

from __future__ import annotations

import http.client
import json
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.contract.host_process import KEYS, Host, wait_for

ECHO = {"x-functions-key": "the-echo-key"}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, azurite: str) -> Iterator[Host]:
    with Host(tmp_path_factory.mktemp("host"), azurite) as running:
        running.start("http", "--front-end-limit", "1")
        yield running


def ask(
    host: Host,
    method: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    body: Any = None,
    chunked: bool = False,
) -> tuple[int, dict[str, str], bytes]:
    address = urllib.parse.urlsplit(host.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    try:
        connection.request(method, path, body, dict(headers or {}), encode_chunked=chunked)
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def echo(host: Host, path: str, **more: Any) -> Any:
    more.setdefault("headers", ECHO)
    status, _, body = ask(host, more.pop("method", "GET"), path, **more)
    assert status == 200, body
    return json.loads(body)


def test_headers_are_lower_cased_and_repeats_joined(host: Host) -> None:
    headers = echo(host, "/api/echo/a", headers=ECHO | {"X-MiXed": "Value", "Content-Type": "text/plain"})["headers"]
    assert headers["x-mixed"] == "Value"
    assert headers["content-type"] == "text/plain"


def test_empty_query_values_are_dropped(host: Host) -> None:
    assert echo(host, "/api/echo/a?empty=&bare&full=1")["params"] == {"full": "1"}


def test_a_body_with_a_length_arrives_and_a_chunked_one_arrives_empty(host: Host) -> None:
    assert echo(host, "/api/echo/a", method="POST", body=b'{"a":1}')["body"] == '{"a":1}'
    chunked = ECHO | {"Transfer-Encoding": "chunked"}
    assert echo(host, "/api/echo/a", method="POST", headers=chunked, body=iter([b"abc"]), chunked=True)["body"] == ""


def test_routes_parameters_and_constraints(host: Host) -> None:
    assert echo(host, "/api/echo/x%20y/7")["route"] == {"kind": "x y", "number": "7"}
    assert echo(host, "/API/Echo/A%2Fb")["route"] == {"kind": "A%2Fb"}
    assert ask(host, "GET", "/api/echo/a/seven", ECHO)[0] == 404
    assert ask(host, "GET", "/api/echo/a/7/8", ECHO)[0] == 404
    assert ask(host, "GET", "/echo/a", ECHO)[0] == 404
    assert ask(host, "GET", "/api/echo/fixed")[::2] == (201, b"fixed")  # Early comes before Echo


def test_a_method_without_a_route_is_not_found(host: Host) -> None:
    assert ask(host, "HEAD", "/api/echo/a", ECHO)[0] == 404
    assert ask(host, "DELETE", "/api/echo/a", ECHO)[0] == 404
    assert ask(host, "GET", "/api/operate", {"x-functions-key": KEYS["master"]})[0] == 404


@pytest.mark.parametrize(
    ("path", "method", "key", "status"),
    [
        ("/api/echo/a", "GET", "", 401),
        ("/api/echo/a", "GET", "wrong", 401),
        ("/api/echo/a", "GET", "the-echo-key", 200),
        ("/api/echo/a", "GET", "the-host-key", 200),
        ("/api/echo/a", "GET", "the-master-key", 200),
        ("/api/operate", "POST", "the-host-key", 401),
        ("/api/operate", "POST", "the-echo-key", 401),
        ("/api/operate", "POST", "the-master-key", 204),
        ("/api/echo/fixed", "GET", "", 201),
    ],
)
def test_keys_open_what_their_level_allows(host: Host, path: str, method: str, key: str, status: int) -> None:
    assert ask(host, method, path, {"x-functions-key": key})[0] == status
    assert ask(host, method, f"{path}?code={key}")[0] == status


def test_an_exception_is_500_without_a_word(host: Host) -> None:
    status, _, body = ask(host, "GET", "/api/broken")
    assert (status, body) == (500, b"")


def test_headers_of_the_answer_pass(host: Host) -> None:
    _, headers, _ = ask(host, "GET", "/api/echo/a", ECHO)
    assert headers["x-sample"] == "yes"
    assert headers["content-type"] == "application/json"


def test_the_front_end_gives_up_while_the_function_goes_on(host: Host) -> None:
    assert ask(host, "GET", "/api/slow")[0] == 504
    wait_for(lambda: host.seen(slow="ended"), "the function ended")


def test_the_admin_door_runs_any_function_with_the_master_key(host: Host) -> None:
    master = {"x-functions-key": KEYS["master"]}
    assert ask(host, "POST", "/admin/functions/Tick", {"x-functions-key": KEYS["host"]})[0] == 401
    assert ask(host, "POST", "/admin/functions/Nobody", master)[0] == 404
    assert host.seen(tick=True) == []
    assert ask(host, "POST", "/admin/functions/Tick", master)[0] == 202
    wait_for(lambda: host.seen(tick=True), "the timer function ran")
