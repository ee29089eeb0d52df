"""The host of a normalised URL, for the guards that look at hosts."""

from __future__ import annotations

import re
from functools import lru_cache

_HOST = re.compile(r"[^:]*://(?:[^/?#\\]*@)?(?:\[([^\]/?#]*)\]|([^/?#\\:]*))").match
# A host with nothing before and no port behind, which most have; the other expression takes twice as long.
_PLAIN_HOST = re.compile(r"[a-z]++://([a-z0-9_.-]++)(?:[/?#\\]|\Z)").match


@lru_cache(maxsize=16)  # one guard after the other asks for the same
def host_of(url: str) -> str:
    """The host of a normalised URL, lower-case, without port, brackets or final dot; "" when there is none.

    >>> host_of("https://[2001:db8::1]:8443/x")
    '2001:db8::1'
    """
    plain = _PLAIN_HOST(url)
    if plain is not None:
        return plain[1].removesuffix(".")
    found = _HOST(url)
    if found is None:
        return ""
    literal, name = found.groups()
    return literal.lower() if literal is not None else name.lower().removesuffix(".")
