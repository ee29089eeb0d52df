"""Finding indicators page by page: complete, nothing twice, whatever comes and goes, and within its share of calls."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import (
    BatchRefusedError,
    BudgetError,
    DeniedError,
    QuestionError,
    RelayError,
    ThrottledError,
    UnavailableError,
)
from shared.looking.find import Finder, read_cursor, write_cursor
from shared.looking.permits import Looks
from shared.looking.ports import Who
from shared.looking.rows import Criteria
from shared.looking.walk import Place
from shared.publishing.budget import Budget
from shared.settings import Limit
from tests.support import virtual
from tests.support.listing import FakeLister, row
from tests.support.memory import MemoryTables, Service

MANY = (Limit(1000, 63.0),)
ANY = Criteria()


class Desk:
    """Looking on memory tables in virtual time."""

    def __init__(self, lister: FakeLister, look: tuple[Limit, ...] = MANY, lists: tuple[Limit, ...] = MANY) -> None:
        tables, clock = MemoryTables(Service(virtual.service_now)), virtual.VirtualClock()
        self.looks_budget = Budget(tables, clock, "look", look)
        self.lists_budget = Budget(tables, clock, "list", lists)
        self.lister = lister
        self.looks = Looks(lister, self.looks_budget, self.lists_budget, clock)
        self.finder = Finder(self.looks)

    async def walk(self, criteria: Criteria = ANY, top: int = 100) -> list[str]:
        """Ids of all pages."""
        found, cursor = [], ""
        while True:
            page = await self.finder.find(criteria, top, cursor)
            assert len(page.rows) <= top
            found += [one["id"] for one in page.rows]
            if page.cursor is None:
                return found
            assert page.cursor != cursor
            cursor = page.cursor


def looking[T](lister: FakeLister, main: Callable[[Desk], Awaitable[T]], **limits: Any) -> T:
    async def run() -> T:
        return await main(Desk(lister, **limits))

    return virtual.run(run())


def ids(*numbers: int) -> list[str]:
    return [str(number) for number in numbers]


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(0, 130),
    top=st.integers(1, 60),
    page_size=st.sampled_from([3, 15, 20, 21, 50, 10_000]),
    deaf=st.booleans(),
    refuse=st.sampled_from([(), ("action",), ("indicatorType", "createdBy")]),
    criteria=st.sampled_from([ANY, Criteria(action="Block"), Criteria(type="Url", action="Block", mine=True)]),
)
def test_pages_are_complete_and_hold_no_row_twice(
    count: int, top: int, page_size: int, deaf: bool, refuse: tuple[str, ...], criteria: Criteria
) -> None:
    """However short the service's pages, whether or not it takes the filter."""
    rows = [
        row(
            n,
            kind=("Url", "WebCategory")[n % 3 == 0],
            action=("Block", "Audit")[n % 4 == 0],
            createdBy=("app-1", "APP-1", "x")[n % 5 % 3],
        )
        for n in range(count)
    ]
    lister = FakeLister(rows, refuse=() if deaf else refuse, page_size=page_size, next_link=True)
    lister.deaf = refuse if deaf else ()
    if not refuse and criteria.mine:
        for one in rows:
            one["createdBy"] = one["createdBy"].lower()  # the service's own filter minds letter case, here
    wanted = [one["id"] for one in rows if criteria.matches(one, lister.who_)]
    assert looking(lister, lambda desk: desk.walk(criteria, top)) == wanted


@pytest.mark.parametrize("top", [1, 7, 40])
def test_rows_that_expire_between_two_pages_cost_no_other_row(top: int) -> None:
    lister = FakeLister([row(n) for n in range(200)])

    def expire(number: int) -> RelayError | None:
        if number > 1:
            del lister.rows[:3]  # all the rest moves up by three
        return None

    lister.before = expire
    found = looking(lister, lambda desk: desk.walk(ANY, top))
    assert len(found) == len(set(found)), "none twice"
    gone = 3 * (len(lister.calls) - 1)
    assert set(found) >= set(ids(*range(gone, 200))), "whatever was there all the time is found"


def test_a_refused_filter_is_remembered_and_the_answer_is_the_same() -> None:
    async def main(desk: Desk) -> None:
        assert await desk.walk(Criteria(action="Audit"), 1000) == ids(0, 2, 4)
        assert await desk.walk(Criteria(action="Audit"), 1000) == ids(0, 2, 4)

    lister = FakeLister([row(n, action=("Audit", "Block")[n % 2]) for n in range(6)], refuse=("action",))
    looking(lister, main)
    assert [call[0] for call in lister.calls] == ["action eq 'Audit'", None, None]


def test_a_filter_that_finds_nothing_is_not_believed_before_it_has_found_something() -> None:
    """It may be spelled in a way that the service takes and does not know."""

    async def main(desk: Desk) -> None:
        desk.lister.deaf = ("action",)
        assert await desk.walk(Criteria(action="Audit"), 2) == ids(0, 2, 4)
        assert [call[0] for call in desk.lister.calls] == ["action eq 'Audit'", None, None]
        desk.lister.deaf = ()
        other = Criteria(type="Url")
        assert await desk.walk(other) == []
        assert [call[0] for call in desk.lister.calls[3:]] == ["indicatorType eq 'Url'", None], "once more, to be sure"
        assert await desk.walk(Criteria(type="DomainName")) == ids(0, 1, 2, 3, 4, 5)
        assert await desk.walk(other) == []
        assert [call[0] for call in desk.lister.calls[5:]] == [
            "indicatorType eq 'DomainName'",
            "indicatorType eq 'Url'",
        ]

    looking(FakeLister([row(n, action=("Audit", "Block")[n % 2]) for n in range(6)]), main)


def test_a_filter_that_the_service_ignores_is_applied_here() -> None:
    lister = FakeLister([row(n, action=("Audit", "Block")[n % 2]) for n in range(6)], ignore=True)
    assert looking(lister, lambda desk: desk.walk(Criteria(action="Audit"), 2)) == ids(0, 2, 4)


def test_types_nobody_documents_are_shown_and_found_without_a_filter() -> None:
    async def main(desk: Desk) -> None:
        page = await desk.finder.find(Criteria.of(type="webcategory"), 10)
        assert [one["type"] for one in page.shown()] == ["WebCategory"]
        assert (await desk.finder.find(ANY, 10)).shown()[1]["type"] == "WebCategory"

    lister = FakeLister([row(1), row(2, "Gambling", "WebCategory", createdBy="a@b.example")])
    looking(lister, main)
    assert all(call[0] is None for call in lister.calls)


def test_whose_they_are_is_told_and_asked_for() -> None:
    async def main(desk: Desk) -> None:
        page = await desk.finder.find(ANY, 10)
        assert [one["mine"] for one in page.shown()] == [True, False] and page.as_json()["sees"] == "everyone"
        assert [one["id"] for one in (await desk.finder.find(Criteria.of(owner="mine"), 10)).rows] == ["1"]
        desk.lister.who_ = Who("app-1", "own")
        told = (await desk.finder.find(ANY, 10)).as_json()
        assert told["sees"] == "own" and "not counted" in told["seesText"]
        desk.lister.who_ = Who("", "unknown")
        assert [one["mine"] for one in (await desk.finder.find(ANY, 10)).shown()] == [None, None]
        with pytest.raises(QuestionError, match="own id"):
            await desk.finder.find(Criteria.of(owner="mine"), 10)

    looking(FakeLister([row(1), row(2, createdBy="a@b.example")]), main)


@pytest.mark.parametrize(
    "error",
    [UnavailableError("500"), DeniedError("403", status=403), BatchRefusedError("400")],
    ids=["unavailable", "denied", "refused"],
)
def test_an_error_is_an_error_and_never_a_short_list(error: RelayError) -> None:
    async def main(desk: Desk) -> None:
        first = await desk.finder.find(ANY, 10)
        assert first.cursor is not None
        desk.lister.before = lambda _: error
        with pytest.raises(type(error)):
            await desk.finder.find(ANY, 10, first.cursor)
        with pytest.raises(type(error)):
            await desk.finder.find(Criteria(action="Block"), 10)

    looking(FakeLister([row(n) for n in range(30)]), main)


def test_a_list_that_goes_on_behind_nothing_is_an_error() -> None:
    lister = FakeLister([], next_link=True)
    original = lister.list_page

    async def endless(*args: Any, **options: Any) -> Any:
        from shared.defender.client import Page

        await original(*args, **options)
        return Page((), "link")

    lister.list_page = endless  # type: ignore[method-assign]
    with pytest.raises(UnavailableError):
        looking(lister, lambda desk: desk.walk())


# --- the share of looking ---------------------------------------------------------------------------------------------


def test_when_the_share_is_used_up_the_time_to_wait_is_told_and_retiring_keeps_the_rest() -> None:
    async def main(desk: Desk) -> None:
        for _ in range(5):
            await desk.finder.find(ANY, 10)
        with pytest.raises(BudgetError, match="used up") as refused:
            await desk.finder.find(ANY, 10)
        assert 50 < refused.value.retry_after <= 63 and refused.value.remediation
        assert len(desk.lister.calls) == 5
        view, used = await desk.lists_budget.usage()
        assert view.number == 5 and used[0].used == 5, "nothing of the list's budget is taken in vain"

    looking(FakeLister([row(1)]), main, look=(Limit(5, 63.0),), lists=(Limit(8, 63.0),))


def test_when_retiring_has_used_up_the_list_calls_no_permit_of_looking_is_wasted() -> None:
    async def main(desk: Desk) -> None:
        for _ in range(3):
            assert await desk.lists_budget.take(await desk.lists_budget.look()) is not None
        with pytest.raises(BudgetError):
            await desk.finder.find(ANY, 10)
        assert (await desk.looks_budget.look()).number == 0

    looking(FakeLister([row(1)]), main, lists=(Limit(3, 63.0),))


def test_a_short_wait_is_waited_for() -> None:
    async def main(desk: Desk) -> None:
        for _ in range(3):
            await desk.finder.find(ANY, 10)

    lister = FakeLister([row(1)])
    looking(lister, main, look=(Limit(1, 6.0),))
    assert len(lister.calls) == 3


def test_a_429_holds_all_list_calls_and_a_look_says_so() -> None:
    async def main(desk: Desk) -> None:
        desk.lister.before = lambda _: ThrottledError("quota", retry_after=300.0)
        with pytest.raises(ThrottledError):
            await desk.finder.find(ANY, 10)
        with pytest.raises(BudgetError, match="429") as refused:
            await desk.finder.find(ANY, 10)
        assert 290 < refused.value.retry_after <= 300
        assert len(desk.lister.calls) == 1

    looking(FakeLister([row(1)]), main)


def test_the_whole_list_is_read_by_two_at_a_time_whoever_asks() -> None:
    """Each takes tens of megabytes; small pages are not kept waiting."""

    async def main(desk: Desk) -> None:
        reading = most = 0
        original = desk.lister.list_page

        async def slow(filter: str | None, top: int, *args: Any, **options: Any) -> Any:
            nonlocal reading, most
            big = top > 2000
            reading += big
            most = max(most, reading)
            await asyncio.sleep(4.0 if big else 0.0)
            reading -= big
            return await original(filter, top, *args, **options)

        desk.lister.list_page = slow  # type: ignore[method-assign]
        odd = Criteria(type="WebCategory")
        everybody = [asyncio.create_task(desk.finder.find(odd, 10)) for _ in range(10)]
        await asyncio.sleep(0.1)
        await asyncio.wait_for(desk.finder.find(ANY, 10), 1.0)
        found = await asyncio.gather(*everybody, return_exceptions=True)
        assert most == 2
        refused = [one for one in found if isinstance(one, BudgetError)]
        assert 2 <= len(refused) <= 6 and all(one.retry_after == 10 for one in refused)
        assert sum(not isinstance(one, BaseException) for one in found) == 10 - len(refused)

    looking(FakeLister([row(1)]), main)


# --- cursors ----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.booleans(), st.lists(st.text("0123456789", min_size=1, max_size=9), max_size=20))
def test_a_cursor_comes_back_as_it_was(skip: int, whole: bool, known: list[str]) -> None:
    place = Place(skip, tuple(known))
    assert read_cursor(write_cursor(place, whole, ANY), ANY) == (place, whole)


def made(content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


QUESTION = json.loads(base64.urlsafe_b64decode(write_cursor(Place(), False, ANY) + "=="))[4]


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "%00",
        "\u00e4",
        "A" * 4000,
        made(None),
        made([]),
        made({"skip": 1}),
        made([2, 0, 0, [], QUESTION]),
        made([True, 0, 0, [], QUESTION]),
        made([1, -1, 0, [], QUESTION]),
        made([1, 10**7, 0, [], QUESTION]),
        made([1, 1.5, 0, [], QUESTION]),
        made([1, "https://evil.example/", 0, [], QUESTION]),
        made([1, 5, 2, [], QUESTION]),
        made([1, 5, 0, [1], QUESTION]),
        made([1, 50, 0, [str(n) for n in range(21)], QUESTION]),
        made([1, 5, 0, ["9" * 41], QUESTION]),
        made([1, 5, 0, "abc", QUESTION]),
        made([1, 5, 0, [], [QUESTION]]),
        made([1, 5, 0, [], QUESTION, 1]),
        "[" * 50_000,
    ],
)
def test_a_cursor_that_is_not_ours_is_refused_before_any_call(text: str) -> None:
    async def main(desk: Desk) -> None:
        with pytest.raises(QuestionError, match="cursor"):
            await desk.finder.find(ANY, 10, text)

    lister = FakeLister([row(1)])
    looking(lister, main)
    assert lister.calls == []


def test_a_cursor_belongs_to_its_question() -> None:
    cursor = write_cursor(Place(5), False, Criteria(type="Url"))
    with pytest.raises(QuestionError, match="another question"):
        read_cursor(cursor, Criteria(type="DomainName"))


@pytest.mark.parametrize("given_", [{"type": "a b"}, {"action": "x'y"}, {"type": "1"}, {"action": "B" * 41}])
def test_what_no_type_or_action_looks_like_is_a_question_we_do_not_understand(given_: dict[str, str]) -> None:
    with pytest.raises(QuestionError, match=next(iter(given_))):
        Criteria.of(**given_)


def test_spellings_of_types_and_actions_do_not_matter_and_nothing_gets_out_of_the_quotes() -> None:
    who = Who("it's me", "everyone")
    assert Criteria.of("filesha1", "BLOCKandremediate").filter(who) == (
        "indicatorType eq 'FileSha1' and action eq 'BlockAndRemediate'"
    )
    assert Criteria.of(owner="mine").filter(who) == "createdBy eq 'it''s me'"
    assert Criteria.of(action="alertandblock").filter(who) == "action eq 'AlertAndBlock'"
    assert Criteria.of(type="WebCategory", action="Block").filter(who) is None
