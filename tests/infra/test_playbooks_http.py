"""The playbooks that submit over HTTP and comment, run on Sentinel's payloads against the whole local stack.

Their bodies come out as indicators at the double of Defender and as comments at the double of the Sentinel connector.
"""

from __future__ import annotations

import dataclasses
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.logicapps import Clock, Fault, Run, World
from tests.support.logicapps.lab import SUBMIT_ON_ENTITY, SUBMIT_ON_INCIDENT, SUBMITTER, Lab
from tests.support.logicapps.payloads import account, chosen, domain, filehash, host, incident, ip, url


def test_an_incident_is_submitted_and_gets_a_comment(lab: Lab) -> None:
    run = lab.run(
        SUBMIT_ON_INCIDENT,
        incident(
            ip("45.137.202.1"),
            ip("192.168.7.7"),
            domain("dns.submitted-playbook.com"),
            url("javascript:alert('<b>1</b>')//https://x.example/"),
            filehash("a" * 64, "SHA256AC"),
            host("victim"),
            account("lmartin"),
            account("<script>"),
            number=7201,
            title="<img src=x onerror=alert(1)>",
        ),
    )
    assert run.status == "Succeeded"
    [(identifier, _)] = lab.sentinel.comments
    assert identifier == incident(number=7201)["object"]["id"]
    text = lab.sentinel.text()
    [submission] = lab.submissions(7201)
    assert submission["caller"] == f"app:{lab.submitter.client}" and submission["door"] == "http"
    lines = text.strip().splitlines()
    assert lines[0] == "Defender Indicator Relay: Of 4 submitted: 2 accepted, 2 rejected; finished."
    assert lines[1] == "Action Audit, for P7D."
    assert lines[2] == "Refused, and why:"
    assert lines[3].startswith("'192.168.7.7' is a private address.")
    assert lines[4].startswith("value \"javascript:alert('<b>1</b>')//https[://]x.example/\" is not a whole URL.")
    assert lines[5] == ("Not sent, because they are no indicators: 4 of 8 entities (filehash sha256ac, host, account).")
    assert lines[6] == f"Status: {submission['link']}" and len(lines) == 7
    assert lab.held("45.137.202.1")["action"] == "Audit" and lab.held("dns.submitted-playbook.com")


def test_an_incident_without_indicators_gets_a_comment_and_no_submission(lab: Lab) -> None:
    assert lab.run(SUBMIT_ON_INCIDENT, incident(number=7202)).status == "Succeeded"
    assert lab.run(SUBMIT_ON_INCIDENT, incident(host("vm"), account("a"), number=7202)).status == "Succeeded"
    assert lab.sentinel.text(0) == "Defender Indicator Relay: nothing to submit.\n"
    assert lab.sentinel.text(1).splitlines() == [
        "Defender Indicator Relay: nothing to submit.",
        "Not sent, because they are no indicators: 2 of 2 entities (host, account).",
    ]
    assert not lab.world.sent


def test_three_hundred_entities_are_one_submission_and_a_comment_of_twenty_refusals(lab: Lab) -> None:
    entities = [ip(f"10.1.{number // 200}.{number % 200 + 1}") for number in range(100)]
    entities += [domain(f"n{number}.http-three-hundred.com") for number in range(200)]
    run = lab.run(SUBMIT_ON_INCIDENT, incident(*entities, number=7203), action="Block", expiration="PT12H")
    assert run.status == "Succeeded"
    text = lab.sentinel.text()
    assert "Of 300 submitted: 200 accepted, 100 rejected; finished." in text and "Action Block, for PT12H." in text
    assert text.count("is a private address") == 20 and "And 80 more" in text
    assert lab.held("n199.http-three-hundred.com")["action"] == "Block"


def test_a_trigger_that_is_delivered_twice_is_one_submission(lab: Lab) -> None:
    trigger = incident(domain("twice.playbook-twice.com"), number=7204, title="Zweimal 😀")
    with ThreadPoolExecutor(2) as at_once:
        first, second = at_once.map(lambda _: lab.run(SUBMIT_ON_INCIDENT, trigger), range(2))
    assert first.name != second.name and first.status == second.status == "Succeeded"
    later = lab.run(SUBMIT_ON_INCIDENT, trigger)
    assert later.outputs("Submit")["headers"]["Idempotent-Replayed"] == "true"
    assert len({run.outputs("Submit")["body"]["id"] for run in (first, second, later)}) == 1
    assert len(lab.submissions(7204)) == 1
    assert len(lab.sentinel.comments) == 3 and len(set(lab.sentinel.comments)) == 1
    # What an analyst runs again later is an event of its own.
    again = lab.run(SUBMIT_ON_INCIDENT, trigger | {"eventUniqueId": str(uuid.uuid4())})
    assert again.status == "Succeeded" and len(lab.submissions(7204, expected=2)) == 2


def test_an_answer_that_is_lost_is_one_submission(lab: Lab) -> None:
    lab.world.faults.append(Fault("POST", "/api/submissions", 0, times=2, lost=True))
    run = lab.run(SUBMIT_ON_INCIDENT, incident(ip("45.137.202.2"), number=7205))
    *lost, taken = [status for method, _, status in lab.world.sent if method == "POST"]
    assert run.status == "Succeeded" and lost == [0, 0] and taken in (200, 202)
    assert len(lab.submissions(7205)) == 1 and "1 accepted" in lab.sentinel.text()


def test_while_the_relay_is_paused_the_comment_says_pending_and_where_to_look(lab: Lab) -> None:
    lab.world.clock = Clock(0)
    lab.ask("pause", "Operations.Manage", body={"reason": "wrong <feed>"})
    try:
        began = lab.world.clock.now()
        run = lab.run(SUBMIT_ON_INCIDENT, incident(ip("45.137.202.3"), ip("10.9.9.9"), number=7206))
        waited = (lab.world.clock.now() - began).total_seconds()
        asked = [url for method, url, _ in lab.world.sent if method == "GET" and url.endswith("?top=1")]
        assert run.status == "Succeeded" and len(asked) == 60 and 1800 < waited < 3700
        pauses = lab.world.clock.pauses
        assert pauses == sorted(pauses) and pauses[0] == 5 and pauses[-1] == 60
        text = lab.sentinel.text()
        assert "1 not finished" in text and "Pending: not finished when this comment was written." in text
        assert "'10.9.9.9' is a private address" in text
        assert "/api/submissions/" in text.splitlines()[-1]
    finally:
        lab.ask("resume", "Operations.Manage", body={"reason": "the end of the test"})
    assert lab.submissions(7206)[0]["counts"]["accepted"] == 1


def test_retry_after_is_kept_to(lab: Lab) -> None:
    busy = {"Retry-After": "7", "Content-Type": "application/problem+json"}
    lab.world.faults += [
        Fault("POST", "/api/submissions", 503, times=2, headers=busy, body={"detail": "Storage did not answer"}),
        Fault("GET", "?top=1", 429, times=1, headers={"Retry-After": "120"}),
        Fault("GET", "?top=1", 503, times=1, headers={"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}),
        Fault("GET", "?top=1", 502, times=1, headers={"Retry-After": "86400"}),
        Fault("GET", "?top=1", 0, times=1, lost=True),
    ]
    run = lab.run(SUBMIT_ON_INCIDENT, incident(ip("45.137.202.4"), number=7207))
    assert run.status == "Succeeded" and "1 accepted" in lab.sentinel.text()
    first, second, *asking = lab.world.clock.pauses
    assert min(first, second) >= 7, "the policy never waits for less than the app asks for"
    # As told; 30 s when nothing or no number is told; five minutes at most.
    assert asking[:5] == [5, 120, 30, 300, 30]
    assert len(lab.submissions(7207)) == 1


@pytest.mark.parametrize("as_json", [True, False], ids=["problem as JSON", "problem as bytes"])
def test_a_relay_that_does_not_take_it_is_a_comment_and_a_failed_run(lab: Lab, as_json: bool) -> None:
    lab.world = World(
        tokens={SUBMITTER: dataclasses.replace(lab.submitter, roles=("Indicators.Read",)).token},
        connections=lab.world.connections,
        clock=lab.world.clock,
        problem_is_json=as_json,
    )
    run = lab.run(SUBMIT_ON_INCIDENT, incident(ip("45.137.202.5"), host("vm"), number=7208))
    assert run.status == "Failed" and run.error["code"] == "NotSubmitted"
    text = lab.sentinel.text()
    assert text.startswith("Defender Indicator Relay: 1 indicators could not be submitted: HTTP 403.")
    assert "Submissions.Write" in text and "1 of 2 entities (host)" in text
    assert not lab.ask("submissions?incident=7208", "Indicators.Read")["submissions"]


@pytest.mark.parametrize(
    ("status", "headers", "body", "says"),
    [
        (503, {"Content-Type": "text/html"}, "<html>{down}</html>", "HTTP 503"),
        (401, {}, None, "HTTP 401"),
        (0, {}, None, "the relay did not answer"),
        (400, {"Content-Type": "application/json"}, {"detail": "a <b>"}, "a <b>"),
    ],
)
def test_whatever_stands_in_the_way_there_is_a_comment(
    lab: Lab, status: int, headers: dict[str, str], body: Any, says: str
) -> None:
    lab.world.faults.append(Fault("POST", "/api/submissions", status, times=99, headers=headers, body=body))
    run = lab.run(SUBMIT_ON_INCIDENT, incident(ip("45.137.202.6"), number=7209))
    assert run.status == "Failed" and says in lab.sentinel.text()
    assert len(lab.world.sent) == (7 if status in (503, 0) else 1)


def test_an_outcome_that_cannot_be_asked_for_leaves_what_is_known(lab: Lab) -> None:
    page = {"Content-Type": "text/html"}
    lab.world.faults.append(Fault("GET", "?state=rejected", 502, times=99, headers=page, body="<html>"))
    run = lab.run(SUBMIT_ON_INCIDENT, incident(ip("45.137.202.7"), ip("10.3.3.3"), number=7210))
    assert run.status == "Succeeded"
    text = lab.sentinel.text()
    assert "Pending" in text and "'10.3.3.3' is a private address" in text
    assert "/api/submissions/" in text


def test_a_role_that_is_taken_away_ends_the_asking(lab: Lab) -> None:
    lab.world.faults += [Fault("GET", "/api/submissions/", 403, times=99)]
    run = lab.run(SUBMIT_ON_INCIDENT, incident(ip("45.137.202.8"), number=7211))
    assert run.status == "Succeeded" and len(run.of("Ask")) == 1 and "Pending" in lab.sentinel.text()


def test_without_the_role_at_sentinel_the_run_fails_after_the_submission(lab: Lab) -> None:
    lab.sentinel.responders.clear()
    run = lab.run(SUBMIT_ON_INCIDENT, incident(ip("45.137.202.9"), number=7212))
    assert run.status == "Failed" and not lab.sentinel.comments
    assert lab.submissions(7212)[0]["counts"]["accepted"] == 1


# --- One entity, by hand ---------------------------------------------------------------------------------------------


def test_an_entity_that_an_analyst_chose(lab: Lab) -> None:
    cases: dict[str, tuple[str, dict[str, str]]] = {
        "IpAddress": ("Ip", {"address": "45.137.203.1"}),
        "Url": ("UrlEntity", {"url": "https://entity-playbook.com/a"}),
        "DomainName": ("DnsResolution", {"domainName": "dns.entity-playbook.com"}),
        "FileMd5": ("FileHash", {"value": "b" * 32, "algorithm": "MD5"}),
    }

    def run(case: tuple[str, dict[str, str]]) -> Run:
        return lab.run(SUBMIT_ON_ENTITY, chosen(case[0], 7301, **case[1]), action="Block")

    with ThreadPoolExecutor(4) as side_by_side:
        assert {run.status for run in side_by_side.map(run, cases.values())} == {"Succeeded"}
    for number, (expected, (_, properties)) in enumerate(cases.items()):
        assert "1 accepted" in lab.sentinel.text(number)
        one = lab.held(next(iter(properties.values())))
        assert (one["indicatorType"], one["action"]) == (expected, "Block")
    assert {where for where, _ in lab.sentinel.comments} == {incident(number=7301)["object"]["id"]}


def test_an_entity_outside_of_an_incident_is_submitted_without_a_comment(lab: Lab) -> None:
    run = lab.run(SUBMIT_ON_ENTITY, chosen("Ip", address="45.137.203.9"), "08585-hunting-run")
    assert run.status == "Succeeded" and not lab.sentinel.comments
    assert lab.held("45.137.203.9")
    again = lab.run(SUBMIT_ON_ENTITY, chosen("Ip", address="45.137.203.9"), "08585-hunting-run")
    assert again.outputs("Submit")["body"]["id"] == run.outputs("Submit")["body"]["id"]


def test_a_victim_is_not_submitted_even_by_hand(lab: Lab) -> None:
    run = lab.run(SUBMIT_ON_ENTITY, chosen("Host", 7302, hostName="vm", domainName="corp.victim.com"))
    assert run.status == "Succeeded" and "nothing to submit" in lab.sentinel.text() and not lab.world.sent
