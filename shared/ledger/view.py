"""The ledger as people and tools see it over HTTP: JSON objects, and plain words."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from shared.ledger import ids, packing
from shared.ledger.deadletters import DeadLetter
from shared.ledger.intents import RETRACTION
from shared.ledger.outcomes import ACCEPTED, Outcome, State
from shared.ledger.parts import PartItem, Parts
from shared.ledger.submissions import Header, Submission
from shared.ledger.verdicts import Verdict

_PART_SIZE = 500
_WORDS = {
    State.ACCEPTED: ACCEPTED,
    State.UNCHANGED: "Defender holds exactly this already.",
    State.SUPERSEDED: "A newer intent for the same value stands instead.",
    State.REJECTED: "Rejected; it will not be sent.",
    State.HELD: "Held until somebody decides.",
    State.DEFERRED: "Put off; it is tried again by itself.",
    State.PENDING: "On its way.",
}
_WORDS_OF_RETRACTIONS = {
    State.ACCEPTED: "Withdrawn from Defender. Devices follow within hours, or days for some types.",
    State.UNCHANGED: "There was nothing of ours at Defender.",
    State.SUPERSEDED: "A newer intent for the same value stands; it was left alone.",
}


def moment(epoch: float) -> str:
    """ISO 8601, UTC, milliseconds."""
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def duration(seconds: float) -> str:
    """For people: the two largest of days, hours, minutes and seconds."""
    left, told = max(0, round(seconds)), []
    for size, name in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if left >= size:
            told.append(f"{left // size} {name}")
            left %= size
    return " ".join(told[:2]) or "0 s"


class Stop(Protocol):
    """A pause that stands (see publishing/pause.py). Times are epoch seconds."""

    @property
    def since(self) -> float: ...
    @property
    def by(self) -> str: ...
    @property
    def by_name(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def until(self) -> float | None: ...


def paused_shown(paused: Stop) -> dict[str, Any]:
    """A pause."""
    return {
        "since": moment(paused.since),
        "by": paused.by,
        **({"byName": paused.by_name} if paused.by_name else {}),
        "reason": paused.reason,
        **({"until": moment(paused.until)} if paused.until else {}),
    }


def paused_sentence(paused: Stop) -> str:
    """A pause in plain words."""
    end = f"until {moment(paused.until)}" if paused.until else "until somebody resumes"
    who = f"{paused.by_name} ({paused.by})" if paused.by_name else paused.by
    return (
        f"Calls to Defender are paused since {moment(paused.since)} {end}, by {who}: {paused.reason}. "
        "What is submitted is kept, and goes on afterwards."
    )


def submission_shown(known: Submission) -> dict[str, Any]:
    """A submission without its items."""
    header = known.header
    counts = known.fold.counts()
    waiting = counts["held"] + counts["deferred"] + counts["pending"]
    shown: dict[str, Any] = {
        "id": header.id,
        "state": "finished" if known.finished else "in_progress",
        "text": _sentence(header, counts, waiting),
        "counts": counts,
        "reasons": known.fold.reasons(),
        "intentAt": moment(header.intent_at),
        "door": header.door,
    }
    for name, value in (
        ("source", header.source),
        ("incident", header.incident),
        ("correlationId", header.correlation_id),
        ("caller", header.caller),
        ("callerName", header.caller_name),
        ("replayOf", header.replay_of),
        ("undoOf", header.undo_of),
    ):
        if value:
            shown[name] = value
    if known.undone_by:
        shown["undoneBy"] = list(known.undone_by)
    return shown


_UNDONE = {
    State.ACCEPTED: "withdrawn",
    State.UNCHANGED: "with nothing of ours at Defender",
    State.SUPERSEDED: "left to a newer intent",
}


def _sentence(header: Header, counts: dict[str, int], waiting: int) -> str:
    words = _UNDONE if header.undo_of else {}
    told = [f"{counts[state]} {words.get(state, state.value)}" for state in State if counts[state]]
    end = "finished" if not waiting else f"{waiting} not finished"
    sent = "to be withdrawn" if header.undo_of else "submitted"
    return f"Of {counts['submitted']} {sent}: {', '.join(told) or 'nothing yet'}; {end}."


def item_shown(outcome: Outcome) -> dict[str, Any]:
    """One item."""
    shown: dict[str, Any] = {"ordinal": outcome.ordinal, "value": outcome.value, "state": outcome.state.value}
    for name, value in (("type", outcome.type), ("action", outcome.action), ("reason", outcome.reason)):
        if value:
            shown[name] = value
    retracted = _WORDS_OF_RETRACTIONS.get(outcome.state, "") if outcome.action == RETRACTION else ""
    shown["text"] = outcome.text or retracted or _WORDS[outcome.state]
    if outcome.notes:
        shown["notes"] = list(outcome.notes)
    return shown


async def items_shown(
    parts: Parts, known: Submission, skip: int, top: int, state: str = ""
) -> tuple[list[dict[str, Any]], int | None]:
    """A page of a submission's items, in their order, and where the next page begins (None: this is the last)."""
    fold = known.fold
    if state:
        ordinals = [n for n in range(fold.submitted) if fold.state(n).value == state]
    else:
        ordinals = list(range(fold.submitted))
    page = ordinals[skip : skip + top]
    following = skip + top if skip + top < len(ordinals) else None
    unsettled = [n for n in page if n not in fold.fates]
    stored = await stored_items(parts, known, unsettled)
    shown = []
    for ordinal in page:
        outcome = fold.fates.get(ordinal)
        if outcome is None:
            item = stored.get(ordinal)
            key = item.key if item else ("", "")
            action = item.action if item else ""
            notes = item.notes if item else ()
            outcome = Outcome(ordinal, fold.state(ordinal), key[1], key[0], action, notes=notes)
        shown.append(item_shown(outcome))
    return shown, following


async def stored_items(parts: Parts, known: Submission, ordinals: Sequence[int]) -> dict[int, PartItem]:
    """Items that have no outcome yet, from the parts they lie in, as far as those can be found."""
    if not ordinals:
        return {}
    names = {known.fold.deferred[n] for n in ordinals if n in known.fold.deferred}
    if known.header.door == "http" or known.header.replay_of:
        count = -(-known.fold.submitted // _PART_SIZE)
        names |= {ids.door_part(known.header.id, number, known.header.run) for number in range(count)}
    found: dict[int, PartItem] = {}
    for name in sorted(names):
        part = await parts.load(name)
        if part is not None:
            found |= {item.ordinal: item for item in part.items if item.submission == known.header.id}
        if all(ordinal in found for ordinal in ordinals):
            break
    return found


def verdicts_shown(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The door's verdict on each item of a submission."""
    shown = []
    for made in verdicts:
        verdict: dict[str, Any] = {"ordinal": made.ordinal, "verdict": "rejected" if made.reason else "taken"}
        verdict["value"] = made.value
        for name in ("type", "action", "reason", "text"):
            if getattr(made, name):
                verdict[name] = getattr(made, name)
        if made.notes:
            verdict["notes"] = list(made.notes)
        shown.append(verdict)
    rejected = sum(bool(made.reason) for made in verdicts)
    told = {"submitted": len(verdicts), "taken": len(verdicts) - rejected, "rejected": rejected}
    return {"verdicts": told, "items": shown}


def letter_shown(letter: DeadLetter) -> dict[str, Any]:
    """One dead letter in the list."""
    return {
        "id": letter.id,
        "state": letter.state,
        "kind": letter.kind,
        "at": moment(letter.at),
        "reason": letter.reason,
        "text": letter.text,
        "items": letter.count,
        "bytes": letter.size,
        "intentAt": moment(letter.intent_at),
        "submissions": list(letter.submissions[:20]),
        **({"replayedAs": letter.replayed_as} if letter.replayed_as else {}),
        **({"by": letter.by} if letter.by else {}),
        **({"byName": letter.by_name} if letter.by_name else {}),
        **({"changedAt": moment(letter.changed_at)} if letter.changed_at else {}),
        **({"discardReason": letter.note} if letter.note else {}),
    }


def letter_whole(letter: DeadLetter, body: bytes | None) -> dict[str, Any]:
    """One dead letter with what was kept; `body` None when that is gone."""
    shown = letter_shown(letter) | {"submissions": list(letter.submissions)}
    if body is None:
        return shown | {"note": "What was kept of it is gone from storage."}
    if letter.kind == "items":
        return shown | {"content": [_kept_item(item) for item in map(PartItem.from_record, packing.unsqueeze(body))]}
    try:
        return shown | {"encoding": "utf-8", "body": body.decode("utf-8")}
    except UnicodeDecodeError:
        return shown | {"encoding": "base64", "body": base64.b64encode(body).decode("ascii")}


def _kept_item(item: PartItem) -> dict[str, Any]:
    return {
        "submission": item.submission,
        "ordinal": item.ordinal,
        "type": item.key[0],
        "value": item.key[1],
        "action": item.action,
        "intentAt": moment(item.intent_at),
        "firstSeen": moment(item.first_seen),
        "attempts": item.attempts,
        **({"incident": item.incident} if item.incident else {}),
        **({"notes": list(item.notes)} if item.notes else {}),
        **({"indicator": item.indicator.payload()} if item.indicator else {}),
    }
