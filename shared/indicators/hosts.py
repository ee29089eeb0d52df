"""Host names and IPv4 addresses: the shapes, and Unicode names as A-labels. Kept apart since URLs need them too."""

from __future__ import annotations

import re

from shared.indicators.problem import Problem, shorten

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
# Four decimal numbers; 010.1.1.1 is not one of them, since some systems read it as octal.
IPV4_PATTERN = rf"(?:{_OCTET}\.){{3}}{_OCTET}"
IPV4 = re.compile(IPV4_PATTERN).fullmatch
# 1 to 63 characters, a hyphen neither first nor last. Possessive: a label has one end, and trying others takes as long.
_LABEL = r"[a-z0-9_][a-z0-9_-]{0,62}+(?<!-)"
# Lower-case labels of letters, digits, hyphens and underscores (which real host names do have). The last may not be a
# number: clients read such a host as an IPv4 address, however odd (127.1, 0x7f000001, 2130706433).
LDH = re.compile(rf"(?:{_LABEL}\.)*+(?!(?:[0-9]+|0x[0-9a-f]*)\Z){_LABEL}").fullmatch
NAME_PATTERN = rf"(?:{_LABEL}\.)*+(?!(?:[0-9]+|0x[0-9a-f]*)(?![a-z0-9_.-])){_LABEL}"
_NUMERIC_TAIL = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)").fullmatch
_NAME_MAX = 253


def to_ascii(name: str) -> str | Problem:
    """`name` in lower case with Unicode labels as A-labels (UTS 46, IDNA 2008), unchecked otherwise."""
    if name.isascii():
        return name.lower()
    if len(name) > _NAME_MAX:
        return Problem("not_a_domain", f"the name {shorten(name)!r} is longer than {_NAME_MAX} characters.")
    if not name.isprintable():
        return Problem(
            "not_a_domain",
            f"the name {shorten(name)!r} has invisible characters. Remove them, or send the name in its xn-- form.",
        )
    import idna  # 10 ms at cold start, and needed for Unicode names only

    try:
        return idna.encode(name, uts46=True, transitional=False, std3_rules=False).decode("ascii")
    except (UnicodeError, ValueError, IndexError):
        return Problem(
            "not_a_domain",
            f"the name {shorten(name)!r} has characters that IDNA 2008 does not allow. If the name exists, send it in "
            "its xn-- form.",
        )


def domain_fault(name: str) -> Problem | None:
    """Why the lower-case ASCII `name` is not a domain name, or None."""
    shown = shorten(name)
    if not name or len(name) > _NAME_MAX:
        return Problem("not_a_domain", f"{shown!r} is not a name of 1 to {_NAME_MAX} characters.")
    if LDH(name):
        return None
    if _NUMERIC_TAIL(name):
        return Problem(
            "not_a_domain",
            f"{shown!r} ends in a number, which clients read as an IPv4 address. Write an address as four decimal "
            "numbers with type IpAddress.",
        )
    return Problem(
        "not_a_domain",
        f"{shown!r} is not a domain name: labels of 1 to 63 letters, digits, hyphens and underscores, with single "
        "dots between.",
    )
