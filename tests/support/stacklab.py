"""A running local stack in a test's hands: fast insertion, the whole ledger, and a look through every log."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import http.client
import json
import re
import time
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from local.client import AppClient
from local.host.queueservice import QueueService
from local.stack import Stack
from local.workers import Worker
from shared.ledger import ids
from shared.ledger.outcomes import FINAL, Fold, fold
from shared.ledger.parts import Parts
from shared.ledger.submissions import TABLE, Header, Submission, Submissions
from shared.publishing.order import Order
from shared.storage.azure import AzureBlobs, AzureQueue, AzureTables
from shared.storage.clock import ServiceClock
from shared.storage.connection import POISON, QUEUE, StorageConnection
from shared.storage.protocols import Row

STATES = ("accepted", "unchanged", "superseded", "rejected", "held", "deferred", "pending")
TOKEN = re.compile(r"eyJ[A-Za-z0-9_-]{10,}")
_FEW = 40  # more submissions than this are read with the whole table
_WINDOW = 10  # so many characters of a secret in a row are a leak


def wait_for[T](look: Callable[[], T], what: str, timeout: float = 120.0, every: float = 0.1) -> T:
    """Look until it is true. The bound only keeps a failing test from hanging."""
    deadline = time.monotonic() + timeout
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"did not happen within {timeout:g} s: {what}")
        time.sleep(every)
    return found


def message(value: str, action: str = "Audit", **fields: Any) -> str:
    """A native message of one indicator, as a playbook sends it."""
    return json.dumps({"indicatorValue": value, "action": action, "title": "t", "description": "d", **fields})


def batch(values: Iterable[str], action: str = "Audit") -> bytes:
    """A native batch for the HTTP door."""
    body = {"defaults": {"action": action}, "indicators": [{"indicatorValue": value} for value in values]}
    return json.dumps(body).encode()


@dataclasses.dataclass(frozen=True, slots=True)
class Known:
    """A submission as its rows tell it."""

    header: Header
    fold: Fold

    @property
    def finished(self) -> bool:
        """Whether every item is final."""
        counts = self.fold.counts()
        return self.header.decoded and not (counts["held"] or counts["deferred"] or counts["pending"])

    @property
    def accepted(self) -> bool:
        """Whether every item was accepted."""
        counts = self.fold.counts()
        return self.header.decoded and counts["accepted"] == counts["submitted"] > 0


class Books:
    """What was read of the ledger earlier, to hold a later reading against: the sum is true, and final is final."""

    def __init__(self) -> None:
        self._final: dict[tuple[str, int], str] = {}
        self.looks = 0
        self.unfinished = 0

    def check(self, known: Iterable[Known]) -> None:
        """Hold these submissions against the promises and against what was read before."""
        for one in known:
            self.looks += 1
            self.unfinished += not one.finished
            counts = one.fold.counts()
            assert counts["submitted"] == sum(counts[state] for state in STATES), (one.header.id, counts)
            assert min(counts.values()) >= 0, (one.header.id, counts)
            assert all(0 <= ordinal < counts["submitted"] for ordinal in one.fold.fates), one
            for ordinal, fate in one.fold.fates.items():
                if fate.state in FINAL:
                    before = self._final.setdefault((one.header.id, ordinal), fate.state.value)
                    assert before == fate.state.value, f"{one.header.id} was {before} and is {fate.state}"


class Lab:
    """One running stack. `stop` it before the stack ends, and `check_logs` afterwards."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.admin = stack.admin
        self.app = AppClient(stack)
        self.books = Books()
        self.connection = StorageConnection(connection_string=stack.connection_string)
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="lab")
        self.clock = ServiceClock()
        self.tables = AzureTables(self.connection, self._pool, self.clock)
        blobs, queue = AzureBlobs(self.connection, self._pool), AzureQueue(self.connection, self._pool)
        self.parts = Parts(self.tables, blobs, queue, self.clock)
        self.order = Order(self.tables, self.parts, self.clock)
        self._secrets = {
            "client secret": stack.tenant["client_secret"],
            "direct client's secret": stack.tenant["direct_client_secret"],
            "identity header": stack.tenant["identity_header"],
            "master key": stack.keys["master"],
            "host key": stack.keys["host"],
            "storage key": re.findall(r"AccountKey=([^;]+)", stack.connection_string)[0],
        }

    def stop(self) -> None:
        """Close the clients."""
        for client in (self.connection.tables, self.connection.blobs, self.connection.queues):
            client.close()
        self._pool.shutdown()

    def check_logs(self, shown: str = "") -> None:
        """Look for secrets and tokens in all logs, and in `shown` (what the tests themselves wrote)."""
        found = leaks({**texts(self.stack.folder), "output of the tests": shown}, self._secrets)
        assert not found, "; ".join(found)

    def rotate(self) -> str:
        """A new client secret in Entra and in the vault, the old one is worth nothing; the logs must not hold it."""
        fresh = self.admin.rotate("both", overlap=False)
        self._secrets[f"client secret {len(self._secrets)}"] = fresh
        return fresh

    # Sending

    def put(self, texts: Sequence[str], *, at_once: int = 16) -> dict[str, str]:
        """Put messages on the queue, several at once; the submission that each of them becomes, by its text."""
        names: dict[str, str] = {}

        async def work() -> None:
            left = iter(texts)
            async with QueueService(self.stack.connection_string, connections=at_once) as service:

                async def some() -> None:
                    for text in left:
                        names[text] = ids.foreign_submission(*await service.put(QUEUE, text))

                await asyncio.gather(*(some() for _ in range(at_once)))

        asyncio.run(work())
        return names

    # Reading

    def rows(self, table: str, **options: Any) -> list[Row]:
        """Rows of a table, as the product reads them."""
        return asyncio.run(self.tables.query(table, **options))

    def ledger(self, *partitions: str) -> dict[str, Known]:
        """Every submission that has a header, by id: of the whole table, or of these partitions; books are kept."""
        rows: list[Row] = []
        for partition in partitions or ("",):
            rows += self.rows(TABLE, pk=partition)
        found: dict[str, list[Row]] = {}
        for row in rows:
            found.setdefault(row.rk.partition("|")[0], []).append(row)
        known = {}
        for name, mine in found.items():
            header = next((Header.from_row(row) for row in mine if row.rk.endswith("|h")), None)
            if header is not None:
                known[name] = Known(header, fold(header.submitted, mine))
        self.books.check(known.values())
        return known

    def read(self, names: Iterable[str]) -> dict[str, Known]:
        """These submissions, those that the ledger knows; books are kept."""

        async def work() -> dict[str, Known]:
            turns = asyncio.Semaphore(4)

            async def one(name: str) -> Submission | None:
                async with turns:
                    return await Submissions(self.tables).read(name)

            found = dict(zip(wanted, await asyncio.gather(*map(one, wanted)), strict=True))
            return {name: Known(known.header, known.fold) for name, known in found.items() if known is not None}

        wanted = list(names)
        if len(wanted) > _FEW:
            everything = self.ledger()
            return {name: everything[name] for name in wanted if name in everything}
        known = asyncio.run(work())
        self.books.check(known.values())
        return known

    def finish(self, names: Iterable[str], timeout: float = 120.0) -> dict[str, Known]:
        """Wait until the fate of every item of these submissions is final."""
        done: dict[str, Known] = {}
        wanted = list(names)

        def look() -> bool:
            left = [name for name in wanted if name not in done]
            done.update({name: known for name, known in self.read(left).items() if known.finished})
            return len(done) == len(set(wanted))

        wait_for(look, f"{len(wanted)} submissions are finished", timeout, every=0.2)
        return done

    def outcome(self, submission: str, timeout: float = 120.0) -> dict[str, Any]:
        """GET /api/submissions/{id} once it is finished, with all its items."""

        def look() -> dict[str, Any] | None:
            told = self.app.submission(submission)
            return told if told is not None and told["state"] == "finished" else None

        told = wait_for(look, f"{submission} is finished", timeout, every=0.2)
        assert told is not None
        items: list[dict[str, Any]] = []
        while len(items) < told["counts"]["submitted"]:
            path = f"/api/submissions/{submission}?top=1000&skip={len(items)}"
            items += self.ask("GET", path)["items"]
        return told | {"items": items}

    def counts(self, submission: str) -> dict[str, int]:
        """The sum of a submission now; all zero while the app does not know it."""
        told = self.app.submission(submission)
        return told["counts"] if told else dict.fromkeys(("submitted", *STATES), 0)

    def ask(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        """A request of the app with the host key; the JSON of its answer."""
        return request(self.stack.url, method, path, self.stack.keys["host"], body)

    def status(self, worker: Worker) -> dict[str, Any]:
        """What the host says of its queue: received, succeeded, failed, poisoned, in_flight."""
        answer = request(
            f"http://127.0.0.1:{worker.port}", "GET", "/admin/host/status", self.stack.keys["master"], None
        )
        queue: dict[str, Any] = answer["queues"][0]
        return queue

    def depth(self, queue: str = QUEUE) -> int:
        """Messages in a queue, whether visible or not; 0 when there is none."""
        from azure.core.exceptions import ResourceNotFoundError

        try:
            found = self.connection.queues.get_queue_client(queue).get_queue_properties()
        except ResourceNotFoundError:
            return 0
        return int(found.approximate_message_count or 0)

    def poisoned(self) -> int:
        """Messages in the poison queue."""
        return self.depth(POISON)

    def events(self, name: str) -> list[dict[str, Any]]:
        """The app's own log lines of one event, of all workers."""
        found = []
        for file in sorted(self.stack.logs.glob("*.jsonl")):
            for line in file.read_text("utf-8", "replace").splitlines():
                if f'\\"event\\": \\"{name}\\"' in line:
                    found.append(json.loads(json.loads(line)["message"]))
        return found

    def alarms(self, kind: str) -> list[dict[str, Any]]:
        """The alarms of one kind."""
        return [event for event in self.events("alarm") if event["kind"] == kind]

    def held(self) -> dict[str, list[dict[str, Any]]]:
        """What Defender holds, by value."""
        found: dict[str, list[dict[str, Any]]] = {}
        for row in self.admin.indicators():
            found.setdefault(row["indicatorValue"], []).append(row)
        return found


def request(base: str, method: str, path: str, key: str, body: bytes | None) -> dict[str, Any]:
    """One HTTP request with a key; the JSON of its answer."""
    address = urllib.parse.urlsplit(base)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    try:
        connection.request(method, path, body, {"x-functions-key": key, "content-type": "application/json"})
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return answer


# Logs


def texts(folder: Path) -> dict[str, str]:
    """Every log below a stack's folder, by its path."""
    files = [file for kind in ("*.log", "*.jsonl") for file in folder.rglob(kind)]
    return {str(file.relative_to(folder)): file.read_text("utf-8", "replace") for file in files}


def leaks(logs: Mapping[str, str], secrets: Mapping[str, str]) -> list[str]:
    """What these logs give away: a token, or a piece of a secret in any of its spellings. Never the secret itself."""
    found = []
    for place, text in logs.items():
        if TOKEN.search(text):
            found.append(f"a token in {place}")
        for name, secret in secrets.items():
            spelt = {secret, urllib.parse.quote(secret, safe=""), base64.b64encode(secret.encode()).decode()}
            pieces = {one[at : at + _WINDOW] for one in spelt for at in range(max(1, len(one) - _WINDOW + 1))}
            if any(piece in text for piece in pieces):
                found.append(f"the {name} in {place}")
    return found
