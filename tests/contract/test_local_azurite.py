"""Our faster stores for queues and tables in Azurite against Azurite's own: the same calls, the same answers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError
from azure.data.tables import TableServiceClient, TableTransactionError, UpdateMode
from azure.storage.queue import QueueClient, QueueMessage

from local.azurite import Azurite


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    folder = tmp_path_factory.mktemp("two-azurites")
    with Azurite(folder / "plain", plain=True) as plain, Azurite(folder / "fast") as fast:
        yield plain.connection_string, fast.connection_string


class Player:
    """Carries out a step on one queue and tells its outcome in terms that do not depend on ids."""

    def __init__(self, connection_string: str) -> None:
        self.queue = QueueClient.from_connection_string(connection_string, "game")
        self.queue.create_queue()
        self.held: list[QueueMessage] = []

    def play(self, step: str, number: int) -> Any:
        try:
            return getattr(self, step)(number)
        except HttpResponseError as error:
            return error.error_code

    def send(self, number: int) -> None:
        self.queue.send_message(f"m{number}", time_to_live=-1)

    def send_later(self, number: int) -> None:
        self.queue.send_message(f"m{number}", visibility_timeout=600)

    def receive(self, number: int) -> list[tuple[str, int | None]]:
        count = number % 5 + 1
        found = list(self.queue.receive_messages(max_messages=count, messages_per_page=count, visibility_timeout=600))
        self.held += found
        return [(message.content, message.dequeue_count) for message in found]

    def peek(self, number: int) -> list[str]:
        return [message.content for message in self.queue.peek_messages(max_messages=number % 7 + 1)]

    def delete(self, number: int) -> str | None:
        if not self.held:
            return None
        message = self.held[number % len(self.held)]  # may be gone already, or have a newer receipt
        self.queue.delete_message(message)
        return message.content

    def give_back(self, number: int) -> str | None:
        if not self.held:
            return None
        message = self.held[number % len(self.held)]
        self.queue.update_message(message, visibility_timeout=0, content=f"{message.content}'")
        return message.content

    def count(self, _number: int) -> int | None:
        return self.queue.get_queue_properties().approximate_message_count

    def clear(self, number: int) -> None:
        if number % 10 == 0:
            self.queue.clear_messages()

    def recreate(self, number: int) -> None:
        if number % 10 == 0:
            self.queue.delete_queue()
            self.queue.create_queue()


STEPS = ["send"] * 6 + ["send_later", "receive", "receive", "peek", "delete", "delete", "give_back", "count", "clear"]


def test_the_faster_store_answers_like_azurite_itself(both: tuple[str, str]) -> None:
    plain, fast = (Player(connection_string) for connection_string in both)
    choose = random.Random(20261121)
    for turn in range(350):
        step, number = choose.choice([*STEPS, "recreate"]), choose.randrange(1000)
        assert plain.play(step, number) == fast.play(step, number), f"turn {turn}: {step} {number}"
    plain.queue.close()
    fast.queue.close()


def test_a_message_expires(both: tuple[str, str]) -> None:
    import time

    for connection_string in both:
        with QueueClient.from_connection_string(connection_string, "expiring") as queue:
            queue.create_queue()
            queue.send_message("short", time_to_live=1)
            queue.send_message("long", time_to_live=100)
            time.sleep(1.2)
            assert [message.content for message in queue.peek_messages(max_messages=5)] == ["long"]
            assert queue.get_queue_properties().approximate_message_count == 1


def test_azurite_ends_with_its_starter(tmp_path: Path) -> None:
    running = Azurite(tmp_path).start()
    assert running.child is not None
    running.stop()
    assert running.child.status == 0


class TablePlayer:
    """Carries out a step on one table and tells its outcome in terms that do not depend on times."""

    def __init__(self, connection_string: str) -> None:
        self.service = TableServiceClient.from_connection_string(connection_string)
        self.table = self.service.create_table("game")
        self.etags: list[tuple[str, str, str]] = []

    def play(self, step: str, number: int) -> Any:
        try:
            return getattr(self, step)(number)
        except TableTransactionError as error:
            return f"{error.error_code} at {error.index}"
        except HttpResponseError as error:
            return f"{type(error).__name__} {error.status_code} {getattr(error, 'error_code', '')}"

    @staticmethod
    def _key(number: int) -> dict[str, Any]:
        return {"PartitionKey": f"p'{number % 3}", "RowKey": f"r{number % 13:03d}ä"}

    def _entity(self, number: int) -> dict[str, Any]:
        return self._key(number) | {"n": number, f"only{number % 2}": f"v{number}", "bytes": b"x" * (number % 5)}

    @staticmethod
    def _plain(entity: Any) -> dict[str, Any]:
        return {name: value for name, value in entity.items() if name != "Timestamp"}

    def _kept(self, number: int, answer: Any) -> None:
        key = self._key(number)
        self.etags.append((key["PartitionKey"], key["RowKey"], answer["etag"]))

    def insert(self, number: int) -> None:
        self._kept(number, self.table.create_entity(self._entity(number)))

    def merge(self, number: int) -> None:
        self._kept(number, self.table.upsert_entity(self._entity(number), mode=UpdateMode.MERGE))

    def replace(self, number: int) -> None:
        self._kept(number, self.table.upsert_entity(self._entity(number), mode=UpdateMode.REPLACE))

    def update(self, number: int) -> None:
        if self.etags:
            partition, key, etag = self.etags[number % len(self.etags)]  # may be out of date
            mode = (UpdateMode.MERGE, UpdateMode.REPLACE)[number % 2]
            entity = {"PartitionKey": partition, "RowKey": key, "updated": number}
            answer = self.table.update_entity(
                entity, mode=mode, etag=etag, match_condition=MatchConditions.IfNotModified
            )
            self.etags.append((partition, key, answer["etag"]))

    def delete(self, number: int) -> None:
        key = self._key(number)
        self.table.delete_entity(key["PartitionKey"], key["RowKey"])

    def get(self, number: int) -> dict[str, Any]:
        key = self._key(number)
        return self._plain(self.table.get_entity(key["PartitionKey"], key["RowKey"]))

    def transact(self, number: int) -> int:
        kinds = ("create", "upsert", "delete", "update")
        operations = []
        for piece in range(number % 4 + 1):
            kind = kinds[(number // 7 + piece) % 4]
            operations.append((kind, self._entity(number % 3 + 3 * ((number // 3 + 5 * piece) % 13))))
        return len(self.table.submit_transaction(operations))

    def query(self, number: int) -> list[dict[str, Any]]:
        partition, low, high = f"p''{number % 3}", f"r{number % 13:03d}", f"r{(number + 5) % 13:03d}"
        filters = (
            "",
            f"PartitionKey eq '{partition}'",
            f"PartitionKey eq '{partition}' and RowKey ge '{low}' and RowKey lt '{high}'",
            f"PartitionKey ge 'p' and PartitionKey lt '{partition}' and RowKey ge '{low}'",
            f"PartitionKey eq '{partition}' or RowKey lt '{high}'",
            f"not (PartitionKey eq '{partition}') and n gt {number}",
            f"n ge {number} and RowKey lt '{high}'",
        )
        page = number % 4 + 1  # so that most answers take several pages
        found = self.table.query_entities(filters[number % len(filters)], results_per_page=page)
        return [self._plain(entity) for entity in found]

    def recreate(self, number: int) -> None:
        if number % 20 == 0:
            self.service.delete_table("game")
            self.service.create_table("game")


TABLE_STEPS = ["insert"] * 4 + ["merge", "replace", "update", "delete", "get", "transact", "transact", "query", "query"]


def test_the_faster_table_store_answers_like_azurite_itself(both: tuple[str, str]) -> None:
    plain, fast = (TablePlayer(connection_string) for connection_string in both)
    choose = random.Random(20261122)
    told = set()
    for turn in range(500):
        step, number = choose.choice([*TABLE_STEPS, "recreate"]), choose.randrange(1000)
        wanted = plain.play(step, number)
        assert fast.play(step, number) == wanted, f"turn {turn}: {step} {number}"
        told.add(str(wanted).split(" ")[0] if isinstance(wanted, str) else step)
    assert {"insert", "transact", "query", "update", "ResourceExistsError", "ResourceNotFoundError"} <= told, told
    plain.service.close()
    fast.service.close()
