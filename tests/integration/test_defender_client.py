"""The client against a real TLS server that answers well, badly, late, half and not at all."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from shared.defender.client import DefenderClient
from shared.errors import (
    BatchRefusedError,
    DefenderError,
    DeniedError,
    LateError,
    NotSentError,
    ThrottledError,
    TokenError,
    UnavailableError,
)
from tests.defender_bodies import TOKEN, AToken, Tokens, error, imported, payload, row
from tests.wire_server import Certificates, Reply, Request, WireServer, closed_port, make_certificates, serve


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server(certificates: Certificates) -> Iterator[WireServer]:
    with serve(certificates) as running:
        yield running


@pytest.fixture
def tokens() -> Tokens:
    return Tokens()


@pytest.fixture
def client(
    server: WireServer, certificates: Certificates, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DefenderClient[AToken]]:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.file))
    made = DefenderClient(f"https://localhost:{server.port}", tokens, timeout=5)
    yield made
    made.close()


def refused(client: DefenderClient[AToken], kind: type[DefenderError]) -> DefenderError:
    """The error of an import call; neither it nor what hangs on it shows the token."""
    with pytest.raises(DefenderError) as caught:
        client.import_indicators([payload("a.example")])
    assert type(caught.value) is kind, caught.value
    assert TOKEN not in str(caught.value) and caught.value.__cause__ is None and caught.value.__context__ is None
    return caught.value


# --- what is sent ----------------------------------------------------------------------------------------------------


def test_defender_import_sends_the_documented_body(client: DefenderClient[AToken], server: WireServer) -> None:
    server.default = imported(row("a.example", id="2841"), row("b.example", id="2842"))
    results = client.import_indicators([payload("a.example"), payload("b.example")])
    (request,) = server.requests
    assert (request.method, request.target) == ("POST", "/api/indicators/import")
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert request.headers["Content-Type"] == "application/json"
    assert request.json() == {"Indicators": [payload("a.example"), payload("b.example")]}
    assert [(r.value, r.failed, r.reason, r.id) for r in results] == [
        ("a.example", False, "", "2841"),
        ("b.example", False, "", "2842"),
    ]


@pytest.mark.parametrize("count", [0, 501])
def test_defender_import_takes_one_to_500(client: DefenderClient[AToken], server: WireServer, count: int) -> None:
    with pytest.raises(ValueError, match="1 to 500"):
        client.import_indicators([payload("a.example")] * count)
    assert server.requests == []


def test_defender_netrc_does_not_replace_the_token(
    client: DefenderClient[AToken], server: WireServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login somebody password something\n")
    monkeypatch.setenv("NETRC", str(netrc))
    server.default = imported(row("a.example"))
    client.import_indicators([payload("a.example")])
    assert server.requests[0].headers["Authorization"] == f"Bearer {TOKEN}"


def test_defender_base_url_must_be_https() -> None:
    with pytest.raises(ValueError, match="https"):
        DefenderClient("http://localhost:1", Tokens())


# --- statuses --------------------------------------------------------------------------------------------------------

QUOTA = (
    "API calls quota exceeded! Maximum allowed 30 per 00:01:00 for the key Destination+TenantID+AppID. "
    "You can send requests again in 8 seconds."
)


def date(seconds: float) -> str:
    return format_datetime(datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "message", "wait"),
    [
        ({"Retry-After": "17"}, QUOTA, 17),
        ({"Retry-After": "0"}, QUOTA, 1),
        ({"Retry-After": "999999"}, QUOTA, 3600),
        ({"Retry-After": date(40), "Date": date(0)}, QUOTA, 40),
        ({"Retry-After": date(0), "Date": date(40)}, QUOTA, 1),
        ({"Retry-After": "soon"}, QUOTA, 8),
        ({}, QUOTA, 8),
        ({}, "Slow down.", 30),
        ({"Retry-After": "nan"}, "Slow down.", 1),
    ],
)
def test_defender_429_names_its_wait(
    client: DefenderClient[AToken], server: WireServer, headers: dict[str, str], message: str, wait: float
) -> None:
    server.default = Reply(429, error("429", message), headers)
    caught = refused(client, ThrottledError)
    assert isinstance(caught, ThrottledError) and caught.retry_after == wait
    assert len(server.requests) == 1, "one attempt a call; the caller owns retries"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (201, DeniedError),
        (204, DeniedError),
        (302, DeniedError),
        (401, DeniedError),
        (403, DeniedError),
        (404, DeniedError),
        (405, DeniedError),
        (409, DeniedError),
        (413, DeniedError),
        (418, DeniedError),
        (408, UnavailableError),
        (500, UnavailableError),
        (502, UnavailableError),
        (503, UnavailableError),
        (504, UnavailableError),
    ],
)
def test_defender_p7_no_other_status_is_success(
    client: DefenderClient[AToken], server: WireServer, status: int, kind: type[DefenderError]
) -> None:
    """P7: whatever is not the documented 200 is an error, even with a body that speaks of success."""
    body = None if status == 204 else {"value": [row("a.example")]}
    server.default = Reply(status, body, {"Location": "https://localhost:1/elsewhere"})
    assert refused(client, kind).status == status
    assert len(server.requests) == 1


def test_defender_503_hands_on_retry_after(client: DefenderClient[AToken], server: WireServer) -> None:
    server.default = Reply(503, b"<html>busy</html>", {"Retry-After": "12", "Content-Type": "text/html"})
    caught = refused(client, UnavailableError)
    assert isinstance(caught, UnavailableError) and caught.retry_after == 12


def test_defender_401_takes_the_token_out_of_use(
    client: DefenderClient[AToken], server: WireServer, tokens: Tokens
) -> None:
    server.default = Reply(401, error("Unauthorized", "expired"))
    refused(client, DeniedError)
    assert tokens.dropped == [TOKEN]


def test_defender_403_says_which_role(client: DefenderClient[AToken], server: WireServer, tokens: Tokens) -> None:
    said = "Missing application roles. API required roles: Ti.ReadWrite.All, Ti.ReadWrite"
    server.default = Reply(403, error("Forbidden", said))
    assert "Ti.ReadWrite.All of WindowsDefenderATP" in refused(client, DeniedError).remediation
    assert tokens.dropped == [], "a missing role is no reason to ask for token after token"


def test_defender_400_carries_what_the_service_said(client: DefenderClient[AToken], server: WireServer) -> None:
    said = "Indicator a.example is inactive. (Expiration time should be set to a future date time)"
    server.default = Reply(400, error("BadRequest", said))
    caught = refused(client, BatchRefusedError)
    assert isinstance(caught, BatchRefusedError) and (caught.code, caught.message_text) == ("BadRequest", said)


def test_defender_an_echoed_token_is_blotted_out(client: DefenderClient[AToken], server: WireServer) -> None:
    server.default = lambda request: Reply(400, error("BadRequest", f"bad header {request.headers['Authorization']}"))
    caught = refused(client, BatchRefusedError)
    assert isinstance(caught, BatchRefusedError) and TOKEN not in caught.message_text


# --- half an answer, no answer ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [
        Reply(broken="before"),
        Reply(body=b'{"value": [', broken="inside"),
        Reply(body=b'{"value": [', broken="close-early"),
        Reply(body=b'{"value": ['),
        Reply(body=b""),
        Reply(body=b"\xff\xfe garbage"),
        Reply(body=b"[" * 100_000),
        Reply(body={"value": []}),
        Reply(body={"value": [row("a.example"), row("b.example")]}),
        Reply(body={"value": [{"indicator": "a.example"}]}),
        Reply(body={"value": [{**row("a.example"), "isFailed": "false"}]}),
        Reply(body={"value": [{**row("a.example"), "indicator": 7}]}),
    ],
    ids=range(12),
)
def test_defender_half_an_answer_may_have_been_done(
    client: DefenderClient[AToken], server: WireServer, reply: Reply
) -> None:
    server.default = reply
    refused(client, UnavailableError)
    assert len(server.requests) == 1


@pytest.mark.parametrize("body", [{"values": []}, [], {"value": {}}, {"value": [1]}, "ok", 1])
def test_defender_a_whole_answer_that_nobody_knows(
    client: DefenderClient[AToken], server: WireServer, body: Any
) -> None:
    server.default = Reply(body=body)
    refused(client, DeniedError)


def test_defender_a_reset_connection_is_not_used_again(client: DefenderClient[AToken], server: WireServer) -> None:
    server.script.append(Reply(body=b"{", broken="inside"))
    server.default = imported(row("a.example"))
    refused(client, UnavailableError)
    assert client.import_indicators([payload("a.example")])[0].failed is False


def test_defender_an_idle_connection_that_the_service_closed_is_replaced(
    client: DefenderClient[AToken], server: WireServer
) -> None:
    server.idle = 0.1
    server.default = imported(row("a.example"))
    client.import_indicators([payload("a.example")])
    time.sleep(0.4)
    assert client.import_indicators([payload("a.example")])[0].failed is False
    assert (len(server.requests), server.connections) == (2, 2)


@pytest.mark.parametrize("reply", [Reply(body=b"{", broken="drip")])
def test_defender_an_answer_that_drips_is_ended(
    server: WireServer, certificates: Certificates, reply: Reply, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte comes well within the socket's time-out, and the call still ends."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.file))
    server.default = reply
    client = DefenderClient(f"https://localhost:{server.port}", Tokens(), timeout=0.3)
    assert "within 0.3 s" in str(refused(client, UnavailableError))
    client.close()


def test_defender_no_answer_at_all_is_ended(
    server: WireServer, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.file))

    def stall(request: Request) -> Reply:
        server.over.wait(20)
        return Reply(broken="before")

    server.default = stall
    client = DefenderClient(f"https://localhost:{server.port}", Tokens(), timeout=0.3)
    assert "within 0.3 s" in str(refused(client, UnavailableError))
    server.over.set()
    client.close()


# --- nothing was sent ------------------------------------------------------------------------------------------------


def test_defender_nobody_listens_so_nothing_was_sent() -> None:
    client = DefenderClient(f"https://localhost:{closed_port()}", Tokens())
    refused(client, NotSentError)


def test_defender_too_late_so_nothing_was_sent(client: DefenderClient[AToken], server: WireServer) -> None:
    with pytest.raises(NotSentError):
        client.import_indicators([payload("a.example")], not_after=time.monotonic() - 0.001)
    assert server.connections == 0


def test_defender_a_slow_token_can_make_it_too_late(
    client: DefenderClient[AToken], server: WireServer, tokens: Tokens
) -> None:
    tokens.delay = 0.2
    with pytest.raises(NotSentError):
        client.import_indicators([payload("a.example")], not_after=time.monotonic() + 0.1)
    assert server.connections == 0


def test_defender_a_connection_that_comes_about_too_late_is_not_used(
    client: DefenderClient[AToken], server: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Name resolution has no time limit of its own; the request must not follow when it took too long."""
    genuine = socket.getaddrinfo

    def slow(*where: Any, **how: Any) -> Any:
        time.sleep(0.3)
        return genuine(*where, **how)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with pytest.raises(LateError, match="too late"):
        client.import_indicators([payload("a.example")], not_after=time.monotonic() + 0.2)
    assert (server.connections, server.requests) == (1, [])


def test_defender_a_handshake_that_takes_too_long_sends_nothing() -> None:
    received = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def silent() -> None:
            raw, _ = listener.accept()
            with raw:
                raw.settimeout(10)
                while piece := raw.recv(65_536):
                    received.extend(piece)

        thread = threading.Thread(target=silent, daemon=True)
        thread.start()
        client = DefenderClient(f"https://localhost:{listener.getsockname()[1]}", Tokens())
        with pytest.raises(NotSentError):
            client.import_indicators([payload("a.example")], not_after=time.monotonic() + 0.15)
        client.close()
        thread.join(10)
    one_record = 5 + int.from_bytes(received[3:5])
    assert (received[0], len(received)) == (0x16, one_record), "the greeting of the handshake, and nothing after it"


def test_defender_an_untrusted_certificate_sends_nothing(
    client: DefenderClient[AToken], server: WireServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(make_certificates(tmp_path).file))
    refused(client, NotSentError)
    assert server.requests == []


def test_defender_no_token_no_call(server: WireServer) -> None:
    class Broken(Tokens):
        def get(self) -> AToken:
            raise TokenError("Entra ID issues no token", code="AADSTS700016")

    client = DefenderClient(f"https://localhost:{server.port}", Broken())
    with pytest.raises(TokenError):
        client.import_indicators([payload("a.example")])
    with pytest.raises(TokenError):
        client.prepare()
    assert server.connections == 0


def test_defender_prepare_leaves_a_connection_for_the_call(client: DefenderClient[AToken], server: WireServer) -> None:
    server.default = imported(row("a.example"))
    client.prepare()
    client.prepare()
    assert server.requests == []
    client.import_indicators([payload("a.example")], not_after=time.monotonic() + 5)
    assert (len(server.requests), server.connections) == (1, 1)


def test_defender_prepare_says_when_nobody_listens() -> None:
    with pytest.raises(NotSentError):
        DefenderClient(f"https://localhost:{closed_port()}", Tokens()).prepare()


def test_defender_one_client_serves_eight_threads(client: DefenderClient[AToken], server: WireServer) -> None:
    server.default = lambda request: imported(row(request.json()["Indicators"][0]["indicatorValue"]))
    found: list[tuple[str, str]] = []

    def call(number: int) -> None:
        for turn in range(5):
            value = f"{number}-{turn}.example"
            found.append((value, client.import_indicators([payload(value)])[0].value))

    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(found) == 40 and all(sent == got for sent, got in found)
    assert server.connections <= 8


# --- results ---------------------------------------------------------------------------------------------------------


def test_defender_p6_a_failed_row_in_a_200_is_not_success(client: DefenderClient[AToken], server: WireServer) -> None:
    """P6: 200 says that the call was read; each row says what became of its indicator."""
    full = "Max capacity exceeded. Current Total: 15000, Limit: 15000 (Parameter 'Capacity: 15000/15000')"
    server.default = imported(row("a.example"), row("b.example", full, id="99"), row("c.example", "  "))
    results = client.import_indicators([payload(v) for v in ("a.example", "b.example", "c.example")])
    assert [r.failed for r in results] == [False, True, True]
    assert results[1].reason == full and results[1].id is None, "an id in a failed row means nothing"
    assert results[2].reason == "Defender named no reason"


@pytest.mark.parametrize(
    ("reply", "gone"),
    [
        (Reply(204), True),
        (Reply(200, b""), True),
        (Reply(404, {"error": {"code": "ResourceNotFound", "message": "Resource 7 was not found"}}), False),
        (Reply(404, {"error": {"code": "NotFound", "message": "It was not found"}}), False),
    ],
)
def test_defender_deletion_that_is_done(
    client: DefenderClient[AToken], server: WireServer, reply: Reply, gone: bool
) -> None:
    server.default = reply
    assert client.delete("7") is gone


@pytest.mark.parametrize(
    "reply",
    [
        Reply(404, b"<html>no such site</html>", {"Content-Type": "text/html"}),
        Reply(404, b""),
        Reply(404, {"error": {"code": "NoRoute", "message": "a gateway's own"}}),
        Reply(200, b"<html>Welcome</html>", {"Content-Type": "text/html"}),
    ],
)
def test_defender_deletion_is_not_taken_as_done_on_somebody_elses_word(
    client: DefenderClient[AToken], server: WireServer, reply: Reply
) -> None:
    server.default = reply
    with pytest.raises(DeniedError):
        client.delete("7")
    with pytest.raises(DeniedError):
        client.batch_delete(["7", "8"])
