"""The rules of the tenant double that need no socket: quota, time, filter, what is refused."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest

from local.tenant.clock import dotnet, parse
from local.tenant.indicators import PROPERTIES
from local.tenant.metrics import most_in
from local.tenant.odata import ODataError, parse_count, parse_filter
from local.tenant.rules import Rules
from local.tenant.throttle import Throttle
from local.tenant.validation import check

KEY = ("import", "tenant", "app")


class Ticker:
    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


def item(value: str = "a" * 64, kind: str = "FileSha256", action: str = "Block", **more: Any) -> dict[str, Any]:
    return {"indicatorValue": value, "indicatorType": kind, "action": action, "title": "t", "description": "d", **more}


class TestThrottle:
    def test_the_call_after_the_last_allowed_one_waits_until_the_window_has_moved(self) -> None:
        now = Ticker()
        throttle = Throttle(now)
        for _ in range(30):
            assert throttle.arrive(KEY, [(30, 60.0)]) is None
            now.at += 1
        verdict = throttle.arrive(KEY, [(30, 60.0)])
        assert verdict is not None
        # The refused arrival counts: the window opens when the second of the thirty has left it.
        assert verdict == (30, 60.0, 31.0)
        now.at += 31
        assert throttle.arrive(KEY, [(30, 60.0)]) is None

    def test_an_early_retry_earns_another_refusal(self) -> None:
        now = Ticker()
        throttle = Throttle(now)
        for _ in range(30):
            throttle.arrive(KEY, [(30, 60.0)])
        for _ in range(29):
            now.at += 2
            assert throttle.arrive(KEY, [(30, 60.0)]) is not None
        now.at = 1060.0
        assert throttle.arrive(KEY, [(30, 60.0)]) is None, "29 refused ones are in the window, the thirty are not"
        assert throttle.arrive(KEY, [(30, 60.0)]) is not None

    def test_refused_arrivals_need_not_count(self) -> None:
        now = Ticker()
        throttle = Throttle(now)
        for _ in range(30):
            throttle.arrive(KEY, [(30, 60.0)], count_refused=False)
        now.at += 59.5
        for _ in range(40):
            verdict = throttle.arrive(KEY, [(30, 60.0)], count_refused=False)
            assert verdict is not None and verdict[2] == pytest.approx(0.5)
        now.at += 0.5
        assert throttle.arrive(KEY, [(30, 60.0)], count_refused=False) is None

    def test_the_hour_binds_when_the_minute_does_not(self) -> None:
        now = Ticker()
        throttle = Throttle(now)
        limits = [(100, 60.0), (1500, 3600.0)]
        for _ in range(1500):
            assert throttle.arrive(KEY, limits) is None
            now.at += 1
        verdict = throttle.arrive(KEY, limits)
        assert verdict is not None and verdict[:2] == (1500, 3600.0)

    def test_route_tenant_and_app_each_have_a_log_of_their_own(self) -> None:
        throttle = Throttle(Ticker())
        for key in itertools.product(("import", "list"), ("t1", "t2"), ("a1", "a2")):
            assert throttle.arrive((key[0], key[1], key[2]), [(1, 60.0)]) is None
        assert throttle.arrive(("list", "t2", "a2"), [(1, 60.0)]) == (1, 60.0, 60.0)


@pytest.mark.parametrize(
    ("times", "most"), [([], 0), ([0.0], 1), ([0.0, 60.0], 1), ([0.0, 59.9], 2), ([0, 1, 61, 62, 63], 3)]
)
def test_the_most_calls_in_any_minute(times: list[float], most: int) -> None:
    assert most_in(times, 60.0) == most


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("2023-05-04T16:08:56.7716458Z", "2023-05-04T16:08:56.771645Z"),  # the seventh digit is not read
        ("2024-12-12T00:00:00Z", "2024-12-12T00:00:00Z"),
        ("2024-12-12T00:00:00.0Z", "2024-12-12T00:00:00Z"),
        ("2024-12-12T02:30:00+02:30", "2024-12-12T00:00:00Z"),
        ("2024-12-12T00:00:00.32259800", "2024-12-12T00:00:00.322598Z"),
    ],
)
def test_times_are_written_as_dotnet_does(text: str, written: str) -> None:
    assert dotnet(parse(text)) == written
    assert dotnet(parse("1970-01-01T00:00:00Z") + 1) == "1970-01-01T00:00:00.0000001Z"


@pytest.mark.parametrize("text", ["tomorrow", "2024-12-12", "", "2024-13-12T00:00:00Z"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


class TestFilter:
    ROW: dict[str, Any] = dict.fromkeys(PROPERTIES) | {
        "indicatorValue": "http://a.example/b?c=1&d='x'",
        "indicatorType": "Url",
        "action": "Block",
        "severity": "High",
        "generateAlert": True,
        "expirationTime": "2030-01-01T00:00:00Z",
    }

    @pytest.mark.parametrize(
        "text",
        [
            "action eq 'Block'",
            "indicatorValue eq 'http://a.example/b?c=1&d=''x'''",
            "indicatorType in ['Url', 'DomainName']",
            "indicatorType in ('Url')",
            "action eq 'Audit' or severity eq 'High' and generateAlert eq true",
            "not (action eq 'Audit')",
            "action ne 'Audit'",
            "expirationTime gt 2029-12-31T00:00:00Z and expirationTime le 2030-01-01T00:00:00Z",
            "title eq null",
        ],
    )
    def test_it_matches(self, text: str) -> None:
        assert parse_filter(text).matches(self.ROW)

    @pytest.mark.parametrize(
        "text",
        ["action eq 'block'", "action eq 'Audit' or severity eq 'Low'", "expirationTime lt 2030-01-01T00:00:00Z"],
    )
    def test_it_does_not_match(self, text: str) -> None:
        assert not parse_filter(text).matches(self.ROW)

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("indicatorValue eq 'http://a.example/b?c=1", "unterminated string literal"),
            ("externalId eq 'x'", "cannot be used"),
            ("action like 'x'", "no operator"),
            ("action eq", "ends too early"),
            ("action eq 'x' severity", "Syntax error"),
            ("action in 'x'", "expected after 'in'"),
            ("action in ['x'", "expected"),
            ("(action eq 'x'", "')' expected"),
            ("expirationTime gt 'x'", "incompatible types"),
            ("generateAlert eq 'True'", "incompatible types"),
            ("action eq Block", "Could not find"),
            ("", "ends too early"),
        ],
    )
    def test_it_is_refused(self, text: str, reason: str) -> None:
        with pytest.raises(ODataError, match="(?i)" + reason.replace("(", r"\(").replace(")", r"\)")):
            parse_filter(text)

    def test_a_value_that_must_be_equal_narrows_the_search(self) -> None:
        assert parse_filter("action eq 'Block' and indicatorValue eq 'x'").value == "x"
        assert parse_filter("action eq 'Block' or indicatorValue eq 'x'").value is None
        assert parse_filter("not indicatorValue eq 'x'").value is None

    @pytest.mark.parametrize("text", ["-1", "x", "10001", ""])
    def test_a_bad_top_is_refused(self, text: str) -> None:
        with pytest.raises(ODataError):
            parse_count(text, "top", 10_000)


SOON = parse("2029-01-01T00:00:00Z")
BATCH_FAULTS = [
    ("malformed", item(kind="filesha256"), "InvalidRequestBody", "Request body is incorrect"),
    ("malformed", item(action="block"), "InvalidRequestBody", "Request body is incorrect"),
    ("malformed", item(severity="high"), "InvalidRequestBody", "Request body is incorrect"),
    ("malformed", item(generateAlert="True"), "InvalidRequestBody", "Request body is incorrect"),
    ("malformed", item(title=5), "InvalidRequestBody", "Request body is incorrect"),
    ("malformed", item(expirationTime="soon"), "InvalidRequestBody", "Request body is incorrect"),
    ("malformed", item(Severity="High"), "InvalidRequestBody", "Request body is incorrect"),
    ("missing", item(title=None), "MissingRequiredParameter", "Parameter title is missing"),
    (
        "missing",
        {**{k: v for k, v in item().items() if k != "indicatorValue"}, "IndicatorValue": "x"},
        "MissingRequiredParameter",
        "Parameter indicatorValue is missing",
    ),
    ("empty_value", item(" "), "InvalidInput", "Recieved an empty indicator value."),
    ("whitespace", item("a" * 64 + " "), "InvalidInput", f"Invalid input {'a' * 64} "),
    (
        "expired",
        item("8.8.8.8", "IpAddress", expirationTime="2029-01-01T00:00:00Z"),
        "BadRequest",
        "Indicator 8.8.8.8 is inactive. (Expiration time should be set to a future date time)",
    ),
    ("audit_without_alert", item(action="Audit"), "InvalidInput", "generateAlert"),
]
ITEM_FAULTS = [
    ("hash", item("a" * 63), "InvalidHashValue", f"Hash value {'a' * 63} is invalid"),
    ("hash", item("g" * 40, "FileSha1"), "InvalidHashValue", f"Hash value {'g' * 40} is invalid"),
    ("thumbprint", item("a" * 64, "CertificateThumbprint", "Allowed"), "InvalidHashValue", "Hash value"),
    ("domain", item("*.evil.example", "DomainName"), "InvalidDomainName", "Domain name *.evil.example is invalid"),
    ("domain", item("http://evil.example", "DomainName"), "InvalidDomainName", "Domain name"),
    ("domain", item("8.8.8.8", "DomainName"), "InvalidDomainName", "Domain name"),
    ("ip", item("8.8.8.0/24", "IpAddress"), "InvalidIpAddress", "IP address 8.8.8.0/24 is invalid"),
    ("ip", item("2001:4860:4860::8888", "IpAddress"), "InvalidIpAddress", "IP address"),
    ("ip", item("fe80:0:0:0:0:0:0:1%eth0", "IpAddress"), "InvalidIpAddress", "IP address"),
    ("private_ip", item("10.1.2.3", "IpAddress"), "InvalidIpAddress", "IP address 10.1.2.3 is invalid"),
    ("private_ip", item("fc00:0:0:0:0:0:0:1", "IpAddress"), "InvalidIpAddress", "IP address"),
    ("url", item("http://no spaces.example", "Url"), "InvalidUrl", "URL http://no spaces.example is invalid"),
    ("network_remediate", item("8.8.8.8", "IpAddress", "BlockAndRemediate"), "InvalidInput", "not supported"),
    ("certificate_action", item("a" * 40, "CertificateThumbprint", "Warn"), "InvalidInput", "not supported"),
    ("legacy_action", item(action="AlertAndBlock"), "InvalidInput", "Invalid input AlertAndBlock"),
]


class TestWhatIsRefused:
    @pytest.mark.parametrize(("name", "given", "code", "message"), BATCH_FAULTS)
    def test_what_sinks_the_request(self, name: str, given: dict[str, Any], code: str, message: str) -> None:
        fault, _ = check(given, Rules(), SOON)
        assert fault is not None and (fault.how, fault.code) == ("batch", code) and message in fault.message

    @pytest.mark.parametrize(("name", "given", "code", "message"), ITEM_FAULTS)
    def test_what_fails_alone(self, name: str, given: dict[str, Any], code: str, message: str) -> None:
        fault, _ = check(given, Rules(), SOON)
        assert fault is not None and (fault.how, fault.code) == ("item", code) and message in fault.message

    @pytest.mark.parametrize(("name", "given", "code", "message"), [*BATCH_FAULTS, *ITEM_FAULTS])
    def test_every_rule_can_be_put_into_the_other_class(
        self, name: str, given: dict[str, Any], code: str, message: str
    ) -> None:
        rules = Rules()
        for how in ("batch", "item"):
            rules.update({"classes": {name: how}})
            fault, _ = check(given, rules, SOON)
            assert fault is not None and fault.how == how

    @pytest.mark.parametrize(("name", "given", "code", "message"), ITEM_FAULTS)
    def test_every_rule_on_values_can_be_lifted(
        self, name: str, given: dict[str, Any], code: str, message: str
    ) -> None:
        rules = Rules()
        rules.update({"classes": {name: "off"}})
        assert check(given, rules, SOON)[0] is None

    @pytest.mark.parametrize(
        "given",
        [
            item(),
            item("a" * 32, "FileMd5"),
            item("a" * 40, "CertificateThumbprint", "BlockAndRemediate"),
            item("203.0.113.1", "IpAddress"),  # a documentation address was taken by the service (recorded)
            item("2001:4860:4860:0:0:0:0:8888", "IpAddress", "Warn"),
            item("xn--bcher-kva.example", "DomainName", "Allowed"),
            item("https://evil.example/p?q=1#f", "Url", "Audit", generateAlert=True),
            item("evil.example/path", "Url"),
            item(expirationTime="2029-01-01T00:00:00.1+00:00"),
            # Read-only properties and strangers are ignored, as clients send them.
            item(id="7", lastUpdateTime="x", createdByDisplayName="y", creationTimeDateTimeUtc=1, stranger={}),
        ],
    )
    def test_what_is_taken(self, given: dict[str, Any]) -> None:
        assert check(given, Rules(), SOON)[0] is None

    def test_switches_for_hashes_and_lengths(self) -> None:
        rules = Rules()
        rules.update({"sha256_thumbprint": True, "classes": {"md5": "item"}, "title_max": 3, "description_max": 3})
        assert check(item("a" * 64, "CertificateThumbprint", "Allowed"), rules, SOON)[0] is None
        for given in (item("a" * 32, "FileMd5"), item(title="long"), item(description="long")):
            fault, _ = check(given, rules, SOON)
            assert fault is not None and fault.how == "item"


class TestRules:
    @pytest.mark.parametrize(
        "change",
        [
            {"nonsense": 1},
            {"classes": {"nonsense": "item"}},
            {"classes": {"hash": "never"}},
            {"classes": {"malformed": "off"}},
            {"limits": {"nonsense": []}},
            {"poison": {"x": "never"}},
            {"capacity": "many"},
            {"capacity": True},
            {"next_link": 1},
        ],
    )
    def test_what_does_not_exist_is_refused(self, change: dict[str, Any]) -> None:
        before = Rules()
        rules = Rules()
        with pytest.raises(ValueError):
            rules.update(change)
        assert rules == before

    def test_dictionaries_are_merged_and_none_removes(self) -> None:
        rules = Rules()
        rules.update({"poison": {"x": "batch", "y": "item"}, "service_time": {"import": 0.0}})
        rules.update({"poison": {"x": None}})
        assert rules.poison == {"y": "item"}
        assert rules.service_time["import"] == 0.0 and rules.service_time["list"] > 0
        rules.reset()
        assert dataclasses.asdict(rules) == dataclasses.asdict(Rules())
