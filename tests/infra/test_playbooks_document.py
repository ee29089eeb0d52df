"""What docs/playbooks.md says, run: the comment it shows, and the ready actions for a Logic App made by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.support.logicapps import Workflow
from tests.support.logicapps.lab import QUEUE_ON_INCIDENT, SUBMIT_ON_INCIDENT, Lab
from tests.support.logicapps.payloads import account, domain, filehash, host, incident, ip

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
