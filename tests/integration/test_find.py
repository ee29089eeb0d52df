"""Submit, and look it up at once: by value, by incident, by caller, as CSV; on the whole stack."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from local.host.queueservice import QueueService
from local.stack import Stack, StackOptions
from shared.ledger import ids, index
from shared.storage.connection import QUEUE
from shared.storage.protocols import Row
from tests.support.stacklab import Lab, wait_for
from tests.support.webapp import WebApp


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with Stack(StackOptions(folder=tmp_path_factory.mktemp("find"))) as stack:
        yield App(stack)


class App(WebApp):
    """Sending by both doors, and finding it again."""

    def submit(self, *values: str, wait: int = 60, **fields: Any) -> str:
        """A submission over HTTP; its id."""
        body = {"indicators": [{"indicatorValue": value, "action": "Block"} for value in values], **fields}
        answer = self.session.post(self.url(f"submissions?wait={wait}"), json=body, headers=self.key, timeout=180)
        assert answer.status_code in (200, 202), answer.text
        return str(answer.json()["id"])

    def put(self, value: str, **fields: Any) -> str:
        """A message on the queue, as a playbook sends it; the submission that it becomes."""

        async def work() -> str:
            text = json.dumps({"indicators": [{"indicatorValue": value, "action": "Audit"}], **fields})
            async with QueueService(self.stack.connection_string) as service:
                return ids.foreign_submission(*await service.put(QUEUE, text))

        return asyncio.run(work())

    def find(self, **query: Any) -> dict[str, Any]:
        answer = self.get("submissions", **query)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def lines(self, answer: requests.Response) -> list[dict[str, str]]:
        assert answer.headers["Content-Type"].startswith("text/csv")
        assert "attachment" in answer.headers["Content-Disposition"]
        text = answer.content.decode("utf-8-sig")
        return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def test_who_asked_for_this_domain_when_why_for_which_incident_and_until_when(app: App) -> None:
    name = app.submit("c2[.]Evil-Find.com", incident="Vorfall Ä 3177", source="soc-console")
    told = app.find(value="c2.evil-find.com")
    (use,) = told["uses"]
    assert use["submission"] == name == told["standing"]["submission"] and use["newest"] is True
    assert (use["incident"], use["source"], use["caller"]) == ("Vorfall Ä 3177", "soc-console", "key")
    assert use["state"] == "accepted" and use["expires"] > use["at"] and use["title"]
    text = told["standing"]["text"]
    assert text.startswith(f"Block by soc-console (key) on {use['at'][:16]}") and "incident Vorfall Ä 3177" in text
    assert told["waiting"] == {"items": [], "complete": True} and told["verdict"]["taken"] is True
    assert app.get(use["link"]).json()["id"] == name
    found = app.find(incident="Vorfall Ä 3177")
    assert [one["id"] for one in found["submissions"]] == [name] and "nextLink" not in found
    assert app.find(value="hxxp://c2[.]evil-find.com/")["uses"] == [], "a URL is not its host"


def test_it_is_found_before_anything_has_become_of_it(app: App) -> None:
    name = app.submit("early.evil-find.com", wait=0, incident="early")
    assert [one["id"] for one in app.find(incident="early")["submissions"]] == [name]
    told = app.find(value="early.evil-find.com")
    seen = [one["submission"] for one in (*told["waiting"]["items"], *told["uses"])]
    assert name in seen


def test_what_came_by_the_queue_is_found_too_and_the_newest_stands(app: App) -> None:
    value = "45.77.12.99"
    first = app.submit(value, source="s1")
    second = app.put(value, source="s2", incident=4711)
    assert app.get(f"submissions/{first}", wait=30).status_code == 200
    wait_for(lambda: app.get(f"submissions/{second}").status_code == 200, "the message is published")
    told = app.find(value="45.77.12[.]99")
    assert {use["submission"]: use["door"] for use in told["uses"]} == {first: "http", second: "queue"}
    assert [use["newest"] for use in told["uses"]].count(True) == 1
    assert [one["id"] for one in app.find(source="s2", since="1h", state="finished")["submissions"]] == [second]
    assert app.find(source="s2", until="1h")["submissions"] == []


def test_pages_follow_each_other_and_filters_combine(app: App) -> None:
    made = [app.submit(f"p{n}.evil-find.com", wait=0, incident="pages", source=f"s{n % 2}") for n in range(7)]
    # By the service's clock, which is known to a second or so: two in quick succession may have changed places.
    at = {name: app.get(f"submissions/{name}").json()["intentAt"] for name in made}
    made.sort(key=lambda name: (at[name], name))
    found: list[str] = []
    link = f"{app.stack.url}/api/submissions?incident=pages&top=3&since=P1D"
    while link:
        page = app.get(link).json()
        assert len(page["submissions"]) <= 3
        found += [one["id"] for one in page["submissions"]]
        link = page.get("nextLink", "")
        app.submit(f"q{len(found)}.evil-find.com", wait=0, incident="pages", source="s2")
    # What came meanwhile may be older than the first page's end by the same second.
    assert [name for name in found if name in at] == made[::-1] and len(found) == len(set(found))
    odd = [one["id"] for one in app.find(incident="pages", source="s1")["submissions"]]
    assert len(odd) == 3 and odd == [name for name in made[::-1] if name in odd]
    newest = app.find(top=5)["submissions"]
    assert len(newest) == 5 and [one["at"] for one in newest] == sorted((one["at"] for one in newest), reverse=True)
    assert app.find(caller="KEY", top=1)["submissions"][0]["id"] == newest[0]["id"]


def test_a_history_opens_in_a_spreadsheet(app: App) -> None:
    name = app.submit("https://evil-find.com/=1;=2", "10.0.0.8", incident="=cmd|'/C calc'!A0")
    for answer in (app.get(f"submissions/{name}", format="csv"), app.get(f"submissions/{name}", "text/csv")):
        lines = app.lines(answer)
        assert f'filename="submission-{name}.csv"' in answer.headers["Content-Disposition"]
        events = [(line["event"], line["ordinal"]) for line in lines]
        assert events == [("submitted", "0"), ("submitted", "1"), ("rejected", "1"), ("accepted", "0")]
        assert {line["incident"] for line in lines} == {"'=cmd|'/C calc'!A0"}
        assert lines[-1]["value"] == "https://evil-find.com/=1;'=2" and lines[-1]["call or part"]
    hits = app.lines(app.get("submissions", "text/csv", incident="=cmd|'/C calc'!A0"))
    assert [(hit["id"], hit["submitted"], hit["rejected"]) for hit in hits] == [(name, "2", "1")]
    page = app.get("submissions", format="csv", top=1)
    assert len(app.lines(page)) == 1 and 'rel="next"' in page.headers["Link"]
    following = app.get(page.links["next"]["url"])
    assert app.lines(following)[0]["id"] != app.lines(page)[0]["id"]
    assert app.lines(app.get("submissions", format="csv", value="10.0.0.8")) == []


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"since": "yesterday"}, "P7D"),
        ({"since": "2026-11-22T10:00:00"}, "zone"),
        ({"since": "1h", "until": "2h"}, "earlier"),
        ({"state": "blocked"}, "deferred"),
        ({"cursor": "AAAA"}, "nextLink"),
        ({"value": "not a value"}, "no address"),
        ({"value": "*.evil-find.com"}, "wildcard"),
        ({"top": "0"}, "top"),
        ({"top": "201"}, "200"),
        ({"incidnet": "1"}, "incident"),
    ],
)
def test_what_cannot_be_understood_is_told_with_a_remedy(app: App, query: dict[str, str], words: str) -> None:
    answer = app.get("submissions", **query)
    assert answer.status_code == 400 and answer.headers["Content-Type"].startswith("application/problem+json")
    told = answer.json()
    assert told["remedy"] and words in told["detail"] + told["remedy"] and len(answer.content) < 2000


def test_a_state_that_is_none_is_refused_for_items_too(app: App) -> None:
    name = app.submit("10.0.0.9")
    assert app.get(f"submissions/{name}", state="blocked").status_code == 400
    assert len(app.get(f"submissions/{name}", state="rejected").json()["items"]) == 1


def test_what_is_past_its_time_is_found_among_all_that_is_listed(app: App) -> None:
    """The query that retention makes, in both forms of RowKeys."""
    name = app.submit("10.0.0.10", wait=0, incident="retention")
    lab = Lab(app.stack)
    try:
        today, later = name[:8], f"{int(name[:4]) + 1}0101"
        former = Row(index.partition("incident", "retention"), name[:-1] + "x", {})
        asyncio.run(lab.tables.upsert(index.TABLE, former))
        old = asyncio.run(index.made_before(lab.tables, later))
        mine = [row.rk for row in old if index.submission_of(row.rk)[:-1] == name[:-1]]
        assert len(mine) == 4 and former.rk in mine, "incident, caller, all; and the former one"
        assert not [row for row in asyncio.run(index.made_before(lab.tables, today)) if name[:8] in row.rk]
    finally:
        lab.stop()
