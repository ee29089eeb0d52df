"""The playbooks as they are deployed, run on Sentinel's payloads against the whole local stack.

Their bodies go through the queue and over HTTP and come out as indicators at the double of Defender and as comments at
the double of the Sentinel connector.
"""

from __future__ import annotations

import dataclasses
import json
import re
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from local.stack import Stack, StackOptions
from shared.storage.connection import QUEUE
from tests.support.logicapps import Clock, Connection, Fault, Run, Workflow, World
from tests.support.logicapps.doubles import Identity, QueueDoor, Sentinel
from tests.support.logicapps.payloads import (
    account,
    chosen,
    domain,
    filehash,
    flat,
    host,
    incident,
    ip,
    url,
)

PLAYBOOKS = Path(__file__).resolve().parents[2] / "infra" / "playbooks"
QUEUE_ON_INCIDENT, SUBMIT_ON_INCIDENT, SUBMIT_ON_ENTITY = (
    json.loads((PLAYBOOKS / f"{name}.json").read_text("utf-8"))
    for name in ("queue-on-incident", "submit-on-incident", "submit-on-entity")
)
SUBMITTER = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/submitter"
CONNECTION = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/connections/azuresentinel"
SHA256 = "6b1f0d5c9e3a47d28c60f4b7a91e5d3382c7e46f05b9a1d4e8f2736c5a0b9d1e"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    settings = {
        "AzureFunctionsJobHost__extensions__queues__maxPollingInterval": "00:00:00.200",
        "RELAY_LIMIT_IMPORT": "600/63",  # or the tests would wait for each other's calls
        "RELAY_UNSENT_STEP": "1",
        "RELAY_UNSENT_MAX": "2",
    }
    options = StackOptions(folder=tmp_path_factory.mktemp("playbooks"), easy_auth=True, settings=settings)
    with Stack(options) as running:
        running.admin.rules(limits={"import": [[600, 60]]})
        yield running


@dataclasses.dataclass(slots=True)
class Lab:
    """A workspace with its playbooks beside the stack; a caller of its own for each test."""

    stack: Stack
    door: QueueDoor
    queuer: Identity
    submitter: Identity
    sentinel: Sentinel
    world: World

    def workflow(self, definition: dict[str, Any], **parameters: Any) -> Workflow:
        queues = "queueUrl" in definition["parameters"]
        authentication: dict[str, Any] = {"type": "ManagedServiceIdentity"}
        if queues:
            given = {"queueUrl": self.door.url}
        else:
            authentication["identity"] = SUBMITTER
            given = {
                "relayUrl": self.stack.url,
                "relayAudience": self.stack.tenant["api_client_id"],
                "identity": SUBMITTER,
            }
        about = {"connectionId": CONNECTION, "connectionProperties": {"authentication": authentication}}
        return Workflow(
            definition, parameters={"$connections": {"azuresentinel": about}, **given, **parameters}, world=self.world
        )

    def run(self, definition: dict[str, Any], trigger: dict[str, Any], run_name: str = "", **parameters: Any) -> Run:
        return self.workflow(definition, **parameters).run(trigger, run_name)

    def ask(self, path: str, *roles: str, body: Any = None) -> Any:
        with requests.Session() as session:
            session.trust_env = False
            session.headers["Authorization"] = f"Bearer {self.stack.admin.caller_token(*roles)}"
            method = "GET" if body is None else "POST"
            answer = session.request(method, f"{self.stack.url}/api/{path}", json=body, timeout=60)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def submissions(self, number: int, expected: int = 1) -> list[dict[str, Any]]:
        """Those of an incident, once there are as many as expected and all are finished."""
        end = time.monotonic() + 60
        while True:
            found = self.ask(f"submissions?incident={number}", "Indicators.Read")["submissions"]
            if len(found) >= expected and all(one["state"] == "finished" for one in found):
                return list(found)
            assert time.monotonic() < end, found
            time.sleep(0.2)

    def held(self, value: str) -> dict[str, Any]:
        """The one indicator that Defender has for it."""
        [found] = self.stack.admin.indicators(value)
        return found


@pytest.fixture
def lab(stack: Stack) -> Iterator[Lab]:
    queuer = Identity(stack, str(uuid.uuid4()), str(uuid.uuid4()))
    submitter = Identity(stack, str(uuid.uuid4()), str(uuid.uuid4()), ("Submissions.Write",))
    sentinel = Sentinel({SUBMITTER})
    world = World(
        tokens={"": queuer.token, SUBMITTER: submitter.token},
        connections={CONNECTION: Connection(sentinel.call)},
        clock=Clock(0.3),  # sixty rounds are eighteen seconds at least, for a busy machine
    )
    with QueueDoor(stack, QUEUE, {queuer.principal}) as door:
        yield Lab(stack, door, queuer, submitter, sentinel, world)


# --- One message for the queue ---------------------------------------------------------------------------------------


def test_an_incident_goes_on_the_queue_and_becomes_indicators(lab: Lab) -> None:
    title = 'Шкідливе <C2> & "трафік"\r\n\tз 漢字 😀 ' + "я" * 150
    run = lab.run(
        QUEUE_ON_INCIDENT,
        incident(
            ip("45.137.201.66"),
            ip("10.0.0.8"),
            url("https://queued-playbook.com/login?a=1&b=<2>"),
            domain("dns.queued-playbook.com"),
            filehash(SHA256.upper(), "SHA256"),
            filehash("3395856ce81f2b7382dee72602f798b642f14140", "SHA1"),
            filehash("a" * 64, "SHA256AC"),
            host("victim.queued-playbook.com"),
            account("lmartin"),
            flat("ip", address="185.234.77.19"),
            flat("dnsresolution", domainName="flat.queued-playbook.com"),
            ip("45.137.201.66"),
            number=7101,
            title=title,
        ),
    )
    assert run.status == "Succeeded"
    [message] = run.of("Put_message")
    assert message.outputs["statusCode"] == 201
    [submission] = lab.submissions(7101)
    assert submission["door"] == "queue" and submission["source"] == "sentinel-playbook"
    assert submission["counts"] == {
        **dict.fromkeys(submission["counts"], 0),
        "submitted": 8,
        "accepted": 7,
        "rejected": 1,
    }
    assert submission["reasons"] == {"private_address": 1}
    kinds = {
        "45.137.201.66": "IpAddress",
        "185.234.77.19": "IpAddress",
        "https://queued-playbook.com/login?a=1&b=<2>": "Url",
        "dns.queued-playbook.com": "DomainName",
        "flat.queued-playbook.com": "DomainName",
        SHA256: "FileSha256",
        "3395856ce81f2b7382dee72602f798b642f14140": "FileSha1",
    }
    for value, kind in kinds.items():
        one = lab.held(value)
        assert (one["indicatorType"], one["action"], one["severity"]) == (kind, "Audit", "High")
        assert one["title"] == "Sentinel incident 7101"
        assert one["description"].startswith('Шкідливе <C2> & "трафік"   з 漢字 😀 яяя')
        days = (time.mktime(time.strptime(one["expirationTime"][:19], "%Y-%m-%dT%H:%M:%S")) - time.time()) / 86_400
        assert 5.5 < days < 8.5
    assert not [one for one in lab.stack.admin.indicators() if "victim" in one["indicatorValue"]]


def test_what_is_not_an_indicator_puts_nothing_on_the_queue(lab: Lab) -> None:
    for entities in ([], [host("vm1"), account("lmartin"), flat("host", hostName="vm2"), ip("")]):
        run = lab.run(QUEUE_ON_INCIDENT, incident(*entities, number=7102))
        assert run.status == "Succeeded"
    trigger = incident(number=7102)
    del trigger["object"]["properties"]["relatedEntities"]
    assert lab.run(QUEUE_ON_INCIDENT, trigger).status == "Succeeded"
    assert not lab.world.sent and not lab.door.lengths


def test_three_hundred_entities_are_six_messages(lab: Lab) -> None:
    names = [f"{'x' * 40}.n{number}.three-hundred.com" for number in range(300)]
    run = lab.run(QUEUE_ON_INCIDENT, incident(*map(domain, names), *map(host, names), number=7103), action="Warn")
    assert run.status == "Succeeded" and len(lab.door.lengths) == 6 and max(lab.door.lengths) < 65_536
    found = lab.submissions(7103, expected=6)
    assert [one["counts"]["accepted"] for one in found] == [50] * 6
    assert lab.held(names[-1])["action"] == "Warn"


def test_values_at_the_limit_of_the_relay_fit_fifty_to_a_message(lab: Lab) -> None:
    addresses = [f"https://n{number}.at-the-limit.com/".ljust(800, "a") for number in range(50)]
    run = lab.run(QUEUE_ON_INCIDENT, incident(*map(url, addresses), number=7104, title="漢" * 200))
    assert run.status == "Succeeded" and len(lab.door.lengths) == 1 and 55_000 < lab.door.lengths[0] <= 64_000
    [submission] = lab.submissions(7104)
    assert submission["counts"]["accepted"] == 50


def test_one_monstrous_value_costs_nothing_but_itself(lab: Lab) -> None:
    monster = "https://monster.com/" + "m" * 70_000
    run = lab.run(
        QUEUE_ON_INCIDENT, incident(domain("beside.monster.com"), url(monster), ip("45.137.201.67"), number=7105)
    )
    assert run.status == "Failed", "somebody has to see it"
    assert [result.status for result in run.of("Put_message_alone")] == ["Succeeded", "Failed", "Succeeded"]
    assert lab.door.refused == [(413, "RequestBodyTooLarge")]
    assert [one["counts"]["accepted"] for one in lab.submissions(7105, expected=2)] == [1, 1]


def test_a_queue_that_is_busy_is_asked_again(lab: Lab) -> None:
    lab.world.faults.append(Fault("POST", "/messages", 503, times=3))
    run = lab.run(QUEUE_ON_INCIDENT, incident(ip("45.137.201.68"), number=7106))
    assert run.status == "Succeeded" and [status for _, _, status in lab.world.sent] == [503, 503, 503, 201]
    assert len(lab.world.clock.pauses) == 3
    assert lab.submissions(7106)[0]["counts"]["accepted"] == 1


def test_without_the_role_on_the_queue_the_run_fails(lab: Lab) -> None:
    lab.world.tokens = {"": lab.submitter.token}
    run = lab.run(QUEUE_ON_INCIDENT, incident(ip("45.137.201.69"), number=7107))
    assert run.status == "Failed" and lab.door.refused == [(403, "AuthorizationPermissionMismatch")]


# --- HTTP, and a comment ---------------------------------------------------------------------------------------------


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


# --- The definitions themselves --------------------------------------------------------------------------------------


def test_both_triggers_lead_to_the_same_actions() -> None:
    def but_for_facts(definition: dict[str, Any]) -> dict[str, Any]:
        actions = {name: action for name, action in definition["actions"].items() if name != "Facts"}
        return {**definition, "actions": actions, "triggers": {}}

    assert but_for_facts(SUBMIT_ON_INCIDENT) == but_for_facts(SUBMIT_ON_ENTITY)
    reading = ("Facts", "Types", "Entities", "Named", "Chosen", "Left_out", "Indicators")
    for name in reading[1:]:
        assert QUEUE_ON_INCIDENT["actions"][name] == SUBMIT_ON_INCIDENT["actions"][name]
    facts = SUBMIT_ON_INCIDENT["actions"]["Facts"]["inputs"]
    assert QUEUE_ON_INCIDENT["actions"]["Facts"]["inputs"] == facts


def test_the_default_blocks_nothing_and_does_not_stand_for_long() -> None:
    for definition in (QUEUE_ON_INCIDENT, SUBMIT_ON_INCIDENT, SUBMIT_ON_ENTITY):
        assert definition["parameters"]["action"]["defaultValue"] == "Audit"
        assert "Allowed" not in definition["parameters"]["action"]["allowedValues"]
        assert definition["parameters"]["expiration"]["defaultValue"] == "P7D"


# --- What the document says ------------------------------------------------------------------------------------------

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "playbooks.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of the document in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, flags=re.MULTILINE | re.DOTALL)


def test_the_comment_in_the_document_is_what_such_an_incident_gets(lab: Lab) -> None:
    entities = [ip("45.137.204.1"), ip("192.168.7.7"), domain("dns.document-playbook.com"), domain("evil")]
    left_out = [filehash("a" * 64, "SHA256AC"), host("victim"), account("a"), account("b")]
    assert lab.run(SUBMIT_ON_INCIDENT, incident(*entities, *left_out, number=7401)).status == "Succeeded"
    shown = [line.removeprefix("  - ") for line in blocks("")[0].splitlines()]
    said = [line for line in lab.sentinel.text().splitlines() if line]
    assert len(shown) == len(said)
    for written, got in zip(shown, said, strict=True):
        start, found, _ = written.replace("https://HOST", lab.stack.url).partition("/api/submissions/")
        assert got.startswith(start + found) if found else got == written


def test_the_ready_actions_of_the_document_work(lab: Lab) -> None:
    found = [json.loads(block) for block in blocks("json")]
    assert [sorted(actions) for actions in found] == [["Put_message"], ["Submit", "What_became_of_it"]]
    text = json.dumps(found).replace("https://ACCOUNT.queue.core.windows.net/indicators", lab.door.url)
    text = text.replace("https://HOST", lab.stack.url).replace("API-CLIENT-ID", lab.stack.tenant["api_client_id"])
    by_queue, by_http = json.loads(text)
    envelope = {**QUEUE_ON_INCIDENT, "parameters": {}}
    run = Workflow({**envelope, "actions": by_queue}, parameters={}, world=lab.world).run(incident(number=7402))
    assert run.status == "Succeeded" and lab.submissions(7402)[0]["counts"]["accepted"] == 2
    lab.world.tokens = {"": lab.submitter.token}
    run = Workflow({**envelope, "actions": by_http}, parameters={}, world=lab.world).run(incident(number=7403))
    assert run.outputs("What_became_of_it") == "Of 2 submitted: 2 accepted; finished."
    assert lab.held("5d41402abc4b2a76b9719d911017c592")["action"] == "BlockAndRemediate"
