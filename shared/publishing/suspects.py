"""Suspects: finding the item that made Defender refuse a whole call, without rejecting anything on a hunch.

A suspect part is never merged with others. Of items known to hold a bad one, one half is sent: when it succeeds the
other half is split without being sent whole. At eight they go one by one. All of it within a small share of the
budget, while everything else goes on.

Before anything is rejected on the strength of a 400, a control is sent alone: an indicator of ours that Defender
accepted and holds. Refused too: it is not the items; all are deferred, a person is alarmed, nothing is rejected.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

from shared.errors import RelayError
from shared.ledger import ids
from shared.ledger.outcomes import State
from shared.publishing.answers import Answers, Ready, gather, send, stage
from shared.publishing.budget import GRACE, Budget, Permit
from shared.publishing.control import Control
from shared.publishing.failures import TENANT_FULL, Accepted, Again, Suspect, Verdict
from shared.publishing.known_bad import KnownBad
from shared.publishing.order import Group, Order
from shared.publishing.ports import Defender, Tell
from shared.publishing.retire import win
from shared.publishing.settle import Deferral, Entry, Fate, Settler, outcome
from shared.settings import Settings
from shared.storage.protocols import Clock

ONE_BY_ONE = 8
_CONTROL_PATIENCE = 20.0  # a control may be sent so long after the last moment for other calls


class Suspects:
    """Looks into suspect parts, one at a time in this worker."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        imports: Budget,
        share: Budget,
        order: Order,
        defender: Defender,
        answers: Answers,
        settler: Settler,
        known_bad: KnownBad,
        control: Control,
        tell: Tell,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._imports = imports
        self._share = share
        self._order = order
        self._defender = defender
        self._answers = answers
        self._settler = settler
        self._known_bad = known_bad
        self._control = control
        self._tell = tell
        self._turn = asyncio.Lock()

    async def investigate(self, entries: Sequence[Entry], known_bad: bool) -> None:
        """Send, split and judge these entries; every one is settled when this returns. Raises StorageError.

        When its turn does not come in time, they are settled as unsent: their part is pointed to again.
        """
        left = min(entry.began for entry in entries) + self._settings.call_latest_start
        try:
            async with asyncio.timeout_at(left):
                await self._turn.acquire()
        except TimeoutError:
            for entry in entries:
                entry.result.set_result(Fate.UNSENT)
            return
        try:
            await _Investigation(self, entries, known_bad).run()
        finally:
            self._turn.release()

    # What an investigation needs

    async def send(self, batch: Sequence[Ready], deadline: float) -> list[Verdict] | None:
        """One call of exactly these; None when no permit is to be had before `deadline` (event loop's clock)."""
        try:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return None
            await self._defender.prepare()
            await win(self._share, self._clock, left)
            left = deadline - asyncio.get_running_loop().time()
            within = await win(self._imports, self._clock, max(left, 0.0))
        except RelayError:
            return None
        permit = Permit(0, self._clock.now() + within - GRACE)
        return await send(self._defender, batch, permit, self._clock, self._tell)


class _Investigation:
    """One suspect part on its way: `groups` are still to be looked into, each (ready, known to hold a bad one)."""

    def __init__(self, room: Suspects, entries: Sequence[Entry], known_bad: bool) -> None:
        self._room = room
        self._chosen = gather(entries)
        self._groups: list[tuple[list[Ready], bool]] = []
        self._known_bad = known_bad
        self._refused: list[tuple[Ready, Suspect]] = []
        self._witness = False
        self._deadline = min(entry.began for entry in entries) + room._settings.call_latest_start

    async def run(self) -> None:
        room = self._room
        await stage(room._order, self._chosen)
        superseded = [pair for ready in self._chosen for pair in ready.superseded()]
        if superseded:
            await room._settler.settle(superseded)
        ours = [ready for ready in self._chosen if ready.staged.ours]
        if not ours:
            return
        self._groups = [(ours, self._known_bad)]
        if len(ours) > ONE_BY_ONE and self._known_bad and await self._nothing_is_accepted():
            await self._defer_all()
            return
        while self._groups:
            batch, bad = self._groups.pop()
            if not await self._look_into(batch, bad):
                self._groups.append((batch, bad))
                break
        await self._judge()

    async def _look_into(self, batch: list[Ready], bad: bool) -> bool:
        """Send what is to be sent of one group; False when there is no permit for it now."""
        if bad and len(batch) > ONE_BY_ONE:
            half = len(batch) // 2
            first, second = batch[:half], batch[half:]
            verdicts = await self._room.send(first, self._deadline)
            if verdicts is None:
                return False
            # When the first half is clean the bad one is in the second.
            self._groups.append((second, await self._take(first, verdicts)))
            return True
        if bad and len(batch) > 1:
            self._groups += [([ready], False) for ready in batch]
            return True
        verdicts = await self._room.send(batch, self._deadline)
        if verdicts is None:
            return False
        await self._take(batch, verdicts)
        return True

    async def _take(self, batch: list[Ready], verdicts: Sequence[Verdict]) -> bool:
        """Act on the verdicts of a call; whether they show that none of the batch is bad for a call as a whole."""
        first = verdicts[0]
        if isinstance(first, Suspect):
            if len(batch) == 1:
                self._refused.append((batch[0], first))
            else:
                self._groups.append((batch, True))
            return False
        # A call that failed says nothing of its items: they stay under suspicion, or they would sink others' calls.
        unclear = all(isinstance(verdict, Again) and verdict.reason != TENANT_FULL for verdict in verdicts)
        self._witness = self._witness or any(isinstance(verdict, Accepted) for verdict in verdicts)
        answered = list(zip(batch, verdicts, strict=True))
        await self._room._answers.conclude(answered, ids.new_call(), kind="suspect" if unclear else "plain")
        return not unclear

    async def _nothing_is_accepted(self) -> bool:
        """Whether a control is refused as well, which would spare a long search."""
        verdict = await self._send_control(self._deadline)
        self._witness = isinstance(verdict, Accepted)
        return isinstance(verdict, Suspect)

    async def _send_control(self, deadline: float) -> Verdict | None:
        """What Defender says of the control alone; None when there is none."""
        room = self._room
        head = await room._control.find()
        if head is None:
            return None
        entry = Entry(head.item, None, self._deadline, asyncio.get_running_loop().create_future())
        verdicts = await room.send(gather([entry]), deadline)
        if verdicts is None:
            return Again("not_sent", "There was no permit for a control.", sent=False)
        # As after any call: where somebody newer wrote meanwhile, this finds it superseded and asserts theirs again.
        await room._order.stage([Group(dataclasses.replace(head.item, maybe_sent=True))])
        return verdicts[0]

    async def _judge(self) -> None:
        room = self._room
        if self._refused and not self._witness:
            verdict = await self._send_control(self._deadline + _CONTROL_PATIENCE)
            self._witness = isinstance(verdict, Accepted)
            if isinstance(verdict, Again):
                # Nobody can tell now: they are asked about once more.
                await self._ask_again(verdict)
        if self._refused and not self._witness:
            await self._defer_all()
            return
        finals = []
        for ready, verdict in self._refused:
            text = f"Defender refused it when it was sent alone: {verdict.message or 'no message'}"
            indicator = ready.lead.item.indicator
            if indicator is not None:
                await room._known_bad.remember(indicator, text)
            finals += [
                (entry, outcome(entry.item, State.REJECTED, "refused_by_defender", text)) for entry in ready.senders()
            ]
        deferrals = [
            Deferral(
                [entry for ready in batch for entry in ready.senders()],
                self._wait(),
                "suspect",
                "Waiting for a call of its own: Defender refused a call as a whole.",
                failed=False,
                kind="suspect",
                known_bad=bad,
            )
            for batch, bad in self._groups
        ]
        await room._settler.settle(finals, deferrals)

    async def _ask_again(self, verdict: Again) -> None:
        room = self._room
        entries = [entry for ready, _ in self._refused for entry in ready.senders()]
        tried = verdict.reason != "not_sent"
        delay = room._settler.retry_delay(entries, verdict.delay) if tried else self._wait()
        again = Deferral(entries, delay, verdict.reason, verdict.text, failed=tried, kind="suspect")
        await room._settler.settle((), [again])
        self._refused = []

    def _wait(self) -> float:
        """Until there is a permit of the suspects' share."""
        return max(1.0, self._room._share.seen.opens_at - self._room._clock.now())

    async def _defer_all(self) -> None:
        """It is not the items, or nobody can tell: nothing is rejected, everything is tried again later."""
        room = self._room
        batches = [*self._groups, *(([ready], False) for ready, _ in self._refused)]
        entries = [entry for batch, _ in batches for entry in (e for ready in batch for e in ready.senders())]
        text = (
            "Defender refuses every call as a whole, and there is nothing that it is known to accept: "
            "either it accepts nothing now, or nothing of this app's was ever accepted."
        )
        room._tell.alarm("defender_refuses_all", f"{len(entries)} items are deferred. {text}")
        delay = room._settler.retry_delay(entries, None)
        # One part, suspect still: when Defender accepts again the search starts over.
        await room._settler.settle((), [Deferral(entries, delay, "refused_all", text, kind="suspect", known_bad=False)])
