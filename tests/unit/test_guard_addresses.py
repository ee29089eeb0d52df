"""Addresses that must never be published, alone, embedded in IPv6, or as the host of a URL."""

from __future__ import annotations

import ipaddress
import itertools
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import guard
from shared.guard.addresses import SPECIAL_IPV4, special_ipv4
from shared.guard.hosts import host_of
from shared.indicators.model import Action, Indicator, IndicatorType, Severity
from shared.indicators.normalise import normalise
from shared.indicators.problem import Problem


def made(kind: IndicatorType, value: str) -> Indicator:
    return Indicator(
        value=value,
        type=kind,
        action=Action.BLOCK,
        title="t",
        description="d",
        severity=Severity.LOW,
        expiration=datetime(2040, 1, 1, tzinfo=UTC),
        generate_alert=False,
    )


def verdict(kind: IndicatorType, text: str) -> str:
    result = normalise(kind, text)
    assert not isinstance(result, Problem), result
    problem = guard.check(made(kind, result[0]))
    if problem is None:
        return ""
    assert text in problem.text or result[0] in problem.text
    return problem.reason


REFUSED = [
    ("0.0.0.0", "reserved_address"),
    ("0.1.2.3", "reserved_address"),
    ("10.0.0.0", "private_address"),
    ("10.255.255.255", "private_address"),
    ("100.64.0.1", "private_address"),
    ("100.127.255.255", "private_address"),
    ("127.0.0.1", "reserved_address"),
    ("169.254.169.254", "link_local_address"),
    ("172.16.0.1", "private_address"),
    ("172.31.255.255", "private_address"),
    ("192.0.0.9", "reserved_address"),
    ("192.0.2.1", "documentation_address"),
    ("192.88.99.1", "reserved_address"),
    ("192.168.255.255", "private_address"),
    ("198.18.0.1", "reserved_address"),
    ("198.19.255.255", "reserved_address"),
    ("198.51.100.7", "documentation_address"),
    ("203.0.113.255", "documentation_address"),
    ("224.0.0.1", "multicast_address"),
    ("239.255.255.255", "multicast_address"),
    ("240.0.0.1", "reserved_address"),
    ("255.255.255.255", "reserved_address"),
    ("::", "reserved_address"),
    ("::1", "reserved_address"),
    ("::8.8.8.8", "reserved_address"),
    ("::ffff:10.0.0.1", "reserved_address"),
    ("::ffff:8.8.8.8", "reserved_address"),
    ("64:ff9b::10.0.0.1", "private_address"),
    ("64:ff9b::127.0.0.1", "reserved_address"),
    ("64:ff9b:1::8.8.8.8", "private_address"),
    ("2002:0a00:0001::1", "private_address"),
    ("2002:c0a8:0101::", "private_address"),
    ("2002:e000:0001::", "multicast_address"),
    ("2001::1", "reserved_address"),
    ("2001:db8::1", "documentation_address"),
    ("3fff::1", "documentation_address"),
    ("100::1", "reserved_address"),
    ("5f00::1", "reserved_address"),
    ("4000::1", "reserved_address"),
    ("fc00::1", "private_address"),
    ("fdff:ffff::1", "private_address"),
    ("fe80::1", "link_local_address"),
    ("febf::1", "link_local_address"),
    ("fec0::1", "private_address"),
    ("ff02::1", "multicast_address"),
]
PUBLIC = [
    "1.0.0.1", "9.255.255.255", "11.0.0.0", "45.77.12.34", "100.63.255.255", "100.128.0.0", "126.255.255.255",
    "128.0.0.1",
    "172.15.255.255", "172.32.0.0", "191.255.255.255", "192.0.1.0", "192.167.255.255", "192.169.0.0", "198.17.255.255",
    "198.20.0.0", "223.255.255.255", "2001:4860:4860::8888", "2a00:1450::1", "64:ff9b::8.8.8.8", "2002:808:808::1",
]  # fmt: skip


@pytest.mark.parametrize(("address", "reason"), REFUSED)
def test_what_is_nobodys_is_refused_alone_and_as_a_host(address, reason):
    assert verdict(IndicatorType.IP_ADDRESS, address) == reason
    host = f"[{address}]" if ":" in address else address
    for url in (f"http://{host}", f"https://{host}:8443/x", f"http://{host}?q"):
        assert verdict(IndicatorType.URL, url) == reason


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public_passes(address):
    assert verdict(IndicatorType.IP_ADDRESS, address) == ""
    host = f"[{address}]" if ":" in address else address
    assert verdict(IndicatorType.URL, f"http://{host}/x") == ""


@pytest.mark.parametrize("value", ["45.1.1.0/24", "45.1.1.1-45.1.1.9", "2a00::/16", "45.1.1.*", "", "45.1.1"])
def test_a_range_never_passes_even_if_the_reading_let_it_through(value):
    problem = guard.check(made(IndicatorType.IP_ADDRESS, value))
    assert problem is not None and problem.reason == "address_range"


@given(st.ip_addresses(v=4))
def test_nothing_that_python_calls_not_global_passes(address):
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert special_ipv4(str(address)) is not None


@given(st.sampled_from(SPECIAL_IPV4), st.data())
def test_every_address_of_a_special_network_is_refused(entry, data):
    network = ipaddress.IPv4Network(entry[0])
    address = network[data.draw(st.integers(0, network.num_addresses - 1))]
    assert special_ipv4(str(address)) == entry[1]


def test_the_special_networks_are_sorted_and_do_not_overlap():
    networks = [ipaddress.IPv4Network(text) for text, _ in SPECIAL_IPV4]
    assert all(a.broadcast_address < b.network_address for a, b in itertools.pairwise(networks))


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://[2001:db8::1]:8443/x", "2001:db8::1"),
        ("http://evil.example.:80/@10.0.0.1", "evil.example"),
        ("http://evil.example?x=http://10.0.0.1/", "evil.example"),
        ("http://evil.example#@com", "evil.example"),
        ("http://evil.example", "evil.example"),
        ("http:///x", ""),
    ],
)
def test_the_host_of_a_url(url, host):
    assert host_of(url) == host
