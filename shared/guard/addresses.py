"""Addresses that are nobody's on the internet: private, reserved, multicast, link-local, documentation, and ranges.

Source: the IANA special-purpose address registries for IPv4 and IPv6, and the multicast and global unicast allocations.
Defender takes external addresses only (documented: indicator-ip-domain), and single ones.
"""

from __future__ import annotations

from bisect import bisect_right
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network

from shared.guard.hosts import host_of
from shared.indicators.hosts import IPV4
from shared.indicators.model import Indicator, IndicatorType
from shared.indicators.problem import Problem, shorten

_PRIVATE = ("private_address", "a private address")
_LOOPBACK = ("reserved_address", "a loopback address")
_LINK_LOCAL = ("link_local_address", "a link-local address")
_MULTICAST = ("multicast_address", "a multicast address")
_DOCUMENTATION = ("documentation_address", "an address reserved for documentation")
_RESERVED = ("reserved_address", "a reserved address")
# These nobody may override: there is nothing that Defender could take, or another way to say it.
_RANGE = ("address_range", "not a single address")
_MAPPED = ("reserved_address", "an IPv4 address written as IPv6; send the IPv4 address itself")

# (network, (reason code, words)); sorted, no overlaps.
SPECIAL_IPV4 = (
    ("0.0.0.0/8", ("reserved_address", "an address of this network (0.0.0.0/8)")),
    ("10.0.0.0/8", _PRIVATE),
    ("100.64.0.0/10", ("private_address", "a shared address behind carrier-grade NAT (100.64.0.0/10)")),
    ("127.0.0.0/8", _LOOPBACK),
    ("169.254.0.0/16", _LINK_LOCAL),
    ("172.16.0.0/12", _PRIVATE),
    ("192.0.0.0/24", _RESERVED),
    ("192.0.2.0/24", _DOCUMENTATION),
    ("192.31.196.0/24", _RESERVED),
    ("192.52.193.0/24", _RESERVED),
    ("192.88.99.0/24", _RESERVED),
    ("192.168.0.0/16", _PRIVATE),
    ("192.175.48.0/24", _RESERVED),
    ("198.18.0.0/15", ("reserved_address", "an address for benchmarks (198.18.0.0/15)")),
    ("198.51.100.0/24", _DOCUMENTATION),
    ("203.0.113.0/24", _DOCUMENTATION),
    ("224.0.0.0/4", _MULTICAST),
    ("240.0.0.0/4", _RESERVED),
)
# What is special inside 2000::/3, the only global unicast space; everything outside is special anyway.
SPECIAL_IPV6 = (
    ("2001::/23", _RESERVED),
    ("2001:db8::/32", _DOCUMENTATION),
    ("2620:4f:8000::/48", _RESERVED),
    ("3fff::/20", _DOCUMENTATION),
)
_OUTSIDE_IPV6 = (
    ("::1/128", _LOOPBACK),
    ("::ffff:0:0/96", _MAPPED),
    ("64:ff9b:1::/48", ("private_address", "an address of a local NAT64 (64:ff9b:1::/48)")),
    ("fc00::/7", _PRIVATE),
    ("fe80::/10", _LINK_LOCAL),
    ("fec0::/10", _PRIVATE),
    ("ff00::/8", _MULTICAST),
)

_V4 = [
    (int(n.network_address), int(n.broadcast_address), why) for n, why in ((IPv4Network(t), w) for t, w in SPECIAL_IPV4)
]
_V4_STARTS = [first for first, _, _ in _V4]
# The first numbers of all of these, as text: four fifths of all addresses need no further look.
_V4_FIRST = frozenset(str(number) for first, last, _ in _V4 for number in range(first >> 24, (last >> 24) + 1))
_V6 = [(IPv6Network(text), why) for text, why in (*_OUTSIDE_IPV6, *SPECIAL_IPV6)]
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_SIX_TO_FOUR = IPv6Network("2002::/16")


TYPES = frozenset({IndicatorType.IP_ADDRESS, IndicatorType.URL})


def check(indicator: Indicator) -> Problem | None:
    """A Problem when `indicator` is, or is a URL on, an address that must not be blocked or is not a single one."""
    if indicator.type is IndicatorType.IP_ADDRESS:
        host = indicator.value
    elif indicator.type is IndicatorType.URL:
        host = host_of(indicator.value)
        if not (host[-1:].isdigit() or ":" in host):
            return None
    else:
        return None
    if IPV4(host):
        why = special_ipv4(host)
    elif ":" in host:
        try:
            why = special_ipv6(IPv6Address(host))
        except AddressValueError:
            why = _RANGE
    elif indicator.type is IndicatorType.IP_ADDRESS:
        why = _RANGE
    else:
        return None  # a name that ends in a digit
    if why is None:
        return None
    shown = shorten(indicator.value)
    place = f"{shown!r} is" if indicator.type is IndicatorType.IP_ADDRESS else f"the host of {shown!r} is"
    text = f"{place} {why[1]}. Only single public addresses are published."
    return Problem(why[0], text, why not in (_RANGE, _MAPPED))


def special_ipv4(address: str) -> tuple[str, str] | None:
    """(reason code, words) when the dotted quad `address` is not a public one."""
    first, second, third, fourth = address.split(".")
    if first not in _V4_FIRST:
        return None
    number = (int(first) << 24) | (int(second) << 16) | (int(third) << 8) | int(fourth)
    index = bisect_right(_V4_STARTS, number) - 1
    if index < 0:
        return None
    _, last, why = _V4[index]
    return why if number <= last else None


def special_ipv6(address: IPv6Address) -> tuple[str, str] | None:
    """(reason code, words) when `address` is not a public one, or carries an IPv4 address that is not."""
    for network, why in _V6:
        if address in network:
            return why
    embedded: IPv4Address | None = None
    if address in _SIX_TO_FOUR:
        embedded = IPv4Address((int(address) >> 80) & 0xFFFFFFFF)
    elif address in _NAT64:
        embedded = IPv4Address(int(address) & 0xFFFFFFFF)
    elif address not in _GLOBAL_UNICAST:
        return _RESERVED
    if embedded is not None:
        inner = special_ipv4(str(embedded))
        if inner is not None:
            return inner[0], f"an IPv6 form of {embedded}, {inner[1]}"
    return None
