"""The genuine exporter against a loopback ingestion endpoint: what arrives, who signs in, and whom it talks to."""

from __future__ import annotations

import gzip
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from shared.telemetry import Metrics
from shared.telemetry_export import application_insights, provide
from tests.wire_server import Reply, Request, WireServer, make_certificates, serve

KEY = "00000000-0000-4000-8000-000000000001"
TOKEN = "eyJhbGciOiJub25lIn0.eyJhdWQiOiJtb25pdG9yIn0.signature"


@pytest.fixture
def ingestion(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[WireServer]:
    certificates = make_certificates(tmp_path_factory.mktemp("tls"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.file))
    # Set by the product too; here so that they are taken back after the test.
    for name in ("STATSBEAT_DISABLED_ALL", "CONTROLPLANE_DISABLED", "SDKSTATS_DISABLED"):
        monkeypatch.setenv(f"APPLICATIONINSIGHTS_{name}", "true")
    with serve(certificates) as server:
        server.default = lambda request: Reply(
            body={"itemsReceived": len(sent(request)), "itemsAccepted": len(sent(request)), "errors": []}
        )
        yield server


def sent(request: Request) -> list[dict[str, Any]]:
    body = gzip.decompress(request.body) if request.body[:2] == b"\x1f\x8b" else request.body
    return list(json.loads(body))


def export(ingestion: WireServer) -> list[Request]:
    metrics = Metrics()
    metrics.accepted(500)
    metrics.rejected("private_address", 2)
    metrics.time_to_publish(1.5)
    metrics.heartbeat()
    string = f"InstrumentationKey={KEY};IngestionEndpoint=https://localhost:{ingestion.port}/"
    provider = provide(metrics, application_insights(string))
    provider.force_flush()
    provider.shutdown()
    return ingestion.requests


def test_telemetry_metrics_arrive_and_nobody_else_is_told(
    ingestion: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts: set[str] = set()
    genuine = socket.getaddrinfo

    def watched(host: Any, *rest: Any, **more: Any) -> Any:
        hosts.add(str(host))
        return genuine(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", watched)
    requests = export(ingestion)
    points = [
        (metric["name"], metric["value"], item["data"]["baseData"].get("properties", {}))
        for request in requests
        for item in sent(request)
        for metric in item["data"]["baseData"]["metrics"]
    ]
    assert ("relay.accepted", 500, {}) in points
    assert ("relay.rejected", 2, {"reason": "private_address"}) in points
    assert ("relay.time_to_publish", 1.5, {}) in points
    assert ("relay.heartbeat", 1, {}) in points
    assert all(request.target.endswith("/track") for request in requests)
    assert all("Authorization" not in request.headers for request in requests)
    assert hosts == {"localhost"}


def test_telemetry_signs_in_with_the_managed_identity_when_asked(
    ingestion: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(None) as identity:
        identity.default = Reply(
            body={"access_token": TOKEN, "expires_on": str(int(time.time()) + 3600), "token_type": "Bearer"}
        )
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://localhost:{identity.port}/msi/token")
        monkeypatch.setenv("IDENTITY_HEADER", "header")
        monkeypatch.setenv("APPLICATIONINSIGHTS_AUTHENTICATION_STRING", "ClientId=the-identity;Authorization=AAD")
        requests = export(ingestion)
        assert "client_id=the-identity" in identity.requests[0].target
    assert requests and all(request.headers["Authorization"] == f"Bearer {TOKEN}" for request in requests)
