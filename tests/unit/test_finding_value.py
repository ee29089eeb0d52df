"""One value: who used it and what became of that, what stands, what waits, and what the guards say."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from shared.errors import QuestionError
from shared.finding import uses, waiting
from shared.finding.question import Question
from shared.ledger import intents
from shared.ledger.intents import TABLE, Use
from shared.ledger.parts import Part, PartItem
from shared.relay import Publishing
from shared.settings import Settings
from shared.storage.protocols import Row
from tests.support import virtual
from tests.support.rig import Host, Rig

VALUE = "c2.evil-domain.com"
APP_A, APP_B = "app:a2345678-1234-1234-1234-123456789abc", "app:b2345678-1234-1234-1234-123456789abc"


def message(value: str = VALUE, **fields: Any) -> dict[str, Any]:
    incident, source = fields.pop("incident", None), fields.pop("source", None)
    indicator = {"indicatorValue": value, "action": "Block", "title": "C2", **fields}
    return {"incident": incident, "source": source, "indicators": [indicator]}


async def ask(worker: Publishing, value: str = VALUE, **asked: Any) -> tuple[dict[str, Any], str]:
    return await worker.uses.find(Question.of(worker.stores.clock.now(), value=value, **asked))


async def all_uses(worker: Publishing, value: str = VALUE, **asked: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    following = ""
    while True:
        told, following = await ask(worker, value, following=following, **asked)
        found += told["uses"]
        if not following:
            return found


def run(test: Any) -> None:
    virtual.run(test())


def test_who_when_why_for_which_incident_and_until_when() -> None:
    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        name = rig.put(message("C2[.]evil-domain.com", incident="Fall 3177", source="sentinel", expirationTime="P30D"))
        await Host(rig, worker).drain(5.0)
        told, following = await ask(worker, "c2[.]EVIL-domain.com")
        assert following == "" and told["value"] == VALUE and told["types"] == ["DomainName"]
        (use,) = told["uses"]
        assert use["submission"] == name and use["state"] == "accepted" and use["newest"] is True
        assert (use["incident"], use["source"], use["door"]) == ("Fall 3177", "sentinel", "queue")
        assert (use["title"], use["action"], use["type"]) == ("C2", "Block", "DomainName")
        assert use["at"] < use["expires"] and use["ordinal"] == 0
        standing = told["standing"]
        assert standing["submission"] == name and standing["mayHold"] == ["Block"]
        assert standing["text"].startswith("Block by sentinel on 20") and "incident Fall 3177" in standing["text"]
        assert f"until {use['expires']}" in standing["text"] and "Defender accepted it" in standing["text"]
        assert "block" not in standing["text"].lower().replace("block by", "")
        assert told["verdict"]["taken"] is True and told["waiting"] == {"items": [], "complete": True}

    run(main)


def test_a_newer_intent_a_rejection_and_an_expiry_are_told_as_they_are() -> None:
    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        host = Host(rig, worker)
        first = rig.put(message(incident="1"))
        await host.drain(5.0)
        await asyncio.sleep(2)
        rig.tenant.refused.add(VALUE)
        second = rig.put(message(action="Audit", incident="2", expirationTime="PT2H"))
        await host.drain(20.0)
        told, _ = await ask(worker)
        assert [(use["submission"], use["state"], use["newest"]) for use in told["uses"]] == [
            (second, "rejected", True),
            (first, "accepted", False),
        ]
        assert "It was rejected" in told["standing"]["text"]
        assert "may still hold this app's older Block" in told["standing"]["text"]
        assert [use["submission"] for use in await all_uses(worker, incident="1")] == [first]
        assert [use["submission"] for use in await all_uses(worker, state="rejected")] == [second]
        assert [use["submission"] for use in await all_uses(worker, source="nobody")] == []
        await asyncio.sleep(3 * 3600)
        told, _ = await ask(worker)
        assert "is past" in told["standing"]["text"] and "accepted" not in told["standing"]["text"]

    run(main)


def test_a_retraction_is_told_as_withdrawn() -> None:
    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        host = Host(rig, worker)
        rig.put(message())
        await host.drain(5.0)
        (use,) = await all_uses(worker)
        now = worker.stores.clock.now()
        item = PartItem(
            submission=use["submission"][:-1] + "0",
            origin="0000",
            ordinal=0,
            intent_at=now,
            first_seen=now,
            key=("DomainName", VALUE),
            indicator=None,
        )
        part = Part("dretraction01", (item,))
        await worker.parts.store(part, due_in=0.0)
        await worker.parts.point(part.id)
        await host.drain(30.0)
        told, _ = await ask(worker)
        assert told["standing"]["text"].startswith("Withdrawn by")
        assert told["standing"]["action"] == "Retraction" and "expires" not in told["standing"]
        assert [use["action"] for use in told["uses"]] == ["Retraction", "Block"]
        assert [use["newest"] for use in told["uses"]] == [True, False]

    run(main)


def test_forty_digits_may_be_a_file_or_a_certificate() -> None:
    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        value = "ab" * 20
        file = rig.put(message(value.upper()))
        certificate = rig.put(message(value, indicatorType="CertificateThumbprint", action="BlockAndRemediate"))
        await Host(rig, worker).drain(20.0)
        told, _ = await ask(worker, value)
        assert {use["submission"]: use["type"] for use in told["uses"]} == {
            file: "FileSha1",
            certificate: "CertificateThumbprint",
        }
        assert {told["standing"]["type"], told["alsoStanding"][0]["type"]} == set(told["types"])
        assert len(await all_uses(worker, value, top=1)) == 2

    run(main)


def test_a_url_is_looked_up_byte_for_byte() -> None:
    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        url = "https://evil-domain.com/A/%7Eb?q=1&x=[y]#Z"
        name = rig.put(message(url))
        rig.put(message(url.replace("/A/", "/a/")))
        await Host(rig, worker).drain(20.0)
        assert [use["submission"] for use in await all_uses(worker, url)] == [name]
        assert [use["submission"] for use in await all_uses(worker, url.replace("https://evil", "HTTPS://EVIL"))] == [
            name
        ]

    run(main)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("not a value", "no address"),
        ("", "no address"),
        ("*.evil-domain.com", "wildcard"),
        ("evil-domain.com/path", "whole URL"),
        ("10.0.0.0/8", "range"),
        ("http://" + "a" * 5000, "characters"),
        ("事件 3177", "no address"),
    ],
)
def test_what_is_no_value_is_refused_with_the_reason(value: str, words: str) -> None:
    with pytest.raises(QuestionError) as caught:
        uses.keys_of(value, Settings())
    assert words in str(caught.value) and len(str(caught.value)) < 400 and caught.value.remediation


def test_why_it_is_not_there_is_what_the_guard_says() -> None:
    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        rig.put(message("10.0.0.8"))
        await Host(rig, worker).drain(5.0)
        told, _ = await ask(worker, "10[.]0.0.8")
        assert told["uses"] == [] and told["standing"] is None
        assert told["verdict"]["reason"] == "private_address" and told["verdict"]["taken"] is False

    run(main)


def test_the_uses_of_one_caller_alone() -> None:
    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        host = Host(rig, worker)
        taken = []
        for caller in (APP_A, APP_B):
            made = await worker.submitting.submit(json.dumps(message()).encode(), caller=caller)
            taken.append(made.id)
            await asyncio.sleep(2)
        told, _ = await ask(worker, own=APP_A)
        assert [item["submission"] for item in told["waiting"]["items"]] == [taken[0]]
        await host.drain(30.0)
        told, _ = await ask(worker, own=APP_A)
        assert [use["submission"] for use in told["uses"]] == [taken[0]]
        assert told["standing"] is None and told["waiting"]["items"] == []
        told, _ = await ask(worker, own=APP_B)
        assert told["standing"]["submission"] == taken[1] and told["standing"]["caller"] == APP_B
        assert await all_uses(worker, own=APP_B, caller=APP_A) == []

    run(main)


def test_what_waits_in_a_part_is_told_until_it_was_chosen() -> None:
    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        made = await worker.submitting.submit(
            json.dumps([message(f"h{n}.evil-domain.com")["indicators"][0] for n in range(600)]).encode(), caller="key"
        )
        told, _ = await ask(worker, "h577.evil-domain.com")
        (item,) = told["waiting"]["items"]
        assert (item["submission"], item["ordinal"], item["caller"]) == (made.id, 577, "key")
        assert told["uses"] == [] and told["standing"] is None
        assert (await ask(worker, "evil-domain.com"))[0]["waiting"]["items"] == []
        await Host(rig, worker).drain(30.0)
        told, _ = await ask(worker, "h577.evil-domain.com")
        assert told["waiting"]["items"] == [] and told["uses"][0]["state"] == "accepted"
        # Another delivery of a part that was sent already is no other use.
        assert len(await all_uses(worker, "h577.evil-domain.com")) == 1

    run(main)


def test_more_parts_than_are_looked_into_are_not_passed_over_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "PARTS_MOST", 3)

    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        for _ in range(4):
            await worker.submitting.submit(json.dumps(message()).encode(), caller="key")
        told, _ = await ask(worker)
        assert len(told["waiting"]["items"]) == 3 and told["waiting"]["complete"] is False
        assert "more" in told["waiting"]["text"].lower()

    run(main)


def test_pages_of_uses_neither_skip_nor_repeat_while_others_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uses, "EXAMINED_MOST", 4)

    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        host = Host(rig, worker)
        names = []
        for n in range(15):
            # Three in the same second: the queue's clock has seconds.
            names += [rig.put(message(incident=str(n % 2))) for _ in range(3 if n == 7 else 1)]
            await host.drain(60.0)
            await asyncio.sleep(1.0)
        told, following = await ask(worker, top=3)
        found = told["uses"]
        while following:
            names.append(rig.put(message(incident="9")))
            await host.drain(60.0)
            await asyncio.sleep(1.0)
            told, following = await ask(worker, top=3, following=following)
            assert "standing" not in told and "waiting" not in told
            found += told["uses"]
        assert sorted(use["submission"] for use in found) == sorted(names[:17])
        places = [(use["at"], use["submission"]) for use in found]
        assert places == sorted(places, reverse=True), "newest first"
        assert [use["newest"] for use in found][:2] == [True, False]
        odd = await all_uses(worker, incident="1", top=2)
        assert {use["incident"] for use in odd} == {"1"} and len(odd) == 9
        middle = found[8]["at"]
        assert await all_uses(worker, until=middle) + await all_uses(worker, since=middle) != []
        older = await all_uses(worker, until=middle)
        assert [use["submission"] for use in older] == [use["submission"] for use in found if use["at"] < middle]
        newer = await all_uses(worker, since=middle, incident="1")
        assert all(use["at"] >= middle for use in newer) and newer

    run(main)


def test_history_rows_of_the_former_form_are_read() -> None:
    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        host = Host(rig, worker)
        names = []
        for _ in range(3):
            names.append(rig.put(message()))
            await host.drain(60.0)
            await asyncio.sleep(1.5)
        key = ("DomainName", VALUE)
        rows = rig.service.rows(TABLE, intents.partition(key))
        for row in [row for name, row in list(rows.items()) if "|h|" in name]:
            use = Use.from_row(row)
            former = f"{intents.row_key(key)}|h|{use.intent_at:017.6f}|{use.submission}|{use.ordinal:05d}"
            data = {name: value for name, value in row.data.items() if name not in ("expires", "title")}
            del rows[row.rk]
            rows[former] = Row(row.pk, former, data)
        names.append(rig.put(message()))
        await host.drain(60.0)
        found = await all_uses(worker)
        assert [use["submission"] for use in found] == names[::-1]
        assert ["expires" in use for use in found] == [True, False, False, False]
        assert [use["submission"] for use in await all_uses(worker, top=1)] == names[::-1]

    run(main)


def test_a_use_whose_submission_is_forgotten_says_so() -> None:
    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        rig.put(message(incident="1", expirationTime="never"))
        await Host(rig, worker).drain(5.0)
        rig.service.tables["submissions"].clear()
        told, _ = await ask(worker)
        (use,) = told["uses"]
        assert use["state"] == "forgotten" and use["expires"] == "never" and use["action"] == "Block"
        assert "no longer kept" in told["standing"]["text"] and "without an end" in told["standing"]["text"]
        assert await all_uses(worker, incident="1") == [] == await all_uses(worker, own=APP_A)

    run(main)


def test_the_newest_use_comes_first_whatever_decides() -> None:
    moments = [(1_790_000_000.0, "20260922b", 0), (1_790_000_000.0, "20260922a", 1), (1_790_000_000.0, "20260922a", 0)]
    orders = [(1_790_000_000.000001, "20260922a", 0), *moments, (1_789_999_999.9, "20260922f", 14_999)]
    assert sorted(orders, reverse=True) == orders
    places = [intents.place(order) for order in orders]
    assert places == sorted(places)


def test_what_expired_before_its_call_is_found_by_its_value() -> None:
    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        name = rig.put(message(expirationTime="P1D"))
        await asyncio.sleep(2 * 86_400)
        await Host(rig, worker).drain(20.0)
        told, _ = await ask(worker)
        (use,) = told["uses"]
        assert (use["submission"], use["state"], use["reason"]) == (name, "rejected", "expired")
        assert told["standing"] is None and use["newest"] is False
        await worker.sweeper.retention()
        assert await all_uses(worker) == [use]
        await asyncio.sleep(91 * 86_400)
        await worker.sweeper.retention()
        assert await all_uses(worker) == []

    run(main)


def test_going_on_tells_a_caller_nothing_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uses, "EXAMINED_MOST", 4)

    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        host = Host(rig, worker)
        mine, theirs = [], []
        # Many in one minute, so that a page of others alone begins and ends within it.
        for n in range(40):
            own = n % 11 == 5
            made = await worker.submitting.submit(json.dumps(message()).encode(), caller=APP_A if own else APP_B)
            (mine if own else theirs).append(made.id)
            await asyncio.sleep(0.5 if n < 20 else 40.0)
        await host.drain(120.0)
        found: list[str] = []
        cursors: list[str] = []
        following = ""
        for _ in range(60):
            told, following = await ask(worker, own=APP_A, following=following, top=2)
            found += [use["submission"] for use in told["uses"]]
            if not following:
                break
            cursors.append(following)
        assert found == mine[::-1] and len(cursors) > 3
        assert len(set(cursors)) == len(cursors)
        down = str.maketrans("0123456789abcdef", "fedcba9876543210")
        places = [base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))[8:].decode() for text in cursors]
        assert not [name for name in theirs for place in places if name in place or name.translate(down) in place]
        assert len(await all_uses(worker, top=2)) == 40

    run(main)
