"""Idempotency-Key and privileges on the whole stack: real table, real worker processes, real deaths."""

from __future__ import annotations

import gzip
import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from local.stack import HostOptions, Stack, StackOptions
from shared.ledger.idempotency import TABLE, row_name
from tests.support import dying_door
from tests.support.stacklab import Lab, wait_for

SUBMIT, ALLOW, OVERRIDE = "Submissions.Write", "Indicators.Allow", "Guards.Override"
RESUMED_AFTER = 2.0


class Door:
    """POST /api/submissions, as one caller."""

    def __init__(self, lab: Lab, dying: Path) -> None:
        self.lab = lab
        self.dying = dying
        self.token = lab.admin.caller_token(SUBMIT)
        self.session = requests.Session()
        self.session.trust_env = False

    def post(self, body: Any, key: str = "", query: str = "", token: str = "") -> requests.Response:
        headers = {"Authorization": f"Bearer {token or self.token}", "Content-Type": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        url = f"{self.lab.stack.url}/api/submissions{query}"
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.session.post(url, data=data, headers=headers, timeout=180)

    def until_taken(self, body: Any, key: str) -> requests.Response:
        """As a client that was told nothing does: the same request, until it is answered."""
        until = time.monotonic() + 120.0
        while True:
            try:
                answer = self.post(body, key)
            except requests.RequestException:
                time.sleep(0.2)
            else:
                if answer.status_code in (200, 202):
                    return answer
                assert answer.status_code in (409, 502, 503), answer.text
                if answer.status_code == 409:
                    assert answer.json()["type"].endswith(":in-progress") and int(answer.headers["Retry-After"]) > 0
                time.sleep(0.2)
            assert time.monotonic() < until, "it is never taken"

    def submissions(self, incident: str) -> list[str]:
        rows = self.lab.rows("submissions", pk="2", pk_to="3")
        return [row.rk for row in rows if row.rk.endswith("|h") and row.data.get("incident") == incident]


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("keys")
    dying = folder / "dying"
    options = StackOptions(
        folder=folder,
        easy_auth=True,
        settings={
            "RELAY_KEY_RESUME_AFTER": f"{RESUMED_AFTER:g}",
            "RELAY_CALLER_RATE": "100000/60",
            "RELAY_LIMIT_IMPORT": "600/63",
            dying_door.FILE: str(dying),
        },
        host=HostOptions(preload=(dying_door.__name__,)),
    )
    with Stack(options) as stack:
        stack.admin.rules(limits={"import": [[600, 60]]})
        lab = Lab(stack)
        try:
            yield Door(lab, dying)
        finally:
            lab.stop()


def body(name: str, *, title: str = "t") -> dict[str, Any]:
    items = [{"indicatorValue": f"h{n}.{name}.evil-keys.com", "action": "Block", "title": title} for n in range(3)]
    return {"incident": name, "indicators": [*items, {"indicatorValue": "10.0.0.1", "action": "Block"}]}


def answer_of(answer: requests.Response) -> tuple[Any, ...]:
    told = answer.json()
    return told["id"], told["intentAt"], told["verdicts"], told["items"], told["caller"], answer.headers["Location"]


def test_the_original_answer_with_the_state_of_now(door: Door) -> None:
    first = door.post(body("again"), "again-1")
    assert first.status_code == 202 and "Idempotent-Replayed" not in first.headers
    for key in ("again-1", '"again-1"'):
        later = door.post(body("again"), key, "?wait=60")
        assert later.status_code == 200 and later.headers["Idempotent-Replayed"] == "true"
        assert answer_of(later) == answer_of(first) and later.json()["state"] == "finished"
        assert later.json()["counts"]["accepted"] == 3
    assert len(door.submissions("again")) == 1
    assert len(door.lab.admin.indicators("h0.again.evil-keys.com")) == 1


def test_another_body_and_what_is_no_key(door: Door) -> None:
    first = door.post(body("other"), "other-1")
    assert first.status_code == 202
    again = door.post(body("other", title="u"), "other-1")
    assert again.status_code == 422 and again.headers["Content-Type"].startswith("application/problem+json")
    assert again.json()["type"].endswith(":key-reused") and again.json()["remedy"]
    assert door.post(b"no JSON", "other-1").status_code == 422
    for wrong in ("two words", "x" * 256, '"open'):
        told = door.post(body("other"), wrong)
        assert told.status_code == 400 and told.json()["type"].endswith(":idempotency-key"), told.text
    assert door.post(body("dry"), "other-1", "?dry_run=true").status_code == 200
    assert len(door.submissions("other")) == 1 and not door.submissions("dry")


def test_a_refused_body_stays_refused(door: Door) -> None:
    told = [door.post(b"[]", "refused-1") for _ in range(2)]
    assert [answer.status_code for answer in told] == [400, 400]
    assert told[0].json()["detail"] == told[1].json()["detail"]
    assert door.post(body("refused"), "refused-1").status_code == 422


def test_the_same_request_many_times_at_once(door: Door) -> None:
    for number in range(5):
        name = f"twice{number}"
        with ThreadPoolExecutor(4) as pool:
            told = list(pool.map(lambda _, name=name: door.post(body(name), name), range(4)))
        assert {answer.status_code for answer in told} <= {200, 202}
        assert len({json.dumps(answer_of(answer)) for answer in told}) == 1
        assert sum("Idempotent-Replayed" not in answer.headers for answer in told) == 1
        assert len(door.submissions(name)) == 1
        assert door.post(body(name), name, "?wait=60").json()["counts"]["accepted"] == 3


def points_of_a_request(door: Door) -> int:
    """How many points one request has: the file is set to more, and the rest is what is left of it."""
    http = door.lab.stack.workers.find("http")
    low, high = 1, 64
    while low < high:
        starts, middle = http.starts, (low + high) // 2
        door.dying.write_text(str(middle))
        name = f"count{middle}"
        died = True
        try:
            died = door.post(body(name), name).status_code not in (200, 202)
        except requests.RequestException:
            pass
        if died:
            wait_for(lambda starts=starts: http.starts > starts, "another worker")
            low = middle + 1
        else:
            door.dying.write_text(str(dying_door.NEVER))
            high = middle
        door.until_taken(body(name), name)
    return low


def test_killed_in_the_middle_then_sent_thrice(door: Door) -> None:
    http = door.lab.stack.workers.find("http")
    last = points_of_a_request(door)
    assert last > 15
    killed = 0
    for point in range(2, last, 3):
        name = f"killed{point}"
        starts = http.starts
        door.dying.write_text(str(point))
        with pytest.raises(requests.RequestException):
            answer = door.post(body(name), name)
            raise AssertionError(f"point {point}: it lives, {answer.status_code} {answer.text}")
        wait_for(lambda starts=starts: http.starts > starts, "another worker")
        killed += 1
        told = [door.until_taken(body(name), name) for _ in range(3)]
        assert len({json.dumps(answer_of(answer)) for answer in told}) == 1, point
        assert door.post(body(name, title="u"), name).status_code == 422
        assert len(door.submissions(name)) == 1
        end = door.post(body(name), name, "?wait=60").json()
        assert end["state"] == "finished" and end["counts"]["accepted"] == 3 and end["counts"]["rejected"] == 1, point
        for n in range(3):
            assert len(door.lab.admin.indicators(f"h{n}.{name}.evil-keys.com")) == 1
    assert killed >= 5
    caller = door.post(body("killed2"), "killed2").json()["caller"]
    assert len(door.lab.rows(TABLE, pk=row_name(caller, "killed2"))) == 1


def test_the_roles_for_allowed_and_overrides(door: Door) -> None:
    why = "our own sinkhole, ticket 4711"
    wanted = {
        "indicators": [
            {"indicatorValue": "198.51.100.77", "action": "Block", "override": why},
            {"indicatorValue": "good.evil-keys.com", "action": "Allowed"},
        ]
    }
    plain = door.post(wanted, query="?wait=60").json()
    assert plain["reasons"] == {"not_permitted": 2}
    assert OVERRIDE in plain["items"][0]["text"] and ALLOW in plain["items"][1]["text"]
    token = door.lab.admin.caller_token(SUBMIT, ALLOW, OVERRIDE, kind="person", name="ann@tenant.example")
    told = door.post(wanted, query="?wait=60", token=token).json()
    assert told["counts"]["accepted"] == 2 and told["callerName"] == "ann@tenant.example", told
    note = f"guard documentation_address overridden by {told['caller']}: {why}"
    assert told["items"][0]["notes"] == [note]
    link = f"{door.lab.stack.url}/api/submissions/{told['id']}"
    known = door.session.get(link, headers={"Authorization": f"Bearer {token}"}, timeout=60).json()
    assert known["items"][0]["notes"] == [note] and known["items"][1]["action"] == "Allowed"
    assert [row["action"] for row in door.lab.admin.indicators("good.evil-keys.com")] == ["Allowed"]
    [logged] = door.lab.events("guard_overridden")
    assert logged["submission"] == told["id"] and logged["detail"] == note
    # The same on the queue, from whomever: rejected.
    [name] = door.lab.put([json.dumps(wanted)]).values()
    assert door.lab.finish([name])[name].fold.reasons() == {"not_permitted": 2}


def test_large_packed_bodies_of_many_callers_leave_the_instance_alive(door: Door) -> None:
    """Packed to next to nothing, from four callers at once; some take the most memory when they are decoded."""
    size = 10 * 1024 * 1024
    heavy, light = (gzip.compress(plain, 6) for plain in (b"[" + b"[]," * (size // 3 - 2) + b"[]]", b" " * size))
    tokens = [door.lab.admin.caller_token(SUBMIT, client_id=str(uuid.uuid4())) for _ in range(4)]
    url = f"{door.lab.stack.url}/api/submissions"
    sizes: list[int] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            sizes.append(door.lab.stack.usage()["http"].rss)

    def send(n: int) -> int:
        headers = {"Authorization": f"Bearer {tokens[n % 4]}", "Content-Encoding": "gzip"}
        answer = requests.post(url, data=heavy if n < 4 else light, headers=headers, timeout=230)
        if answer.status_code == 503:
            assert answer.json()["type"].endswith(":full") and int(answer.headers["Retry-After"]) > 0
        return answer.status_code

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(40) as pool:
            told = list(pool.map(send, range(40)))
            small = door.post(body("beside"), query="?dry_run=true")
    finally:
        stop.set()
        watcher.join()
    assert set(told) <= {400, 413, 503} and {400, 413} <= set(told), Counter(told)
    assert small.status_code == 200
    print(f"http worker: at most {max(sizes) / 1e6:.0f} MB; {Counter(told)}")
    assert max(sizes) < 1_200_000_000
