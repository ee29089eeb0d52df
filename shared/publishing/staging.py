"""What a worker has in hand: entries that wait, those whose intents are written, those in a call.

A key that is staged or in a call stays out of every other call of this worker until it is released: entries of the
same key are blocked meanwhile. All methods belong to one event loop.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Coroutine, Sequence

from shared.ledger.outcomes import Outcome, State
from shared.publishing.answers import Ready, gather, stage
from shared.publishing.known_bad import KnownBad
from shared.publishing.order import Order
from shared.publishing.settle import Entry, Settler, outcome
from shared.settings import Settings
from shared.storage.protocols import Clock


class Staging:
    """The entries of one worker, from `add` until their call is made."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        order: Order,
        settler: Settler,
        known_bad: KnownBad,
        wake: Callable[[], None],
    ) -> None:
        """`wake` is called when something came free again."""
        self._settings = settings
        self._clock = clock
        self._order = order
        self._settler = settler
        self._known_bad = known_bad
        self._wake = wake
        self.waiting: deque[Entry] = deque()  # oldest first
        self.batch: list[Ready] = []  # staged, the first of them for the next call
        self._busy: set[tuple[str, str]] = set()
        self._blocked: dict[tuple[str, str], list[Entry]] = {}
        self.background: set[asyncio.Task[None]] = set()

    def __str__(self) -> str:
        return f"waiting {self.waiting}, staged {self.batch}, busy {self._busy}, blocked {self._blocked}"

    @property
    def in_hand(self) -> int:
        """How many entries wait here or are in a call."""
        blocked = sum(len(entries) for entries in self._blocked.values())
        return len(self.waiting) + blocked + len(self._busy)

    @property
    def ready(self) -> int:
        """How many a call could have now."""
        return len(self.waiting) + len(self.batch)

    def oldest(self) -> list[Entry]:
        """The oldest of those that wait, and those that are staged."""
        return [*(ready.lead for ready in self.batch), *([self.waiting[0]] if self.waiting else [])]

    def add(self, entries: Sequence[Entry]) -> None:
        """Take entries in."""
        for entry in entries:
            if entry.item.key in self._busy:
                self._blocked.setdefault(entry.item.key, []).append(entry)
            else:
                self._insert(entry)

    def _insert(self, entry: Entry) -> None:
        """Into the waiting, oldest first: what was read late, or comes back, may have begun before others."""
        waiting = self.waiting
        if not waiting or waiting[-1].began <= entry.began:
            waiting.append(entry)
        elif waiting[0].began > entry.began:
            waiting.appendleft(entry)
        else:
            # Looked for by halving: parts come in by hundreds of items, and walking past each of them is quadratic.
            waiting.insert(bisect_right(waiting, entry.began, key=_began), entry)

    async def top_up(self, most: int) -> None:
        """Choose the oldest entries until the batch has `most`, and write their intents. Raises what that raised."""
        room = most - len(self.batch)
        if room <= 0:
            return
        await self._known_bad.refresh()
        entries, finals = self._choose(room)
        if finals:
            self._spawn(self._settle_or_fail(finals, never_staged=True))
        if not entries:
            return
        self._busy |= {entry.item.key for entry in entries}
        chosen = gather(entries)
        try:
            await stage(self._order, chosen)
        except Exception as error:
            for ready in chosen:
                self.fail(ready, error)
            raise
        superseded: list[tuple[Entry, Outcome]] = []
        for ready in chosen:
            superseded += ready.superseded()
            if ready.staged.ours:
                self.batch.append(ready)
            else:
                self.release(ready)
        if superseded:
            self._spawn(self._settle_or_fail(superseded))

    def _choose(self, room: int) -> tuple[list[Entry], list[tuple[Entry, Outcome]]]:
        """The oldest entries of at most `room` keys, and those that can be settled without a call."""
        entries: dict[int, Entry] = {}
        keys: set[tuple[str, str]] = set()
        finals: list[tuple[Entry, Outcome]] = []
        left: deque[Entry] = deque()
        soonest = self._clock.now() + self._settings.expiry_margin
        while self.waiting:
            entry = self.waiting.popleft()
            indicator = entry.item.indicator
            assert indicator is not None  # retractions take another way
            if entry.item.key in self._busy:
                self._blocked.setdefault(entry.item.key, []).append(entry)
            elif indicator.expiration is not None and indicator.expiration.timestamp() <= soonest:
                text = "It expired, or was about to, before it could be sent to Defender."
                finals.append((entry, outcome(entry.item, State.REJECTED, "expired", text)))
            elif (bad := self._known_bad.reason(indicator)) is not None:
                finals.append((entry, outcome(entry.item, State.REJECTED, "refused_by_defender", bad)))
            elif entry.item.key in keys or len(keys) < room:
                keys.add(entry.item.key)
                entries[id(entry.item)] = entry
            else:
                left.append(entry)
                if len(left) > 4 * self._settings.call_size:
                    break  # enough looked at for others with the same key
        left.extend(self.waiting)
        self.waiting = left
        return list(entries.values()), finals

    def take(self, size: int) -> list[Ready]:
        """The next call's share of the batch."""
        taken, self.batch = self.batch[:size], self.batch[size:]
        return taken

    def release(self, ready: Ready) -> None:
        """Its call is over, or not to be: its key is free."""
        if ready.released:
            return  # by now the key may be in another call
        ready.released = True
        key = ready.lead.item.key
        self._busy.discard(key)
        for entry in self._blocked.pop(key, []):
            self._insert(entry)
        self._wake()

    def back(self, ready: Ready) -> list[Entry]:
        """Release it and let its senders wait for another call; these."""
        self.release(ready)
        senders = ready.senders()
        for entry in senders:
            self._insert(entry)
        return senders

    def fail(self, ready: Ready, error: BaseException) -> None:
        """Release it; whoever waits for it gets the error."""
        self.release(ready)
        for entry in [*ready.senders(), *ready.older]:
            if not entry.result.done():
                entry.result.set_exception(error)

    def fail_staged(self, error: Exception) -> None:
        """Storage did not answer: what was being staged goes back to its messages, which will come again."""
        for ready in self.batch:
            self.fail(ready, error)
        self.batch = []

    def put_off(self, too_late: Callable[[Entry], bool]) -> list[Entry]:
        """Take out what is too late, waiting or staged; these entries."""
        late = [entry for entry in self.waiting if too_late(entry)]
        self.waiting = deque(entry for entry in self.waiting if not too_late(entry))
        staying = []
        for ready in self.batch:
            if too_late(ready.lead):
                late += ready.senders()  # the older ones are superseded, and being settled
                self.release(ready)
            else:
                staying.append(ready)
        self.batch = staying
        return late

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    async def _settle_or_fail(self, finals: Sequence[tuple[Entry, Outcome]], *, never_staged: bool = False) -> None:
        try:
            if never_staged:
                await self._order.note([entry.item for entry, _ in finals])
            await self._settler.settle(finals)
        except Exception as error:
            for entry, _ in finals:
                if not entry.result.done():
                    entry.result.set_exception(error)


def _began(entry: Entry) -> float:
    return entry.began
