"""The proxy in front of Azurite: what it lets through is unchanged, and each of its faults is what it says."""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.errors import StorageError
from shared.storage.azure import AzureBlobs, AzureQueue, AzureTables, ensure
from shared.storage.clock import ServiceClock
from shared.storage.connection import StorageConnection
from shared.storage.protocols import Op, Row
from tests.support.proxy import Fault, StorageProxy, proxied


@pytest.fixture(scope="module")
def proxy(azurite: str) -> Iterator[StorageProxy]:
    ensure_all(azurite)
    with proxied(azurite) as made:
        yield made


def ensure_all(connection_string: str) -> None:
    connection = StorageConnection(connection_string=connection_string)
    ensure(connection)
    for client in (connection.tables, connection.blobs, connection.queues):
        client.close()


@dataclasses.dataclass
class Seams:
    tables: AzureTables
    blobs: AzureBlobs
    queue: AzureQueue
    clock: ServiceClock


@pytest.fixture
async def seams(proxy: StorageProxy) -> AsyncIterator[Seams]:
    connection = StorageConnection(connection_string=proxy.connection_string, timeout=0.5, backoff=0.01)
    clock = ServiceClock()
    with ThreadPoolExecutor(4) as pool:
        yield Seams(
            AzureTables(connection, pool, clock), AzureBlobs(connection, pool), AzureQueue(connection, pool), clock
        )
    proxy.lift()
    for client in (connection.tables, connection.blobs, connection.queues):
        await asyncio.to_thread(client.close)


async def test_without_a_fault_all_goes_through(seams: Seams) -> None:
    pk = uuid.uuid4().hex
    assert await seams.tables.insert("index", Row(pk, "1", {"a": "b"}))
    assert await seams.tables.insert("index", Row(pk, "1", {"a": "b"})) is None
    assert isinstance(await seams.tables.transact("index", [Op("insert", Row(pk, "2", {"a": "c"}))]), list)
    assert [row.rk for row in await seams.tables.query("index", pk=pk)] == ["1", "2"]
    await seams.blobs.put("parts", pk, b"x" * 200_000)
    assert await seams.blobs.get("parts", pk) == b"x" * 200_000
    assert await seams.blobs.get("parts", pk + "0") is None
    before = await seams.queue.depth()
    await seams.queue.send("é")
    assert await seams.queue.depth() == before + 1


@pytest.mark.parametrize("kind", ["down", "status", "garbage", "reset", "reset_mid"])
async def test_a_fault_before_the_work_leaves_nothing_behind(seams: Seams, proxy: StorageProxy, kind: str) -> None:
    pk = uuid.uuid4().hex
    faults = [
        proxy.put(Fault(service, resource, kind, status=503))  # type: ignore[arg-type]
        for service, resource in (("table", "index"), ("blob", "parts"), ("queue", "indicators"))
    ]
    with pytest.raises(StorageError):
        await seams.tables.transact("index", [Op("insert", Row(pk, "1", {"a": "b"}))])
    with pytest.raises(StorageError):
        await seams.blobs.put("parts", pk, b"x" * 100_000)
    with pytest.raises(StorageError):
        await seams.queue.send("nothing")
    assert all(fault.used for fault in faults)
    assert isinstance(await seams.tables.transact("suspects", [Op("upsert", Row(pk, "1", {"a": "b"}))]), list)
    proxy.lift()
    assert await seams.tables.get("index", pk, "1") is None
    assert await seams.blobs.get("parts", pk) is None


@pytest.mark.parametrize("kind", ["lost", "half", "slow"])
async def test_a_fault_after_the_work_leaves_it_done(seams: Seams, proxy: StorageProxy, kind: str) -> None:
    pk = uuid.uuid4().hex
    # Kept back much longer than is waited: a busy machine may look for the answer seconds after it has asked.
    proxy.put(Fault("table", "index", kind, seconds=5.0))  # type: ignore[arg-type]
    proxy.put(Fault("blob", "parts", kind, seconds=5.0))  # type: ignore[arg-type]
    with pytest.raises(StorageError):
        await seams.tables.transact("index", [Op("upsert", Row(pk, "1", {"a": "b"}))])
    with pytest.raises(StorageError):
        await seams.tables.insert("index", Row(pk, "2", {"a": "b"}))
    with pytest.raises(StorageError):
        await seams.blobs.put("parts", pk, b"x")
    proxy.lift()
    assert [row.rk for row in await seams.tables.query("index", pk=pk)] == ["1", "2"]
    assert await seams.blobs.get("parts", pk) == b"x"


async def test_a_fault_with_a_number_hits_each_operation_so_often(seams: Seams, proxy: StorageProxy) -> None:
    pk = uuid.uuid4().hex
    fault = proxy.put(Fault("table", "index", "lost", times=2))
    # The SDK asks again by itself; `insert` tries once more, and the third time is told of its own row.
    assert await seams.tables.get("index", pk, "1") is None
    with pytest.raises(StorageError):
        await seams.tables.insert("index", Row(pk, "1", {"a": "b"}))
    assert await seams.tables.insert("index", Row(pk, "1", {"a": "b"})) is None
    assert await seams.tables.get("index", pk, "1") is not None
    assert dict(fault.used) == {"GET": 2, "POST": 2}


async def test_the_clock_of_the_service_can_be_off(seams: Seams, proxy: StorageProxy) -> None:
    await seams.tables.query("index", pk="nobody")
    before = seams.clock.now()
    proxy.clock(60.0)
    await seams.tables.query("index", pk="nobody")
    assert 50 < seams.clock.now() - before < 80
