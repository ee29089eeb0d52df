"""Dead letters: replayed under a claim, so that any number of replays is one submission; by filter; discarded."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from typing import Any

import pytest

from shared.errors import ConflictError, StorageError, UnavailableError, UnreadableError
from shared.ledger.deadletters import DeadLetter, Wanted
from shared.ledger.submissions import Header
from shared.ledger.view import letter_shown, letter_whole
from shared.publishing.sweep import Sweeper
from shared.relay import Publishing
from shared.settings import Settings
from tests.support import virtual
from tests.support.memory import Killed
from tests.support.rig import Host, Rig


def value(n: int) -> str:
    return f"h{n}.evil-domain.com"


async def raw(worker: Publishing, n: int, *, reason: str = "exhausted", body: bytes | None = None) -> str:
    """A readable message that was buried."""
    content = json.dumps({"indicatorValue": value(n), "action": "Block"}).encode() if body is None else body
    name = f"20260921a{n:016d}"
    return await worker.deliveries.bury(name, content, worker.stores.clock.now(), reason, "why")


async def of_items(rig: Rig, worker: Publishing) -> DeadLetter:
    """Two items that failed for too long."""
    rig.tenant.fault = lambda _payloads: UnavailableError("down", status=503)
    rig.put({"incident": 7, "indicators": [{"indicatorValue": value(n), "action": "Block"} for n in range(2)]})
    host = Host(rig, worker)
    while not rig.service.all_rows("deadletters"):
        await host.serve(asyncio.get_running_loop().time() + 600.0, poll=5.0)
    await host.drain(50_000.0)
    rig.tenant.fault = None
    [letter] = await worker.letters.all()
    return letter


def made_of(rig: Rig, letter: str) -> list[Header]:
    rows = [row for row in rig.service.all_rows("submissions") if row.rk.endswith("|h")]
    return [header for header in map(Header.from_row, rows) if header.replay_of == letter]


EXHAUSTED = Settings(exhausted_after=300.0)


@pytest.mark.parametrize("kind", ["raw", "items"])
def test_replays_at_once_make_one_submission(kind: str) -> None:
    async def main(seed: int) -> None:
        rnd = random.Random(seed)
        rig = Rig(EXHAUSTED)
        worker = rig.worker()
        letter = await raw(worker, 1) if kind == "raw" else (await of_items(rig, worker)).id

        async def slow(_when: str, _what: str) -> None:
            await asyncio.sleep(rnd.choice((0.0, 0.01, 0.02, 0.3)))

        people = [rig.worker(gate=slow) for _ in range(3)]
        told = await asyncio.gather(
            *(one.replays.replay(letter, caller=f"person:{n}") for n, one in enumerate(people)), return_exceptions=True
        )
        names = {name for name in told if isinstance(name, str)}
        refused = [error for error in told if not isinstance(error, str)]
        assert len(names) == 1
        assert all(isinstance(error, ConflictError) and next(iter(names)) in str(error) for error in refused)
        [header] = made_of(rig, letter)
        assert header.id in names and header.caller.startswith("person:")
        found = await worker.letters.get(letter)
        assert found and (found.state, found.replayed_as, found.by) == ("replayed", header.id, header.caller)
        await Host(rig, worker).drain(60.0)
        counts = (await rig.read(header.id)).fold.counts()
        assert counts["accepted"] == counts["submitted"] == (1 if kind == "raw" else 2)
        assert not await worker.parts.all_open()

    for seed in range(25 if kind == "raw" else 8):
        virtual.run(main(seed))


@pytest.mark.parametrize("fault", ["kill", "fail"])
@pytest.mark.parametrize("kind", ["raw", "items"])
def test_a_replay_that_was_broken_off_is_finished_as_the_same_submission(kind: str, fault: str) -> None:
    async def once(point: int) -> int:
        rig = Rig(EXHAUSTED)
        worker = rig.worker()
        letter = await raw(worker, 1) if kind == "raw" else (await of_items(rig, worker)).id
        log: list[str] = []

        async def gate(when: str, what: str) -> None:
            log.append(f"{when} {what}")
            if len(log) == point or (fault == "kill" and len(log) > point > 0):
                raise Killed if fault == "kill" else StorageError("storage did not answer")

        planned: str | None = None
        broke = False
        try:
            await rig.worker(gate=gate).replays.replay(letter, caller="key")
        except (Killed, StorageError):
            broke = True
        found = await worker.letters.get(letter)
        assert found is not None
        planned = found.replayed_as or None
        assert broke or found.state == "replayed"
        assert (found.state == "open") == (planned is None)
        await asyncio.sleep(5.0)
        if found.state != "replayed":
            again = await worker.replays.replay(letter, caller="person:2")
            assert planned in (None, again)
        [header] = made_of(rig, letter)
        sweeper: Sweeper = worker.sweeper
        host = Host(rig, worker)
        await host.drain(60.0)
        await asyncio.sleep(1000.0)
        await sweeper.overdue()
        await host.drain(60.0)
        assert not await worker.parts.all_open(), "a part of the run that was broken off is left"
        assert (await rig.read(header.id)).fold.counts()["accepted"] == (1 if kind == "raw" else 2)
        assert len(made_of(rig, letter)) == 1
        found = await worker.letters.get(letter)
        assert found and (found.state, found.replayed_as) == ("replayed", header.id)
        return len(log)

    points = virtual.run(once(0))
    assert points > 10
    for point in range(1, points + 1):
        virtual.run(once(point))


def test_what_still_cannot_be_read_stays_open_and_unclaimed() -> None:
    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        letter = await raw(worker, 1, body=b"this is no JSON")
        with pytest.raises(UnreadableError):
            await worker.replays.replay(letter, caller="key")
        found = await worker.letters.get(letter)
        assert found and (found.state, found.replayed_as) == ("open", "")
        assert await worker.replays.replay("x20260921a9999999999999999", caller="key") is None

    virtual.run(main())


def test_a_discarded_letter_is_kept_with_who_and_why_and_not_replayed() -> None:
    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        letter = await raw(worker, 1)
        gone = await worker.replays.discard(letter, "a test of ours", by="person:1", by_name="Ada")
        assert gone and (gone.state, gone.note, gone.by) == ("discarded", "a test of ours", "person:1")
        again = await worker.replays.discard(letter, "once more", by="person:2")
        assert again == gone
        with pytest.raises(ConflictError, match="discarded by person:1"):
            await worker.replays.replay(letter, caller="key")
        shown = letter_whole(again, await worker.letters.body(letter))
        assert (shown["discardReason"], shown["byName"]) == ("a test of ours", "Ada")
        assert json.loads(shown["body"])["indicatorValue"] == value(1)
        other = await raw(worker, 2)
        await worker.replays.replay(other, caller="key")
        with pytest.raises(ConflictError, match="cannot be discarded"):
            await worker.replays.discard(other, "too late", by="key")
        with pytest.raises(ConflictError, match="replayed as submission"):
            await worker.replays.replay(other, caller="key")
        assert await worker.replays.discard("x20260921a9999999999999999", "r", by="key") is None

    virtual.run(main())


def test_discarded_and_replayed_at_once_it_is_one_of_both() -> None:
    async def main(seed: int) -> str:
        rnd = random.Random(seed)
        rig = Rig()
        worker = rig.worker()
        letter = await raw(worker, 1)

        async def slow(_when: str, _what: str) -> None:
            await asyncio.sleep(rnd.choice((0.0, 0.01, 0.02)))

        await asyncio.gather(
            rig.worker(gate=slow).replays.replay(letter, caller="a"),
            rig.worker(gate=slow).replays.discard(letter, "no", by="b"),
            return_exceptions=True,
        )
        found = await worker.letters.get(letter)
        assert found is not None
        assert len(made_of(rig, letter)) == (found.state == "replayed")
        assert found.by == ("a" if found.state == "replayed" else "b")
        return found.state

    assert {virtual.run(main(seed)) for seed in range(30)} == {"replayed", "discarded"}


def test_replayed_by_filter_the_oldest_first_and_one_that_cannot_be_changes_no_other() -> None:
    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        letters = []
        for n in range(12):
            body = b"no JSON" if n == 3 else None
            letters.append(await raw(worker, n, reason="poison" if n % 2 else "exhausted", body=body))
            await asyncio.sleep(10.0)
        wanted = Wanted(reason="poison")
        dry = await worker.replays.replay_many(wanted, most=100, dry_run=True, caller="key")
        assert [fate.letter for fate in dry.fates] == letters[1::2] and not dry.more
        assert not any(fate.submission or fate.problem for fate in dry.fates)
        assert all(letter.state == "open" for letter in await worker.letters.all())
        first = await worker.replays.replay_many(wanted, most=4, caller="person:1", caller_name="Ada")
        assert [fate.letter for fate in first.fates] == letters[1:9:2]
        assert (first.matching, first.more, first.after) == (6, True, letters[7])
        assert [bool(fate.submission) for fate in first.fates] == [True, False, True, True]
        assert isinstance(first.fates[1].problem, UnreadableError)
        second = await worker.replays.replay_many(wanted, most=4, after=first.after, caller="key")
        assert [fate.letter for fate in second.fates] == letters[9::2] and not second.more
        third = await worker.replays.replay_many(wanted, most=4, caller="key")
        assert [fate.letter for fate in third.fates] == [letters[3]], "only what could not be is open still"
        found = {letter.id: letter for letter in await worker.letters.all()}
        assert [found[letter].state for letter in letters[::2]] == ["open"] * 6
        assert found[letters[1]].by_name == "Ada"
        header = (await rig.read(first.fates[0].submission)).header
        assert (header.caller, header.caller_name) == ("person:1", "Ada")

    virtual.run(main())


def test_a_batch_goes_no_further_than_a_request_may_take() -> None:
    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        letters = [await raw(worker, n) for n in range(40)]

        async def slow(when: str, _what: str) -> None:
            await asyncio.sleep(2.0 if when == "before" else 0.0)

        batch = await rig.worker(gate=slow).replays.replay_many(Wanted(), most=40, caller="key")
        assert batch.more and 0 < len(batch.fates) < 40
        after = batch.after
        rest = await worker.replays.replay_many(Wanted(), most=40, after=after, caller="key")
        assert len(batch.fates) + len(rest.fates) == 40
        assert all(len(made_of(rig, letter)) == 1 for letter in letters)

    virtual.run(main())


def test_which_letters_are_meant() -> None:
    def letter(**fields: Any) -> DeadLetter:
        made: dict[str, Any] = {
            "id": "x1",
            "kind": "raw",
            "at": 100.0,
            "reason": "exhausted",
            "text": "",
            "size": 1,
            "count": 1,
            "intent_at": 1.0,
            "submissions": ("20260921a0000000000000001",),
        }
        return DeadLetter(**made | fields)

    assert Wanted().fits(letter())
    assert Wanted(states=frozenset({"open"})).fits(letter())
    assert not Wanted(states=frozenset({"open"})).fits(letter(state="discarded"))
    assert Wanted(reason="exhausted").fits(letter()) and not Wanted(reason="poison").fits(letter())
    assert Wanted(since=100.0).fits(letter()) and not Wanted(since=100.1).fits(letter())
    assert Wanted(until=100.1).fits(letter()) and not Wanted(until=100.0).fits(letter())
    assert Wanted(submission="20260921a0000000000000001").fits(letter())
    assert not Wanted(submission="20260921a0000000000000002").fits(letter())


def test_a_letter_is_shown_whole_as_it_came() -> None:
    async def main() -> None:
        rig = Rig(EXHAUSTED)
        worker = rig.worker()
        letter = await of_items(rig, worker)
        shown = letter_whole(letter, await worker.letters.body(letter.id))
        assert [item["value"] for item in shown["content"]] == [value(0), value(1)]
        first = shown["content"][0]
        assert first["indicator"]["indicatorValue"] == value(0) and first["incident"] == "7"
        assert first["attempts"] >= 3 and first["submission"] == letter.submissions[0]
        for body in (b'{"\xc3\xa9": 1}', b"\xff\xfe\x00"):
            name = await worker.letters.keep_raw("20260921b0000000000000009", body, 1.0, "unreadable", "why")
            found = await worker.letters.get(name)
            assert found is not None
            told = letter_whole(found, await worker.letters.body(name))
            back = told["body"].encode() if told["encoding"] == "utf-8" else base64.b64decode(told["body"])
            assert back == body
        assert "gone" in letter_whole(letter, None)["note"]
        assert "content" not in letter_shown(letter)

    virtual.run(main())
