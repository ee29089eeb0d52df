"""Fixtures for the tests that run what is deployed beside the app."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from local.stack import Stack, StackOptions
from shared.storage.connection import QUEUE
from tests.support.logicapps import Clock, Connection, World
from tests.support.logicapps.doubles import Identity, QueueDoor, Sentinel
from tests.support.logicapps.lab import CONNECTION, SUBMITTER, Lab


@pytest.fixture(scope="module")
def playbook_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
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


@pytest.fixture
def lab(playbook_stack: Stack) -> Iterator[Lab]:
    queuer = Identity(playbook_stack, str(uuid.uuid4()), str(uuid.uuid4()))
    submitter = Identity(playbook_stack, str(uuid.uuid4()), str(uuid.uuid4()), ("Submissions.Write",))
    sentinel = Sentinel({SUBMITTER})
    world = World(
        tokens={"": queuer.token, SUBMITTER: submitter.token},
        connections={CONNECTION: Connection(sentinel.call)},
        clock=Clock(0.3),  # sixty rounds are eighteen seconds at least, for a busy machine
    )
    with QueueDoor(playbook_stack, QUEUE, {queuer.principal}) as door:
        yield Lab(playbook_stack, door, queuer, submitter, sentinel, world)
