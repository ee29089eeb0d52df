"""The group commit: who goes first, what a refused or failed call leaves behind, and that nobody starves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from statistics import mean
from typing import Any

from shared.errors import BatchRefusedError, DefenderError, LateError, NotSentError, StorageError
from shared.ledger.parts import PartItem
from shared.publishing.settle import Entry
from tests.support import virtual
from tests.support.fakes import indicator
from tests.support.rig import Host, Rig


def value(n: int) -> str:
    return f"h{n}.evil-domain.com"


def message(n: int, **fields: Any) -> dict[str, Any]:
    return {"indicatorValue": value(n), "action": "Block", **fields}


def entry(n: int, began: float) -> Entry:
    made = indicator(value(n))
    item = PartItem(f"20261122a{n:016d}", "m", 0, 0.0, 0.0, made.key, made)
    return Entry(item, None, began, asyncio.get_running_loop().create_future())


def test_the_oldest_stand_first_in_whatever_order_they_come() -> None:
    async def main() -> None:
        committer = Rig().worker().committer
        for began in (3.0, 1.0, 2.0, 5.0, 4.0, 2.0, 0.0):
            committer.add([entry(int(began), began)])
        assert [one.began for one in committer.staging.waiting] == [0.0, 1.0, 2.0, 2.0, 3.0, 4.0, 5.0]

    virtual.run(main())


def test_a_trickle_under_a_hold_is_gathered_into_few_parts() -> None:
    async def main() -> None:
        rig = Rig()
        worker = rig.worker(table_seconds=0.005)
        await worker.imports.hold(worker.stores.clock.now() + 3600.0, "paused")

        async def feed() -> None:
            for n in range(600):
                rig.put(message(n))
                await asyncio.sleep(0.1)

        feeding = asyncio.ensure_future(feed())
        await Host(rig, worker).serve(80.0)
        await feeding
        parts = await worker.parts.all_open()
        assert len(parts) <= 30, f"{len(parts)} parts of 600 items in a minute"

    virtual.run(main())


def names_one(bad: set[str]) -> Any:
    """Defender naming one bad item each time it refuses a call."""

    def fault(payloads: Sequence[dict[str, Any]]) -> DefenderError | None:
        for payload in payloads:
            if payload["indicatorValue"] in bad:
                text = f"Indicator value '{payload['indicatorValue']}' is not supported"
                return BatchRefusedError("400", message_text=text)
        return None

    return fault


def test_a_trickle_keeps_the_pace_however_long_its_intents_take_to_write() -> None:
    """They are written just before the call may start: after it they would put off that call and each one behind it."""

    async def main() -> None:
        rig = Rig()
        one = asyncio.Lock()

        async def slow(when: str, what: str) -> None:
            if when == "before" and what != "import":
                async with one:  # storage that does one thing at a time
                    await asyncio.sleep(0.01)

        async def feed() -> None:
            for n in range(600):
                rig.put(message(n))
                await asyncio.sleep(0.1)

        feeding = asyncio.ensure_future(feed())
        await Host(rig, rig.worker(gate=slow)).serve(70.0, poll=0.05)
        await feeding
        assert len(rig.tenant.held) == 600
        starts = [start for start, _ in rig.tenant.calls][3:-1]
        gaps = [later - earlier for earlier, later in pairwise(starts)]
        assert len(gaps) > 15 and min(gaps) >= 3.1
        assert mean(gaps) < 3.15 + 0.09, gaps
        assert sum(count for _, count in rig.tenant.calls) == 600

    virtual.run(main())


def test_two_bad_items_that_are_named_cost_two_calls_and_nobody_waits() -> None:
    async def main() -> None:
        rig = Rig()
        host = Host(rig, rig.worker())
        rig.put(message(1000))
        await host.drain(5.0)
        rig.tenant.fault = names_one({value(3), value(7)})
        name = rig.put({"indicators": [message(n) for n in range(100)]})
        await host.serve(30.0)
        assert (await rig.read(name)).fold.counts()["accepted"] == 98
        await host.drain(1000.0)
        assert (await rig.read(name)).fold.counts()["rejected"] == 2

    virtual.run(main())


def test_a_batch_of_many_bad_items_does_not_take_every_call_from_the_others() -> None:
    async def main() -> None:
        rig = Rig()
        host = Host(rig, rig.worker())
        rig.put(message(1000))
        await host.drain(5.0)
        rig.tenant.fault = names_one({value(n) for n in range(0, 400, 4)})
        rig.put({"indicators": [message(n) for n in range(400)]})
        await host.serve(15.0)
        others = [rig.put(message(n)) for n in range(2000, 2200)]
        await host.serve(20.0)
        accepted = [(await rig.read(name)).fold.counts()["accepted"] for name in others]
        assert sum(accepted) == 200, "the others wait behind a batch that is refused again and again"

    virtual.run(main())


def test_a_worker_that_was_too_busy_for_its_permit_tries_some_more_before_it_puts_off() -> None:
    """A service that cannot be reached is asked once more; then it is put off, and its permits are left to others."""

    async def main(error: DefenderError, failures: int, calls: int) -> None:
        rig = Rig()
        host = Host(rig, rig.worker())
        left = failures

        def fault(_payloads: Sequence[dict[str, Any]]) -> DefenderError | None:
            nonlocal left
            left -= 1
            return error if left >= 0 else None

        rig.tenant.fault = fault
        name = rig.put(message(3))
        await host.serve(40.0)
        assert len(rig.tenant.calls) == calls
        counts = (await rig.read(name)).fold.counts()
        assert counts["accepted" if calls > failures else "deferred"] == 1
        await host.drain(1000.0)
        assert (await rig.read(name)).fold.counts()["accepted"] == 1

    for failures in range(4):
        virtual.run(main(LateError("late"), failures, failures + 1))
    virtual.run(main(LateError("late"), 9, 4))
    virtual.run(main(NotSentError("no connection"), 1, 2))
    virtual.run(main(NotSentError("no connection"), 2, 2))


def test_what_goes_into_the_next_call_is_not_given_back_to_its_message_too() -> None:
    async def main() -> None:
        rig = Rig()
        failing = False

        async def gate(when: str, what: str) -> None:
            if failing and (when, what) == ("before", "put parts"):
                raise StorageError("no blobs now")

        worker = rig.worker(gate=gate)
        host = Host(rig, worker)
        rig.put(message(1000))
        await host.drain(5.0)
        rig.tenant.fault = names_one({value(3)})
        failing = True
        bad, good = rig.put(message(3)), rig.put(message(4))
        await host.serve(20.0)
        assert (await rig.read(good)).fold.counts()["accepted"] == 1
        assert [waiting[4] for waiting in rig.service.messages.values()] == [1], "the good one was delivered once"
        failing = False
        await host.drain(3000.0)
        assert (await rig.read(bad)).fold.counts()["rejected"] == 1

    virtual.run(main())


class Trace:
    """When each operation of a worker began and ended, in virtual seconds; writing intents takes its time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.seen: list[tuple[float, str, str]] = []

    async def __call__(self, when: str, what: str) -> None:
        self.seen.append((asyncio.get_running_loop().time(), when, what))
        if (when, what) == ("before", "transact intents"):
            await asyncio.sleep(self.seconds)

    def times(self, when: str, what: str) -> list[float]:
        return [at for at, one, name in self.seen if (one, name) == (when, what)]


def test_the_intents_of_the_next_call_are_written_while_a_permit_is_taken() -> None:
    async def main() -> None:
        rig = Rig()
        trace = Trace(0.5)
        for part in range(6):
            rig.put({"indicators": [message(part * 500 + n) for n in range(500)]})
        await Host(rig, rig.worker(gate=trace)).drain(30.0)
        calls = trace.times("before", "import")
        assert len(calls) == 6
        staged = trace.times("before", "transact intents")
        ahead = [call for call in calls[:-1] if any(abs(at - call) < 0.1 for at in staged)]
        assert len(ahead) >= 4, (calls, staged)

    virtual.run(main())


def test_nothing_is_staged_ahead_of_a_window_that_is_about_to_be_full() -> None:
    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        for _ in range(29):  # one permit is left for the next minute
            assert await worker.imports.take(await worker.imports.look()) is not None
        for part in range(3):
            rig.put({"indicators": [message(part * 500 + n) for n in range(500)]})
        await Host(rig, worker).serve(20.0)
        assert len(rig.tenant.calls) == 1
        rows = await worker.stores.tables.query("intents", pk="0", pk_to="g")
        assert len([row for row in rows if "|" not in row.rk]) == 500  # nobody said to be the newest, to wait a minute

    virtual.run(main())


def test_what_fails_while_it_is_staged_ahead_goes_back_to_its_messages_and_comes_again() -> None:
    async def main() -> None:
        rig = Rig()
        written = 0

        async def gate(when: str, what: str) -> None:
            nonlocal written
            if (when, what) == ("before", "transact intents"):
                written += 1
                if 17 <= written < 20:  # a call's intents lie in sixteen partitions
                    raise StorageError("storage did not answer")

        names = [rig.put({"indicators": [message(part * 500 + n) for n in range(500)]}) for part in range(4)]
        await Host(rig, rig.worker(gate=gate)).drain(300.0)
        assert written > 20
        for name in names:
            assert (await rig.read(name)).fold.counts()["accepted"] == 500

    virtual.run(main())
