"""Our faster queue store in Azurite against Azurite's own: the same calls, the same answers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
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
