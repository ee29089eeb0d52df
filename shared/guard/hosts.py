"""The host of a normalised URL, for the guards that look at hosts."""

from __future__ import annotations


def host_of(url: str) -> str:
    """The host of a normalised URL, lower-case, without port, brackets or final dot; "" when there is none.

    >>> host_of("https://[2001:db8::1]:8443/x")
    '2001:db8::1'
    """
    rest = url.partition("://")[2]
    end = len(rest)
    for mark in "/?#\\":
        found = rest.find(mark, 0, end)
        if found >= 0:
            end = found
    authority = rest[:end].rpartition("@")[2].lower()
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0].removesuffix(".")
