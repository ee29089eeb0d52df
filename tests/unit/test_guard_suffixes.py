"""Names that many unrelated parties share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from publicsuffixlist import PublicSuffixList

from shared.guard.suffixes import _rules, is_public_suffix
from shared.indicators.model import IndicatorType
from tests.unit.test_guard_addresses import verdict


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("com", "public_suffix"),
        ("co.uk", "public_suffix"),
        ("CO.UK.", "public_suffix"),
        ("github.io", "public_suffix"),
        ("blob.core.windows.net", "public_suffix"),
        ("azurewebsites.net", "public_suffix"),
        ("ck", "public_suffix"),
        ("anything.ck", "public_suffix"),
        ("xn--p1ai", "public_suffix"),
        ("рф", "public_suffix"),
        ("公司.cn", "public_suffix"),
        ("localhost", "single_label"),
        ("intranet", "single_label"),
        ("example", "single_label"),
    ],
)
def test_suffixes_and_single_labels_are_refused_alone_and_as_a_host(name, reason):
    assert verdict(IndicatorType.DOMAIN_NAME, name) == reason
    assert verdict(IndicatorType.URL, f"http://{name}/some/path?x=1") == reason
    assert verdict(IndicatorType.URL, f"https://{name}") == reason


@pytest.mark.parametrize(
    "name",
    [
        "evil.com",
        "evil.co.uk",
        "evil.github.io",
        "evil.example",
        "www.ck",
        "store.blob.core.windows.net",
        "a.b.c.d.example",
    ],
)
def test_registered_names_pass(name):
    assert verdict(IndicatorType.DOMAIN_NAME, name) == ""
    assert verdict(IndicatorType.URL, f"https://{name}/x") == ""


LIBRARY = PublicSuffixList()
RULES = sorted(_rules())


def test_every_rule_of_the_list_means_what_its_own_library_says():
    assert len(RULES) > 5_000
    for rule in RULES:
        name = rule.removeprefix("!").removeprefix("*.")
        for tried in (name, "a." + name, "b.a." + name):
            assert is_public_suffix(tried) == LIBRARY.is_public(tried), tried


@given(st.sampled_from(RULES), st.lists(st.sampled_from(["a", "www", "com", "co", "ck", "example"]), max_size=3))
def test_names_around_the_rules_mean_what_its_own_library_says(rule, labels):
    name = ".".join([*labels, *rule.removeprefix("!").removeprefix("*.").split(".")])
    assert is_public_suffix(name) == LIBRARY.is_public(name)
    parent = name.partition(".")[2]
    if "." in parent:
        assert is_public_suffix(parent) == LIBRARY.is_public(parent)


def test_the_list_is_not_loaded_at_import():
    import subprocess
    import sys

    program = (
        "import sys, shared.guard, shared.intake; sys.exit('publicsuffixlist' in sys.modules or 'idna' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
