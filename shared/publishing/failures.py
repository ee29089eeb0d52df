"""What an answer of Defender means for each item of the call.

Pure. Retryable is everything that may succeed later with the same items: 429, 5xx, timeouts, resets, trouble with
token or vault, 401, 403, 404, 405 and whole answers nobody knows (these raise an alarm), a result count that
differs, and a tenant that is full. Final is only what Defender says of one item inside a 200.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import Protocol

from shared.defender.limits import is_capacity
from shared.errors import (
    BatchRefusedError,
    DefenderError,
    DeniedError,
    IdentityError,
    LateError,
    NotSentError,
    PausedError,
    RelayError,
    ThrottledError,
    UnavailableError,
)

TENANT_FULL = "tenant_full"
PAUSED = "paused"


class Result(Protocol):
    """What Defender says of one item: see shared/defender/client.py."""

    @property
    def failed(self) -> bool: ...
    @property
    def reason(self) -> str: ...
    @property
    def id(self) -> str | None: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Accepted:
    """Defender took it and calls it `id` ("" when it did not say)."""

    id: str


@dataclasses.dataclass(frozen=True, slots=True)
class Refused:
    """Defender refused this one item for good."""

    reason: str
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Again:
    """To be tried again. `sent`: whether Defender may have carried it out; `delay`: asked for by the service, seconds;
    `alarm`: whether a person should look; `late`: whether this worker was too slow to use its permit.
    """

    reason: str
    text: str
    sent: bool
    delay: float | None = None
    alarm: bool = False
    late: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Suspect:
    """The whole call was refused with 400; `message` is what the service said."""

    message: str


Verdict = Accepted | Refused | Again | Suspect


def of_results(results: Sequence[Result]) -> list[Verdict]:
    """Verdicts of a 200, in the order of the items."""
    verdicts: list[Verdict] = []
    for result in results:
        if not result.failed:
            verdicts.append(Accepted(result.id or ""))
        elif is_capacity(result.reason):
            text = f"The tenant holds as many indicators as Defender allows: {result.reason}"
            verdicts.append(Again(TENANT_FULL, text, sent=False, alarm=True))
        else:
            text = f"Defender refused it: {result.reason or 'no reason given'}"
            verdicts.append(Refused("refused_by_defender", text))
    return verdicts


def of_error(error: RelayError) -> Again | Suspect:
    """The one verdict for all items of a call that got no 200."""
    text = str(error)
    match error:
        case BatchRefusedError() if is_capacity(error.message_text):
            return Again(TENANT_FULL, text, sent=True, alarm=True)
        case BatchRefusedError():
            return Suspect(error.message_text or text)
        case ThrottledError():
            return Again("throttled", text, sent=False, delay=error.retry_after)
        case UnavailableError():
            return Again("defender_unavailable", text, sent=True, delay=error.retry_after)
        case PausedError():
            return Again(PAUSED, text, sent=False)
        case NotSentError():
            return Again("not_sent", text, sent=False, late=isinstance(error, LateError))
        case DeniedError():
            return Again(f"denied_{error.status}", text, sent=not 400 <= error.status < 500, alarm=True)
        case DefenderError():
            return Again("defender_error", text, sent=True, alarm=True)
        case IdentityError():
            return Again("identity", text, sent=False, alarm=True)
        case _:
            return Again("error", text, sent=True, alarm=True)


def delay(attempts: int, asked: float | None, first: float, longest: float, rnd: random.Random) -> float:
    """Seconds until the next try after `attempts` failures: doubling with jitter, never sooner than `asked`."""
    grown = min(first * 2.0 ** min(max(attempts - 1, 0), 20), longest)
    jittered = grown * (0.75 + 0.5 * rnd.random())
    return min(max(jittered, asked or 0.0), longest)


def pause(dequeue_count: int, first: float) -> float:
    """Seconds to hold a message whose delivery failed, before it is given back to the queue.

    The host's own delay is the same each time: ten deliveries would be used up, and the message a dead letter, after
    five minutes without storage or with a wrong setting. With this it takes over half an hour.
    """
    return min(first * 2.0 ** min(max(dequeue_count - 1, 0), 10), 240.0)
