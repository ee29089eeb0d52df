"""What is logged and counted, and what is kept out of it."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from shared.redaction import BLOT, redact, shorten
from shared.telemetry import (
    JsonFormatter,
    Metrics,
    alarm,
    configure_logging,
    get_logger,
    install_redaction,
    log_event,
    metrics,
)
from shared.telemetry_export import provide, start_export

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJyb2xlcyI6WyJUaSJdfQ.c2lnbmF0dXJl"
SECRET = "abc8Q~0123456789-0123456789-0123456789"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Everything that the root logger writes, as the JSON formatter writes it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    root, factory = logging.getLogger(), logging.getLogRecordFactory()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    configure_logging("DEBUG")
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)
    logging.setLogRecordFactory(factory)
    logging.getLogger("relay").setLevel(logging.NOTSET)


def read(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {JWT}",
        "authorization: bearer opaque-token-0123456789",
        f"token {JWT} end",
        f"client_secret={SECRET}&scope=x",
        '{"client_secret": "what-ever-it-is"}',
        "{'access_token': 'opaque-0123456789'}",
        "client_assertion=opaque-0123456789&x=1",
        "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=c2VjcmV0c2VjcmV0;EndpointSuffix=x",
        "https://a.blob.core.windows.net/c/b?sv=2024&sig=c2VjcmV0c2VjcmV0%3D&se=1",
        "https://app.example/api/submissions?code=c2VjcmV0c2VjcmV0",
        "SharedKey account:c2VjcmV0c2VjcmV0",
        f"it is '{SECRET}'",
        "x-functions-key: c2VjcmV0c2VjcmV0",
    ],
)
def test_telemetry_p13_credentials_are_blotted_out(text: str) -> None:
    """P13: not even a part of them is left."""
    cleared = redact(text)
    assert BLOT in cleared
    for secret in (JWT, JWT[:20], JWT[-9:], SECRET, SECRET[:8], "opaque", "what-ever", "c2VjcmV0", "0123456789"):
        assert secret not in cleared


@pytest.mark.parametrize(
    "text",
    [
        'Bearer authorization="https://login.microsoftonline.com/tenant", resource="https://vault.azure.net"',
        "code: AADSTS7000215, the bearer of bad news",
        "evil.example 203.0.113.1 d41d8cd98f00b204e9800998ecf8427e",
        "https://evil.example/dl?id=12&tok=abc",
    ],
)
def test_telemetry_ordinary_text_is_left_alone(text: str) -> None:
    assert redact(text) == text


def test_telemetry_known_secrets_go_whatever_their_shape() -> None:
    assert redact("pass word, password", "word", "") == f"pass {BLOT}, pass{BLOT}"
    assert shorten("a\n b\t c" + "d" * 20, 10) == "a b cdd..."


def test_telemetry_an_event_is_one_json_line(lines: io.StringIO) -> None:
    log_event(
        get_logger("publish"), logging.INFO, "call", submission="s1", incident=None, sent=500, ok=True, parts=["a", 1]
    )
    (line,) = read(lines)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "INFO",
        "logger": "relay.publish",
        "event": "call",
        "submission": "s1",
        "sent": 500,
        "ok": True,
        "parts": ["a", 1],
    }


def test_telemetry_an_event_is_whole_without_our_formatter(caplog: pytest.LogCaptureFixture) -> None:
    """The Functions host keeps the text of a record and nothing else."""
    with caplog.at_level(logging.INFO, "relay"):
        log_event(get_logger("publish"), logging.INFO, "call", call="c1", level="mine")
    assert json.loads(caplog.messages[0]) == {"event": "call", "call": "c1", "level": "mine"}


def test_telemetry_fields_cannot_take_the_lines_own_names(lines: io.StringIO) -> None:
    log_event(get_logger("x"), logging.WARNING, "e", level_="b", time="never", logger="another")
    (line,) = read(lines)
    assert (line["time_"], line["logger_"], line["logger"]) == ("never", "another", "relay.x")


def test_telemetry_p13_no_line_shows_a_credential_whoever_wrote_it(
    lines: io.StringIO, caplog: pytest.LogCaptureFixture
) -> None:
    """P13: our own fields, other people's arguments, exceptions and their causes."""
    for name in ("azure", "msal"):
        # Other tests of this process may have quietened them.
        caplog.set_level(logging.DEBUG, name)
    log_event(get_logger("x"), logging.INFO, "e", why=f"Bearer {JWT}", deep={"a": [JWT]}, long="x" * 5000)
    logging.getLogger("azure.core").info("headers %s", {"Authorization": f"Bearer {JWT}"})
    logging.getLogger("msal").debug("client_secret=%s", SECRET)
    try:
        try:
            raise ValueError(f"inner {JWT}")
        except ValueError as error:
            raise RuntimeError(f"outer client_secret={SECRET}") from error
    except RuntimeError:
        logging.getLogger("other").exception("it broke")
        log_event(get_logger("x"), logging.ERROR, "broke", exc_info=True)
    text = lines.getvalue()
    assert "inner" in text and "outer" in text and len(read(lines)) == 5
    assert JWT not in text and SECRET not in text and "0123456789" not in text
    assert len(read(lines)[0]["long"]) == 2000


def test_telemetry_a_bad_format_is_left_to_logging(lines: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logging.getLogger("other").info("%d items", "three")
    logging.getLogger("other").info("still here")
    assert [line["message"] for line in read(lines)] == ["still here"]


def test_telemetry_redaction_is_put_in_place_once(lines: io.StringIO) -> None:
    factory = logging.getLogRecordFactory()
    install_redaction()
    assert logging.getLogRecordFactory() is factory


def test_telemetry_levels(lines: io.StringIO) -> None:
    configure_logging("warning")
    log_event(get_logger("x"), logging.INFO, "quiet")
    log_event(get_logger("x"), logging.WARNING, "loud")
    assert [line["event"] for line in read(lines)] == ["loud"]
    with pytest.raises(ValueError, match="LOUD"):
        configure_logging("loud")


# --- metrics ---------------------------------------------------------------------------------------------------------


def filled() -> Metrics:
    made = Metrics(clock=lambda: 1000.0)
    made.accepted(499)
    made.rejected("private_address")
    made.rejected("private_address", 2)
    made.rejected("The service said: no!")
    made.deferred(3)
    made.dead()
    made.call("import", "ok")
    made.throttled("import")
    made.alarm("denied")
    made.heartbeat()
    made.batch_fill(500)
    made.permit_wait(0.25)
    made.time_to_publish(2)
    made.time_to_publish(1_000_000)
    made.queue_depth(7)
    made.oldest_pending(12.5)
    return made


def test_telemetry_snapshot_tells_all() -> None:
    shown = filled().snapshot()
    assert shown["counters"]["accepted"] == {"total": 499, "by": []}
    assert shown["counters"]["rejected"] == {
        "total": 4,
        "by": [{"reason": "other", "count": 1}, {"reason": "private_address", "count": 3}],
    }
    assert shown["counters"]["calls"]["by"] == [{"route": "import", "outcome": "ok", "count": 1}]
    assert shown["histograms"]["batch_fill"]["buckets"]["500"] == 1
    assert shown["histograms"]["time_to_publish"]["count"] == 2
    assert shown["histograms"]["time_to_publish"]["max"] == 1_000_000
    assert shown["gauges"] == {"queue_depth": 7, "oldest_pending": 12.5}
    assert shown["last_heartbeat"] == 1000.0
    json.dumps(shown)
    assert Metrics().snapshot()["histograms"]["batch_fill"] == {"count": 0, "sum": 0.0}


def test_telemetry_a_gauge_that_nobody_renews_is_told_no_more() -> None:
    """The timers have moved to another instance, whose gauges are the true ones."""
    now = [1000.0]
    made = Metrics(clock=lambda: now[0])
    assert made.gauge("paused") is None
    made.stopped(60.0, 0.0)
    made.capacity(81.5)
    made.secret_days(29.9)
    now[0] += 179
    assert [made.gauge(name) for name in ("paused", "held", "capacity", "secret_days")] == [60.0, 0.0, 81.5, 29.9]
    made.stopped(0.0, 0.0)
    now[0] += 1
    assert [made.gauge(name) for name in ("paused", "held", "capacity", "secret_days")] == [0.0, 0.0, None, None]


def test_telemetry_labels_are_bounded() -> None:
    made = Metrics()
    for number in range(500):
        made.rejected(f"reason_{number}")
    rejected = made.snapshot()["counters"]["rejected"]
    assert rejected["total"] == 500 and len(rejected["by"]) <= 61


def test_telemetry_counts_of_many_threads_add_up() -> None:
    made = Metrics()
    threads = [threading.Thread(target=lambda: [made.accepted() for _ in range(1000)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made.snapshot()["counters"]["accepted"]["total"] == 8000


def test_telemetry_alarm_is_a_line_and_a_count(caplog: pytest.LogCaptureFixture) -> None:
    metrics.cache_clear()
    alarm("denied", f"Defender answered 403 to Bearer {JWT}", status=403)
    line = json.loads(caplog.messages[0])
    assert caplog.records[0].levelno == logging.ERROR and line["event"] == "alarm" and line["kind"] == "denied"
    assert JWT not in caplog.text
    assert metrics().snapshot()["counters"]["alarm"]["by"] == [{"kind": "denied", "count": 1}]
    metrics.cache_clear()


def test_telemetry_opentelemetry_gets_what_came_before_it_and_after() -> None:
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    made = filled()
    reader = InMemoryMetricReader()
    provider = provide(made, reader)
    made.accepted()
    made.time_to_publish(3)
    data = reader.get_metrics_data()
    assert data is not None
    found = {m.name: m.data.data_points for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics}
    assert {p.value for p in found["relay.accepted"]} == {500}  # type: ignore[union-attr]
    assert {(p.attributes or {}).get("reason"): p.value for p in found["relay.rejected"]} == {  # type: ignore[union-attr]
        "private_address": 3,
        "other": 1,
    }
    assert [(p.count, p.sum) for p in found["relay.time_to_publish"]] == [(3, 1_000_005)]  # type: ignore[union-attr]
    assert [p.value for p in found["relay.oldest_pending"]] == [12.5]  # type: ignore[union-attr]
    assert len(found) == 13
    provider.shutdown()


def test_telemetry_nothing_is_exported_without_a_connection_string() -> None:
    before = threading.active_count()
    assert start_export(Metrics(), {}) is False
    assert start_export(Metrics(), {"APPLICATIONINSIGHTS_CONNECTION_STRING": " "}) is False
    assert threading.active_count() == before


def test_telemetry_a_bad_connection_string_is_logged_and_harmless(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STATSBEAT_DISABLED_ALL", "CONTROLPLANE_DISABLED", "SDKSTATS_DISABLED"):
        # Set by the product too; here so that they are taken back after the test.
        monkeypatch.setenv(f"APPLICATIONINSIGHTS_{name}", "true")
    assert start_export(Metrics(), {"APPLICATIONINSIGHTS_CONNECTION_STRING": "nonsense"}, delay=0) is True
    for thread in threading.enumerate():  # unless it has come to its end already
        if thread.name == "telemetry-export":
            thread.join(60)
    assert "telemetry_export_failed" in caplog.text and "nonsense" not in caplog.text


def test_telemetry_p19_nothing_heavy_is_imported_and_nothing_read_at_import() -> None:
    """P19: the app loads whatever the state of vault and network; and it loads fast."""
    code = (
        "import sys, socket\n"
        "socket.socket.connect = lambda *a: sys.exit('network at import')\n"
        "import shared.telemetry, shared.telemetry_export, shared.health, shared.identity.tokens\n"
        "import shared.defender.client, shared.defender.limits\n"
        "from shared.settings import Settings\n"
        "from shared.identity.tokens import build_identity\n"
        "from shared.health import start_up_line\n"
        "there = build_identity(Settings(tenant_id='t', client_id='c', vault_url='https://v.invalid'))\n"
        "shared.defender.client.DefenderClient(there.endpoints.api, there.tokens)\n"
        "start_up_line(Settings())\n"
        "heavy = {'azure', 'azure.core', 'azure.identity', 'msal', 'requests', 'urllib3', 'opentelemetry'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_the_sdks_do_not_log_each_request() -> None:
    configure_logging("DEBUG")
    for name in ("azure.core.pipeline.policies.http_logging_policy", "azure.identity", "msal", "urllib3"):
        assert not logging.getLogger(name).isEnabledFor(logging.INFO), name
