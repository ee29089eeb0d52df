"""From a JSON object to an indicator: names, types, limits, times, and what a sender may not name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shared.indicators.fields import Builder, Built
from shared.indicators.model import Action, Indicator, IndicatorType, Severity
from shared.indicators.names import ALIASES, FIELDS, NOT_PERMITTED, READ_ONLY
from shared.settings import Settings

NOW = datetime(2026, 3, 1, 12, 0, 0, 500_000, tzinfo=UTC)
SETTINGS = Settings()
VALUES = {
    IndicatorType.FILE_SHA1: "a" * 40,
    IndicatorType.FILE_SHA256: "b" * 64,
    IndicatorType.FILE_MD5: "c" * 32,
    IndicatorType.CERTIFICATE_THUMBPRINT: "d" * 40,
    IndicatorType.IP_ADDRESS: "45.77.12.34",
    IndicatorType.DOMAIN_NAME: "evil.example",
    IndicatorType.URL: "http://evil.example/x",
}


def build(raw, *, settings=SETTINGS, **named):
    return build_with(Builder(settings=settings, now=NOW, **named), raw)


def build_with(builder, raw) -> Built:
    again = builder.again(raw)
    if again is None:
        return builder.anew(raw)
    indicator, notes, override = again
    return Built(indicator, None, notes, override)


def made(raw, **named) -> Indicator:
    built = build(raw, **named)
    assert built.indicator is not None, built.problem
    return built.indicator


def reason(raw, **named) -> str:
    built = build(raw, **named)
    assert built.indicator is None and built.problem is not None
    return built.problem.reason


def domain(**fields):
    return {"indicatorValue": "evil.example", **fields}


def test_every_field_of_the_model_can_be_written():
    attributes = {attribute for attribute, _ in FIELDS.values()}
    assert attributes == set(Indicator._fields)


FULL = {
    "indicatorValue": "evil.example",
    "indicatorType": "DomainName",
    "action": "Warn",
    "title": "T",
    "description": "D",
    "severity": "High",
    "expirationTime": "2026-12-12T00:00:00Z",
    "generateAlert": True,
    "recommendedActions": "nothing",
    "rbacGroupNames": ["group1", "group2"],
    "application": "demo",
    "educateUrl": "https://help.example/x",
    "category": "Malware",
    "mitreTechniques": ["T1059.001"],
    "externalId": "e-1",
    "lookBackPeriod": "P1D",
    "historicalDetection": False,
    "bypassDurationHours": 4,
    "notificationId": "n",
    "notificationBody": "body",
    "version": "1",
    "additionalInfo": "more",
    "certificateInfo": {"issuer": "i", "sha256": "s"},
}


def test_a_full_indicator_goes_out_as_it_came_in_and_back():
    assert set(FULL) == set(FIELDS)
    indicator = made(FULL)
    assert indicator.payload() == FULL
    assert Indicator.from_payload(indicator.payload()) == indicator
    assert made({name.upper(): value for name, value in FULL.items()}) == indicator


def test_the_least_there_can_be():
    indicator = made(domain(), incident="3177")
    assert indicator.type is IndicatorType.DOMAIN_NAME
    assert indicator.action is Action.AUDIT and indicator.generate_alert
    assert indicator.severity is Severity.INFORMATIONAL
    assert indicator.title == SETTINGS.default_title
    assert "3177" in indicator.description
    assert len(made(domain(), incident="9" * 390).description) <= SETTINGS.description_max
    assert Indicator.from_payload(indicator.payload()) == indicator


def test_aliases_are_names_too():
    indicator = made({"Value": "evil.example", "Type": "domain name", "Expires": "P1D"})
    assert indicator.expiration == NOW.replace(microsecond=0) + timedelta(days=1)
    assert set(ALIASES.values()) <= set(FIELDS)


@pytest.mark.parametrize("name", ["FileSha256", "filesha256", "FILE_SHA256", "sha-256", "SHA256"])
def test_type_names_in_any_case(name):
    assert made({"value": "b" * 64, "type": name}).type is IndicatorType.FILE_SHA256


WRONG = [
    ({}, "missing_value"),
    ({"indicatorValue": None}, "missing_value"),
    ({"indicatorValue": 5}, "wrong_type"),
    ({"indicatorValue": ["evil.example"]}, "wrong_type"),
    ({"indicatorValue": ""}, "empty_value"),
    ({"indicatorValue": "hello world"}, "unknown_value"),
    ({"indicatorValue": "x" * 100_000}, "value_too_long"),
    (domain(value="other.example"), "duplicate_field"),
    (domain(Title="a", title="b"), "duplicate_field"),
    (domain(indicatorType="Hostname"), "unknown_type"),
    (domain(indicatorType=3), "unknown_type"),
    (domain(indicatorType="IpAddress"), "not_an_address"),
    (domain(action="Deny"), "unknown_action"),
    (domain(action="A" * 3_000), "unknown_action"),
    (domain(action=True), "wrong_type"),
    (domain(severity="Critical"), "unknown_severity"),
    (domain(severity=3), "unknown_severity"),
    (domain(title=5), "wrong_type"),
    (domain(title="x" * 201), "text_too_long"),
    (domain(description="x" * 101), "text_too_long"),
    (domain(application="x" * 4001), "text_too_long"),
    (domain(title="a\x00b"), "control_character"),
    (domain(title="a\ud800b"), "control_character"),
    (domain(generateAlert="yes"), "wrong_type"),
    (domain(generateAlert=1), "wrong_type"),
    (domain(historicalDetection=0), "wrong_type"),
    (domain(bypassDurationHours=True), "wrong_type"),
    (domain(bypassDurationHours=-1), "wrong_type"),
    (domain(bypassDurationHours=1.5), "wrong_type"),
    (domain(category=True), "wrong_type"),
    (domain(category=1.5), "wrong_type"),
    (domain(rbacGroupNames=["a", 5]), "wrong_type"),
    (domain(rbacGroupNames=["a", ""]), "empty_entry"),
    (domain(rbacGroupNames={"a": 1}), "wrong_type"),
    (domain(rbacGroupNames=["a"] * 101), "too_many"),
    (domain(mitreTechniques="T1059.1"), "bad_technique"),
    (domain(mitreTechniques=["Execution"]), "bad_technique"),
    (domain(educateUrl="javascript:alert(1)"), "bad_url"),
    (domain(certificateInfo=[]), "wrong_type"),
    (domain(certificateInfo={"thumbprint": "x"}), "unknown_field"),
    (domain(expires=5), "bad_expiration"),
    (domain(expires="soon"), "bad_expiration"),
    (domain(expires="P"), "bad_expiration"),
    (domain(expires="PT"), "bad_expiration"),
    (domain(expires="P1M"), "bad_expiration"),
    (domain(expires="P1Y"), "bad_expiration"),
    (domain(expires="9999-12-31T23:59:59-14:00"), "bad_expiration"),
    (domain(expires="2026-03-01T12:00:00Z"), "expired"),
    (domain(expires="2001-01-01"), "expired"),
    (domain(expires="0d"), "expired"),
    (domain(expires="P731D"), "expiration_too_far"),
    (domain(expires="P999999W"), "bad_expiration"),
    (domain(expires="9999-12-31T00:00:00Z"), "expiration_too_far"),
    (domain(score=10), "unknown_field"),
    (domain(**{"x-deep": [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]}), "too_deep"),
    (domain(action="Allowed"), "not_permitted"),
    (domain(action="allow"), "not_permitted"),
]


@pytest.mark.parametrize(("raw", "expected"), WRONG, ids=[f"{i}-{row[1]}" for i, row in enumerate(WRONG)])
def test_wrong_items_are_rejected_by_name(raw, expected):
    assert reason(raw) == expected
    text = build(raw).problem.text
    assert len(text) < 500 and text.encode()


@pytest.mark.parametrize("name", [*sorted(NOT_PERMITTED), "OVERRIDE", "override_reason", "isAdmin"])
def test_a_sender_cannot_claim_a_privilege(name):
    for value in (True, None, "Guards.Override"):
        assert reason(domain(**{name: value})) == "not_permitted"
    assert reason(domain(), defaults={name: True}) == "not_permitted"


def test_allowed_is_taken_only_when_the_caller_of_this_code_says_so():
    assert made(domain(action="Allow"), allow_allowed=True).action is Action.ALLOWED
    assert reason(domain(), defaults={"action": "Allowed"}) == "not_permitted"
    assert reason(domain(), settings=Settings(default_action="Allowed")) == "not_permitted"


@pytest.mark.parametrize("kind", IndicatorType)
@pytest.mark.parametrize(
    "extra", [{}, {"action": None}, {"action": ""}, {"severity": "Informational"}, {"action": "Audit"}]
)
def test_p8_nothing_missing_or_low_becomes_allowed(kind, extra):
    built = build({"value": VALUES[kind], "type": kind.value, **extra}, allow_allowed=True)
    assert built.indicator is None or built.indicator.action is not Action.ALLOWED
    for name in ("score", "confidence"):
        assert reason({"value": VALUES[kind], "type": kind.value, name: 0}) == "unknown_field"


def test_unknown_fields_get_a_suggestion():
    text = build(domain(titel="x")).problem.text
    assert "'titel'" in text and "title" in text.partition("Did you mean")[2]


def test_own_and_read_only_fields_are_ignored_the_latter_with_a_note():
    built = build(
        domain(**{"x-note": {"a": [1]}, "X-Other": 1, "@odata.context": "c"}, **dict.fromkeys(READ_ONLY, "x"))
    )
    assert built.indicator == made(domain())
    assert len(built.notes) == 1 and all(name in built.notes[0] for name in READ_ONLY)
    assert "x-note" not in built.notes[0]


@pytest.mark.parametrize("kind", IndicatorType)
def test_p18_every_indicator_gets_a_sane_expiry_by_default(kind):
    days = {"IpAddress": 30, "DomainName": 90, "Url": 90, "CertificateThumbprint": 365}.get(kind, 180)
    raw = {"value": VALUES[kind], "type": kind.value, "action": "BlockAndRemediate"}
    assert made(raw).expiration == NOW.replace(microsecond=0) + timedelta(days=days)
    built = build({**raw, "expirationTime": None})
    assert built.indicator is not None and built.indicator.expiration is not None
    assert any("never" in note for note in built.notes)
    capped = made(raw, settings=Settings(expiry_days_max=7.0))
    assert capped.expiration == NOW.replace(microsecond=0) + timedelta(days=7)


@pytest.mark.parametrize(
    ("written", "moment", "noted"),
    [
        ("2026-12-12T00:00:00Z", "2026-12-12T00:00:00Z", False),
        ("2026-12-12T02:00:00.9999999+02:00", "2026-12-12T00:00:00Z", False),
        ("2026-12-12T00:00:00", "2026-12-12T00:00:00Z", True),
        ("2026-12-12", "2026-12-12T00:00:00Z", True),
        ("P30D", "2026-03-31T12:00:00Z", False),
        ("30d", "2026-03-31T12:00:00Z", False),
        ("P1DT12H30M", "2026-03-03T00:30:00Z", False),
        ("P2W", "2026-03-15T12:00:00Z", False),
        ("12 H", "2026-03-02T00:00:00Z", False),
    ],
)
def test_expirations(written, moment, noted):
    built = build(domain(expires=written))
    assert built.indicator is not None, built.problem
    assert built.indicator.payload()["expirationTime"] == moment
    assert bool(built.notes) is noted


def test_never_by_name_only_and_only_when_allowed():
    assert made(domain(expires=" Never ")).expiration is None
    assert reason(domain(expires="never"), settings=Settings(allow_never=False)) == "never_not_allowed"


def test_defaults_hold_for_what_an_item_does_not_say():
    defaults = {"ACTION": "Block", "severity": "low", "title": "T", "type": "DomainName", "expires": "P1D"}
    indicator = made(domain(severity="High", title=None), defaults=defaults)
    assert (indicator.action, indicator.severity, indicator.title) == (Action.BLOCK, Severity.HIGH, "T")
    assert reason(domain(), defaults={"severity": "nope"}) == "unknown_severity"
    assert made(domain(severity="Low"), defaults={"severity": "nope"}).severity is Severity.LOW
    assert reason(domain(), defaults={"titel": "x"}) == "unknown_field"


def test_lists_as_text_and_repetitions():
    built = build(domain(rbacGroupNames="a, b,a", mitreTechniques="t1059.001,T1071"))
    assert built.indicator is not None
    assert built.indicator.rbac_group_names == ("a", "b")
    assert built.indicator.mitre_techniques == ("T1059.001", "T1071")
    assert len(built.notes) == 2
    assert made(domain(rbacGroupNames="")).rbac_group_names == ()


def test_a_boolean_as_text_is_taken_with_a_note():
    built = build(domain(action="Block", generateAlert="True"))
    assert built.indicator is not None and built.indicator.generate_alert and built.notes


def test_remembered_combinations_do_not_mix_up_true_and_one():
    builder = Builder(settings=SETTINGS, now=NOW)
    assert build_with(builder, domain(action="Block", generateAlert=True)).indicator is not None
    refused = build_with(builder, domain(action="Block", generateAlert=1))
    assert refused.problem is not None and refused.problem.reason == "wrong_type"
    assert build_with(builder, domain(action="Block", generateAlert=True)).indicator is not None
    assert build_with(builder, domain(action="Block", generateAlert="\0true")).problem is not None


def test_an_item_does_not_see_the_item_before():
    builder = Builder(settings=SETTINGS, now=NOW)
    first = build_with(
        builder, {"value": "a" * 40, "action": "BlockAndRemediate", "externalId": "1", "description": "d"}
    )
    second = build_with(builder, {"value": "evil.example", "action": "BlockAndRemediate"})
    assert first.indicator is not None and second.indicator is not None
    assert first.indicator.action is Action.BLOCK_AND_REMEDIATE and first.notes == ()
    assert second.indicator.action is Action.BLOCK and second.notes
    assert second.indicator.external_id is None and second.indicator.description != "d"
