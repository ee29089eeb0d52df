"""The types x actions matrix, over its whole corpus."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.indicators.matrix import MATRIX, STRENGTH, Resolution, parse_convert, resolve
from shared.indicators.model import Action, IndicatorType
from shared.indicators.problem import Problem

FILES = (IndicatorType.FILE_SHA256, IndicatorType.FILE_SHA1, IndicatorType.FILE_MD5)
NETWORK = (IndicatorType.IP_ADDRESS, IndicatorType.DOMAIN_NAME, IndicatorType.URL)
CERTIFICATE = IndicatorType.CERTIFICATE_THUMBPRINT
ALL_CONVERT = parse_convert("Block,Warn,Audit")

# (types, name asked for, action sent or None when rejected, generateAlert when nothing was said, whether it is noted)
CORPUS = [
    (FILES, "Allowed", "Allowed", False, False),
    (FILES, "Audit", "Audit", True, False),
    (FILES, "Warn", "Warn", False, False),
    (FILES, "Block", "Block", False, False),
    (FILES, "BlockAndRemediate", "BlockAndRemediate", False, False),
    (FILES, "Alert", "Audit", True, True),
    (FILES, "AlertAndBlock", "BlockAndRemediate", True, True),
    (NETWORK, "Allowed", "Allowed", False, False),
    (NETWORK, "Audit", "Audit", True, False),
    (NETWORK, "Warn", "Warn", False, False),
    (NETWORK, "Block", "Block", False, False),
    (NETWORK, "BlockAndRemediate", "Block", False, True),
    (NETWORK, "Alert", "Audit", True, True),
    (NETWORK, "AlertAndBlock", "Block", True, True),
    ((CERTIFICATE,), "Allowed", "Allowed", False, False),
    ((CERTIFICATE,), "Audit", None, False, False),
    ((CERTIFICATE,), "Warn", None, False, False),
    ((CERTIFICATE,), "Block", None, False, False),
    ((CERTIFICATE,), "BlockAndRemediate", "BlockAndRemediate", False, False),
    ((CERTIFICATE,), "Alert", None, False, False),
    ((CERTIFICATE,), "AlertAndBlock", "BlockAndRemediate", True, True),
]
ROWS = [(kind, *rest) for kinds, *rest in CORPUS for kind in kinds]


def spellings(name: str) -> list[str]:
    spaced = "".join(f" {c}" if c.isupper() and i else c for i, c in enumerate(name))
    return [
        name,
        name.lower(),
        name.upper(),
        spaced,
        spaced.lower().replace(" ", "-"),
        spaced.replace(" ", "_"),
        f" {name} ",
    ]


def test_the_corpus_covers_every_type_and_name():
    names = {action.value for action in Action} | {"Alert", "AlertAndBlock"}
    assert {(row[0], row[1]) for row in ROWS} == set(itertools.product(IndicatorType, names))


@pytest.mark.parametrize(("kind", "asked", "sent", "alert", "noted"), ROWS)
def test_every_type_and_action(kind, asked, sent, alert, noted):
    for spelling in spellings(asked):
        result = resolve(kind, spelling)
        if sent is None:
            assert isinstance(result, Problem)
            assert result.reason == "action_not_for_type"
            assert "BlockAndRemediate" in result.text and "RELAY_CERTIFICATE_CONVERT" in result.text
        else:
            assert isinstance(result, Resolution)
            assert (result.action, result.generate_alert) == (sent, alert)
            assert bool(result.notes) is noted


def test_p24_an_action_in_any_case_is_sent_in_the_documented_case():
    assert resolve(IndicatorType.URL, "aLERT") == resolve(IndicatorType.URL, "Alert")
    for action in Action:
        for spelling in spellings(action.value):
            result = resolve(IndicatorType.FILE_SHA256, spelling)
            assert isinstance(result, Resolution) and result.action.value == action.value


def test_allow_is_another_name_of_allowed():
    assert resolve(IndicatorType.URL, "allow") == Resolution(Action.ALLOWED, False)


@pytest.mark.parametrize("name", ["", "Deny", "Blo", "Bloc\u212a", "Blöck", "Allow Audit", "Block!"])
def test_an_unknown_action_is_rejected(name):
    result = resolve(IndicatorType.URL, name)
    assert isinstance(result, Problem) and result.reason == "unknown_action"


def test_audit_requires_an_alert_and_says_so_when_the_sender_wanted_none():
    assert resolve(IndicatorType.URL, "Audit") == Resolution(Action.AUDIT, True)
    result = resolve(IndicatorType.URL, "Audit", generate_alert=False)
    assert isinstance(result, Resolution) and result.generate_alert and "Audit requires it" in result.notes[0]


def test_generate_alert_is_kept_for_other_actions():
    for said in (True, False):
        result = resolve(IndicatorType.URL, "Warn", generate_alert=said)
        assert isinstance(result, Resolution) and result.generate_alert is said


@pytest.mark.parametrize("name", ["Block", "Warn", "Audit", "Alert"])
def test_a_certificate_is_converted_only_when_the_setting_names_the_action(name):
    successor = "Audit" if name == "Alert" else name
    result = resolve(CERTIFICATE, name, convert=parse_convert(successor.lower()))
    assert isinstance(result, Resolution) and result.action is Action.BLOCK_AND_REMEDIATE
    assert any("RELAY_CERTIFICATE_CONVERT" in note for note in result.notes)
    others = ",".join({"Block", "Warn", "Audit"} - {successor})
    assert isinstance(resolve(CERTIFICATE, name, convert=parse_convert(others)), Problem)


def test_the_setting_cannot_convert_allowed_or_what_it_does_not_know():
    assert parse_convert("Allowed, nonsense, ,BlockAndRemediate") == frozenset()
    assert parse_convert(" block ,AUDIT") == {Action.BLOCK, Action.AUDIT}


@given(
    st.sampled_from(IndicatorType),
    st.sampled_from([*Action, "Alert", "AlertAndBlock"]),
    st.sampled_from([None, True, False]),
    st.sampled_from([frozenset(), ALL_CONVERT]),
)
def test_strength_never_rises_but_through_conversion_and_nothing_becomes_allowed(kind, name, alert, convert):
    result = resolve(kind, name, generate_alert=alert, convert=convert)
    if isinstance(result, Problem):
        return
    assert result.action in MATRIX[kind]
    asked = {"Alert": Action.AUDIT, "AlertAndBlock": Action.BLOCK_AND_REMEDIATE}.get(name) or Action(name)
    assert (result.action is Action.ALLOWED) == (asked is Action.ALLOWED)
    if result.action is not asked:
        assert result.notes
    if asked is not Action.ALLOWED and not (kind is CERTIFICATE and convert):
        assert STRENGTH[result.action] <= STRENGTH[asked]
    if result.action is Action.AUDIT:
        assert result.generate_alert
