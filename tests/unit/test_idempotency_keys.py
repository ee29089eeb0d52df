"""Idempotency-Key: one submission for one key and body, whatever dies, fails or comes twice at once."""

from __future__ import annotations

import asyncio
import dataclasses
import json

import pytest

from shared.errors import (
    IntakeError,
    KeyFormError,
    KeyReuseError,
    TooLargeError,
    UnreadableError,
)
from shared.ledger.idempotency import TABLE, parse_key, row_name
from shared.ledger.verdicts import CONTAINER, Verdict, decode, encode
from shared.publishing.submit import Taken
from shared.settings import Settings
from tests.support import virtual
from tests.support.items import value
from tests.support.keyed import ALL_DONE, BODY, KEY, body, finished, headers, record, send, small_parts
from tests.support.rig import Rig

__all__ = ["small_parts"]


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
        assert await finished(rig, first.id) == ALL_DONE
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
