"""Retractions: an intent that nothing of ours shall stand for a (type, value)."""

from __future__ import annotations

from collections.abc import Sequence

from shared.errors import NotSentError
from shared.ledger.outcomes import Outcome, State
from shared.publishing import failures
from shared.publishing.answers import gather, stage
from shared.publishing.failures import Again
from shared.publishing.order import Order
from shared.publishing.retire import Retired, Retirer
from shared.publishing.settle import Deferral, Entry, Fate, Settler, outcome

_PATIENCE = 30.0
_NOT_SHOWN = Again("not_shown", "Defender's list does not show what it took; it is looked for once more.", sent=True)


class Retractions:
    """Carries out retractions: what Defender holds of ours for the value is deleted."""

    def __init__(self, order: Order, retirer: Retirer, settler: Settler) -> None:
        self._order = order
        self._retirer = retirer
        self._settler = settler

    async def carry_out(self, entries: Sequence[Entry]) -> None:
        """Settle these entries. Raises StorageError."""
        chosen = gather(entries)
        await stage(self._order, chosen)
        finals: list[tuple[Entry, Outcome]] = [pair for ready in chosen for pair in ready.superseded()]
        ours = [ready for ready in chosen if ready.staged.ours]
        sure = [ready.lead.item.attempts > 0 for ready in ours]
        results = await self._retirer.retire([ready.staged.head for ready in ours], _PATIENCE, sure)
        again: dict[Again, list[Entry]] = {}
        unsent: list[Entry] = []
        for ready, retired in zip(ours, results, strict=True):
            if retired.error is None and retired.missing:
                again.setdefault(_NOT_SHOWN, []).extend(ready.senders())
            elif retired.error is None:
                finals += [(entry, _outcome(entry, retired)) for entry in ready.senders()]
            elif isinstance(retired.error, NotSentError) and not retired.tried:
                unsent += ready.senders()
            else:
                verdict = failures.of_error(retired.error)
                if not isinstance(verdict, Again):
                    verdict = Again("retracting", str(retired.error), sent=True)
                again.setdefault(verdict, []).extend(ready.senders())
        deferrals = []
        for verdict, waiting in again.items():
            delay, failed = await self._settler.delay(waiting, verdict)
            deferrals.append(Deferral(waiting, delay, verdict.reason, verdict.text, failed=failed))
        await self._settler.settle(finals, deferrals)
        for entry in unsent:
            if not entry.result.done():
                entry.result.set_result(Fate.UNSENT)


def _outcome(entry: Entry, retired: Retired) -> Outcome:
    """What became of a retraction: see ledger/view.py for the words where none are given here."""
    state = State.ACCEPTED if retired.deleted else State.UNCHANGED
    reason = text = ""
    if retired.others:
        reason = "somebody_elses"
        told = "Withdrawn from Defender." if retired.deleted else "There was nothing of ours at Defender."
        text = f"{told} Somebody else's indicator of the same value was left: {', '.join(retired.others)}."
    elif not retired.deleted and entry.item.maybe_sent:
        text = "Nothing of ours is at Defender; an earlier attempt may have withdrawn it."
    return outcome(entry.item, state, reason, text)
