"""Messages that claim what they have no right to, and a secret that changes while messages flow."""

from __future__ import annotations

import base64
import itertools
import json
import threading
from collections.abc import Callable
from typing import Any

from shared.ledger.parts import PARTITION, pointer
from shared.ledger.parts import TABLE as OPEN
from tests.support.stacklab import Lab, batch, message, wait_for

CLAIMS: list[dict[str, Any]] = [
    {"override": True},
    {"overrideReason": "the CISO said so"},
    {"skipGuards": True},
    {"role": "Guards.Override"},
    {"roles": ["Guards.Override", "Indicators.Allow"]},
    {"privileged": True},
    {"trusted": "yes"},
    {"caller": "admin"},
]


def test_a_foreign_message_that_claims_an_override_or_a_role_gains_nothing(here: Lab) -> None:
    texts = []
    for number, claim in enumerate(CLAIMS):
        texts.append(message(f"c{number}.claim.example", "Block", **claim))
        texts.append(message("10.1.2.3", "Block", **claim, externalId=str(number)))
    texts += [base64.b64encode(text.encode()).decode() for text in texts]
    sent = here.put(texts)
    found = here.finish(sent.values())
    for text, name in sent.items():
        one = found[name]
        assert one.fold.counts()["rejected"] == 1, text
        assert one.fold.fates[0].reason in ("not_permitted", "private_address"), one.fold.fates[0]
    assert not [value for value in here.held() if value.endswith(".claim.example") or value == "10.1.2.3"]


def test_a_foreign_message_that_allows_is_refused_however_it_says_so(here: Lab) -> None:
    texts = [message(f"{word.lower()}.allow.example", word) for word in ("Allowed", "allowed", "ALLOW")]
    defaults = {"defaults": {"action": "Allowed"}, "indicators": [{"indicatorValue": "d.allow.example"}]}
    texts.append(json.dumps(defaults))
    sent = here.put(texts)
    found = here.finish(sent.values())
    for text, name in sent.items():
        one = found[name]
        assert one.fold.counts()["rejected"] == 1, text
    assert not [row for rows in here.held().values() for row in rows if row["action"] == "Allowed"]


def test_p8_a_missing_or_low_score_never_becomes_allowed(here: Lab) -> None:
    scores: list[dict[str, Any]] = [{}, {"x-score": 0}, {"x-confidence": "none"}, {"severity": "Informational"}]
    texts = [
        json.dumps({"indicatorValue": f"s{number}.score.example", "title": "t", "description": "d", **score})
        for number, score in enumerate(scores)
    ]
    assert all(one.accepted for one in here.finish(here.put(texts).values()).values())
    held = here.held()
    assert [[row["action"] for row in held[f"s{n}.score.example"]] for n in range(4)] == [["Audit"]] * 4


def test_an_envelope_that_claims_a_role_is_kept_whole_and_does_nothing(here: Lab) -> None:
    inner = [{"indicatorValue": "e.envelope.example", "title": "t", "action": "Block"}]
    claims = [{**claim, "indicators": inner} for claim in CLAIMS]
    imitation = {"v": 1, "id": "d20260101-" + "0" * 20, "kind": "plain", "bad": False, "items": inner}
    texts = [json.dumps(body) for body in [*claims, imitation]]
    found = here.finish(here.put(texts).values())
    letters = {name for letter in here.app.dead_letters() for name in letter["submissions"]}
    assert set(found) <= letters
    assert "e.envelope.example" not in here.held()


def test_a_pointer_to_someone_elses_part_only_makes_it_run_again(here: Lab) -> None:
    fault = here.admin.fault("import", "status", times=None, status=503)
    values = [f"v{number}.pointed.example" for number in range(30)]
    name = here.app.submit(batch(values))["id"]
    wait_for(lambda: here.counts(name)["deferred"] == 30, "the submission is deferred")
    part = here.rows(OPEN, pk=PARTITION)[0].rk
    letters = len(here.app.dead_letters())
    nowhere = [pointer(other, 1) for other in ("d20260101-ffffffffffffffffffff", f"{name}-0000", f"x{name}")]
    here.put([pointer(part, number) for number in (0, 1, 2, 3, 999)] + nowhere)
    wait_for(lambda: here.admin.counters()["answers"]["import"].get("503", 0) >= 2, "the part was run again")
    here.admin.clear_faults(fault)
    told = here.outcome(name)
    assert told["counts"]["accepted"] == told["counts"]["submitted"] == 30
    wait_for(lambda: here.depth() == 0 and not here.rows(OPEN, pk=PARTITION), "nothing is left to be done")
    assert len(here.app.dead_letters()) == letters
    assert here.poisoned() == 0
    assert all(len(here.held()[value]) == 1 for value in values)


def test_a_malformed_pointer_is_a_dead_letter(here: Lab) -> None:
    bodies: list[Any] = [
        {"v": 1, "part": "../deadletters/x"},
        {"v": 2, "part": "d20260101-ffffffffffffffffffff"},
        {"v": True, "part": "d20260101-ffffffffffffffffffff"},
        {"part": "d20260101-ffffffffffffffffffff"},
        {"v": 1, "part": ["d20260101-ffffffffffffffffffff"]},
        {"v": 1, "part": "d20260101-ffffffffffffffffffff", "n": "1"},
        {"v": 1, "part": "d20260101-ffffffffffffffffffff", "indicators": [{"indicatorValue": "p.pointer.example"}]},
    ]
    texts = [json.dumps(body) for body in bodies]
    sent = here.put(texts)
    here.finish(sent.values())
    letters = {name: letter for letter in here.app.dead_letters() for name in letter["submissions"]}
    for text in texts:
        assert letters[sent[text]]["reason"] in ("pointer", "unknown_field"), text
    assert "p.pointer.example" not in here.held()


def test_the_secret_is_rotated_while_messages_flow_and_nobody_restarts(here: Lab) -> None:
    names: list[str] = []
    ended = threading.Event()

    def flow() -> None:
        for number in itertools.count():
            names.extend(here.put([message(f"f{number}.flow.example")], at_once=1).values())
            if ended.wait(0.1):
                return

    def more_than(accepted: int) -> Callable[[], bool]:
        return lambda: here.admin.counters()["indicators"] > accepted

    flowing = threading.Thread(target=flow)
    flowing.start()
    try:
        wait_for(more_than(10), "messages flow")
        here.rotate()
        here.admin.revoke_tokens(ahead=0)
        wait_for(lambda: here.admin.counters()["answers"]["import"].get("401", 0), "the old token is refused")
        wait_for(more_than(here.admin.counters()["indicators"] + 20), "messages flow again")
    finally:
        ended.set()
        flowing.join()
    found = here.finish(names)
    assert len(found) == len(names)
    assert all(one.accepted for one in found.values())
    # Without overlap the old secret is worth nothing, so what came after the 401 was the new one's.
    assert here.admin.counters()["answers"]["token"]["200"] >= 1
    assert [worker.starts for worker in here.stack.queue_workers] == [1]
    assert not here.alarms("exhausted")
    assert here.poisoned() == 0
