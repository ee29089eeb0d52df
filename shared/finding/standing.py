"""What the newest intent for a value is, in a sentence or two."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from shared.ledger.intents import Head
from shared.ledger.outcomes import Outcome, State
from shared.ledger.submissions import Header

NEVER = "never"


def who_shown(header: Header | None) -> dict[str, Any]:
    """Who submitted it, by which door and for what; nothing when that is no longer kept."""
    if header is None:
        return {}
    named = {
        "door": header.door,
        "source": header.source,
        "incident": header.incident,
        "caller": header.caller,
        "callerName": header.caller_name,
        "replayOf": header.replay_of,
        "undoOf": header.undo_of,
    }
    return {name: value for name, value in named.items() if value}


def expiry_shown(expires: float) -> str:
    """When it expires; 0 is never."""
    return _minute(expires) if expires else NEVER


def _minute(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def standing_text(head: Head, header: Header | None, outcome: Outcome | None, now: float) -> str:
    """The newest intent, who it is of, and what became of it. `outcome` is None when that is no longer kept."""
    item = head.item
    made_at = item.first_seen if item.as_of else item.intent_at  # an undo takes the place of what it undoes
    meant = f"{_who(header)} on {_minute(made_at)}{_why(header)}"
    if item.indicator is None:
        return f"Withdrawn by {meant}. {_fate(outcome, _WITHDRAWN)}"
    expires = item.indicator.expiration
    if expires is None:
        until = "without an end"
    elif expires.timestamp() <= now:
        return (
            f"{item.action} by {meant}, until {_minute(expires.timestamp())}, which is past: Defender removes what has "
            "expired."
        )
    else:
        until = f"until {_minute(expires.timestamp())}"
    return f"{item.action} by {meant}, {until}. {_fate(outcome, _PUT)}{_older(head, outcome)}"


def _who(header: Header | None) -> str:
    if header is None:
        return "somebody whose submission is no longer kept"
    caller = header.caller_name or header.caller
    if header.source and caller:
        return f"{header.source} ({caller})"
    return header.source or caller or f"the {header.door}"


def _why(header: Header | None) -> str:
    return f" for incident {header.incident}" if header is not None and header.incident else ""


_PUT = {
    State.ACCEPTED: "Defender accepted it; devices follow within hours, or days for some types.",
    State.UNCHANGED: "Defender held exactly this already.",
}
_WITHDRAWN = {
    State.ACCEPTED: "What Defender held of this app's for the value was removed.",
    State.UNCHANGED: "Defender held nothing of this app's for the value.",
}


def _fate(outcome: Outcome | None, words: dict[State, str]) -> str:
    if outcome is None:
        return "What became of it is no longer kept."
    match outcome.state:
        case State.REJECTED:
            return f"It was rejected ({outcome.reason}): {outcome.text}"
        case State.SUPERSEDED:
            return outcome.text
        case State.ACCEPTED | State.UNCHANGED:
            return words[outcome.state]
        case _:
            return f"Defender has not taken it yet: it is {outcome.state.value}."


def _older(head: Head, outcome: Outcome | None) -> str:
    """What of ours may be at Defender instead, while the newest intent is not."""
    others = sorted({landed.action for landed in head.landed} - {head.item.action})
    if not others or (outcome is not None and outcome.state in (State.ACCEPTED, State.UNCHANGED)):
        return ""
    return f" Defender may still hold this app's older {' and '.join(others)}."
