"""Group commit: everything in flight in this worker shares calls of 500, each started by a permit of the budget.

Entries come in by `add` and leave settled. One task decides when a call is made, and calls run beside it and overlap.
What a call is made of is the business of staging.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from shared.defender.limits import named_value
from shared.errors import RelayError
from shared.publishing.answers import Answers, Ready, send
from shared.publishing.budget import Budget, Permit, View, call_name
from shared.publishing.decide import GATHER, Rule, decide
from shared.publishing.failures import Again, Suspect, Verdict
from shared.publishing.known_bad import KnownBad
from shared.publishing.order import Order
from shared.publishing.ports import Defender, Tell
from shared.publishing.settle import Deferral, Entry, Fate, Settler
from shared.publishing.staging import Staging
from shared.settings import Settings
from shared.storage.protocols import Clock

_LOOK_AGAIN = 5.0  # a hold may be lifted by somebody else
_NAMED_CALLS = 3  # of a batch with more bad items than this, naming them one by one would take every call there is
_RETRIES_LATE = 3  # for a busy worker; putting it off would cost a minute
_EARLY = 0.3  # seconds before a call may start; writing the intents of a trickle's call takes about as long
_HOPELESS_AFTER = 3.0  # when no call can start in time, how long to gather before giving up


class Committer:
    """The group commit of one worker; all methods belong to its event loop."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        budget: Budget,
        order: Order,
        defender: Defender,
        answers: Answers,
        settler: Settler,
        known_bad: KnownBad,
        tell: Tell,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._budget = budget
        self._defender = defender
        self._answers = answers
        self._settler = settler
        self._tell = tell
        limit = budget.limits[0]
        self._rule = Rule(limit.calls, limit.seconds, settings.call_size)
        self._wake = asyncio.Event()
        self.staging = Staging(settings, clock, order, settler, known_bad, self._wake.set)
        self._ahead: asyncio.Task[None] | None = None  # stages the call after the next
        self._early_for = float("-inf")  # the call whose intents were written early; when it may start
        self._calls: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._looked_at = float("-inf")
        self._saw_at = float("-inf")  # when the last look began
        self._looking = asyncio.Lock()
        self.calls_made = 0

    def add(self, entries: Sequence[Entry]) -> None:
        """Take entries in; each one's `result` is set once it is settled."""
        self.staging.add(entries)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="group commit")
        self._wake.set()

    @property
    def in_hand(self) -> int:
        """How many entries wait here or are in a call."""
        return self.staging.in_hand

    async def paused(self, since: float) -> bool:
        """Whether a person has paused the calls for longer than an invocation that began at `since` may wait.

        Costs nothing while this worker's last look showed no pause: then what it takes in finds out by itself. A pause
        is believed only when it was seen later than `since`: what a resume points to must not be put off once more.
        """
        if self._budget.seen.paused_until <= self._clock.now():
            return False
        await self._see(since)
        return self._budget.seen.paused_until - self._clock.now() > self._settings.call_latest_start

    async def _see(self, since: float) -> None:
        """Look, unless it was done after `since`; those who come at once share one look."""
        async with self._looking:
            if self._saw_at < since:
                await self._look()

    async def _look(self) -> View:
        began = asyncio.get_running_loop().time()
        view = await self._budget.look()
        self._saw_at = max(self._saw_at, began)
        return view

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                pause = await self._step()
            except RelayError as error:
                self._tell.alarm("group_commit", str(error))
                self.staging.fail_staged(error)
                pause = 1.0
            except Exception as error:  # the loop must outlive any fault; who waits gets the error and comes again
                self._tell.alarm("group_commit", repr(error))
                self.staging.fail_staged(error)
                pause = 1.0
            if pause > 0 and not self._wake.is_set():
                try:
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
                except TimeoutError:
                    pass

    # One decision

    async def _step(self) -> float:
        """Do what is to be done now; returns how many seconds to wait for something new at most."""
        loop_now = asyncio.get_running_loop().time()
        await self._give_up(loop_now)
        view = await self._join()
        if not self.staging.ready:
            return 3600.0
        if len(self._calls) >= self._settings.calls_at_once:
            return 1.0
        if view is None:
            again = self._decide(loop_now)
            if again is not None and loop_now - self._looked_at < _LOOK_AGAIN:
                return await self._wait(again, loop_now)
            # Where the intents of most are written early, those of the few that came since are written meanwhile.
            more = self._rule.full if self.staging.batch else 0
            seen, _ = await asyncio.gather(self._look(), self.staging.top_up(more))
            view = seen
        loop_now = self._looked_at = asyncio.get_running_loop().time()
        again = self._decide(loop_now)
        if again is None and view.opens_at - self._clock.now() > 0.5:
            again = view.opens_at  # a longer window than the shortest is full
        if again is not None:
            return await self._wait(again, loop_now)
        size = self._settings.call_size
        await asyncio.gather(self.staging.top_up(size), self._prepare())
        if not self.staging.batch:
            return 0.0
        self._stage_ahead(view)
        permit = await self._budget.take(view)
        if permit is None:
            self._looked_at = float("-inf")
            return 0.0
        self.calls_made += 1
        batch = self.staging.take(size)
        oldest = min(entry.began for ready in batch for entry in ready.senders())
        self._tell.observe("permit_wait", asyncio.get_running_loop().time() - oldest)
        task = asyncio.get_running_loop().create_task(self._call(batch, permit), name="import call")
        self._calls.add(task)
        task.add_done_callback(self._called)
        return 0.0

    async def _wait(self, again: float, loop_now: float) -> float:
        """Seconds to sleep when the next call may be at `again`; just before it, writes the intents of what waits.

        Written at that moment they would put off the call, and with it each one behind it.
        """
        left = again - self._clock.now()
        waiting = self.staging.waiting
        if waiting and loop_now - waiting[0].began > GATHER and self._early_for != again:
            if left <= _EARLY:
                self._early_for = again
                await self.staging.top_up(self._rule.full)
                return 0.0
            left -= _EARLY
        return self._pause(left, loop_now)

    def _pause(self, left: float, loop_now: float) -> float:
        """At most `left` seconds to sleep: not past the moment to give up the oldest."""
        pause = min(left, _LOOK_AGAIN)
        for entry in self.staging.oldest():
            age = loop_now - entry.began
            if age < _HOPELESS_AFTER:
                pause = min(pause, _HOPELESS_AFTER - age)
        return max(0.001, pause)

    def _called(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        self._wake.set()

    def _decide(self, loop_now: float) -> float | None:
        oldest = loop_now - min(entry.began for entry in self.staging.oldest())
        seen = self._budget.seen
        return decide(self._clock.now(), self.staging.ready, oldest, seen.starts, seen.shut_until, self._rule)

    async def _prepare(self) -> None:
        try:
            await self._defender.prepare()
        except Exception as error:  # raised here it would leave `top_up`, beside which this runs, to run on alone
            if not isinstance(error, RelayError):
                self._tell.alarm("prepare", repr(error))
            # The call will meet the same trouble, and knows what to make of it.

    async def _give_up(self, loop_now: float) -> None:
        """Settle as unsent what no call can take in time: it must not hold its message any longer."""
        latest = self._settings.call_latest_start
        fresh = loop_now - self._looked_at <= _LOOK_AGAIN + 1.0
        opens_in = self._budget.seen.opens_at - self._clock.now() if fresh else 0.0
        seen_at = float("inf")

        def too_late(entry: Entry) -> bool:
            return entry.began <= seen_at and loop_now - entry.began + max(opens_in, 0.0) >= latest

        oldest = [loop_now - entry.began for entry in self.staging.oldest() if too_late(entry)]
        if not oldest:
            return
        # All that is hopeless goes together, after gathering a while: else each that comes makes a part of its own.
        full = self.staging.ready >= self._settings.call_size
        if max(oldest) < min(_HOPELESS_AFTER, latest) and not full:
            return
        if self._budget.seen.paused_until > self._clock.now():
            # It may have been ended since: what a resume points to must not be put off once more.
            seen_at = max(entry.began for entry in [*self.staging.waiting, *self.staging.oldest()])
            await self._see(seen_at)
            if self._budget.seen.paused_until <= self._clock.now():
                return
        await self._unsent(self.staging.put_off(too_late))

    async def _unsent(self, entries: Sequence[Entry]) -> None:
        """Foreign items are gathered into parts; a stored part is pointed to again by who runs it."""
        for entry in entries:
            if not entry.foreign and not entry.result.done():
                entry.result.set_result(Fate.UNSENT)
        foreign = [entry for entry in entries if entry.foreign]
        if not foreign:
            return
        try:
            delay = await self._settler.unsent_delay()
            text = "No call to Defender was to be had in time; nothing was sent."
            deferral = Deferral(foreign, delay, "unsent", text, failed=False, sent=False)
            await self._settler.settle((), [deferral])
        except RelayError as error:
            for entry in foreign:
                if not entry.result.done():
                    entry.result.set_exception(error)

    # Staging ahead

    def _stage_ahead(self, view: View) -> None:
        """While a permit is taken and its call made, write the intents of the next call, if it will be a full one.

        Else calls could not overlap: writing the intents of 500 takes longer than a call. Nothing is staged that would
        then wait for the window to open: who waits long had better not have said yet that it is the newest.
        """
        limit, starts = self._rule.limit, view.starts
        open_ = len(starts) < limit - 1 or starts[1 - limit] + self._rule.window <= self._clock.now()
        if open_ and len(self.staging.waiting) >= self._rule.full and len(self.staging.batch) <= self._rule.full:
            more = self.staging.top_up(2 * self._rule.full)
            self._ahead = asyncio.get_running_loop().create_task(more, name="stage ahead")

    async def _join(self) -> View | None:
        """Wait for what is being staged ahead, and look meanwhile; None when nothing is. Raises what went wrong."""
        if self._ahead is None:
            return None
        ahead, self._ahead = self._ahead, None
        _, view = await asyncio.gather(ahead, self._look())
        return view

    # The call

    async def _call(self, batch: list[Ready], permit: Permit) -> None:
        """Make one call and settle what comes of it. Whoever waits gets a result or an error, whatever happens."""
        try:
            await asyncio.sleep(max(0.0, permit.starts_at - self._clock.now()))
            verdicts = await send(self._defender, batch, permit, self._clock, self._tell)
            back = [ready for ready, verdict in zip(batch, verdicts, strict=True) if self._once_more(ready, verdict)]
            left = [(ready, verdict) for ready, verdict in zip(batch, verdicts, strict=True) if ready not in back]
            for ready in back:
                for entry in self.staging.back(ready):
                    entry.retries += 1
            await self._conclude(left, call_name(permit))
        except Exception as error:
            for ready in batch:
                if not ready.released:  # else it is among the waiting again
                    self.staging.fail(ready, error)
            if not isinstance(error, RelayError):
                self._tell.alarm("import_call", repr(error))
        finally:
            for ready in batch:
                self.staging.release(ready)

    def _once_more(self, ready: Ready, verdict: Verdict) -> bool:
        """Nothing was done, and a fresh permit or token may do it within the same minute."""
        if not isinstance(verdict, Again) or verdict.reason not in ("not_sent", "denied_401"):
            return False
        age = asyncio.get_running_loop().time() - ready.lead.began
        most = _RETRIES_LATE if verdict.late else 1
        return ready.lead.retries < most and age < self._settings.call_latest_start

    async def _conclude(self, answered: Sequence[tuple[Ready, Verdict]], call: str) -> None:
        suspects = [ready for ready, verdict in answered if isinstance(verdict, Suspect)]
        clear = [(ready, verdict) for ready, verdict in answered if not isinstance(verdict, Suspect)]
        if not suspects:
            await self._answers.conclude(clear, call)
            return
        message = next(verdict.message for _, verdict in answered if isinstance(verdict, Suspect))
        self._tell.event("batch_refused", items=len(suspects), message=message[:300])
        patient = max(ready.lead.refused for ready in suspects) < _NAMED_CALLS
        named = named_item(message, suspects) if patient else None
        if named is not None:
            # The rest was refused only for company's sake: it goes into the next call.
            for ready in suspects:
                if ready is not named:
                    for entry in self.staging.back(ready):
                        entry.refused += 1
            suspects = [named]
        entries = [entry for ready in suspects for entry in ready.senders()]
        deferral = Deferral(
            entries, 0.0, "suspect", f"Defender refused a call as a whole: {message}", kind="suspect", known_bad=True
        )
        await self._settler.settle((), [deferral], call=call)


def named_item(message: str, suspects: Sequence[Ready]) -> Ready | None:
    """The one item whose value the service's message names, if it names exactly one."""
    value = named_value(message, [ready.lead.item.key[1] for ready in suspects])
    return next((ready for ready in suspects if ready.lead.item.key[1] == value), None)
