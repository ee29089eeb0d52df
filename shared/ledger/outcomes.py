"""The fate of one item, and how the fates of a submission are counted.

Pure. Rows are insert-only and may be written twice by two deliveries, so counting folds them per ordinal:
final beats held beats deferred; of several finals the one with the earliest service Timestamp counts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from shared.ledger import packing
from shared.storage.protocols import Row

# What is said of an accepted item, where there is nothing more to say.
ACCEPTED = "Accepted by Defender. Devices follow within hours, or days for some types."


class State(StrEnum):
    """Where an item is. The first four are final."""

    ACCEPTED = "accepted"
    UNCHANGED = "unchanged"
    SUPERSEDED = "superseded"
    REJECTED = "rejected"
    HELD = "held"
    DEFERRED = "deferred"
    PENDING = "pending"


FINAL = frozenset({State.ACCEPTED, State.UNCHANGED, State.SUPERSEDED, State.REJECTED})


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one item.

    `reason` is a short code ("" when accepted), `text` says it in plain words, `notes` are the changes made to it.
    """

    ordinal: int
    state: State
    value: str
    type: str = ""
    action: str = ""
    reason: str = ""
    text: str = ""
    notes: tuple[str, ...] = ()

    def record(self) -> list[Any]:
        """As a list for storage; trailing empty fields are left out."""
        fields: list[Any] = [
            self.ordinal,
            self.state.value,
            self.value,
            self.type,
            self.action,
            self.reason,
            self.text,
            list(self.notes),
        ]
        while not fields[-1]:
            fields.pop()
        return fields

    @classmethod
    def from_record(cls, fields: list[Any]) -> Outcome:
        """The inverse of `record`."""
        ordinal, state, value, kind, action, reason, text, notes = fields + ["", "", "", "", "", []][len(fields) - 2 :]
        return cls(ordinal, State(state), value, kind, action, reason, text, tuple(notes))


@dataclasses.dataclass(frozen=True, slots=True)
class Fold:
    """A submission's items as its rows tell them: `fates` by ordinal; what is in neither dict is pending."""

    submitted: int
    fates: dict[int, Outcome]
    deferred: dict[int, str]

    def state(self, ordinal: int) -> State:
        """Where one item is."""
        if ordinal in self.fates:
            return self.fates[ordinal].state
        return State.DEFERRED if ordinal in self.deferred else State.PENDING

    def settled(self, ordinal: int) -> bool:
        """Whether the item is final."""
        return ordinal in self.fates and self.fates[ordinal].state in FINAL

    def counts(self) -> dict[str, int]:
        """The sum: submitted = accepted + unchanged + superseded + rejected + held + deferred + pending."""
        counts = {state.value: 0 for state in State}
        for outcome in self.fates.values():
            counts[outcome.state.value] += 1
        counts["deferred"] += len(self.deferred.keys() - self.fates.keys())
        counts["pending"] = self.submitted - sum(counts.values())
        return {"submitted": self.submitted, **counts}

    def reasons(self) -> dict[str, int]:
        """How often each reason for a rejection occurs."""
        reasons: dict[str, int] = {}
        for outcome in self.fates.values():
            if outcome.state is State.REJECTED:
                reasons[outcome.reason] = reasons.get(outcome.reason, 0) + 1
        return dict(sorted(reasons.items()))


def fold(submitted: int, rows: Iterable[Row]) -> Fold:
    """Fold the `|o|` and `|d|` rows of one submission."""
    finals: dict[int, tuple[float, str, Outcome]] = {}
    held: dict[int, Outcome] = {}
    deferred: dict[int, str] = {}
    for row in rows:
        kind, _, rest = row.rk.partition("|")[2].partition("|")
        if kind == "o":
            for fields in packing.unpack(row.data) or []:
                outcome = Outcome.from_record(fields)
                if outcome.state not in FINAL:
                    held[outcome.ordinal] = outcome
                    continue
                known = finals.get(outcome.ordinal)
                if known is None or (row.stamp, row.rk) < known[:2]:
                    finals[outcome.ordinal] = (row.stamp, row.rk, outcome)
        elif kind == "d":
            for ordinal in packing.unpack(row.data) or []:
                deferred[ordinal] = rest.partition("|")[2]
    fates = held | {ordinal: final[2] for ordinal, final in finals.items()}
    return Fold(submitted, fates, {ordinal: part for ordinal, part in deferred.items() if ordinal not in fates})
