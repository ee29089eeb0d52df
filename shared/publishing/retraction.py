"""Retractions: an intent that nothing of ours shall stand for a (type, value)."""

from __future__ import annotations

from collections.abc import Sequence

from shared.ledger.outcomes import Outcome, State
from shared.publishing import failures
from shared.publishing.answers import gather, stage
from shared.publishing.failures import Again
from shared.publishing.order import Order
from shared.publishing.retire import Retirer
from shared.publishing.settle import Deferral, Entry, Settler, outcome

_PATIENCE = 30.0


class Retractions:
    """Carries out retractions: what the newest intent's head says Defender holds of ours is deleted."""

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
        results = await self._retirer.retire([ready.staged.head for ready in ours], _PATIENCE)
        again: dict[Again, list[Entry]] = {}
        for ready, error in zip(ours, results, strict=True):
            for entry in ready.senders():
                if error is None:
                    state = State.ACCEPTED if ready.staged.head.landed else State.UNCHANGED
                    finals.append((entry, outcome(entry.item, state)))
                    continue
                verdict = failures.of_error(error)
                if not isinstance(verdict, Again):
                    verdict = Again("retracting", str(error), sent=True)
                again.setdefault(verdict, []).append(entry)
        deferrals = [
            Deferral(waiting, self._settler.retry_delay(waiting, verdict.delay), verdict.reason, verdict.text)
            for verdict, waiting in again.items()
        ]
        await self._settler.settle(finals, deferrals)
