"""Finding submissions: filters, pages that neither skip nor repeat, cursors that cannot be bent, moments."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import QuestionError
from shared.finding import cursor, search
from shared.finding.cursor import Cursor
from shared.finding.moments import moment
from shared.finding.question import Question
from shared.finding.search import Page, Reader, Search
from shared.ledger import index
from shared.ledger.outcomes import Outcome, State
from shared.ledger.submissions import INDEX, Header, Submissions, deferral_row, outcome_rows
from shared.storage.protocols import Row
from tests.support import virtual
from tests.support.memory import MemoryTables, Service
from tests.support.rig import Rig

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()
DAY = 86_400.0
APP_A, APP_B = "app:a2345678-1234-1234-1234-123456789abc", "app:b2345678-1234-1234-1234-123456789abc"
PERSON = "person:c2345678-1234-1234-1234-123456789abc"


class Ledger:
    """A ledger in memory, and its search."""

    def __init__(self) -> None:
        self.service = Service(lambda: NOW)
        self.tables = MemoryTables(self.service)
        self.submissions = Submissions(self.tables)
        self.search = Search(self.tables, Reader(self.submissions))
        self._made = 0

    async def add(self, at: float, *states: str, **fields: Any) -> str:
        """A submission made at this moment, with items in these states; its id."""
        self._made += 1
        date = datetime.fromtimestamp(fields.get("made_at") or at, UTC).strftime("%Y%m%d")
        header = Header(f"{date}{self._made:017x}", len(states) or 1, at, "http", **fields)
        outcomes = [
            Outcome(n, State(state), f"v{n}", reason="r" if state == "rejected" else "")
            for n, state in enumerate(states)
            if state not in ("deferred", "pending")
        ]
        rows = outcome_rows(header.id, "m", "call", outcomes) if outcomes else []
        waiting = [n for n, state in enumerate(states) if state == "deferred"]
        if waiting:
            rows.append(deferral_row(header.id, "m", "part", waiting))
        await self.submissions.write([header], rows)
        return header.id

    async def find(self, **asked: Any) -> Page:
        return await self.search.find(Question.of(NOW, **asked))

    async def all(self, **asked: Any) -> list[str]:
        """The ids of all pages."""
        found: list[str] = []
        following = ""
        while True:
            page = await self.find(following=following, **asked)
            assert len(page.hits) <= asked.get("top", 50)
            found += names(page)
            following = page.following
            if not following:
                return found


def names(page: Page) -> list[str]:
    return [hit.header.id for hit in page.hits]


async def test_each_filter_alone_and_together() -> None:
    ledger = Ledger()
    one = await ledger.add(NOW - 10, "accepted", incident="3177", source="sentinel", caller=APP_A, caller_name="Soar")
    two = await ledger.add(NOW - 5, "rejected", incident="3177", source="console", caller=PERSON)
    three = await ledger.add(NOW - DAY, "deferred", source="sentinel")
    assert await ledger.all() == [two, one, three]
    assert await ledger.all(incident="3177") == [two, one]
    assert await ledger.all(incident=" 3177 ") == [two, one]
    assert await ledger.all(source="sentinel") == [one, three]
    assert await ledger.all(caller=APP_A) == [one] == await ledger.all(caller=APP_A.upper())
    assert await ledger.all(caller="soar") == [one], "a caller is found by its name too"
    assert await ledger.all(incident="3177", source="sentinel") == [one]
    assert await ledger.all(incident="3177", caller=PERSON, source="sentinel") == []
    assert await ledger.all(since="1h") == [two, one]
    assert await ledger.all(until="1h") == [three]
    assert await ledger.all(since="P2D", until="2026-11-21") == [three]
    assert await ledger.all(state="finished") == [two, one]
    assert await ledger.all(state="in_progress") == [three] == await ledger.all(state="deferred")
    assert await ledger.all(state="rejected", incident="3177") == [two]
    assert await ledger.all(incident="317") == []
    page = await ledger.find(incident="3177", top=1)
    assert page.hits[0].shown["counts"]["rejected"] == 1 and page.following


async def test_who_may_see_its_own_alone_sees_nothing_else() -> None:
    ledger = Ledger()
    mine = await ledger.add(NOW - 1, "accepted", caller=APP_A, incident="1")
    await ledger.add(NOW, "accepted", caller=APP_B, incident="1")
    await ledger.add(NOW, "accepted", caller=APP_B, caller_name=APP_A, incident="1")
    await ledger.add(NOW, "accepted", incident="1")
    for asked in ({}, {"incident": "1"}, {"state": "accepted"}, {"caller": APP_A}):
        assert await ledger.all(own=APP_A, **asked) == [mine]
        assert (await ledger.find(own=APP_A, **asked)).examined == 1, "how many others there are is theirs"
    assert await ledger.all(own=APP_A, caller=APP_B) == []


async def test_incidents_may_be_written_in_any_script() -> None:
    ledger = Ledger()
    for incident in ("Vorfall Ä/1", "事件|3177", "a'b", "x" * 256, "🛑", "é"):
        made = await ledger.add(NOW, "accepted", incident=incident)
        assert await ledger.all(incident=incident) == [made]
    assert await ledger.all(incident="e\u0301") == [], "what is written otherwise is another incident"


ages = st.lists(st.integers(0, 5_000_000), min_size=1, max_size=25)


@settings(max_examples=60, deadline=None)
@given(ages=ages, later=ages, top=st.integers(1, 7), source=st.booleans())
def test_pages_neither_skip_nor_repeat_while_others_are_added(
    ages: list[int], later: list[int], top: int, source: bool
) -> None:
    """Milliseconds before now; the later ones come between the pages, at any moment newer than the place reached."""

    async def main() -> None:
        ledger = Ledger()
        before = {await ledger.add(NOW - age / 1000, "accepted", source="s"): age for age in ages}
        asked: dict[str, Any] = {"top": top, **({"source": "s"} if source else {})}
        found: list[str] = []
        following, more = "", iter(later)
        while True:
            page = await ledger.find(following=following, **asked)
            found += names(page)
            following = page.following
            if not following:
                break
            newest = before.get(found[-1], 0)
            age = next(more, None)
            if age is not None:
                await ledger.add(NOW - min(age, newest) / 1000, "accepted", source="s")
        old = [name for name in found if name in before]
        assert sorted(old) == sorted(before), "each that was there is found, and once"
        assert len(found) == len(set(found))
        assert [before[name] for name in old] == sorted(before[name] for name in old), "newest first"

    asyncio.run(main())


async def test_a_page_may_be_empty_and_yet_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "EXAMINED_MOST", 5)
    ledger = Ledger()
    rare = await ledger.add(NOW - 100, "rejected", source="s")
    for n in range(23):
        await ledger.add(NOW - n, "accepted", source="s")
    page = await ledger.find(state="rejected", source="s")
    assert names(page) == [] and page.following and page.examined == 5
    assert await ledger.all(state="rejected", source="s") == [rare] == await ledger.all(state="rejected")


async def test_large_submissions_end_a_page_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "ITEMS_MOST", 10)
    ledger = Ledger()
    made = [await ledger.add(NOW - n, *["accepted"] * 5) for n in range(40)]
    page = await ledger.find()
    assert 0 < len(page.hits) < 40 and page.following
    assert await ledger.all() == made


async def test_what_is_written_twice_is_listed_once() -> None:
    ledger = Ledger()
    made = await ledger.add(NOW - 3, "accepted", incident="1")
    header = await ledger.submissions.header(made)
    assert header is not None
    await ledger.submissions.write([header], [])  # a redelivery
    # A request that was taken up again: its first run has listed it under another moment.
    stale = Header(made, 1, NOW - 9, "http", incident="1")
    await ledger.submissions.index([stale])
    # And an index row whose submission never came.
    await ledger.submissions.index([Header("20261122" + "f" * 17, 1, NOW, "http", incident="1")])
    assert await ledger.all(incident="1", top=1) == [made] == await ledger.all(top=1)


async def test_rows_of_the_former_form_are_found_behind_the_others_and_once() -> None:
    ledger = Ledger()
    old = [await ledger.add(NOW - n * DAY, "accepted", incident="1") for n in (20, 10)]
    pk = index.partition("incident", "1")
    rows = ledger.service.rows(INDEX, pk)
    for key in list(rows):
        row = rows.pop(key)
        rows[index.submission_of(key)] = Row(row.pk, index.submission_of(key), row.data)
    both = await ledger.add(NOW - 5 * DAY, "accepted", incident="1")
    rows[both] = Row(pk, both, {})
    new = await ledger.add(NOW, "accepted", incident="1")
    assert await ledger.all(incident="1") == [new, both, *reversed(old)]
    assert await ledger.all(incident="1", top=1) == [new, both, *reversed(old)]
    assert await ledger.all(incident="1", since="P12D") == [new, both, old[1]]


async def test_a_replay_is_listed_when_it_was_made() -> None:
    ledger = Ledger()
    await ledger.add(NOW - 60, "accepted")
    replay = await ledger.add(NOW - 5 * DAY, "accepted", made_at=NOW, replay_of="x1")
    assert (await ledger.all(top=1))[0] == replay
    assert replay in await ledger.all(since="1h")


# Cursors


def test_a_cursor_says_what_was_written() -> None:
    for at in (Cursor("8205|2026", 1.5, float("inf")), Cursor("", 0.0, NOW)):
        assert cursor.read(cursor.write(at, "question"), "question") == at


@given(st.data())
def test_a_cursor_that_was_bent_is_refused(data: st.DataObject) -> None:
    good = cursor.write(Cursor("8205000000000|20261122a", NOW - DAY, NOW), "question")
    position = data.draw(st.integers(0, len(good) - 1))
    other = data.draw(st.sampled_from("ABCxyz019-_=|é "))
    bent = data.draw(st.sampled_from([good[:position] + other + good[position + 1 :], good[:position], good + other]))
    try:
        # The last character of base64 has bits that say nothing.
        assert cursor.read(bent, "question") == cursor.read(good, "question")
    except QuestionError as error:
        assert error.remediation


@pytest.mark.parametrize("text", ["x", "-" * 500, base64.urlsafe_b64encode(b"[1,2,3]" * 9).decode(), "ü", "AAAA" * 20])
def test_a_cursor_of_somebody_elses_making_is_refused(text: str) -> None:
    with pytest.raises(QuestionError, match="cursor"):
        Question.of(NOW, following=text)


async def test_a_cursor_belongs_to_its_question() -> None:
    ledger = Ledger()
    for n in range(3):
        await ledger.add(NOW - n, "accepted", incident="1", source="s")
    following = (await ledger.find(incident="1", top=1)).following
    assert len(names(await ledger.find(incident="1", following=following, top=9))) == 2
    for asked in ({}, {"incident": "2"}, {"incident": "1", "source": "s"}, {"incident": "1", "since": "1h"}):
        with pytest.raises(QuestionError, match="does not continue"):
            await ledger.find(following=following, **asked)


async def test_a_duration_means_the_same_on_every_page() -> None:
    ledger = Ledger()
    made = [await ledger.add(NOW - 3590 + n, "accepted") for n in range(3)]
    page = await ledger.find(since="1h", top=1)
    asked = Question.of(NOW + 3600, since="1h", following=page.following, top=5)
    assert names(await ledger.search.find(asked)) == [made[1], made[0]]


# Moments


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("P7D", 7 * DAY),
        ("p1w", 7 * DAY),
        ("-PT30M", 1800),
        ("P1DT12H30M5S", 131_405),
        ("24h", DAY),
        ("90 m", 5400),
        ("15s", 15),
        ("2026-11-22T12:00:00Z", 0),
        ("2026-11-22T14:00:00+02:00", 0),
        ("2026-11-22T14:00:00 02:00", 0),
        ("2026-11-22", DAY / 2),
        (" 2026-11-22T11:59Z ", 60),
    ],
)
def test_moments(text: str, ago: float) -> None:
    assert moment("since", text, NOW) == pytest.approx(NOW - ago)


def test_a_date_ends_with_its_day() -> None:
    assert moment("until", "2026-11-22", NOW, end=True) == NOW + DAY / 2


@pytest.mark.parametrize(
    "text", ["yesterday", "P", "PT", "P1Y", "2026-13-01", "2026-11-22T12:00", "12", "٣d", "9999999d", "x" * 2000, "-"]
)
def test_moments_that_are_none(text: str) -> None:
    with pytest.raises(QuestionError, match="since=") as caught:
        moment("since", text, NOW)
    assert "P7D" in caught.value.remediation and len(str(caught.value)) < 200


def refused(asked: Iterable[tuple[str, Any]]) -> str:
    with pytest.raises(QuestionError) as caught:
        Question.of(NOW, **dict(asked))
    return f"{caught.value} {caught.value.remediation}"


def test_questions_that_make_no_sense_are_refused_with_a_remedy() -> None:
    assert "deferred" in refused([("state", "blocked")])
    assert "earlier" in refused([("since", "1h"), ("until", "2h")])
    assert "top" in refused([("top", 0)])
    assert "zone" in refused([("until", "2026-11-22T12:00:00")])


def test_retention_forgets_what_is_listed_and_only_when_its_time_has_come() -> None:
    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        made = await worker.submitting.submit(b'[{"value": "10.0.0.1"}]', caller="key", caller_name="Ana")
        await worker.sweeper.retention()
        assert len(rig.service.all_rows(INDEX)) == 3
        question = Question.of(NOW, caller="ana")
        assert names(await worker.search.find(question)) == [made.id]
        await asyncio.sleep(92 * DAY)
        await worker.sweeper.retention()
        assert rig.service.all_rows(INDEX) == []
        assert names(await worker.search.find(question)) == []

    virtual.run(main())


def test_a_message_that_is_announced_is_listed_before_it_is_read() -> None:
    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        header = Header("20260921" + "a" * 17, 1, rig.service.now(), "queue", body_sha256="b", decoded=False)
        await worker.submissions.announce(header, 2)
        page = await worker.search.find(Question.of(NOW))
        assert names(page) == [header.id] and page.hits[0].shown["state"] == "in_progress"

    virtual.run(main())


def test_retention_deletes_by_the_hundred_and_leaves_what_is_young() -> None:
    async def main() -> None:
        rig = Rig()
        worker = rig.worker()

        async def submit(number: int) -> None:
            for n in range(number):
                body = f'{{"incident": {n % 3}, "indicators": ["10.0.0.{n % 250}"]}}'
                await worker.submitting.submit(body.encode(), caller="key")

        await submit(250)
        # One of the former form.
        partition = index.partition("incident", "0")
        rows = rig.service.rows(INDEX, partition)
        (key, row), *_ = rows.items()
        del rows[key]
        name = index.submission_of(key)
        rows[name] = Row(partition, name, row.data)
        await asyncio.sleep(60 * DAY)
        await submit(7)
        await asyncio.sleep(32 * DAY)
        before = rig.service.operations
        forgotten = await worker.sweeper.retention()
        assert forgotten["index"] == 3 * 250 and len(rig.service.all_rows(INDEX)) == 3 * 7
        assert rig.service.operations - before < 100, "not one delete a row"
        assert len(names(await worker.search.find(Question.of(NOW)))) == 7

    virtual.run(main())


def test_retention_goes_on_when_others_delete_at_the_same_time() -> None:
    async def main() -> None:
        rig = Rig()
        gone = False

        async def gate(when: str, what: str) -> None:
            nonlocal gone
            if (when, what) == ("before", "transact index") and sweeping and not gone:
                gone = True
                rows = rig.service.rows(INDEX, index.partition(index.ALL, ""))
                del rows[next(iter(rows))]

        sweeping = False
        worker = rig.worker(gate=gate)
        for _ in range(5):
            await worker.submitting.submit(b'["10.0.0.1"]', caller="key")
        await asyncio.sleep(92 * DAY)
        sweeping = True
        await worker.sweeper.retention()
        assert gone and rig.service.all_rows(INDEX) == []

    virtual.run(main())
