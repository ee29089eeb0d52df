"""One value: what Defender holds, what was meant, and whether the two agree; on memory stores with the real ledger."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import BatchRefusedError, QuestionError, RelayError, UnavailableError
from shared.finding.search import Reader
from shared.indicators.model import Action, Indicator, IndicatorType, Severity
from shared.ledger import intents
from shared.ledger.outcomes import Outcome, State
from shared.ledger.parts import PartItem
from shared.ledger.submissions import Header, Submissions, deferral_row, outcome_rows
from shared.looking.permits import Looks
from shared.looking.ports import Who
from shared.looking.rows import Criteria
from shared.looking.value import Values, read_value
from shared.publishing.budget import Budget
from shared.settings import Limit
from tests.support import virtual
from tests.support.fakes import indicator
from tests.support.listing import FakeLister, row
from tests.support.memory import MemoryTables, Service

ID = "20261122a0123456789abcdef"
VALUE = "h.evil.com"
ANY = Criteria()


class Desk:
    """Looking up values on memory tables in virtual time."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        self.lister = FakeLister(list(rows))
        self.tables, self.clock = MemoryTables(Service(virtual.service_now)), virtual.VirtualClock()
        look, lists = (Budget(self.tables, self.clock, name, (Limit(1000, 63.0),)) for name in ("look", "list"))
        self.submissions = Submissions(self.tables)
        looks = Looks(self.lister, look, lists, self.clock)
        self.values = Values(looks, self.tables, Reader(self.submissions), 800)

    async def mean(
        self, state: State | None, text: str = "", *, meant: Indicator | None = None, key: tuple[str, str] | None = None
    ) -> None:
        """Write the newest intent of a value (an indicator, or a retraction of `key`), and what became of it."""
        key = key or (meant.key if meant else ("DomainName", VALUE))
        item = PartItem(ID, "m", 0, virtual.START, virtual.START, key, meant)
        await self.tables.insert(intents.TABLE, intents.head_row(item, ()))
        if state is None:
            return
        header = Header(id=ID, submitted=1, intent_at=virtual.START, door="http", body_sha256="0" * 64)
        header = dataclasses.replace(header, source="soc", incident="77", caller="key")
        rows = []
        if state is State.DEFERRED:
            rows = [deferral_row(ID, "m", "d20261122-x", [0])]
        elif state is not State.PENDING:
            rows = outcome_rows(ID, "m", "c", [Outcome(0, state, key[1], key[0], text=text)])
        await self.submissions.write([header], rows)

    async def told(self, value: str = VALUE, criteria: Criteria = ANY) -> dict[str, Any]:
        return await self.values.look_up(value, criteria)

    async def intent(self, value: str = VALUE) -> dict[str, Any]:
        (one,) = (await self.told(value))["intents"]
        return dict(one)


def at_desk[T](main: Callable[[Desk], Awaitable[T]], *rows: dict[str, Any]) -> T:
    async def run() -> T:
        return await main(Desk(*rows))

    return virtual.run(run())


def held(number: int = 1, value: str = VALUE, action: str = "Block", **more: Any) -> dict[str, Any]:
    return row(number, value, action=action, **more)


def meant(action: Action = Action.BLOCK, **fields: Any) -> Indicator:
    return indicator(VALUE, action, **fields)


# --- what a value may be ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "keys", "spellings"),
    [
        ("Evil.COM", [("DomainName", "evil.com")], ["evil.com", "Evil.COM"]),
        ("evil[.]com", [("DomainName", "evil.com")], ["evil.com"]),
        ("45.77.12.34", [("IpAddress", "45.77.12.34")], ["45.77.12.34"]),
        (
            "2A00:1450::8",
            [("IpAddress", "2a00:1450:0:0:0:0:0:8")],
            ["2a00:1450:0:0:0:0:0:8", "2a00:1450::8"],
        ),
        ("AB" * 20, [("FileSha1", "ab" * 20), ("CertificateThumbprint", "ab" * 20)], ["ab" * 20, "AB" * 20]),
        ("ab" * 32, [("FileSha256", "ab" * 32)], ["ab" * 32]),
        ("hxxps://evil[.]com/a?b=%2F", [("Url", "https://evil.com/a?b=%2F")], ["https://evil.com/a?b=%2F"]),
        ("10.0.0.0/8", [], ["10.0.0.0/8"]),
        ("Social networks & more", [], ["Social networks & more"]),
    ],
)
def test_a_value_is_read_as_at_the_intake_and_may_be_of_two_types(
    text: str, keys: list[tuple[str, str]], spellings: list[str]
) -> None:
    found = read_value(f" {text} ", 800)
    assert (list(found.keys), list(found.spellings)) == (keys, spellings)
    assert bool(found.note) == (not keys)


@pytest.mark.parametrize("text", ["", "  ", "x" * 3201, "a\x00b", "a\nb.com", "\ud800"])
def test_what_no_value_can_be_is_a_question_we_do_not_understand(text: str) -> None:
    with pytest.raises(QuestionError, match="value"):
        read_value(text, 800)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200))
def test_any_text_is_looked_up_or_refused_with_a_remedy(text: str) -> None:
    try:
        found = read_value(text, 800)
    except QuestionError as error:
        assert (not text.strip() or any(character < " " for character in text.strip())) and error.remediation
    else:
        assert found.spellings and all(found.spellings) and (found.keys or found.note)


# --- what Defender holds ----------------------------------------------------------------------------------------------


def test_every_action_and_owner_is_told() -> None:
    async def main(desk: Desk) -> None:
        told = await desk.told("H.evil.com")
        assert told["value"] == VALUE and told["types"] == ["DomainName"]
        assert [(one["action"], one["createdBy"], one["mine"]) for one in told["indicators"]] == [
            ("Block", "app-1", True),
            ("Audit", "a@b.example", False),
            ("Allowed", "app-1", True),
        ]
        assert told["text"].startswith("Defender holds 3 indicators for this value: 2 of this app, 1 of others.")
        assert told["intents"] == [] and "This app has sent nothing" in told["text"]
        assert [one["id"] for one in (await desk.told(criteria=Criteria.of(action="audit")))["indicators"]] == ["2"]
        assert [one["id"] for one in (await desk.told("H.evil.com", Criteria.of(owner="mine")))["indicators"]] == [
            "1",
            "3",
        ]

    rows = held(1), held(2, action="Audit", createdBy="a@b.example"), held(3, "H.evil.com", "Allowed"), row(4)
    at_desk(main, *rows)


def test_nothing_held_and_nothing_meant_is_said_plainly() -> None:
    async def main(desk: Desk) -> None:
        told = await desk.told()
        assert told["indicators"] == [] and told["text"].startswith("Defender holds no indicator for this value.")
        desk.lister.who_ = Who("app-1", "own")
        told = await desk.told()
        assert "that this app can see" in told["text"] and "not counted" in told["seesText"]

    at_desk(main)


def test_a_value_the_filter_cannot_take_is_looked_for_in_the_whole_list() -> None:
    async def main(desk: Desk) -> None:
        desk.lister.refuse = ("indicatorValue",)
        told = await desk.told("Social networks")
        assert [one["id"] for one in told["indicators"]] == ["9000"] and "note" in told
        assert [call[0] for call in desk.lister.calls][1:] == [None, None]

    rows = [row(n) for n in range(12_000)]
    rows[9_000] = row(9_000, "Social Networks", "WebCategory", createdBy="a@b.example")
    at_desk(main, *rows)


@pytest.mark.parametrize("error", [UnavailableError("500"), BatchRefusedError("400")], ids=["500", "400"])
def test_an_error_is_never_an_empty_answer(error: RelayError) -> None:
    async def main(desk: Desk) -> None:
        desk.lister.before = lambda _: error
        with pytest.raises(type(error)):
            await desk.told()

    at_desk(main, held())


# --- what was meant ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Case:
    """What Defender holds, what was meant and became of it; then whether they agree, and words of the text."""

    rows: tuple[dict[str, Any], ...]
    indicator: Indicator | None
    state: State | None
    agrees: bool | None
    words: str
    who: Who = dataclasses.field(default_factory=lambda: Who("app-1", "everyone"))


GONE = datetime.fromtimestamp(virtual.START - 5, UTC)
CASES = {
    "held": Case((held(),), meant(), State.ACCEPTED, True, "holds what was last meant: Block."),
    "held, by somebody else": Case(
        (held(createdBy="a@b.example", createdByDisplayName="a@b.example"),),
        meant(),
        State.ACCEPTED,
        True,
        "created by a@b.example, so this app will never delete it",
    ),
    "held, and somebody else's beside": Case(
        (held(), held(2, action="Audit", createdBy="x")), meant(), State.ACCEPTED, True, "last meant"
    ),
    "an old one of ours beside": Case(
        (held(), held(2, action="Audit")), meant(), State.ACCEPTED, False, "still holds ours with Audit"
    ),
    "changed there": Case(
        (held(severity="Low"),), meant(), State.ACCEPTED, False, "its severity is 'Low', not 'High': somebody changed"
    ),
    "another end": Case(
        (held(expirationTime=None),), meant(), State.ACCEPTED, False, "it expires never, not at 2036-01-01T00:00:00Z"
    ),
    "an end with fractions": Case(
        (held(expirationTime="2036-01-01T00:00:00.0000000Z"),), meant(), State.ACCEPTED, True, "last meant"
    ),
    "deleted": Case((), meant(), State.ACCEPTED, False, "somebody deleted it"),
    "of another action only": Case(
        (held(action="Audit", createdBy="x"),), meant(), State.ACCEPTED, False, "does not hold it with Block now"
    ),
    "of another type only": Case((held(kind="Url"),), meant(), State.ACCEPTED, False, "does not hold it with Block"),
    "not sent yet": Case((), meant(), State.DEFERRED, False, "not sent yet. Its state is deferred"),
    "on its way": Case((), meant(), State.PENDING, False, "not sent yet. Its state is pending"),
    "rejected": Case((), meant(), State.REJECTED, False, "it was rejected. Its state is rejected: because"),
    "expired": Case((), meant(expiration=GONE), State.ACCEPTED, True, "expired at"),
    "forgotten by the ledger": Case((), meant(), None, False, "does not tell whether it was ever accepted"),
    "retracted": Case((), None, State.ACCEPTED, True, "retracted, and Defender holds nothing of ours"),
    "retracted, others' stays": Case(
        (held(createdBy="x"),), None, State.ACCEPTED, True, "What others created is theirs to delete"
    ),
    "retracted, ours still there": Case(
        (held(),), None, State.DEFERRED, False, "still holds ours with Block. Its state is deferred"
    ),
    "retracted, unknown whose": Case((held(),), None, State.ACCEPTED, None, "cannot be told", Who("", "unknown")),
    "missing, with a token that cannot be read": Case((), meant(), None, None, "does not tell", Who("", "unknown")),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_whether_they_agree_is_told_in_plain_words(case: Case) -> None:
    async def main(desk: Desk) -> None:
        desk.lister.who_ = case.who
        await desk.mean(case.state, "because" if case.state is State.REJECTED else "", meant=case.indicator)
        told = await desk.intent()
        assert case.words in told["text"], told["text"]
        assert told["agrees"] is case.agrees
        assert "blocked" not in str(told).lower()
        assert told["action"] == (case.indicator.action.value if case.indicator else "Retraction")
        if case.state is not None:
            assert (told["incident"], told["source"], told["submission"]) == ("77", "soc", ID)
            assert told["state"] == case.state.value

    at_desk(main, *case.rows)


def test_forty_digits_meet_the_intents_of_both_types() -> None:
    async def main(desk: Desk) -> None:
        digits = "ab" * 20
        for kind in (IndicatorType.FILE_SHA1, IndicatorType.CERTIFICATE_THUMBPRINT):
            await desk.mean(None, meant=indicator(digits, Action.BLOCK_AND_REMEDIATE, type=kind))
        told = await desk.told(digits.upper())
        assert [(one["type"], one["agrees"]) for one in told["intents"]] == [
            ("FileSha1", False),
            ("CertificateThumbprint", True),
        ]

    at_desk(main, held(1, "ab" * 20, "BlockAndRemediate", kind="CertificateThumbprint"))


def test_an_intent_that_moves_while_we_look_is_not_judged() -> None:
    async def main(desk: Desk) -> None:
        await desk.mean(State.PENDING, meant=meant())
        key = ("DomainName", VALUE)

        def land(_number: int) -> RelayError | None:
            rows = desk.tables.service.rows(intents.TABLE, intents.partition(key))
            known = rows[intents.row_key(key)]
            rows[intents.row_key(key)] = dataclasses.replace(known, etag="W/other")
            return None

        desk.lister.before = land
        told = await desk.intent()
        assert told["agrees"] is None and "being carried out right now" in told["text"]

    at_desk(main, held())


def test_never_and_an_end_are_told_as_the_model_writes_them() -> None:
    async def main(desk: Desk) -> None:
        await desk.mean(State.ACCEPTED, meant=meant(expiration=None, severity=Severity.LOW))
        told = await desk.intent()
        assert (told["expiration"], told["severity"], told["agrees"]) == (None, "Low", True)

    at_desk(main, held(expirationTime=None, severity="Low"))
