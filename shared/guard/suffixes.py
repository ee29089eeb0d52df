"""Names that many unrelated parties share: single labels and bare public suffixes (com, co.uk, github.io).

A domain indicator covers every name below it (documented: indicators-overview), so one on a public suffix would hit
everybody who registered there; a URL whose host is one is held to the same rule.
Source of the suffixes: the Public Suffix List, with its section of private registries.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from shared.guard.hosts import host_of
from shared.indicators.hosts import IPV4, to_ascii
from shared.indicators.model import Indicator, IndicatorType
from shared.indicators.problem import Problem, shorten

TYPES = frozenset({IndicatorType.DOMAIN_NAME, IndicatorType.URL})


@cache
def _rules() -> frozenset[str]:
    """The rules of the list, as A-labels: `com`, `*.ck`, `!www.ck`."""
    # The list comes with the package; its parser is not used, as it takes several microseconds a name. Read at the
    # first domain or URL, so that a cold start does not wait for it.
    import publicsuffixlist

    rules = set()
    for line in Path(publicsuffixlist.PSLFILE).read_text(encoding="utf-8").splitlines():
        rule = line.partition(" ")[0].strip().lower()
        if not rule or rule.startswith("//"):
            continue
        mark = rule[0] if rule[0] == "!" else "*." if rule.startswith("*.") else ""
        name = to_ascii(rule.removeprefix(mark))
        if isinstance(name, str):
            rules.add(mark + name)
    return frozenset(rules)


@cache
def _tables() -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Names that are suffixes by a rule of their own, those under which every name is one, and those that are not."""
    rules = _rules()
    parents = frozenset(rule[2:] for rule in rules if rule.startswith("*."))
    exceptions = frozenset(rule[1:] for rule in rules if rule.startswith("!"))
    return rules | parents, parents, exceptions


def check(indicator: Indicator) -> Problem | None:
    """A Problem when `indicator` is, or is a URL on, a single label or a public suffix."""
    if indicator.type is IndicatorType.DOMAIN_NAME:
        name = indicator.value
    elif indicator.type is IndicatorType.URL:
        name = host_of(indicator.value)
    else:
        return None
    suffix = is_public_suffix(name)
    if not suffix and "." in name:
        return None
    if indicator.type is IndicatorType.URL and (":" in name or IPV4(name)):
        return None
    shown = shorten(indicator.value)
    where = f"{shown!r} is" if indicator.type is IndicatorType.DOMAIN_NAME else f"the host of {shown!r} is"
    if suffix:
        return Problem(
            "public_suffix",
            f"{where} a public suffix, under which unrelated parties have their names. Send the name that is meant.",
            True,
        )
    return Problem(
        "single_label",
        f"{where} a single label, which is a whole top-level domain or a machine of your own. Send the full name.",
        True,
    )


def is_public_suffix(name: str) -> bool:
    """Whether `name`, a lower-case ASCII name, is a public suffix or what a wildcard rule hangs from.

    Where every name under `ck` is a suffix, `ck` covers all of their owners, so it counts as one too.
    """
    suffixes, parents, exceptions = _tables()
    return name in suffixes or (name.partition(".")[2] in parents and name not in exceptions)
