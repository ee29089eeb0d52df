"""Names that many unrelated parties share: single labels and bare public suffixes (com, co.uk, github.io).

A domain indicator covers every name below it (documented: indicators-overview), so one on a public suffix would hit
everybody who registered there; a URL whose host is one is held to the same rule.
Source of the suffixes: the Public Suffix List, with its section of private registries.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING

from shared.guard.hosts import host_of
from shared.indicators.hosts import IPV4
from shared.indicators.model import Indicator, IndicatorType
from shared.indicators.problem import Problem, shorten

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList


@cache
def _list() -> PublicSuffixList:
    # Takes 50 to 100 ms to parse; built at the first domain or URL, so that a cold start does not wait for it.
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList()


def check(indicator: Indicator) -> Problem | None:
    """A Problem when `indicator` is, or is a URL on, a single label or a public suffix."""
    if indicator.type is IndicatorType.DOMAIN_NAME:
        name = indicator.value
    elif indicator.type is IndicatorType.URL:
        name = host_of(indicator.value)
        if ":" in name or IPV4(name):
            return None
    else:
        return None
    shown = shorten(indicator.value)
    where = f"{shown!r} is" if indicator.type is IndicatorType.DOMAIN_NAME else f"the host of {shown!r} is"
    if "." not in name and not _list().is_public(name, accept_unknown=False):
        return Problem(
            "single_label",
            f"{where} a single label, which is a whole top-level domain or a machine of your own. Send the full name.",
        )
    if is_public_suffix(name):
        return Problem(
            "public_suffix",
            f"{where} a public suffix, under which unrelated parties have their names. Send the name that is meant.",
        )
    return None


@lru_cache(maxsize=4096)
def is_public_suffix(name: str) -> bool:
    """Whether `name`, a lower-case ASCII name, is a public suffix or the parent of a wildcard rule."""
    return _list().is_public(name)
