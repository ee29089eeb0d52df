"""One value: who asked for what, when, why, for which incident and until when; what stands, and what waits.

A use is an intent that was chosen for a call, whatever became of it. What a guard rejected at the door never got so
far: the verdict as of now tells why.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from shared import guard
from shared.errors import QuestionError
from shared.finding.question import FINISHED, IN_PROGRESS, Question
from shared.finding.search import ITEMS_MOST, Reader
from shared.finding.standing import expiry_shown, standing_text, who_shown
from shared.finding.waiting import PARTS_MOST, waiting
from shared.indicators.model import Action, Indicator, IndicatorType, Severity
from shared.indicators.normalise import infer_type, normalise
from shared.indicators.problem import Problem, shorten
from shared.ledger import intents
from shared.ledger.intents import Head, Use
from shared.ledger.outcomes import FINAL, Outcome
from shared.ledger.parts import Parts
from shared.ledger.submissions import Header
from shared.ledger.view import item_shown, moment
from shared.settings import Settings
from shared.storage.protocols import Blobs, Clock, Tables

EXAMINED_MOST = 400  # uses looked at for one page
_CHUNK = 16
_FORGOTTEN = "Its submission is no longer kept, nor what became of it."

type Key = tuple[str, str]


def keys_of(value: str, settings: Settings) -> tuple[list[Key], tuple[str, ...]]:
    """The (type, value)s that a value can be, as it would be sent, with the changes made to it.

    Raises QuestionError when it is nothing that Defender takes.
    """
    kind = infer_type(value)
    if kind is None:
        raise QuestionError(
            f"value={shorten(value)!r} is no address, domain name, URL or hash.",
            remediation="Give the value as it was submitted; percent-encode it in the query.",
        )
    found = normalise(kind, value, settings.value_max)
    if isinstance(found, Problem):
        raise QuestionError(
            f"No indicator can have this value ({found.reason}): {found.text}",
            remediation="Give the value as it was submitted; percent-encode it in the query.",
        )
    normal, notes = found
    keys = [(kind.value, normal)]
    if kind is IndicatorType.FILE_SHA1:
        # Nothing but what its sender said tells a thumbprint from a SHA-1.
        keys.append((IndicatorType.CERTIFICATE_THUMBPRINT.value, normal))
    return keys, notes


def verdict(key: Key) -> dict[str, Any]:
    """What the guards say now of an indicator of this type and value."""
    bare = Indicator(
        value=key[1],
        type=IndicatorType(key[0]),
        action=Action.BLOCK,
        title="",
        description="",
        severity=Severity.INFORMATIONAL,
        expiration=None,
        generate_alert=False,
    )
    problem = guard.check(bare)
    if problem is None:
        return {"taken": True, "text": "No guard rejects it."}
    return {"taken": False, "reason": problem.reason, "text": problem.text}


@dataclasses.dataclass(frozen=True, slots=True)
class _Fate:
    """What became of one item; `header` is None when its submission is no longer kept."""

    header: Header | None
    outcome: Outcome | None


class Uses:
    """Answers for one value."""

    def __init__(
        self, settings: Settings, tables: Tables, blobs: Blobs, parts: Parts, reader: Reader, clock: Clock
    ) -> None:
        self._settings = settings
        self._tables = tables
        self._blobs = blobs
        self._parts = parts
        self._reader = reader
        self._clock = clock

    async def find(self, question: Question) -> tuple[dict[str, Any], str]:
        """The answer as JSON, and the cursor of the next page of uses ("": there is none).

        What stands and waits, and the verdict, are told with the first page. Raises QuestionError, StorageError.
        """
        keys, notes = keys_of(question.value, self._settings)
        heads = await asyncio.gather(*(self._head(key) for key in keys))
        newest = {(head.item.submission, head.item.ordinal) for head in heads if head is not None}
        told: dict[str, Any] = {"value": keys[0][1], "types": [key[0] for key in keys]}
        if notes:
            told["notes"] = list(notes)
        if not question.place:
            told |= await self._standing(question, [head for head in heads if head is not None])
            told["waiting"] = await self._waiting(question, keys)
            told["verdict"] = verdict(keys[0])
        uses, following = await self._uses(question, keys, newest)
        told["uses"] = uses
        return told, following

    async def _head(self, key: Key) -> Head | None:
        row = await self._tables.get(intents.TABLE, intents.partition(key), intents.row_key(key))
        return None if row is None else Head.from_row(row)

    # The uses

    async def _uses(
        self, question: Question, keys: Sequence[Key], newest: set[tuple[str, int]]
    ) -> tuple[list[dict[str, Any]], str]:
        place = begin = question.place or intents.moment_place(question.until)
        hits: list[dict[str, Any]] = []
        seen = ""  # the last place of what is shown
        while True:
            lists = await asyncio.gather(
                *(intents.history(self._tables, key, place, EXAMINED_MOST + 1) for key in keys)
            )
            found = sorted((use for uses in lists for use in uses), key=lambda use: use.place)
            examined = items = 0
            while examined < len(found):
                if len(hits) == question.top or examined >= EXAMINED_MOST or items >= ITEMS_MOST:
                    break
                most = min(_CHUNK, question.top - len(hits), EXAMINED_MOST - examined)
                chunk = found[examined : examined + most]
                examined += len(chunk)
                place = chunk[-1].place
                chunk = await self._permitted(question, chunk)
                fates = await self._fates([(use.submission, use.ordinal) for use in chunk])
                for use, fate in zip(chunk, fates, strict=True):
                    if _fits(question, fate):
                        hits.append(_use_shown(use, fate, (use.submission, use.ordinal) in newest))
                        seen = use.place
                items += sum({fate.header.id: fate.header.submitted for fate in fates if fate.header}.values())
            if examined == len(found):
                return hits, ""
            if not question.own:
                return hits, question.following(place)
            # Whose the other uses are, and when exactly they were, is not this caller's to know: it goes on from the
            # beginning of that minute, or from its own last one. In between there was none of its own.
            following = max(seen, intents.moment_place(math.ceil(found[examined - 1].intent_at / 60) * 60))
            if following > begin:
                return hits, question.following(following)

    async def _permitted(self, question: Question, uses: Sequence[Use]) -> list[Use]:
        """Those of the time that is asked for, and that the caller may see."""
        uses = [use for use in uses if question.since <= use.at < question.until]
        if not question.own:
            return list(uses)
        headers = await asyncio.gather(*(self._reader.header(use.submission) for use in uses))
        return [use for use, header in zip(uses, headers, strict=True) if header and header.caller == question.own]

    async def _fates(self, items: Sequence[tuple[str, int]]) -> list[_Fate]:
        """What became of these items; each submission is read once."""
        names = list(dict.fromkeys(name for name, _ in items))

        async def read(name: str) -> dict[int, _Fate]:
            known = await self._reader.read(name)
            fates: dict[int, _Fate] = {}
            for ordinal in {ordinal for other, ordinal in items if other == name}:
                if known is None:
                    fates[ordinal] = _Fate(None, None)
                    continue
                outcome = known.fold.fates.get(ordinal) or Outcome(ordinal, known.fold.state(ordinal), "")
                fates[ordinal] = _Fate(known.header, outcome)
            return fates

        found = dict(zip(names, await asyncio.gather(*map(read, names)), strict=True))
        return [found[name][ordinal] for name, ordinal in items]

    # What stands, and what waits

    async def _standing(self, question: Question, heads: Sequence[Head]) -> dict[str, Any]:
        fates = await self._fates([(head.item.submission, head.item.ordinal) for head in heads])
        shown = [
            self._standing_shown(head, fate)
            for head, fate in sorted(zip(heads, fates, strict=True), key=lambda pair: pair[0].order, reverse=True)
            if not question.own or (fate.header is not None and fate.header.caller == question.own)
        ]
        told: dict[str, Any] = {"standing": shown[0] if shown else None}
        if shown[1:]:
            told["alsoStanding"] = shown[1:]
        return told

    def _standing_shown(self, head: Head, fate: _Fate) -> dict[str, Any]:
        item, header, now = head.item, fate.header, self._clock.now()
        shown: dict[str, Any] = {
            "text": standing_text(head, header, fate.outcome, now),
            "submission": item.submission,
            "at": moment(item.intent_at),
            **who_shown(header),
            "type": item.key[0],
            "action": item.action,
        }
        if item.indicator is not None:
            shown["title"] = item.indicator.title
            expires = item.indicator.expiration
            shown["expires"] = expiry_shown(expires.timestamp() if expires else 0.0)
        if fate.outcome is not None:
            shown["state"] = fate.outcome.state.value
        if head.landed:
            shown["mayHold"] = sorted({landed.action for landed in head.landed})
        return shown

    async def _waiting(self, question: Question, keys: Sequence[Key]) -> dict[str, Any]:
        found = await waiting(self._tables, self._blobs, self._parts, keys)
        names = list(dict.fromkeys(item.submission for _, item in found.items))
        headers = dict(zip(names, await asyncio.gather(*map(self._reader.header, names)), strict=True))
        shown = []
        for part, item in found.items:
            header = headers[item.submission]
            if question.own and (header is None or header.caller != question.own):
                continue
            shown.append(
                {
                    "submission": item.submission,
                    "ordinal": item.ordinal,
                    "at": moment(item.intent_at),
                    **who_shown(header),
                    "type": item.key[0],
                    "action": item.action,
                    "part": part,
                }
            )
        if found.complete:
            return {"items": shown, "complete": True}
        text = f"More than {PARTS_MOST} parts wait; these are from the first {PARTS_MOST}. There may be more."
        return {"items": shown, "complete": False, "text": text}


def _fits(question: Question, fate: _Fate) -> bool:
    if fate.header is None or fate.outcome is None:
        # Nothing is known of it any more that could be compared.
        return not (question.own or question.incident or question.source or question.caller or question.state)
    if not question.fits_named(fate.header):
        return False
    match question.state:
        case "":
            return True
        case str(state) if state in (FINISHED, IN_PROGRESS):
            return (fate.outcome.state in FINAL) == (state == FINISHED)
        case state:
            return fate.outcome.state.value == state


def _use_shown(use: Use, fate: _Fate, newest: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "submission": use.submission,
        "ordinal": use.ordinal,
        "at": moment(use.at),
        **who_shown(fate.header),
        "value": use.value,
        "type": use.type,
        "action": use.action,
    }
    if use.expires is not None and use.action != intents.RETRACTION:
        shown["expires"] = expiry_shown(use.expires)
    if use.title:
        shown["title"] = use.title
    if fate.outcome is None:
        shown |= {"state": "forgotten", "text": _FORGOTTEN}
    else:
        item = item_shown(fate.outcome)
        shown |= {name: item[name] for name in ("state", "reason", "text", "notes") if name in item}
    return {**shown, "newest": newest}
