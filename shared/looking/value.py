"""One value: what Defender holds for it, what was last meant here, and whether the two agree, in plain words."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from datetime import datetime
from ipaddress import ip_address
from typing import Any

from shared.defender.client import equals
from shared.defender.limits import TOP_MAX
from shared.errors import BatchRefusedError, QuestionError, UnavailableError
from shared.finding.search import Reader
from shared.indicators.model import Indicator, IndicatorType, format_time
from shared.indicators.normalise import infer_type, normalise
from shared.indicators.problem import Problem
from shared.ledger import intents
from shared.ledger.intents import Head
from shared.ledger.outcomes import Outcome, State
from shared.ledger.submissions import Submission
from shared.ledger.view import item_shown, moment
from shared.looking import walk
from shared.looking.permits import Looks
from shared.looking.ports import Who
from shared.looking.rows import Criteria, row_shown, sees_shown
from shared.looking.walk import OVERLAP, Place
from shared.storage.protocols import Tables

_PAGES = 40
_SIZE = 1000

type Key = tuple[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Meant:
    """A value as somebody wrote it: the (type, value) pairs it may be, and the spellings to ask Defender for."""

    text: str
    keys: tuple[Key, ...]
    spellings: tuple[str, ...]
    note: str = ""


def read_value(text: str, value_max: int) -> Meant:
    """What a value may be, normalised as at the intake. 40 hexadecimal digits are a file's SHA-1 or a thumbprint.

    What the intake would not take is looked up as it is: others may have made such an indicator.

    Raises:
        QuestionError: it is empty, or no indicator could be so long.
    """
    given = text.strip()
    if not given:
        raise QuestionError("The value is empty.", remediation="Give the address, name, URL or hash.")
    if len(given) > 4 * value_max:
        raise QuestionError(
            f"The value {given[:40]!r}... has {len(given)} characters.", remediation=f"Values have up to {value_max}."
        )
    if any(character < " " or "\ud800" <= character <= "\udfff" for character in given):
        raise QuestionError(
            "The value has control characters, or is no Unicode.", remediation="Give it as it was submitted, as UTF-8."
        )
    kind = infer_type(given)
    kinds = [kind] if kind is not None else []
    if kind is IndicatorType.FILE_SHA1:
        kinds.append(IndicatorType.CERTIFICATE_THUMBPRINT)
    keys: list[Key] = []
    note = "" if kinds else "This has the shape of no type that the app publishes; it is looked up as it is written."
    for one in kinds:
        found = normalise(one, given, value_max)
        if isinstance(found, Problem):
            note = f"The app would not publish this: {found.text} It is looked up as it is written."
        else:
            keys.append((one.value, found[0]))
    if not keys:
        return Meant(given, (), (given,), note)
    return Meant(given, tuple(keys), _spellings(given, keys[0][1]), note)


def _spellings(given: str, value: str) -> tuple[str, ...]:
    """Ours, and those that somebody else may have used: whether Defender minds letter case is not known."""
    found = [value]
    if given.casefold() == value.casefold():
        found.append(given)
    try:
        address = ip_address(value)
    except ValueError:
        pass
    else:
        found.append(address.compressed)
    return tuple(dict.fromkeys(found))


class Values:
    """Looks up one value at Defender and in the ledger."""

    def __init__(self, looks: Looks, tables: Tables, reader: Reader, value_max: int) -> None:
        self._looks = looks
        self._tables = tables
        self._reader = reader
        self._value_max = value_max

    async def look_up(self, text: str, criteria: Criteria) -> dict[str, Any]:
        """The answer: `indicators` that Defender holds (those of them asked for), and our `intents`.

        Raises:
            QuestionError: the value or the criteria cannot be understood.
            BudgetError, IdentityError, DefenderError: Defender could not be asked. Never an empty list instead.
            StorageError: the intents could not be read.
        """
        meant = read_value(text, self._value_max)
        who = await self._looks.who()
        criteria.check(who)
        before = await self._heads(meant.keys)
        at = self._looks.now()
        rows = await self._rows(meant, who)
        heads = await self._heads(meant.keys)
        intents_ = [
            await self._intent(head, rows, who, moved=earlier is None or earlier.etag != head.etag)
            for earlier, head in zip(before, heads, strict=True)
            if head is not None
        ]
        shown: dict[str, Any] = {
            "value": meant.keys[0][1] if meant.keys else meant.text,
            "types": [kind for kind, _ in meant.keys],
            "asOf": moment(at),
            **sees_shown(who),
            "text": _summary(rows, who, bool(intents_)),
            "indicators": [row_shown(row, who) for row in rows if criteria.matches(row, who)],
            "intents": intents_,
        }
        if meant.note:
            shown["note"] = meant.note
        return shown

    async def _rows(self, meant: Meant, who: Who) -> list[dict[str, Any]]:
        wanted = {spelling.casefold() for spelling in meant.spellings}
        found: dict[str, dict[str, Any]] = {}

        def keep(row: dict[str, Any]) -> dict[str, Any]:
            return row if str(row.get("indicatorValue", "")).casefold() in wanted else {"id": row.get("id")}

        async def collect(filter_: str | None, size: int) -> None:
            place = Place()
            for _ in range(_PAGES):
                page = await walk.read(self._looks, filter_, place, size, keep)
                for row in page.rows:
                    if len(row) > 1:
                        found[walk.row_id(row) or f"none {len(found)}"] = row
                if not page.more:
                    return
                place = page.after(len(page.rows), place)
            raise UnavailableError(f"Defender's list did not end within {_PAGES} pages")

        try:
            for spelling in meant.spellings:
                await collect(equals("indicatorValue", spelling), _SIZE)
        except BatchRefusedError:
            # A value that its filter cannot take: look through everything.
            await collect(None, TOP_MAX - OVERLAP)
        return list(found.values())

    async def _heads(self, keys: Sequence[Key]) -> list[Head | None]:
        rows = await asyncio.gather(
            *(self._tables.get(intents.TABLE, intents.partition(key), intents.row_key(key)) for key in keys)
        )
        return [Head.from_row(row) if row is not None else None for row in rows]

    async def _intent(self, head: Head, rows: Sequence[dict[str, Any]], who: Who, *, moved: bool) -> dict[str, Any]:
        item = head.item
        known = await self._reader.read(item.submission)
        fate = _fate(head, known)
        held = [row for row in rows if str(row.get("indicatorType", "")).casefold() == item.key[0].casefold()]
        agrees, text = judge(head, held, who, self._looks.now(), fate)
        if moved:
            agrees, text = None, f"This intent is being carried out right now; ask again in a few seconds. {text}"
        shown: dict[str, Any] = {
            "type": item.key[0],
            "value": item.key[1],
            "action": item.action,
            "agrees": agrees,
            "text": text,
            "intentAt": moment(item.intent_at),
            "submission": item.submission,
            "ordinal": item.ordinal,
        }
        if fate is not None:
            shown["state"] = fate.state.value
            shown["stateText"] = item_shown(fate)["text"]
        if item.indicator is not None:
            shown |= {
                "title": item.indicator.title,
                "severity": item.indicator.severity.value,
                "expiration": format_time(item.indicator.expiration) if item.indicator.expiration else None,
            }
        if known is not None:
            header = known.header
            told = {
                "source": header.source,
                "incident": header.incident,
                "caller": header.caller,
                "callerName": header.caller_name,
                "undoOf": header.undo_of,
            }
            shown |= {name: value for name, value in told.items() if value}
        return shown


def _fate(head: Head, known: Submission | None) -> Outcome | None:
    """What became of the newest intent; None when the ledger does not know it (any more)."""
    item = head.item
    if known is None or not 0 <= item.ordinal < known.fold.submitted:
        return None
    fate = known.fold.fates.get(item.ordinal)
    return fate or Outcome(item.ordinal, known.fold.state(item.ordinal), item.key[1], item.key[0], item.action)


def _summary(rows: Sequence[dict[str, Any]], who: Who, meant: bool) -> str:
    mine = sum(who.mine(row) is True for row in rows)
    seen = "" if who.sees == "everyone" else " that this app can see"
    if not rows:
        told = f"Defender holds no indicator{seen} for this value."
    else:
        told = f"Defender holds {_count(len(rows), 'indicator')}{seen} for this value"
        told += f": {mine} of this app, {len(rows) - mine} of others." if who.app else "."
    if meant:
        return told
    return (
        f"{told} This app has sent nothing for it, as far as its ledger goes back; GET /api/submissions?value= tells "
        "what waits."
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def judge(
    head: Head, held: Sequence[dict[str, Any]], who: Who, now: float, fate: Outcome | None
) -> tuple[bool | None, str]:
    """Whether what Defender holds for a (type, value) is what was last meant (None: it cannot be told), and why.

    held: what Defender holds of this type and value, whoever created it; fate: what became of the newest intent.
    """
    indicator = head.item.indicator
    ours = [row for row in held if who.mine(row) is True]
    if indicator is None:
        return _judge_retraction(held, ours, who, fate)
    same = [row for row in held if str(row.get("action", "")).casefold() == indicator.action.casefold()]
    if not same:
        return _judge_missing(indicator, who, now, fate)
    faults = []
    row = next((row for row in same if who.mine(row) is True), same[0])
    other = _differences(indicator, row)
    if other:
        faults.append(
            f"Defender holds it, but {'; '.join(other)}: somebody changed it there, or the newest intent "
            f"is not sent yet.{_said(fate)}"
        )
    beside = sorted({str(row.get("action")) for row in ours} - {str(row.get("action")) for row in same})
    if beside:
        faults.append(f"Beside it Defender still holds ours with {', '.join(beside)}, which is to be deleted.")
    if faults:
        return False, " ".join(faults)
    text = f"Defender holds what was last meant: {indicator.action.value}."
    if who.app and not ours:
        text += f" It was created by {_creator(row)}, so this app will never delete it."
    return True, text


def _judge_retraction(
    held: Sequence[dict[str, Any]], ours: Sequence[dict[str, Any]], who: Who, fate: Outcome | None
) -> tuple[bool | None, str]:
    if held and not who.app:
        return None, "It was retracted; whether what Defender holds is ours cannot be told: the token cannot be read."
    if ours:
        actions = ", ".join(sorted(str(row.get("action")) for row in ours))
        return False, f"It was retracted, and Defender still holds ours with {actions}.{_said(fate)}"
    text = "It was retracted, and Defender holds nothing of ours for it."
    return True, f"{text} What others created is theirs to delete." if held else text


def _judge_missing(indicator: Indicator, who: Who, now: float, fate: Outcome | None) -> tuple[bool | None, str]:
    """The newest intent stands here, and Defender holds no such indicator."""
    missing = f"Defender does not hold it with {indicator.action.value}"
    if indicator.expiration is not None and indicator.expiration.timestamp() <= now:
        return True, f"It expired at {format_time(indicator.expiration)}; Defender deletes what has expired."
    if fate is not None and fate.state in (State.PENDING, State.DEFERRED, State.HELD):
        return False, f"{missing}: it is not sent yet.{_said(fate)}"
    if fate is not None and fate.state is State.REJECTED:
        return False, f"{missing}: it was rejected.{_said(fate)}"
    if fate is not None and fate.state in (State.ACCEPTED, State.UNCHANGED):
        return False, (
            f"{missing} now, although it was {fate.state.value}: somebody deleted it, in the portal or with another "
            "app, or gave it an earlier end (or, within seconds of a call, its list lags behind). Submit it again if "
            "it is still meant."
        )
    text = f"{missing}. The ledger does not tell whether it was ever accepted: it was deleted, or never sent."
    return (False, text) if who.sees != "unknown" else (None, text)


def _differences(indicator: Indicator, row: dict[str, Any]) -> list[str]:
    """In what Defender's indicator differs from ours, among what people look at."""
    found = []
    for name, ours, theirs in (
        ("severity", indicator.severity.value, row.get("severity")),
        ("title", indicator.title, row.get("title")),
        ("description", indicator.description, row.get("description")),
    ):
        if str(theirs) != ours:
            found.append(f"its {name} is {str(theirs)[:80]!r}, not {ours[:80]!r}")
    ends = _seconds(row.get("expirationTime"))
    wanted = None if indicator.expiration is None else int(indicator.expiration.timestamp())
    if ends != wanted:
        meant = "never" if indicator.expiration is None else f"at {format_time(indicator.expiration)}"
        found.append(f"it expires {'never' if ends is None else f'at {row.get("expirationTime")}'}, not {meant}")
    return found


def _seconds(text: Any) -> int | None:
    try:
        return None if text is None else int(datetime.fromisoformat(str(text)).timestamp())
    except ValueError:
        return -1


def _creator(row: dict[str, Any]) -> str:
    name, created_by = str(row.get("createdByDisplayName") or ""), str(row.get("createdBy") or "")
    return f"{name} ({created_by})" if name and name != created_by else created_by or "somebody else"


def _said(fate: Outcome | None) -> str:
    return "" if fate is None else f" Its state is {fate.state.value}: {item_shown(fate)['text']}"
