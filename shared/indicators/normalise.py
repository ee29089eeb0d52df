"""Values written the one way Defender compares them, without loss.

What changes: white space around a value, unambiguous defanging, the case of hashes, domains, schemes and hosts, the
trailing dot of a domain, Unicode host names (to IDNA A-labels) and the spelling of an IPv6 address (eight groups, as in
Microsoft's example 2001:4860:4860:0:0:0:0:8888). Whatever else would have to be altered or cut is rejected with the
reason: a URL that is not the one that was given would block something else, or nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import AddressValueError, IPv6Address
from struct import unpack

from shared.indicators.hosts import IPV4, IPV4_PATTERN, LDH, NAME_PATTERN, domain_fault, to_ascii
from shared.indicators.model import IndicatorType
from shared.indicators.problem import Problem, shorten
from shared.indicators.refang import NOTE as REFANGED
from shared.indicators.refang import has_marks, refang, refang_url

VALUE_MAX = 800

type Normal = tuple[str, tuple[str, ...]]
"""A value as it will be sent, and the changes made to it in plain words."""

_HASH_LENGTH = {
    IndicatorType.FILE_MD5: 32,
    IndicatorType.FILE_SHA1: 40,
    IndicatorType.FILE_SHA256: 64,
    IndicatorType.CERTIFICATE_THUMBPRINT: 40,
}
# A bare 40 hex digits could be a thumbprint too; it is taken as the far more common SHA-1 of a file.
_HASH_TYPE = {32: IndicatorType.FILE_MD5, 40: IndicatorType.FILE_SHA1, 64: IndicatorType.FILE_SHA256}
_HEX = re.compile(r"[0-9a-fA-F]+").fullmatch
_HEX_LOWER = re.compile(r"[0-9a-f]+").fullmatch
_IPV4_LIKE = re.compile(r"[0-9]+(?:\.[0-9]+){3}(?::[0-9]+|/[0-9]+|\s*-.*|/[0-9]+(?:\.[0-9]+){3})?", re.DOTALL).fullmatch
_IPV6_LIKE = re.compile(r"[0-9a-fA-F:.]+(?:%.*|/[0-9]+|\s*-.*)?", re.DOTALL).fullmatch
_FRONT = re.compile(r"[^/?#:\\@]*")
_NAME_LIKE = re.compile(r"(?:\*\.)?[A-Za-z0-9_.-]+").fullmatch
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://", re.ASCII).match
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#\\]*)(.*)", re.DOTALL).fullmatch
_URL_SCHEMES = frozenset({"http", "https", "ftp"})
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII).fullmatch

_TRIMMED = "white space around the value removed"
_LOWERED = "written in lower case"
_HOST_LOWERED = "scheme and host written in lower case"


def infer_type(text: str) -> IndicatorType | None:
    """The type of `text` by its whole shape, or None when it has none of the shapes.

    A value without a scheme is a Url as soon as it has a path, a query or a port; `normalise` then rejects it with the
    remedy, since which scheme was meant cannot be known. A name of one label counts as a domain: the guards tell why
    it is not published. A thumbprint is never inferred.
    """
    text = text.strip()
    if has_marks(text):
        text = refang(text)
    if _HEX(text):
        kind = _HASH_TYPE.get(len(text))
        if kind is not None:
            return kind
    if IPV4(text):
        return IndicatorType.IP_ADDRESS
    if _SCHEME(text):
        return IndicatorType.URL
    if LDH(text.lower()):
        return IndicatorType.DOMAIN_NAME
    if _IPV4_LIKE(text) or (text.count(":") >= 2 and _IPV6_LIKE(text)):
        return IndicatorType.IP_ADDRESS
    if not text or _spaced(text):
        return None
    front = _FRONT.match(text)
    host = front[0] if front else ""
    if len(host) < len(text):
        return IndicatorType.URL if "." in host else None
    # What is left is nearly a name: 1.2.3, *.evil.example, or one in Unicode.
    return IndicatorType.DOMAIN_NAME if not text.isascii() or _NAME_LIKE(text) else None


def normalise(kind: IndicatorType, text: str, value_max: int = VALUE_MAX) -> Normal | Problem:
    """`text` as a value of type `kind`, or why it cannot be one without altering it.

    A value that has been normalised normalises to itself. `value_max` is in characters (see the setting of that name).
    """
    # Most values arrive as they should be; one expression tells.
    if len(text) <= PLAIN_MAX and len(text) <= value_max and PLAIN[kind](text):
        return text, ()
    value = text.strip()
    notes: tuple[str, ...] = () if len(value) == len(text) else (_TRIMMED,)
    if not value:
        return Problem("empty_value", "the value is empty. Give the address, name, URL or hash.")
    if len(value) > 4 * value_max:  # before any work whose cost grows with the length
        return _too_long(value, value_max)
    result = _BY_TYPE[kind](kind, value)
    if isinstance(result, Problem):
        return result
    value, more = result
    if len(value) > value_max:
        return _too_long(value, value_max)
    return value, notes + more


def _too_long(value: str, value_max: int) -> Problem:
    return Problem(
        "value_too_long",
        f"value {shorten(value)!r} has {len(value)} characters, more than {value_max}. It is not cut, since that "
        "would make it another value; send a shorter one.",
    )


def _spaced(text: str) -> bool:
    return " " in text or not text.isprintable()


def _hash(kind: IndicatorType, value: str) -> Normal | Problem:
    length = _HASH_LENGTH[kind]
    if len(value) == length:
        if _HEX_LOWER(value):
            return value, ()
        if _HEX(value):
            return value.lower(), (_LOWERED,)
    if _HEX(value):
        other = _HASH_TYPE.get(len(value))
        remedy = f" It is as long as a {other}: give that type, or none." if other and other is not kind else ""
        return Problem(
            "wrong_length", f"value {shorten(value)!r} has {len(value)} digits; {kind} has {length}.{remedy}"
        )
    return Problem(
        "not_a_hash",
        f"value {shorten(value)!r} is not a {kind}: {length} hexadecimal digits with nothing before, between or after.",
    )


def _address(kind: IndicatorType, value: str) -> Normal | Problem:
    if IPV4(value):
        return value, ()
    notes: tuple[str, ...] = ()
    if has_marks(value):
        value, notes = refang(value), (REFANGED,)
        if IPV4(value):
            return value, notes
    if "/" in value or "-" in value or "*" in value:
        return Problem(
            "address_range",
            f"value {shorten(value)!r} is a range or network. Defender takes single addresses only; send each address "
            "that is meant.",
        )
    if "%" in value:
        return Problem("address_zone", f"value {shorten(value)!r} has a zone, which means one machine's own network.")
    if value.count(":") >= 2 and value.isascii():
        try:
            packed = IPv6Address(value).packed
        except AddressValueError:
            return _not_an_address(value)
        full = ":".join(f"{group:x}" for group in unpack(">8H", packed))
        return full, (notes if full == value else (*notes, "IPv6 written out in eight groups"))
    host, _, port = value.partition(":")
    if IPV4(host) and port.isdigit():
        return Problem(
            "address_with_port",
            f"value {shorten(value)!r} has a port, which an IpAddress cannot hold. Send {host} if every port is meant.",
        )
    return _not_an_address(value)


def _not_an_address(value: str) -> Problem:
    return Problem(
        "not_an_address",
        f"value {shorten(value)!r} is not an IP address. Write IPv4 as four decimal numbers without leading zeros, "
        "IPv6 in full or with `::`.",
    )


def _domain(kind: IndicatorType, value: str) -> Normal | Problem:
    lowered = value.lower()
    if LDH(lowered) and len(lowered) <= 253:
        return lowered, (() if lowered == value else (_LOWERED,))
    notes: tuple[str, ...] = ()
    if has_marks(value):
        value, notes = refang(value), (REFANGED,)
    if "/" in value or "?" in value or "#" in value or ":" in value or "@" in value or "\\" in value:
        return Problem(
            "not_a_domain",
            f"value {shorten(value)!r} is more than a domain name. Send the whole URL with its scheme and type Url, or "
            "the name alone if everything on it is meant.",
        )
    if value.startswith("*."):
        return Problem(
            "wildcard",
            f"value {shorten(value)!r} is a wildcard, which Defender does not take. Send {shorten(value[2:])}: it "
            "covers the names below it.",
        )
    if value.endswith(".") and len(value) > 1:
        value = value[:-1]
        notes = (*notes, "trailing dot removed")
    name = to_ascii(value)
    if isinstance(name, Problem):
        return name
    fault = domain_fault(name)
    if fault is not None:
        return fault
    if not value.isascii():
        notes = (*notes, f"written in IDNA form, {name}")
    elif name != value:
        notes = (*notes, _LOWERED)
    return name, notes


def _url(kind: IndicatorType, value: str) -> Normal | Problem:
    notes: tuple[str, ...] = ()
    # Before the marks, so that a blank is named as what it is.
    if _spaced(value):
        return Problem(
            "url_white_space",
            f"value {shorten(value)!r} has white space, control or invisible characters. A browser would drop or "
            "encode them; send the URL as it is requested.",
        )
    refanged = refang_url(value)
    if isinstance(refanged, Problem):
        return refanged
    if refanged != value:
        value, notes = refanged, (REFANGED,)
    parts = _URL(value)
    if parts is None:
        return Problem(
            "url_without_scheme",
            f"value {shorten(value)!r} is not a whole URL. Write http:// or https:// in front of the host as it is "
            "requested; for a whole site send the name alone as DomainName.",
        )
    scheme, authority, tail = parts.groups()
    if scheme.lower() not in _URL_SCHEMES:
        return Problem("url_scheme", f"value {shorten(value)!r} has the scheme {shorten(scheme)!r}; use http or https.")
    if tail.startswith("\\"):
        return Problem(
            "url_ambiguous",
            f"value {shorten(value)!r} has a backslash behind its host, which clients read differently.",
        )
    host_or_problem = _url_host(value, authority)
    if isinstance(host_or_problem, Problem):
        return host_or_problem
    written = f"{scheme.lower()}://{host_or_problem}{tail}"
    if not authority.isascii():
        notes = (*notes, f"host written in IDNA form, {host_or_problem}")
    elif written != value:
        notes = (*notes, _HOST_LOWERED)
    if "#" in tail:
        notes = (*notes, "kept with its fragment (#...), which browsers do not send and Defender may not match")
    return written, notes


def _url_host(value: str, authority: str) -> str | Problem:
    """Host and port as they will be sent: lower case, nothing else changed but Unicode to A-labels."""
    shown = shorten(value)
    port: str | None
    if "@" in authority:
        return Problem(
            "url_userinfo",
            f"value {shown!r} has a user name before its host, which no browser sends on. Send the URL without it.",
        )
    if authority.startswith("["):
        literal, closed, port = authority[1:].partition("]")
        try:
            IPv6Address(literal)
        except AddressValueError:
            closed = ""
        if not closed or "%" in literal or (port and not port.startswith(":")):
            return Problem("url_host", f"value {shown!r} has no valid IPv6 address between its brackets.")
        host, port = f"[{literal.lower()}]", port[1:] if port else None
    else:
        name, colon, digits = authority.partition(":")
        port = digits if colon else None
        # A final dot is part of the bytes of the URL and stays.
        dot = "." if name.endswith(".") and len(name) > 1 else ""
        ascii_name = to_ascii(name[: len(name) - len(dot)])
        if isinstance(ascii_name, Problem):
            return ascii_name
        fault = None if IPV4(ascii_name) else domain_fault(ascii_name)
        if fault is not None:
            return Problem("url_host", f"value {shown!r} has no usable host: {fault.text}")
        host = ascii_name + dot
    if port is None:
        return host
    if not _PORT(port) or int(port) > 65_535:
        return Problem("url_port", f"value {shown!r} has a port that is not a number from 0 to 65535.")
    return f"{host}:{port}"


_BY_TYPE = {
    IndicatorType.FILE_SHA1: _hash,
    IndicatorType.FILE_SHA256: _hash,
    IndicatorType.FILE_MD5: _hash,
    IndicatorType.CERTIFICATE_THUMBPRINT: _hash,
    IndicatorType.IP_ADDRESS: _address,
    IndicatorType.DOMAIN_NAME: _domain,
    IndicatorType.URL: _url,
}

# One expression a type that matches only what `normalise` would return unchanged, provided it is no longer than a host
# name may be, so that hosts need no check.
PLAIN_MAX = 253
PLAIN: Mapping[IndicatorType, Callable[[str], object]] = {
    IndicatorType.FILE_SHA1: re.compile(r"[0-9a-f]{40}").fullmatch,
    IndicatorType.FILE_SHA256: re.compile(r"[0-9a-f]{64}").fullmatch,
    IndicatorType.FILE_MD5: re.compile(r"[0-9a-f]{32}").fullmatch,
    IndicatorType.CERTIFICATE_THUMBPRINT: re.compile(r"[0-9a-f]{40}").fullmatch,
    IndicatorType.IP_ADDRESS: IPV4,
    IndicatorType.DOMAIN_NAME: LDH,
    # Printable ASCII without # behind the host.
    IndicatorType.URL: re.compile(rf"https?://(?:{NAME_PATTERN}|{IPV4_PATTERN})(?:[/?][!-\"$-~]*+)?").fullmatch,
}
