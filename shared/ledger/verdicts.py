"""The HTTP door's verdicts, kept as long as an Idempotency-Key may ask for the same answer again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from shared.intake.contract import Item
from shared.ledger import packing
from shared.storage.protocols import Blobs

CONTAINER = "answers"


class Verdict(NamedTuple):
    """What the door said of one item: taken, or rejected with a reason (a short code; "" when taken) and a text."""

    ordinal: int
    value: str
    type: str = ""
    action: str = ""
    reason: str = ""
    text: str = ""
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, item: Item) -> Verdict:
        """The verdict on an item as it was read."""
        if item.problem is not None:
            return cls(item.ordinal, item.shown, "", "", item.problem.reason, item.problem.text, item.notes)
        made = item.indicator
        if made is None:
            raise ValueError("an item is either an indicator or a problem")
        return cls(item.ordinal, made.value, made.type.value, made.action.value, notes=item.notes)


class Verdicts:
    """Keeps the verdicts of each run of a keyed request, written before its header."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def keep(self, submission: str, run: str, data: bytes) -> None:
        """Write what `encode` made."""
        await self._blobs.put(CONTAINER, _name(submission, run), data)

    async def read(self, submission: str, run: str) -> tuple[Verdict, ...] | None:
        """The verdicts; None when they are gone."""
        data = await self._blobs.get(CONTAINER, _name(submission, run))
        return None if data is None else decode(data)

    async def forget(self, submission: str, runs: Sequence[str]) -> None:
        """Delete those of all these runs."""
        for run in runs:
            await self._blobs.delete(CONTAINER, _name(submission, run))


def encode(verdicts: Sequence[Verdict]) -> bytes:
    """As a blob; takes some 5 ms a thousand."""
    return packing.squeeze({"v": 1, "verdicts": verdicts})


def decode(data: bytes) -> tuple[Verdict, ...]:
    """The inverse of `encode`."""
    return tuple(Verdict(*fields)._replace(notes=tuple(fields[-1])) for fields in packing.unsqueeze(data)["verdicts"])


def _name(submission: str, run: str) -> str:
    return f"{submission}-{run}"
