"""From chosen entries to a call, and from its answer to outcomes; shared by the group commit and the lonely calls."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

from shared.errors import PausedError, RelayError
from shared.ledger.outcomes import ACCEPTED, Outcome, State
from shared.ledger.parts import PartItem, PartKind
from shared.publishing import failures
from shared.publishing.budget import GRACE, Budget, Permit
from shared.publishing.control import Control
from shared.publishing.failures import Accepted, Again, Refused, Suspect, Verdict
from shared.publishing.order import Order, Staged, fold
from shared.publishing.ports import Defender, Tell
from shared.publishing.retire import Retirer
from shared.publishing.settle import Deferral, Entry, Settler, outcome
from shared.storage.protocols import Clock

# Retiring ends well before the deadline of the invocations that wait for it, but gets some time in any case.
_RETIRE_UNTIL = 70.0  # seconds since the oldest of them began
_RETIRE_LEAST, _RETIRE_MOST = 5.0, 30.0


@dataclasses.dataclass(slots=True, eq=False)
class Ready:
    """A group of entries of one (type, value); `staged` is there once its intent is written."""

    staged: Staged
    lead: Entry
    equals: list[Entry]
    older: list[Entry]
    released: bool = False

    def senders(self) -> list[Entry]:
        """The entries that share the lead's fate."""
        return [self.lead, *self.equals]

    def everyone(self) -> list[Entry]:
        """All entries of the group."""
        return [*self.senders(), *self.older]

    def superseded(self) -> list[tuple[Entry, Outcome]]:
        """Outcomes of those a newer intent has replaced: the older ones, or everyone when the newest is not ours."""
        newest = self.staged.head.item
        text = f"A newer intent stands for this value: {newest.action}, submission {newest.submission}."
        if self.lead.item.indicator is None and not self.staged.ours:
            text += " It was left alone."
        entries = self.older if self.staged.ours else self.everyone()
        return [(entry, outcome(entry.item, State.SUPERSEDED, "newer_intent", text)) for entry in entries]


def gather(entries: Sequence[Entry]) -> list[Ready]:
    """Fold entries by (type, value); the groups are not staged yet."""
    by_item = {id(entry.item): entry for entry in entries}
    chosen = []
    for group in fold([entry.item for entry in entries]):
        lead, *rest = (by_item[id(item)] for item in group.members())
        equals, older = rest[: len(group.equals)], rest[len(group.equals) :]
        unstaged = Staged(group, None, ours=False)  # type: ignore[arg-type]  # until `stage` has been here
        chosen.append(Ready(unstaged, lead, equals, older))
    return chosen


async def stage(order: Order, chosen: Sequence[Ready]) -> None:
    """Write the groups' intents."""
    staged = await order.stage([ready.staged.group for ready in chosen])
    for ready, entry in zip(chosen, staged, strict=True):
        ready.staged = entry


async def send(defender: Defender, batch: Sequence[Ready], permit: Permit, clock: Clock, tell: Tell) -> list[Verdict]:
    """Make the call that `permit` is for; one verdict for each of `batch`. Raises nothing of the API's."""
    payloads = [ready.lead.item.indicator.payload() for ready in batch if ready.lead.item.indicator]
    started = asyncio.get_running_loop().time()
    verdicts: list[Verdict]
    try:
        within = permit.starts_at + GRACE - clock.now()
        verdicts = failures.of_results(await defender.import_indicators(payloads, within=within))
    except RelayError as error:
        one = failures.of_error(error)
        verdicts = [one] * len(batch)
        tell.event("call_failed", reason=type(error).__name__, detail=str(error)[:300])
        if isinstance(one, Again) and one.alarm:
            tell.alarm(one.reason, f"{error} {error.remediation}".strip())
    if not any(isinstance(verdict, Again) and verdict.reason == "not_sent" for verdict in verdicts):
        tell.observe("batch_fill", len(batch))
    seconds = asyncio.get_running_loop().time() - started
    tell.event("call", permit=permit.number, items=len(batch), seconds=round(seconds, 3))
    return verdicts


def _lifetime(item: PartItem) -> float:
    expires = item.indicator.expiration if item.indicator else None
    return expires.timestamp() if expires else float("inf")


class Answers:
    """What is done with verdicts: heads merged, replaced indicators retired, outcomes and deferrals written."""

    def __init__(
        self,
        order: Order,
        retirer: Retirer,
        settler: Settler,
        imports: Budget,
        control: Control,
        clock: Clock,
        tell: Tell,
    ) -> None:
        self._order = order
        self._retirer = retirer
        self._settler = settler
        self._imports = imports
        self._control = control
        self._clock = clock
        self._tell = tell

    async def conclude(self, answered: Sequence[tuple[Ready, Verdict]], call: str, *, kind: PartKind = "plain") -> None:
        """Settle everyone in `answered`; what is to be tried again moves to parts of this kind.

        Suspects are the caller's business. Raises StorageError.
        """
        accepted = [(ready, verdict) for ready, verdict in answered if isinstance(verdict, Accepted)]
        if accepted:
            await self._order.land([(ready.staged, verdict.id) for ready, verdict in accepted])
            await self._control.remember(max((ready.lead.item for ready, _ in accepted), key=_lifetime))
        finals: list[tuple[Entry, Outcome]] = []
        again: list[tuple[Entry, Again]] = []
        retired, others = await self._retire([ready for ready, _ in accepted])
        for ready, _ in accepted:
            trouble = retired.get(id(ready))
            for entry in ready.senders():
                if trouble is None:
                    finals.append((entry, outcome(entry.item, State.ACCEPTED, text=others.get(id(ready), ""))))
                else:
                    again.append((entry, trouble))
        for ready, verdict in answered:
            if isinstance(verdict, Refused):
                finals += [
                    (entry, outcome(entry.item, State.REJECTED, verdict.reason, verdict.text))
                    for entry in ready.senders()
                ]
            elif isinstance(verdict, Again):
                again += [(entry, verdict) for entry in ready.senders()]
            elif isinstance(verdict, Suspect):
                raise AssertionError("a suspect is not concluded")
        await self._hold(again)
        await self._settler.settle(finals, await self._deferrals(again, kind), call=call)

    async def _hold(self, again: Sequence[tuple[Entry, Again]]) -> None:
        throttled = [verdict.delay or 1.0 for _, verdict in again if verdict.reason == "throttled"]
        if throttled:
            until = self._clock.now() + max(throttled)
            await self._imports.hold(until, "Defender answered 429")

    async def _deferrals(self, again: Sequence[tuple[Entry, Again]], kind: PartKind) -> list[Deferral]:
        groups: dict[Again, list[Entry]] = {}
        for entry, verdict in again:
            groups.setdefault(verdict, []).append(entry)
        for verdict, entries in groups.items():
            if verdict.alarm and verdict.reason == failures.TENANT_FULL:
                self._tell.alarm(verdict.reason, f"{len(entries)} items wait. {verdict.text}")
        deferrals = []
        for verdict, entries in groups.items():
            delay, failed = await self._settler.delay(entries, verdict)
            deferrals.append(
                Deferral(entries, delay, verdict.reason, verdict.text, failed=failed, sent=verdict.sent, kind=kind)
            )
        return deferrals

    async def _retire(self, accepted: Sequence[Ready]) -> tuple[dict[int, Again], dict[int, str]]:
        """Delete what the accepted intents have replaced.

        Returns, by ready, what could not be done and is to be tried again, and what is to be said of others' ones.
        """
        troubles: dict[int, Again] = {}
        others: dict[int, str] = {}
        changed = [ready for ready in accepted if ready.staged.ours and len(ready.staged.head.landed) > 1]
        if not changed:
            return troubles, others
        age = asyncio.get_running_loop().time() - min(ready.lead.began for ready in changed)
        patience = min(max(_RETIRE_UNTIL - age, _RETIRE_LEAST), _RETIRE_MOST)
        sure = [ready.lead.item.attempts > 0 for ready in changed]
        results = await self._retirer.retire([ready.staged.head for ready in changed], patience, sure)
        for ready, retired in zip(changed, results, strict=True):
            if retired.others:
                actions = ", ".join(retired.others)
                others[id(ready)] = f"{ACCEPTED} Somebody else's indicator of the same value was left: {actions}."
            if retired.error is None and retired.missing:
                text = "Accepted; Defender's list does not show its former action, which is looked for once more."
                troubles[id(ready)] = Again("retiring", text, sent=True)
            elif (error := retired.error) is not None:
                text = f"Accepted, but the former action could not be removed yet: {error}"
                reason = failures.PAUSED if isinstance(error, PausedError) else "retiring"
                troubles[id(ready)] = Again(reason, text, sent=True)
        return troubles, others
