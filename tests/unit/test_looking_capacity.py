"""How full the tenant is and what is used of the budgets: counted once for everybody, and never from half a list."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import BudgetError, RelayError, UnavailableError
from shared.looking.capacity import Capacity
from shared.looking.permits import Looks
from shared.looking.ports import Who
from shared.publishing.budget import Budget
from shared.settings import Limit
from tests.support import virtual
from tests.support.listing import FakeLister, row
from tests.support.memory import MemoryTables, Service


class Desk:
    """A capacity on memory tables in virtual time."""

    def __init__(self, lister: FakeLister, look: tuple[Limit, ...] = (Limit(30, 63.0),)) -> None:
        self.lister = lister
        self.tables, self.clock = MemoryTables(Service(virtual.service_now)), virtual.VirtualClock()
        self.looks = self.budget("look", look)
        self.lists = self.budget("list", (Limit(100, 63.0), Limit(1500, 3603.0)))
        looks = Looks(lister, self.looks, self.lists, self.clock)
        self.capacity = Capacity(looks, 15_000, (self.looks, self.lists))

    def budget(self, route: str, limits: tuple[Limit, ...]) -> Budget:
        return Budget(self.tables, self.clock, route, limits)

    async def told(self) -> dict[str, Any]:
        return (await self.capacity.as_json())[0]


def at(**later: float) -> str:
    return (datetime.fromtimestamp(virtual.START, UTC) + timedelta(**later)).strftime("%Y-%m-%dT%H:%M:%S.0000001Z")


def full(count: int) -> list[dict[str, Any]]:
    """Rows of two apps and some people."""
    owners = [("app-1", "Relay", "PublicApi"), ("app-2", "Other app", "PublicApi"), ("a@b.example",) * 2 + ("Portal",)]
    actions = ("Allowed", "Audit", "Warn", "Block", "BlockAndRemediate")
    kinds = ("DomainName", "FileSha1", "WebCategory")
    rows = []
    for n in range(count):
        created_by, name, source = owners[n % 3]
        rows.append(
            row(
                n,
                kind=kinds[n // 3 % 3],
                action=actions[n % 5],
                createdBy=created_by,
                createdByDisplayName=name,
                createdBySource=source,
            )
        )
    return rows


@pytest.mark.parametrize("page_size", [10_000, 1000])
def test_a_full_tenant_is_counted_by_type_action_and_owner(page_size: int) -> None:
    async def main() -> None:
        desk = Desk(FakeLister(full(15_000), page_size=page_size, next_link=page_size < 10_000))
        told = await desk.told()
        assert (told["held"], told["most"], told["percent"], told["sees"]) == (15_000, 15_000, 100.0, "everyone")
        assert told["byType"] == {"DomainName": 5001, "FileSha1": 5001, "WebCategory": 4998}
        assert told["byAction"] == dict.fromkeys(("Allowed", "Audit", "Warn", "Block", "BlockAndRemediate"), 3000)
        assert [(one["name"], one["held"], one["mine"]) for one in told["byOwner"]] == [
            ("a@b.example", 5000, False),
            ("Relay", 5000, True),
            ("Other app", 5000, False),
        ]
        assert told["text"] == "Defender holds 15000 of 15000 indicators, 100 %."
        assert len(desk.lister.calls) == (2 if page_size == 10_000 else 16)

    virtual.run(main())


def test_expiries_are_told() -> None:
    async def main() -> None:
        ends = [None, at(hours=1), at(hours=23.9), at(days=2), at(days=8), "?", "2036-01-01T00:00:00Z"]
        desk = Desk(FakeLister([row(n, expirationTime=end) for n, end in enumerate(ends)]))
        told = (await desk.told())["expiring"]
        assert (told["withinDay"], told["withinWeek"], told["never"]) == (2, 3, 1)
        assert told["first"].startswith(at(hours=1)[:19])

    virtual.run(main())


def test_rows_of_a_form_nobody_knows_are_counted_too() -> None:
    async def main() -> None:
        odd: list[dict[str, Any]] = [{"indicatorValue": "a"}, {"indicatorValue": "b", "id": None, "expirationTime": 7}]
        told = await Desk(FakeLister(odd)).told()
        assert (told["held"], told["byType"]) == (2, {"None": 2})
        assert told["byOwner"] == [{"createdBy": "", "name": "", "source": "", "mine": False, "held": 2}]

    virtual.run(main())


def test_an_empty_tenant_is_empty() -> None:
    async def main() -> None:
        told = await Desk(FakeLister()).told()
        assert told["held"] == 0 and told["byOwner"] == [] and told["expiring"]["first"] is None

    virtual.run(main())


def test_one_reader_counts_for_all_who_wait_and_for_a_minute() -> None:
    async def main() -> None:
        desk = Desk(FakeLister(full(10)))
        everybody = await asyncio.gather(*(desk.capacity.count() for _ in range(20)))
        assert all(count is everybody[0] for count in everybody) and len(desk.lister.calls) == 1
        await asyncio.sleep(59)
        desk.lister.rows.append(row(99))
        told, age = await desk.capacity.as_json()
        assert told["held"] == 10 and age == pytest.approx(59, abs=0.5), "as it was, and it says when"
        await asyncio.sleep(2)
        told, age = await desk.capacity.as_json()
        assert told["held"] == 11 and age < 1 and len(desk.lister.calls) == 2

    virtual.run(main())


def test_who_goes_away_does_not_end_the_count_of_the_others() -> None:
    async def main() -> None:
        desk = Desk(FakeLister(full(10)))
        first = asyncio.create_task(desk.capacity.count())
        second = asyncio.create_task(desk.capacity.count())
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).held == 10

    virtual.run(main())


def test_half_a_list_is_an_error_and_is_not_kept() -> None:
    async def main() -> None:
        desk = Desk(FakeLister(full(15_000)))
        desk.lister.before = lambda number: UnavailableError("500") if number == 2 else None
        results = await asyncio.gather(*(desk.capacity.count() for _ in range(3)), return_exceptions=True)
        assert [type(one) for one in results] == [UnavailableError] * 3 and len(desk.lister.calls) == 2
        assert (await desk.capacity.count()).held == 15_000

    virtual.run(main())


def test_rows_that_go_while_it_counts_are_the_only_ones_missing() -> None:
    async def main() -> None:
        desk = Desk(FakeLister(full(15_000)))

        def expire(number: int) -> RelayError | None:
            if number == 2:
                del desk.lister.rows[:7]
            return None

        desk.lister.before = expire
        assert (await desk.capacity.count()).held == 15_000, "they were there when it looked"

    virtual.run(main())


def test_an_endless_list_ends() -> None:
    async def main() -> None:
        desk = Desk(FakeLister(full(10_000), page_size=50, next_link=True), look=(Limit(1000, 63.0),))
        with pytest.raises(UnavailableError, match="did not end"):
            await desk.capacity.count()
        assert len(desk.lister.calls) == 40

    virtual.run(main())


def test_with_its_own_alone_the_answer_says_that_others_are_not_counted() -> None:
    async def main() -> None:
        told = await Desk(FakeLister([row(1)], Who("app-1", "own"))).told()
        assert told["percent"] is None
        assert told["sees"] == "own" and "Others' are not counted" in told["seesText"]
        assert told["text"] == "Defender holds 1 indicators of this app's own; 15000 is the most for the whole tenant."

    virtual.run(main())


def test_many_owners_are_told_as_one_beyond_fifty() -> None:
    async def main() -> None:
        rows = [row(n, createdBy=f"u{n % 60}@b.example", createdByDisplayName="") for n in range(200)]
        told = (await Desk(FakeLister(rows)).told())["byOwner"]
        assert len(told) == 51 and sum(one["held"] for one in told) == 200 and told[-1]["name"] == "10 others"

    virtual.run(main())


def test_what_is_used_is_told_and_a_count_without_a_permit_is_none() -> None:
    async def main() -> None:
        desk = Desk(FakeLister(full(5)), look=(Limit(1, 63.0),))
        await desk.capacity.count()
        await asyncio.sleep(40)
        told = await desk.told()
        assert told["calls"]["look"]["windows"] == [{"used": 1, "calls": 1, "seconds": 63.0}]
        desk = Desk(FakeLister(full(15_000)), look=(Limit(1, 63.0),))
        with pytest.raises(BudgetError):
            await desk.told()
        assert (await desk.lists.look()).number == 1, "the second page is not read, and half a count is none"

    virtual.run(main())


def test_holds_are_told() -> None:
    async def main() -> None:
        desk = Desk(FakeLister(full(5)))
        await desk.capacity.count()
        await desk.lists.hold(desk.clock.now() + 100, "Defender answered 429")
        told = (await desk.told())["calls"]["list"]
        assert told["heldReason"] == "Defender answered 429" and told["heldUntil"] == told["nextCall"]
        await asyncio.sleep(101)
        told = (await desk.told())["calls"]["list"]
        assert told["heldUntil"] is None and told["heldReason"] == ""

    virtual.run(main())


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), limit=st.integers(1, 40), gap=st.floats(0.1, 20.0))
def test_what_is_used_of_a_window_is_what_started_in_it(seed: int, limit: int, gap: float) -> None:
    """Against a plain count of the start times, at random moments, with the oldest permits forgotten."""

    async def main() -> None:
        rnd = random.Random(seed)
        limits = (Limit(limit, 63.0), Limit(limit * 3, 400.0))
        desk = Desk(FakeLister())
        budget = desk.budget("other", limits)
        starts: list[float] = []
        for turn in range(80):
            await asyncio.sleep(rnd.uniform(0, gap))
            permit = await budget.take(await budget.look())
            if permit is not None:
                starts.append(permit.starts_at)
            if turn == 50:
                await budget.forget_before(desk.clock.now() - 400.0)
            _, used = await budget.usage()
            now = desk.clock.now()
            for one in used:
                # A permit may be taken half a second ahead: then it is one more than the window holds.
                assert one.used == min(one.limit.calls, sum(start > now - one.limit.seconds for start in starts))

    virtual.run(main())
