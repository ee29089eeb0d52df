"""Values: what is written another way, what is kept, what is rejected and why."""

from __future__ import annotations

import ipaddress
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.indicators.model import IndicatorType as T
from shared.indicators.normalise import _BY_TYPE, PLAIN, infer_type, normalise
from shared.indicators.problem import Problem

SHA256 = "9C56CC51B374C3BA189210D5B6D4BF57790D351C96C47C02190ECF1E430635AB"

# (as sent, type inferred, value sent, words that the notes hold)
TAKEN = [
    ("8.8.8.8", T.IP_ADDRESS, "8.8.8.8", ()),
    (" 45.59.170[.]106\n", T.IP_ADDRESS, "45.59.170.106", ("white space", "refanged")),
    ("45(.)59{.}170[dot]106", T.IP_ADDRESS, "45.59.170.106", ("refanged",)),
    ("2001:4860:4860::8888", T.IP_ADDRESS, "2001:4860:4860:0:0:0:0:8888", ("eight groups",)),
    ("2001:4860:4860:0:0:0:0:8888", T.IP_ADDRESS, "2001:4860:4860:0:0:0:0:8888", ()),
    ("2001:0DB8::00FF", T.IP_ADDRESS, "2001:db8:0:0:0:0:0:ff", ("eight groups",)),
    ("2001[:]db8::1", T.IP_ADDRESS, "2001:db8:0:0:0:0:0:1", ("refanged", "eight groups")),
    ("::ffff:1.2.3.4", T.IP_ADDRESS, "0:0:0:0:0:ffff:102:304", ("eight groups",)),
    ("Evil.EXAMPLE.", T.DOMAIN_NAME, "evil.example", ("dot removed", "lower case")),
    ("evil[.]example", T.DOMAIN_NAME, "evil.example", ("refanged",)),
    ("evil[DOT]example", T.DOMAIN_NAME, "evil.example", ("refanged",)),
    ("münchen.example", T.DOMAIN_NAME, "xn--mnchen-3ya.example", ("IDNA",)),
    ("evil。example", T.DOMAIN_NAME, "evil.example", ("IDNA",)),
    ("faß.example", T.DOMAIN_NAME, "xn--fa-hia.example", ("IDNA",)),
    ("XN--MNCHEN-3YA.example", T.DOMAIN_NAME, "xn--mnchen-3ya.example", ("lower case",)),
    ("r3---sn-4g5.my_host.example", T.DOMAIN_NAME, "r3---sn-4g5.my_host.example", ()),
    ("localhost", T.DOMAIN_NAME, "localhost", ()),
    (SHA256, T.FILE_SHA256, SHA256.lower(), ("lower case",)),
    (SHA256[:40].lower(), T.FILE_SHA1, SHA256[:40].lower(), ()),
    (SHA256[:32], T.FILE_MD5, SHA256[:32].lower(), ("lower case",)),
    ("https://evil.example/A?b=C%2Fd+e&f", T.URL, "https://evil.example/A?b=C%2Fd+e&f", ()),
    ("HTTPS://Evil.Example:8443/A//b/../c", T.URL, "https://evil.example:8443/A//b/../c", ("lower case",)),
    ("hxxps[:]//xuix[.]example/q[.]php", T.URL, "https://xuix.example/q.php", ("refanged",)),
    ("hXXp[://]xuix(.)example[:]8080/", T.URL, "http://xuix.example:8080/", ("refanged",)),
    ("hxxp://a.example/b[.]exe", T.URL, "http://a.example/b.exe", ("refanged",)),
    ("http://a(.)example/b(.)c", T.URL, "http://a.example/b.c", ("refanged",)),
    ("https://a.example/?re=[.](dot){.}", T.URL, "https://a.example/?re=[.](dot){.}", ()),
    ("http://[2001:DB8::1]/x", T.URL, "http://[2001:db8::1]/x", ("lower case",)),
    ("http://münchen.example/ü", T.URL, "http://xn--mnchen-3ya.example/ü", ("IDNA",)),
    ("http://evil.example./x", T.URL, "http://evil.example./x", ()),
    ("http://evil.example", T.URL, "http://evil.example", ()),
    ("https://evil.example/a#frag", T.URL, "https://evil.example/a#frag", ("fragment",)),
    ("ftp://evil.example/a.exe", T.URL, "ftp://evil.example/a.exe", ()),
    ("http://evil.example/a\\b", T.URL, "http://evil.example/a\\b", ()),
]


@pytest.mark.parametrize(("sent", "kind", "value", "words"), TAKEN)
def test_taken(sent, kind, value, words):
    assert infer_type(sent) is kind
    result = normalise(kind, sent)
    assert not isinstance(result, Problem), result
    assert result[0] == value
    assert len(result[1]) == len(words)
    for word, note in zip(words, result[1], strict=True):
        assert word in note
    again = normalise(kind, value)
    assert not isinstance(again, Problem) and again[0] == value
    assert infer_type(value) is kind


REJECTED = [
    (T.IP_ADDRESS, "010.1.1.1", "not_an_address"),
    (T.IP_ADDRESS, "1.2.3", "not_an_address"),
    (T.IP_ADDRESS, "0x7f.0.0.1", "not_an_address"),
    (T.IP_ADDRESS, "2130706433", "not_an_address"),
    (T.IP_ADDRESS, "1.2.3.256", "not_an_address"),
    (T.IP_ADDRESS, "１.２.３.４", "not_an_address"),
    (T.IP_ADDRESS, "45.1.1.0/24", "address_range"),
    (T.IP_ADDRESS, "45.1.1.1/32", "address_range"),
    (T.IP_ADDRESS, "45.1.1.1-45.1.1.9", "address_range"),
    (T.IP_ADDRESS, "45.1.1.*", "address_range"),
    (T.IP_ADDRESS, "2001:db8::/32", "address_range"),
    (T.IP_ADDRESS, "45.1.1.1:443", "address_with_port"),
    (T.IP_ADDRESS, "fe80::1%eth0", "address_zone"),
    (T.IP_ADDRESS, "2001:db8:::1", "not_an_address"),
    (T.IP_ADDRESS, "evil.example", "not_an_address"),
    (T.DOMAIN_NAME, "evil.example/login", "not_a_domain"),
    (T.DOMAIN_NAME, "https://evil.example", "not_a_domain"),
    (T.DOMAIN_NAME, "evil.example:80", "not_a_domain"),
    (T.DOMAIN_NAME, "*.evil.example", "wildcard"),
    (T.DOMAIN_NAME, ".evil.example", "not_a_domain"),
    (T.DOMAIN_NAME, "evil..example", "not_a_domain"),
    (T.DOMAIN_NAME, "-evil.example", "not_a_domain"),
    (T.DOMAIN_NAME, "evil example", "not_a_domain"),
    (T.DOMAIN_NAME, "8.8.8.8", "not_a_domain"),
    (T.DOMAIN_NAME, "127.1", "not_a_domain"),
    (T.DOMAIN_NAME, "evil.0x7f", "not_a_domain"),
    (T.DOMAIN_NAME, "i❤.example", "not_a_domain"),
    (T.DOMAIN_NAME, "ev\u200bil.example", "not_a_domain"),
    (T.DOMAIN_NAME, "a" * 64 + ".example", "not_a_domain"),
    (T.DOMAIN_NAME, "a." * 130 + "example", "not_a_domain"),
    (T.URL, "evil.example/login.php?a=b", "url_without_scheme"),
    (T.URL, "evil.example", "url_without_scheme"),
    (T.URL, "mailto:x@evil.example", "url_without_scheme"),
    (T.URL, "http:/evil.example", "url_without_scheme"),
    (T.URL, "gopher://evil.example/", "url_scheme"),
    (T.URL, "file:///etc/passwd", "url_scheme"),
    (T.URL, "http://user:pw@evil.example/", "url_userinfo"),
    (T.URL, "http://evil.example\\@good.example/", "url_ambiguous"),
    (T.URL, "http:///x", "url_host"),
    (T.URL, "http://ev%69l.example/", "url_host"),
    (T.URL, "http://2130706433/", "url_host"),
    (T.URL, "http://127.1/", "url_host"),
    (T.URL, "http://0x7f000001/", "url_host"),
    (T.URL, "http://010.0.0.1/", "url_host"),
    (T.URL, "http://[2001:db8::1/", "url_host"),
    (T.URL, "http://[2001:db8::1]x/", "url_host"),
    (T.URL, "http://[fe80::1%25eth0]/", "url_host"),
    (T.URL, "http://evil.example:/", "url_port"),
    (T.URL, "http://evil.example:65536/", "url_port"),
    (T.URL, "http://evil.example/a b", "url_white_space"),
    (T.URL, "http://evil.example/a\tb", "url_white_space"),
    (T.URL, "http://evil.example/\u202egpj", "url_white_space"),
    (T.URL, "hxxp://evil[.]example/a(.)b", "ambiguous_defanging"),
    (T.FILE_SHA1, SHA256, "wrong_length"),
    (T.FILE_SHA256, SHA256[:-1], "wrong_length"),
    (T.FILE_SHA256, SHA256[:-1] + "g", "not_a_hash"),
    (T.FILE_SHA256, "sha256:" + SHA256, "not_a_hash"),
    (T.CERTIFICATE_THUMBPRINT, SHA256, "wrong_length"),
    (T.CERTIFICATE_THUMBPRINT, ":".join(["AB"] * 20), "not_a_hash"),
    *((kind, "  ", "empty_value") for kind in T),
]


@pytest.mark.parametrize(("kind", "sent", "reason"), REJECTED)
def test_rejected_with_the_reason(kind, sent, reason):
    result = normalise(kind, sent)
    assert isinstance(result, Problem), result
    assert result.reason == reason
    assert result.text.endswith(".")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello world",
        "a@evil.example",
        "mailto:a@evil.example",
        "javascript:alert(1)",
        "/etc/passwd",
        "N/A",
        "\x00",
    ],
)
def test_what_has_no_shape_has_no_type(text):
    assert infer_type(text) is None


@pytest.mark.parametrize(
    "text", ["evil.com/login.php?a=b", "evil.com?a=b", "evil.com:8080", "sub.evil.com/", "evil.com#x", "45.1.1.1/x.php"]
)
def test_p10_what_has_a_path_or_query_is_never_a_domain(text):
    assert infer_type(text) is T.URL
    refused = normalise(T.URL, text)
    assert isinstance(refused, Problem) and "http" in refused.text
    assert isinstance(normalise(T.DOMAIN_NAME, text), Problem)


def test_p9_a_url_with_several_equals_signs_arrives_whole():
    url = "https://evil.example/dl?id=12&tok=abc==&x=a=b"
    assert normalise(T.URL, url) == (url, ())


@pytest.mark.parametrize(
    "tail", ["/?q=a+b%20c", "/a%2Fb", "/ü/日本", "/#frag", "/a//b/./c/../d", "/?a=%zz&b='\"<>", "", "?x", "/%41"]
)
def test_p11_url_canonicalisation_is_lossless(tail):
    result = normalise(T.URL, "HTTP://EVIL.example" + tail)
    assert not isinstance(result, Problem)
    assert result[0] == "http://evil.example" + tail


@pytest.mark.parametrize("kind", T)
def test_p11_more_than_the_longest_is_refused_not_cut(kind):
    long = {T.URL: "http://evil.example/" + "a" * 800, T.IP_ADDRESS: "1" * 900}.get(kind, "a" * 900)
    assert isinstance(normalise(kind, long), Problem)
    if kind is T.URL:
        refused = normalise(kind, long)
        assert isinstance(refused, Problem) and refused.reason == "value_too_long"
        exact = "http://evil.example/" + "a" * 780
        assert normalise(kind, exact) == (exact, ())
        assert isinstance(normalise(kind, exact, 799), Problem)


def test_a_huge_value_costs_nothing_much():
    for text in ("a." * 500_000, ":" * 1_000_000, "[.]" * 300_000, "ü" * 500_000, "http://" + "[" * 500_000):
        kind = infer_type(text)
        for tried in {kind, T.URL, T.DOMAIN_NAME, T.IP_ADDRESS} - {None}:
            assert isinstance(normalise(tried, text), Problem)


PIECES = [
    "http://", "hxxp://", "hxxps[:]//", "https[://]", "evil", ".", "[.]", "(.)", "[dot]", "example", "/", "?", "#", "@",
    ":", "[:]", "::", "[", "]", "%2F", " ", "A", "ü", "。", "1", "255", "0x", "-", "_", "*", "\\", "ff", "\u200b",
    "com",
]  # fmt: skip
NEARLY = st.lists(st.sampled_from(PIECES), max_size=14).map("".join)


@given(NEARLY | st.text(max_size=60), st.sampled_from(T))
def test_normalising_is_idempotent_and_never_raises(text, kind):
    inferred = infer_type(text)
    for tried in {kind, inferred} - {None}:
        result = normalise(tried, text)
        if isinstance(result, Problem):
            assert result.text.encode()
            continue
        value, _ = result
        assert normalise(tried, value)[0] == value
        assert value.encode()


@given(st.sampled_from("/?#"), st.lists(st.sampled_from([p for p in PIECES if p not in (" ", "\u200b")]), max_size=14))
def test_a_url_keeps_every_byte_behind_its_host(first, pieces):
    tail = first + "".join(pieces)
    result = normalise(T.URL, "https://Evil.example" + tail)
    assert not isinstance(result, Problem)
    assert result[0] == "https://evil.example" + tail


NEARLY_NORMAL = st.from_regex(r"(https?://)?[a-z0-9_.-]{1,12}(\.[a-z0-9_-]{1,6})?([/?][!-~]{0,6})?", fullmatch=True)


@given(NEARLY_NORMAL | st.from_regex(r"[0-9a-f]{32}([0-9a-f]{8}){0,4}", fullmatch=True) | NEARLY, st.sampled_from(T))
def test_the_short_way_takes_only_what_the_long_way_leaves_as_it_is(text, kind):
    if PLAIN[kind](text):
        assert _BY_TYPE[kind](kind, text) == (text, ())


@given(st.ip_addresses(v=6))
def test_ipv6_has_eight_groups_and_is_the_same_address(address):
    for written in (str(address), address.exploded.upper()):
        result = normalise(T.IP_ADDRESS, written)
        assert not isinstance(result, Problem)
        groups = result[0].split(":")
        assert len(groups) == 8 and all(group == f"{int(group, 16):x}" for group in groups)
        assert ipaddress.ip_address(result[0]) == address


@given(st.text(alphabet=string.hexdigits, min_size=64, max_size=64))
def test_a_hash_keeps_its_digits(text):
    assert normalise(T.FILE_SHA256, text)[0] == text.lower()


@given(st.ip_addresses(v=4))
def test_ipv4_is_kept(address):
    assert normalise(T.IP_ADDRESS, str(address)) == (str(address), ())
