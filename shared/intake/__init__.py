"""Bytes to indicators: `read` is the only way in. One file a format; `detect` turns bytes into JSON values."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from shared.errors import TooLargeError, UnreadableError
from shared.intake.contract import Door, Message, Pointer, Privilege
from shared.intake.detect import Repeated, decode
from shared.intake.native import count, read_native
from shared.intake.single import BODY_MAX, is_single, read_single
from shared.settings import Settings

__all__ = ["read"]

_NUMBERS = 10**9  # more than any part was ever pointed to
_PART = re.compile(r"[0-9a-z][0-9a-z-]{9,79}").fullmatch


def read(
    body: bytes,
    *,
    door: Door,
    now: datetime,
    settings: Settings,
    privileges: frozenset[Privilege] = frozenset(),
    caller: str = "",
) -> Pointer | Message:
    """What `body` says: a pointer to a stored part (from the queue only), or a message with an item per indicator.

    Args:
        body: as it was sent, plain or base64 (see `detect.decode`).
        now: the moment it was sent; expirations count from it and may not lie before it.
        privileges: what its sender, `caller`, may do beyond others; a message on the queue carries none.

    Each item of the message is either an indicator that passed the guards or the reason why not; one item never
    affects another.

    Raises:
        UnreadableError: nothing can be read from it, or (queue) it has more items than `settings.max_items`.
        TooLargeError: (HTTP) it has more bytes or items than the settings allow.
    """
    if door is Door.HTTP and len(body) > settings.max_body_bytes:
        raise TooLargeError(
            f"The body has {len(body)} bytes, more than {settings.max_body_bytes}.",
            remediation="Send several smaller submissions.",
        )
    value = decode(body)
    single = len(body) <= BODY_MAX and is_single(value)
    if not single and isinstance(value, dict) and _is_pointer(value):
        return _pointer(value, door)
    items = 1 if single else count(value)
    if items > settings.max_items:
        text = f"The message has {items} indicators, more than {settings.max_items}."
        remedy = "Send several smaller submissions."
        if door is Door.HTTP:
            raise TooLargeError(text, remediation=remedy)
        raise UnreadableError(text, reason="too_many_items", remediation=remedy)
    if door is not Door.HTTP:
        privileges = frozenset()
    reading = read_single if single else read_native
    return reading(value, now=now, settings=settings, privileges=privileges, caller=caller)


def _is_pointer(value: dict[str, Any]) -> bool:
    # What holds more than these is somebody's message and is read, and rejected, as one.
    return "part" in value and value.keys() <= {"v", "part", "n"}


def _pointer(value: dict[str, Any], door: Door) -> Pointer:
    part, number = value["part"], value.get("n", 0)
    if door is not Door.QUEUE:
        raise UnreadableError(
            "A pointer to a stored part is taken from the queue only.", reason="pointer", remediation="Send indicators."
        )
    known = type(value.get("v")) is int and value["v"] == 1 and type(number) is int and 0 <= number < _NUMBERS
    if isinstance(value, Repeated) or not known or type(part) is not str or not _PART(part):
        raise UnreadableError(
            "The pointer is malformed.", reason="pointer", remediation="Leave pointers to the app; send indicators."
        )
    return Pointer(part, number)
