"""The ledger's counting: whatever is written twice, in whatever order, each item counts once and the sum is true."""

from __future__ import annotations

import base64
import json
import random

from hypothesis import given
from hypothesis import strategies as st

from shared.ledger import packing
from shared.ledger.outcomes import FINAL, Outcome, State, fold
from shared.ledger.submissions import Header, _chunks, deferral_row, outcome_rows
from shared.storage.protocols import Row

NAME = "20261122a0123456789abcdef"
ANY = st.text(max_size=30)

outcomes = st.builds(
    Outcome,
    ordinal=st.integers(0, 9),
    state=st.sampled_from([*FINAL, State.HELD]),
    value=ANY,
    type=ANY,
    action=ANY,
    reason=ANY,
    text=ANY,
    notes=st.lists(ANY, max_size=2).map(tuple),
)


@given(outcomes)
def test_an_outcome_survives_storage(outcome: Outcome) -> None:
    assert Outcome.from_record(packing.unsqueeze(packing.squeeze(outcome.record()))) == outcome


@given(
    calls=st.lists(st.tuples(st.lists(outcomes, min_size=1, max_size=5), st.integers(0, 5)), max_size=8),
    deferrals=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=5), max_size=5),
    data=st.data(),
)
def test_the_sum_is_true_for_any_rows_in_any_order(
    calls: list[tuple[list[Outcome], int]], deferrals: list[list[int]], data: st.DataObject
) -> None:
    rows: list[Row] = []
    for number, (made, stamp) in enumerate(calls):
        for row in outcome_rows(NAME, "m", f"call{number}", made):
            rows.append(Row(row.pk, row.rk, row.data, stamp=float(stamp)))
    rows += [deferral_row(NAME, "m", f"part{n}", ordinals) for n, ordinals in enumerate(deferrals)]
    once = fold(10, rows)
    twice = fold(10, data.draw(st.permutations(rows + rows)))
    assert once.counts() == twice.counts()
    assert [once.state(n) for n in range(10)] == [twice.state(n) for n in range(10)]
    counts = once.counts()
    assert counts.pop("submitted") == sum(counts.values()) == 10
    assert min(counts.values()) >= 0
    for ordinal in range(10):
        finals = [o.state for made, _ in calls for o in made if o.ordinal == ordinal and o.state in FINAL]
        if finals:
            assert once.state(ordinal) in finals, "a final outcome was lost"
        elif any(o.ordinal == ordinal for made, _ in calls for o in made):
            assert once.state(ordinal) is State.HELD
        elif any(ordinal in ordinals for ordinals in deferrals):
            assert once.state(ordinal) is State.DEFERRED


def test_of_several_finals_the_earliest_by_the_services_clock_counts() -> None:
    late, early = Outcome(0, State.REJECTED, "v", reason="x"), Outcome(0, State.ACCEPTED, "v")
    rows = [
        Row("p", f"{NAME}|o|m|a", packing.pack([late.record()]), stamp=2.0),
        Row("p", f"{NAME}|o|m|b", packing.pack([early.record()]), stamp=1.0),
    ]
    assert fold(1, rows).state(0) is State.ACCEPTED


@given(st.lists(st.text(min_size=1, max_size=3000), min_size=1, max_size=60))
def test_outcomes_of_any_size_fit_the_services_limits(values: list[str]) -> None:
    made = [Outcome(n, State.ACCEPTED, value) for n, value in enumerate(values)]
    rows = outcome_rows(NAME, "m", "c", made)
    for row in rows:
        assert packing.packed_size(row.data) <= 1024 * 1024
        assert all(len(piece) <= 64 * 1024 for piece in row.data.values())
    assert sum(len(packing.unpack(row.data)) for row in rows) == len(values)


@given(st.text(max_size=40), st.text(max_size=40), st.integers(0, 15_000))
def test_a_header_survives_storage(source: str, incident: str, submitted: int) -> None:
    header = Header(NAME, submitted, 1.5, "queue", source=source, incident=incident)
    assert Header.from_row(header.row()) == header


def test_no_transaction_is_larger_than_the_service_takes() -> None:
    """4 MiB of request, in which bytes are base64: counted here as the SDK writes it."""
    random_bytes = random.Random(7).randbytes
    rows = [Row("20261122a", f"20261122a{n:016d}|o|m|c", {"d0": random_bytes(50_000)}) for n in range(300)]
    sizes = []
    for chunk in _chunks(rows):
        body = [{"PartitionKey": row.pk, "RowKey": row.rk, "d0@odata.type": "Edm.Binary"} for row in chunk]
        for entity, row in zip(body, chunk, strict=True):
            entity["d0"] = base64.b64encode(row.data["d0"]).decode()
        sizes.append(sum(len(json.dumps(entity)) + 700 for entity in body))
    assert max(sizes) < 4 * 1024 * 1024 - 100_000
    assert len(sizes) == 7, "and not much smaller either"
