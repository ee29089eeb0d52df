"""What the intake hands on: a message read into items, each either an indicator or the reason why not."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from shared.indicators.model import Indicator
from shared.indicators.problem import Problem

__all__ = ["Door", "Item", "Message", "Pointer", "Privilege", "Problem"]


class Door(StrEnum):
    """Where a body came in; trust comes from where a thing lies, so the queue carries no privilege."""

    QUEUE = "queue"
    HTTP = "http"


class Privilege(StrEnum):
    """What a sender may do beyond others; over HTTP only. Spelled as the roles that give it."""

    OVERRIDE = "Guards.Override"
    ALLOW = "Indicators.Allow"


class Item(NamedTuple):
    """One item of a message, in the order it was sent. Exactly one of `indicator` and `problem` is set.

    `shown` is the value as it was sent, shortened, for people; `notes` are the changes made, in plain words, and the
    guards overridden, by whom and why.
    """

    ordinal: int
    shown: str
    indicator: Indicator | None = None
    problem: Problem | None = None
    notes: tuple[str, ...] = ()
    overridden: tuple[str, ...] = ()  # reason codes of guards


class Pointer(NamedTuple):
    """A message of the app's own kind: it says only which stored part to run, and the how manieth for it this is.

    number: 0 when it does not say; such a one always runs its part.
    """

    part: str
    number: int = 0


class Message(NamedTuple):
    """A native message. `source`, `incident` and `correlation_id` are indexes, never keys; "" when absent."""

    items: tuple[Item, ...]
    source: str = ""
    incident: str = ""
    correlation_id: str = ""
