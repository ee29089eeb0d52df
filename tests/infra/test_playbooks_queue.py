"""The playbook that puts an incident on the queue, run on Sentinel's payloads against the whole local stack."""

from __future__ import annotations

import time
from typing import Any

from tests.support.logicapps import Fault
from tests.support.logicapps.lab import QUEUE_ON_INCIDENT, SUBMIT_ON_ENTITY, SUBMIT_ON_INCIDENT, Lab
from tests.support.logicapps.payloads import account, domain, filehash, flat, host, incident, ip, url

SHA256 = "6b1f0d5c9e3a47d28c60f4b7a91e5d3382c7e46f05b9a1d4e8f2736c5a0b9d1e"


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
