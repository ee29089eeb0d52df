"""Names that many unrelated parties share."""

from __future__ import annotations

import pytest

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


def test_the_list_is_not_loaded_at_import():
    import subprocess
    import sys

    program = (
        "import sys, shared.guard, shared.intake; sys.exit('publicsuffixlist' in sys.modules or 'idna' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
