"""Listing, filters, deletion and the probe, against a real TLS server."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.defender.client import DefenderClient
from shared.errors import DeniedError, UnavailableError
from tests.defender_bodies import AToken, Tokens, error
from tests.wire_server import Certificates, Reply, WireServer, make_certificates, serve


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


# --- the list --------------------------------------------------------------------------------------------------------


def listed(*numbers: int, link: str | None = None) -> Reply:
    rows = [{"id": str(n), "indicatorValue": f"{n}.example", "indicatorType": "DomainName"} for n in numbers]
    return Reply(body={"value": rows} | ({"@odata.nextLink": link} if link else {}))


def test_defender_list_goes_on_by_skip_until_a_short_page(client: DefenderClient[AToken], server: WireServer) -> None:
    server.script.extend([listed(1, 2), listed(2, 3), listed(4)])
    permits = iter([None, None, None])
    found = [r["id"] for r in client.list_indicators(top=2, before_call=lambda: next(permits))]
    assert found == ["1", "2", "3", "4"], "a row that moved is told once"
    assert [r.target for r in server.requests] == [
        "/api/indicators?$top=2",
        "/api/indicators?$top=2&$skip=2",
        "/api/indicators?$top=2&$skip=4",
    ]


def test_defender_list_follows_next_links(client: DefenderClient[AToken], server: WireServer) -> None:
    base = f"https://localhost:{server.port}"
    server.script.extend([listed(1, link=f"{base}/api/indicators?$skiptoken=x%20y"), listed(2)])
    assert [r["id"] for r in client.list_indicators()] == ["1", "2"]
    assert server.requests[1].target == "/api/indicators?$skiptoken=x%20y"


def test_defender_list_begins_where_it_is_told_and_keeps_what_it_is_told(
    client: DefenderClient[AToken], server: WireServer
) -> None:
    """Rows are made smaller while they are read; whatever else is in the answer stays whole."""
    whole = listed(7, 8)
    whole.body["value"][0]["certificateInfo"] = {"issuer": "x"}
    server.script.extend([whole, listed(9)])
    page = client.list_page("action eq 'Block'", 2, skip=5, keep=lambda row: {"id": row["id"]})
    assert page.rows == ({"id": "7"}, {"id": "8"}) and page.cursor == "skip:7"
    page = client.list_page("action eq 'Block'", 2, skip=5, cursor=page.cursor, keep=lambda row: {"id": row["id"]})
    assert page.rows == ({"id": "9"},) and page.cursor is None
    assert [r.target for r in server.requests] == [
        "/api/indicators?$top=2&$filter=action%20eq%20%27Block%27&$skip=5",
        "/api/indicators?$top=2&$filter=action%20eq%20%27Block%27&$skip=7",
    ]


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/api/indicators",
        "//evil.example/api/indicators",
        "http://localhost:{port}/api/indicators",
        "https://localhost:{port}@evil.example/api/",
        "https://localhost:{port}/other",
        "/api/indicators?$top=10000",
    ],
)
def test_defender_next_link_stays_with_us(client: DefenderClient[AToken], server: WireServer, link: str) -> None:
    """The token goes wherever the link leads; and a link to its own page would never end."""
    server.default = listed(1, link=link.format(port=server.port))
    with pytest.raises(DeniedError, match="next link"):
        list(client.list_indicators())
    assert len(server.requests) == 1


def test_defender_p15_a_listing_that_breaks_off_is_an_error(client: DefenderClient[AToken], server: WireServer) -> None:
    """Never a short list: who deletes what is missing from it would delete everything."""
    server.script.extend([listed(1, 2), Reply(500)])
    with pytest.raises(UnavailableError):
        list(client.list_indicators(top=2))


HOSTILE = "http://e.example/dl?id=12&tok=a'b''c&x=%27%2541+y z#frag;\u00e4\u20ac\\\""


@pytest.mark.parametrize("value", [HOSTILE, "a' or 1 eq 1 or 'a' eq 'a", "100%25", "~.-_!*()"])
def test_defender_p12_values_arrive_whole_in_the_filter(
    client: DefenderClient[AToken], server: WireServer, value: str
) -> None:
    """P12: quotes doubled for OData, then everything percent-encoded."""
    server.default = listed()
    client.by_value("Url", value)
    query = urlsplit(server.requests[0].target).query
    assert parse_qs(query)["$filter"] == [f"indicatorValue eq '{value.replace(chr(39), chr(39) * 2)}'"]
    assert query.count("&") == 1 and "+" not in query.split("$filter=")[1]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=60))
def test_defender_p12_any_value_survives_the_wire(
    client: DefenderClient[AToken], server: WireServer, value: str
) -> None:
    server.requests.clear()
    server.default = listed()
    client.by_value("Url", value)
    sent = unquote(server.requests[0].target.split("$filter=")[1]).removeprefix("indicatorValue eq '").removesuffix("'")
    assert sent.replace("''", "'") == value


def test_defender_by_value_keeps_to_the_type(client: DefenderClient[AToken], server: WireServer) -> None:
    rows = [{"id": "1", "indicatorType": "Url"}, {"id": "2", "indicatorType": "DomainName"}, {"id": "3"}]
    server.default = Reply(body={"value": rows})
    assert [r["id"] for r in client.by_value("DomainName", "a.example")] == ["2"]


# --- deletion and probe ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "deleted"), [(204, True), (200, True), (404, False)])
def test_defender_delete(client: DefenderClient[AToken], server: WireServer, status: int, deleted: bool) -> None:
    server.default = Reply(status, error("ResourceNotFound", "Resource 17 wasn't found") if status == 404 else None)
    assert client.delete("17/../18") is deleted
    assert (server.requests[0].method, server.requests[0].target) == ("DELETE", "/api/indicators/17%2F..%2F18")


def test_defender_delete_that_is_refused(client: DefenderClient[AToken], server: WireServer) -> None:
    server.default = Reply(403)
    with pytest.raises(DeniedError):
        client.delete("17")


def test_defender_batch_delete(client: DefenderClient[AToken], server: WireServer) -> None:
    server.script.extend([Reply(204), Reply(404, error("ResourceNotFound", "Resource 5 wasn't found"))])
    client.batch_delete(["1", "2"])
    assert server.requests[0].json() == {"IndicatorIds": ["1", "2"]}
    with pytest.raises(DeniedError) as caught:
        client.batch_delete(["1", "5"])
    assert caught.value.status == 404
    with pytest.raises(ValueError, match="1 to 500"):
        client.batch_delete([])


def test_defender_probe_is_one_small_list(client: DefenderClient[AToken], server: WireServer) -> None:
    server.default = listed(1)
    client.probe()
    assert [r.target for r in server.requests] == ["/api/indicators?$top=1"]
