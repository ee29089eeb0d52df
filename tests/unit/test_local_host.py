"""host.json, routes, schedules and back-off of the host double: the rules that need no process."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest

from local.host import hostjson
from local.host.hostjson import HostConfigError, QueueOptions
from local.host.queues import Backoff
from local.host.queueservice import Account
from local.host.routes import Router
from local.host.runtime import Function
from local.host.timers import Schedule, intervals

ROOT = Path(__file__).resolve().parents[2]


def write(folder: Path, **queues: object) -> Path:
    (folder / "host.json").write_text(json.dumps({"version": "2.0", "extensions": {"queues": queues}}), "utf-8")
    return folder


def test_the_apps_own_host_json_is_read() -> None:
    config = hostjson.load(ROOT, {})
    assert config.route_prefix == "api"
    assert config.queues == QueueOptions(
        batch_size=32,
        new_batch_threshold=1000,
        max_polling_interval=2.0,
        max_dequeue_count=10,
        visibility_timeout=30.0,
        encoded=False,
    )


def test_defaults_are_the_extensions_own(tmp_path: Path) -> None:
    options = hostjson.load(write(tmp_path), {}).queues
    assert (options.batch_size, options.max_dequeue_count, options.visibility_timeout) == (16, 5, 0.0)
    assert (options.max_polling_interval, options.encoded) == (60.0, True)


def test_an_application_setting_wins_in_any_case(tmp_path: Path) -> None:
    write(tmp_path, batchSize=8)
    found = hostjson.load(tmp_path, {"AzureFunctionsJobHost__extensions__Queues__BATCHSIZE": "2"})
    assert found.queues.batch_size == 2


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("batchSize", 0),
        ("batchSize", 33),
        ("newBatchThreshold", -1),
        ("maxDequeueCount", 0),
        ("maxPollingInterval", "00:00:00.050"),
        ("visibilityTimeout", "30"),
        ("messageEncoding", "utf8"),
    ],
)
def test_values_out_of_bounds_are_refused(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(HostConfigError):
        hostjson.load(write(tmp_path, **{key: value}), {})


@pytest.mark.parametrize(
    ("text", "seconds"), [("00:00:02", 2.0), ("00:10:00", 600.0), ("1.02:03:04.5", 93784.5), ("00:00:00.100", 0.1)]
)
def test_time_spans(text: str, seconds: float) -> None:
    assert hostjson.seconds(text) == seconds


def test_settings_in_binding_expressions() -> None:
    assert hostjson.expand("%A%-x", {"A": "b"}) == "b-x"
    with pytest.raises(HostConfigError, match="%C%"):
        hostjson.expand("%C%", {})


def function(name: str, route: str, *methods: str) -> Function:
    trigger = {"type": "httpTrigger", "name": "req", "route": route, "methods": list(methods)}
    return Function(name, name, trigger, (trigger,))


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/api/a/b", ("B_Literal", {})),
        ("GET", "/api/a/7", ("C_Number", {"n": "7"})),
        ("GET", "/api/a/x", ("D_Any", {"x": "x"})),
        ("GET", "/api/a/x/y/z", ("E_Rest", {"rest": "x/y/z"})),
        ("GET", "/api/a/", ("E_Rest", {"rest": ""})),
        ("GET", "/api/opt", ("Optional", {})),
        ("GET", "/api/opt/1", ("Optional", {"x": "1"})),
        ("GET", "/api/opt/1/2", None),
        ("POST", "/api/a/b", None),
        ("GET", "/other/a/b", None),
        ("DELETE", "/api/all", ("All", {})),
    ],
)
def test_routing(method: str, path: str, expected: tuple[str, dict[str, str]] | None) -> None:
    router = Router(
        [
            function("E_Rest", "a/{*rest}", "get"),
            function("D_Any", "a/{x}", "get"),
            function("C_Number", "a/{n:int}", "get"),
            function("B_Literal", "A/B", "get"),
            function("Optional", "opt/{x?}", "get"),
            function("All", "all"),
        ],
        "api",
    )
    found = router.find(method, path)
    assert (None if found is None else (found[0].function.name, found[1])) == expected


def test_names_decide_and_not_templates() -> None:
    """As the host does: a catch-all whose name comes first takes what is meant for the literal."""
    router = Router([function("B", "a/b", "get"), function("A", "{*rest}", "get")], "api")
    found = router.find("GET", "/api/a/b")
    assert found is not None and found[0].function.name == "A"


def test_a_route_it_cannot_serve_is_refused() -> None:
    for route in ("a-{x}", "a/{x:colour}"):
        with pytest.raises(HostConfigError):
            Router([function("F", route)], "api")


@pytest.mark.parametrize(
    ("schedule", "moment", "expected"),
    [
        ("0 */5 * * * *", "2026-11-21T10:02:30", "2026-11-21T10:05:00"),
        ("0 */5 * * * *", "2026-11-21T10:05:00", "2026-11-21T10:10:00"),
        ("30 15 3 * * *", "2026-11-21T03:15:30", "2026-11-22T03:15:30"),
        ("0 0 0 29 2 *", "2026-11-21T00:00:00", "2028-02-29T00:00:00"),
        ("0 30 9 * * Mon-Fri", "2026-11-21T00:00:00", "2026-11-23T09:30:00"),
        ("0 0 12 1 Jan,Jul *", "2026-11-21T00:00:00", "2027-01-01T12:00:00"),
        ("*/20 * * * * *", "2026-11-21T23:59:45", "2026-11-22T00:00:00"),
        ("15 10 * * *", "2026-11-21T23:59:45", "2026-11-22T10:15:00"),
    ],
)
def test_schedules(schedule: str, moment: str, expected: str) -> None:
    found = Schedule.parse(schedule).after(dt.datetime.fromisoformat(moment).replace(tzinfo=dt.UTC))
    assert found == dt.datetime.fromisoformat(expected).replace(tzinfo=dt.UTC)


@pytest.mark.parametrize("schedule", ["* * * *", "61 * * * * *", "0 0 0 x * *", "0 5-99 * * * *"])
def test_a_schedule_that_is_none_is_refused(schedule: str) -> None:
    with pytest.raises(HostConfigError):
        Schedule.parse(schedule)


def test_intervals_of_timers() -> None:
    assert intervals(["Sweep=0.5", "Poison=2"]) == {"Sweep": 0.5, "Poison": 2.0}
    for wrong in ("Sweep", "Sweep=0", "Sweep=x"):
        with pytest.raises(HostConfigError):
            intervals([wrong])


def test_back_off_grows_from_100_ms_to_its_bound_and_starts_again() -> None:
    backoff = Backoff(2.0)
    delays = [backoff.after(False) for _ in range(12)]
    assert delays[0] == 0.1
    assert all(0.1 <= delay <= 2.0 for delay in delays)
    assert delays[-1] == 2.0
    assert backoff.after(True) == 0.1
    assert backoff.after(False) == 0.1


def test_a_connection_string_without_a_key_is_refused_without_being_shown() -> None:
    with pytest.raises(ValueError, match="AccountName and AccountKey") as caught:
        Account.parse("AccountName=x;SharedAccessSignature=very-secret")
    assert "very-secret" not in str(caught.value)
