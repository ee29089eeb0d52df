"""Idempotency-Key: one submission for one key and body, whatever dies, fails or comes twice at once."""

from __future__ import annotations

import asyncio
import dataclasses
import json

import pytest

from shared.errors import (
    IntakeError,
    KeyBusyError,
    KeyFormError,
    KeyReuseError,
    StorageError,
    TooLargeError,
    UnreadableError,
)
from shared.ledger.idempotency import TABLE, Record, parse_key, row_name
from shared.ledger.verdicts import CONTAINER, Verdict, decode, encode
from shared.publishing import submit
from shared.publishing.submit import Taken
from shared.relay import Publishing
from shared.settings import Settings
from shared.storage.protocols import Row
from tests.support import virtual
from tests.support.memory import Killed
from tests.support.rig import Host, Rig

PRIVATE = "10.0.0.1"  # refused by the guards
KEY = "a-key"


def value(n: int) -> str:
    return f"h{n}.evil-domain.com"


def body(*numbers: int, title: str = "t") -> bytes:
    good = [{"indicatorValue": value(n), "action": "Block", "title": title} for n in numbers]
    return json.dumps({"incident": 7, "indicators": [*good, {"indicatorValue": PRIVATE, "action": "Block"}]}).encode()


BODY = body(0, 1, 2)


async def send(worker: Publishing, data: bytes = BODY, key: str = KEY, caller: str = "key") -> Taken:
    return await worker.submitting.submit(data, caller=caller, caller_name="Somebody", key=key)


def headers(rig: Rig) -> list[Row]:
    return [row for row in rig.service.all_rows("submissions") if row.rk.endswith("|h")]


def record(rig: Rig) -> Record:
    [row] = rig.service.all_rows(TABLE)
    return Record.from_row(row)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "PART_SIZE", 2)


async def finished(rig: Rig, name: str) -> dict[str, int]:
    await Host(rig, rig.worker()).drain()
    return {state: n for state, n in (await rig.read(name)).fold.counts().items() if n}


# The rules


def test_the_same_request_gets_the_original_answer() -> None:
    async def main() -> None:
        rig = Rig()
        first = await send(rig.worker())
        at = record(rig).at
        await asyncio.sleep(3600.0)
        again = await send(rig.worker())
        assert not first.repeated and again == dataclasses.replace(first, repeated=True)
        assert [made.reason for made in again.items] == ["", "", "", "private_address"]
        [header] = headers(rig)
        assert header.data["intent_at"] == at and header.data["caller_name"] == "Somebody"
        assert await finished(rig, first.id) == {"submitted": 4, "accepted": 3, "rejected": 1}
        assert await send(rig.worker()) == again
        assert sorted(key[1] for key in rig.tenant.held) == [value(n) for n in range(3)]
        assert sum(n for _, n in rig.tenant.calls) == 3

    virtual.run(main())


def test_another_body_under_the_same_key_is_refused_and_stores_nothing() -> None:
    async def main() -> None:
        rig = Rig()
        await send(rig.worker())
        stored = (len(rig.service.blobs), len(rig.service.messages))
        for other in (body(0, 1), BODY + b" ", b"no JSON"):
            with pytest.raises(KeyReuseError) as caught:
                await send(rig.worker(), other)
            assert "new key" in caught.value.remediation
        assert len(headers(rig)) == 1 and stored == (len(rig.service.blobs), len(rig.service.messages))

    virtual.run(main())


def test_a_key_is_its_callers_own_and_no_key_is_no_promise() -> None:
    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        names = [
            (await send(worker, caller="app:1")).id,
            (await send(worker, body(5), caller="app:2")).id,
            (await send(worker, key="other", caller="app:1")).id,
            (await send(worker, key="")).id,
            (await send(worker, key="")).id,
        ]
        assert len(set(names)) == 5
        assert (await send(worker, caller="app:1")).id == names[0]
        # No caller and key can be written so that they are another pair.
        assert row_name("app:1", "2x") != row_name("app:12", "x")

    virtual.run(main())


@pytest.mark.parametrize(
    ("data", "kind", "reason"),
    [
        (b"no JSON", UnreadableError, "not_json"),
        (b"[]", UnreadableError, "empty"),
        (json.dumps([value(n) for n in range(4)]).encode(), TooLargeError, ""),
    ],
)
def test_a_refused_body_is_refused_again_in_the_same_words(data: bytes, kind: type[Exception], reason: str) -> None:
    async def main() -> None:
        rig = Rig(Settings(max_items=3))
        told = []
        for n in range(3):
            with pytest.raises(IntakeError) as caught:
                await send(rig.worker(), data)
            assert type(caught.value) is kind
            told.append((str(caught.value), caught.value.remediation, getattr(caught.value, "reason", "")))
            # What the first was told stands, even when the setting is another by now.
            rig.settings = Settings(max_items=3 if n else 3000)
        assert len(set(told)) == 1 and told[0][2] == reason and told[0][1]
        with pytest.raises(KeyReuseError):
            await send(rig.worker())
        assert not headers(rig) and not rig.service.messages

    virtual.run(main())


def test_a_dry_run_uses_no_key() -> None:
    async def main() -> None:
        rig = Rig()
        taken = await rig.worker().submitting.submit(BODY, caller="key", key=KEY, dry_run=True)
        assert taken.id == "" and len(taken.items) == 4
        assert not rig.service.all_rows(TABLE) and not rig.service.blobs
        await send(rig.worker(), body(9))

    virtual.run(main())


def test_after_its_time_a_key_is_a_new_one_and_retention_forgets_it() -> None:
    async def main() -> None:
        rig = Rig(Settings(keep_keys_days=2.0))
        first = await send(rig.worker())
        await asyncio.sleep(2 * 86_400.0 - 10.0)
        assert (await send(rig.worker())).id == first.id
        assert (await rig.worker().sweeper.retention())["idempotency"] == 0
        await asyncio.sleep(20.0)
        other = await send(rig.worker(), body(7, 8))
        assert other.id != first.id and not other.repeated
        blobs = [name for container, name in rig.service.blobs if container == CONTAINER]
        assert [name.partition("-")[0] for name in blobs] == [other.id]
        assert (await send(rig.worker(), body(7, 8))).id == other.id
        await asyncio.sleep(3 * 86_400.0)
        await send(rig.worker(), key="young")
        assert (await rig.worker().sweeper.retention())["idempotency"] == 1
        assert len(rig.service.all_rows(TABLE)) == 1
        assert len([name for container, name in rig.service.blobs if container == CONTAINER]) == 1

    virtual.run(main())


def test_retention_leaves_a_key_that_is_used_anew_meanwhile() -> None:
    async def main() -> None:
        rig = Rig()
        old = await send(rig.worker())
        await asyncio.sleep(8 * 86_400.0)
        anew: list[Taken] = []

        async def gate(when: str, what: str) -> None:
            if (when, what) == ("before", "delete idempotency") and not anew:
                anew.append(await send(rig.worker(), body(7)))

        assert (await rig.worker(gate=gate).sweeper.retention())["idempotency"] == 0
        assert anew[0].id != old.id and not anew[0].repeated
        again = await send(rig.worker(), body(7))
        assert again.id == anew[0].id and again.repeated

    virtual.run(main())


def test_a_key_stands_no_longer_than_its_submission() -> None:
    async def main() -> None:
        rig = Rig(Settings(keep_keys_days=30.0, keep_outcomes_days=1.0))
        first = await send(rig.worker())
        await finished(rig, first.id)
        await asyncio.sleep(2 * 86_400.0)
        await rig.worker().sweeper.retention()
        assert (await send(rig.worker())).id != first.id

    virtual.run(main())


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ('"8e03978e"', "8e03978e"),
        (r'"a\"b\\c"', 'a"b\\c'),
        (" abc\t", "abc"),
        ("!", "!"),
        ("~" * 255, "~" * 255),
        ('a"b', 'a"b'),
    ],
)
def test_a_key_is_read(header: str, key: str) -> None:
    assert parse_key(header) == key


@pytest.mark.parametrize(
    "header", ["", " ", '""', "a b", '"a b"', '"a', '"', '"a"b', '"a";x=1', "ä", "a\x7f", "a" * 256]
)
def test_what_is_no_key_is_refused(header: str) -> None:
    with pytest.raises(KeyFormError) as caught:
        parse_key(header)
    assert "255" in caught.value.remediation


def test_verdicts_are_kept_as_they_are() -> None:
    verdicts = (Verdict(0, "ä.com", "DomainName", "Block", notes=("x", "y")), Verdict(1, "b", reason="r", text="t"))
    assert decode(encode(verdicts)) == verdicts


# Broken off


def test_a_failure_of_ours_lets_the_next_one_begin_at_once() -> None:
    async def main() -> None:
        for point in range(1, 40):
            rig = Rig()
            left = point

            async def gate(when: str, what: str) -> None:
                nonlocal left
                left -= 1
                if not left:
                    raise StorageError(f"{when} {what}")

            try:
                await send(rig.worker(gate=gate))
            except StorageError:
                before = asyncio.get_running_loop().time()
                taken = await send(rig.worker())
                assert asyncio.get_running_loop().time() - before < 0.1
                assert await finished(rig, taken.id) == {"submitted": 4, "accepted": 3, "rejected": 1}
                assert len(headers(rig)) == 1
            if left > 0:
                return
        raise AssertionError("it never ends")

    virtual.run(main())


def test_what_is_left_unfinished_is_resumed_as_the_same_submission() -> None:
    async def main() -> None:
        rig = Rig()
        dead = False

        async def gate(when: str, what: str) -> None:
            nonlocal dead
            if dead or (when, what) == ("before", "transact submissions"):
                dead = True
                raise Killed

        with pytest.raises(Killed):
            await send(rig.worker(gate=gate))
        begun = record(rig)
        with pytest.raises(KeyBusyError) as caught:
            await send(rig.worker())
        assert begun.submission in str(caught.value) and 1 <= caught.value.retry_after <= 10
        with pytest.raises(KeyReuseError):
            await send(rig.worker(), body(1))
        await asyncio.sleep(100.0)
        taken = await send(rig.worker())
        assert taken.id == begun.submission and not taken.repeated
        [header] = headers(rig)
        assert header.data["intent_at"] == begun.at == record(rig).at and record(rig).state == "done"
        # What the dead one stored is dropped by the sweep, and run by nobody.
        assert len(rig.service.all_rows("open")) == 4
        assert await finished(rig, taken.id) == {"submitted": 4, "accepted": 3, "rejected": 1}
        await asyncio.sleep(1000.0)
        assert await rig.worker().sweeper.overdue() == 2
        assert await finished(rig, taken.id) == {"submitted": 4, "accepted": 3, "rejected": 1}
        assert not rig.service.all_rows("open")
        assert sum(n for _, n in rig.tenant.calls) == 3
        assert [name for name, _ in rig.tell.events].count("abandoned_part") == 2
        assert [fields for name, fields in rig.tell.events if name == "resumed"] == [
            {"submission": taken.id, "runs": 2}
        ]

    virtual.run(main())


def test_the_header_being_there_nothing_is_stored_again_and_its_parts_are_pointed_to() -> None:
    async def main() -> None:
        rig = Rig()
        dead = False

        async def gate(when: str, what: str) -> None:
            nonlocal dead
            if dead or (when, what) == ("before", "send"):
                dead = True
                raise Killed

        with pytest.raises(Killed):
            await send(rig.worker(gate=gate))
        assert not rig.service.messages and len(headers(rig)) == 1
        early = await send(rig.worker())
        assert early.repeated and not rig.service.messages and record(rig).state == "started"
        await asyncio.sleep(121.0)
        blobs = sorted(rig.service.blobs)
        later = await send(rig.worker())
        assert later == early and sorted(rig.service.blobs) == blobs and len(rig.service.messages) == 2
        assert await send(rig.worker()) == early and len(rig.service.messages) == 2
        assert await finished(rig, later.id) == {"submitted": 4, "accepted": 3, "rejected": 1}

    virtual.run(main())


def test_a_run_taken_for_dead_loses_or_wins_whole() -> None:
    """The first stands still for three minutes at each of its points, and then goes on."""

    async def main() -> None:
        winners = set()
        for point in range(1, 60):
            rig = Rig()
            left = point

            async def gate(when: str, what: str) -> None:
                nonlocal left
                left -= 1
                if not left:
                    await asyncio.sleep(180.0)

            # Settings differ between the two, so that their verdicts do.
            slow = rig.worker(gate=gate)
            rig.settings = Settings(title_max=2)
            first = asyncio.get_running_loop().create_task(send(slow, body(0, 1, 2, title="title")))
            await asyncio.sleep(130.0)
            second = await send(rig.worker(), body(0, 1, 2, title="title"))
            slowly = await first
            assert slowly.id == second.id and slowly.items == second.items
            assert len(headers(rig)) == 1
            rejected = sum(bool(made.reason) for made in second.items)
            winners.add(rejected)
            counts = await finished(rig, second.id)
            assert counts == {
                k: n for k, n in {"submitted": 4, "accepted": 4 - rejected, "rejected": rejected}.items() if n
            }
            await asyncio.sleep(2000.0)
            await rig.worker().sweeper.overdue()
            assert await finished(rig, second.id) == counts
            assert not rig.service.all_rows("open")
            if left > 0:
                assert winners == {1, 4}
                return
        raise AssertionError("it never ends")

    virtual.run(main())


def test_verdicts_that_need_several_transactions_are_of_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that go before the header belong to nobody when another run's header wins."""
    from shared.ledger import packing

    monkeypatch.setattr(packing, "TRANSACTION_ROWS", 2)

    async def main() -> None:
        long = [{"indicatorValue": value(n), "action": "Block", "title": "title"} for n in range(5)]
        data = json.dumps({"indicators": [*long, *(PRIVATE for _ in range(5))]}).encode()
        seen = set()
        for point in range(1, 60):
            rig = Rig(Settings(title_max=2))
            left = point

            async def gate(when: str, what: str) -> None:
                nonlocal left
                left -= 1
                if left <= 0:
                    raise Killed

            try:
                await send(rig.worker(gate=gate), data)
            except Killed:
                pass
            else:
                assert seen == {(5, 5), (0, 10)}
                return
            rig.settings = Settings()
            await asyncio.sleep(130.0)
            taken = await send(rig.worker(), data)
            rejected = sum(bool(made.reason) for made in taken.items)
            await asyncio.sleep(2000.0)
            await rig.worker().sweeper.overdue()
            counts = await finished(rig, taken.id)
            assert (counts.get("accepted", 0), counts["rejected"]) == (10 - rejected, rejected)
            seen.add((10 - rejected, rejected))
            told = await rig.read(taken.id)
            assert {n for n, made in told.fold.fates.items() if made.reason} == {
                made.ordinal for made in taken.items if made.reason
            }
        raise AssertionError("it never ends")

    virtual.run(main())
