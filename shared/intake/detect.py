"""From bytes to JSON values: plain text or base64, decided by looking, and read strictly.

The queue trigger is set to `messageEncoding: none`, since under the default a plain message goes to the poison queue
without the function ever being called. So both arrive here as they were put on the queue.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import json
import math
import re
from typing import Any

from shared.errors import UnreadableError

# Playbooks that encode by hand through a connector that encodes as well wrap twice; nobody was seen to wrap thrice.
_WRAPS_MAX = 2
# In a shorter text looking at every pair costs less than counting. A decoder is made once: making it costs as much as
# decoding a message of one indicator.
_SHORT = 1_000
_BASE64 = re.compile(rb"[A-Za-z0-9+/_=\s-]+").fullmatch
_URLSAFE = bytes.maketrans(b"-_", b"+/")


class Repeated(dict[str, Any]):
    """A JSON object in which a name occurs twice, so that it says two things; holds the last of each."""


def decode(body: bytes) -> Any:
    """The JSON value in `body`.

    Takes UTF-8 with or without a byte-order mark, UTF-16 with one, and base64 of either (line breaks, the URL-safe
    alphabet and missing padding allowed). An object with a repeated name is a `Repeated`.

    Raises:
        UnreadableError: empty, neither JSON nor base64 of JSON, NaN or Infinity, a number too large, nested too deep.
    """
    plain = _unwrap(body)
    try:
        if len(plain) <= _SHORT:
            return _STRICT(plain)
        value = _QUICK(plain)
        return value if _each_name_once(plain, value) else _STRICT(plain)
    except RecursionError:
        raise UnreadableError(
            "The JSON is nested too deep.", reason="too_deep", remediation="Send a flat list of indicators."
        ) from None
    except ValueError as error:
        # The error holds the whole document; only its own words go on.
        raise UnreadableError(
            f"The text is not JSON: {_words(error)}.",
            reason="not_json",
            remediation="Send JSON, plain or in base64; see docs/queue-contract.md.",
        ) from None


def _unwrap(body: bytes) -> str:
    for wraps in range(_WRAPS_MAX + 1):
        try:
            text = _text(body).strip()
        except UnreadableError:
            if wraps:  # letters that only looked like base64
                break
            raise
        if not text:
            raise UnreadableError(
                "The message is empty.", reason="empty", remediation="Send one indicator, a list or a batch."
            )
        if text[0] in "{[":
            return text
        inner = _base64(text)
        if inner is None:
            break
        body = inner
    raise UnreadableError(
        "The message is neither a JSON object or list nor base64 of one.",
        reason="not_json",
        remediation="Send JSON, plain or in base64; see docs/queue-contract.md.",
    )


def _text(body: bytes) -> str:
    encoding = "utf-8"
    if body.startswith(codecs.BOM_UTF8):
        encoding = "utf-8-sig"
    elif body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    try:
        return body.decode(encoding)
    except UnicodeDecodeError:
        raise UnreadableError(
            "The message is not text in UTF-8, nor in UTF-16 with a byte-order mark.",
            reason="not_text",
            remediation="Send JSON in UTF-8, plain or in base64.",
        ) from None


def _base64(text: str) -> bytes | None:
    if not text.isascii():
        return None
    raw = text.encode("ascii")
    if not _BASE64(raw):
        return None
    raw = b"".join(raw.split()).translate(_URLSAFE).rstrip(b"=")
    try:
        return base64.b64decode(raw + b"=" * (-len(raw) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _each_name_once(plain: str, value: Any) -> bool:
    """Whether it is certain that no object in `plain` has a name twice; cheap, and False when in doubt.

    Looking at every pair costs as much as decoding. Instead: where no blank stands before a colon, each name in the
    text is followed by `":`, and a repeated one is missing from the decoded objects: equal numbers mean no repetition.
    Equal numbers of braces mean that no object was left out of the count. Text that looks like either only adds doubt.
    """
    for blank in " \n\t\r":
        if blank in plain and f"{blank}:" in plain:  # one character is found ten times faster than two
            return False
    objects = [value] if type(value) is dict else [entry for entry in value if type(entry) is dict]
    if type(value) is dict:
        for inner in value.values():
            if type(inner) is dict:
                objects.append(inner)
            elif type(inner) is list:
                objects += [entry for entry in inner if type(entry) is dict]
    return plain.count("{") == len(objects) and plain.count('":') == sum(map(len, objects))


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is too large")
    return number


def _words(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno}, column {error.colno}"
    return "a number has too many digits" if "digits" in str(error) else str(error)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else Repeated(found)


_QUICK = json.JSONDecoder(parse_constant=_constant, parse_float=_float).decode
_STRICT = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float).decode
