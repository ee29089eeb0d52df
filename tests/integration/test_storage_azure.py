"""Tables, blobs and queue on Azurite: the seams behave as their in-memory twins, which the model tests rely on."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.errors import StorageError
from shared.storage import batch
from shared.storage.azure import AzureBlobs, AzureQueue, AzureTables, ensure
from shared.storage.clock import ServiceClock
from shared.storage.connection import StorageConnection
from shared.storage.protocols import Op, Row, Tables
from tests.support.memory import MemoryTables, Service

ODD = "a'b|c %/é☃ x"  # quotes, bars, blanks and what is not ASCII


@pytest.fixture
async def connection(azurite: str) -> AsyncIterator[StorageConnection]:
    made = StorageConnection(connection_string=azurite)
    await asyncio.to_thread(ensure, made)
    yield made
    for client in (made.tables, made.blobs, made.queues):
        client.close()


@pytest.fixture(params=["azurite", "memory"])
async def tables(request: pytest.FixtureRequest, connection: StorageConnection) -> AsyncIterator[Tables]:
    if request.param == "memory":
        yield MemoryTables(Service(time.time))
        return
    with ThreadPoolExecutor(4) as pool:
        yield AzureTables(connection, pool, ServiceClock())


def row(pk: str, rk: str, etag: str = "", **data: str | float | bool | bytes) -> Row:
    return Row(pk, rk, data, etag)


async def test_rows_come_back_as_they_went_whatever_is_in_them(tables: Tables) -> None:
    pk = uuid.uuid4().hex + "'x"
    data = {"text": ODD, "empty": "", "number": 5.0, "small": 1.7e-9, "yes": True, "bytes": bytes(range(256))}
    etag = await tables.insert("index", Row(pk, "1", data))
    assert etag and await tables.insert("index", Row(pk, "1", data)) is None
    answers = await tables.transact("index", [Op("insert", Row(pk, "2", data)), Op("upsert", Row(pk, "3é'|", data))])
    assert isinstance(answers, list) and all(answers)
    found = await tables.query("index", pk=pk)
    assert [one.rk for one in found] == ["1", "2", "3é'|"]
    assert all(one.data == data and one.stamp > 0 and one.etag for one in found)
    assert found[0].etag == etag and [one.etag for one in found[1:]] == answers
    assert (await tables.get("index", pk, "3é'|")) == found[2]
    assert await tables.get("index", pk, "4") is None


async def test_transactions_are_all_or_nothing_and_name_the_conflict(tables: Tables) -> None:
    pk = uuid.uuid4().hex
    first = await tables.transact("index", [Op("insert", row(pk, str(n), v="old")) for n in range(5)])
    assert isinstance(first, list)
    assert await tables.transact("index", [Op("upsert", row(pk, "9", v="x")), Op("insert", row(pk, "3", v="x"))]) == 1
    assert await tables.get("index", pk, "9") is None, "half a transaction was carried out"
    ok = await tables.transact(
        "index",
        [
            Op("merge", row(pk, "0", first[0], w="new")),
            Op("replace", row(pk, "1", first[1], w="new")),
            Op("upsert", row(pk, "2", w="new")),
            Op("delete", row(pk, "3")),
        ],
    )
    assert isinstance(ok, list)
    rows = {one.rk: one.data for one in await tables.query("index", pk=pk)}
    assert rows == {"0": {"v": "old", "w": "new"}, "1": {"w": "new"}, "2": {"v": "old", "w": "new"}, "4": {"v": "old"}}
    stale = [Op("upsert", row(pk, "8", v="x")), Op("merge", row(pk, "0", first[0], w="late"))]
    assert await tables.transact("index", stale) == 1
    gone = [Op("upsert", row(pk, "8", v="x")), Op("upsert", row(pk, "7")), Op("merge", row(pk, "3", first[3], w="x"))]
    assert await tables.transact("index", gone) == 2


async def test_updates_hold_only_under_their_etag(tables: Tables) -> None:
    pk = uuid.uuid4().hex
    etag = await tables.insert("index", row(pk, "1", v="a"))
    second = await tables.update("index", row(pk, "1", str(etag), w="b"))
    assert second and await tables.update("index", row(pk, "1", str(etag), w="c")) is None
    assert await tables.update("index", row(pk, "1", second, x="d"), replace=True)
    found = await tables.get("index", pk, "1")
    assert found is not None and found.data == {"x": "d"}
    assert not await tables.delete("index", pk, "1", etag=second), "it was changed since"
    assert await tables.get("index", pk, "1") == found
    assert await tables.delete("index", pk, "1", etag=found.etag)
    assert await tables.update("index", row(pk, "1", second, w="b")) is None


async def test_ranges_and_tops(tables: Tables) -> None:
    pk = uuid.uuid4().hex
    for name in ("a|1", "a|2", "a|3", "b|1"):
        await tables.upsert("index", row(pk, name))
    assert [one.rk for one in await tables.query("index", pk=pk, rk="a|", rk_to="a}")] == ["a|1", "a|2", "a|3"]
    assert [one.rk for one in await tables.query("index", pk=pk, top=2)] == ["a|1", "a|2"]
    assert len(await tables.query("index", pk=pk, pk_to=pk + "0")) == 4


async def test_more_rows_than_a_page(connection: StorageConnection) -> None:
    pk = uuid.uuid4().hex
    with ThreadPoolExecutor(4) as pool:
        tables = AzureTables(connection, pool, ServiceClock())
        for at in range(0, 1200, 100):
            await tables.transact("index", [Op("insert", row(pk, f"{n:05d}")) for n in range(at, at + 100)])
        assert len(await tables.query("index", pk=pk)) == 1200
        assert len(await tables.query("index", pk=pk, top=1100)) == 1100


async def test_a_table_that_is_not_there_is_an_error_and_no_conflict(connection: StorageConnection) -> None:
    with ThreadPoolExecutor(1) as pool:
        tables = AzureTables(connection, pool, ServiceClock())
        with pytest.raises(StorageError) as caught:
            await tables.transact("nosuchtable", [Op("insert", row("p", "1"))])
        assert "nosuchtable" in str(caught.value) and caught.value.remediation


async def test_the_same_transaction_as_the_sdk_writes_reads_back_the_same(connection: StorageConnection) -> None:
    pk = uuid.uuid4().hex
    data = {"text": ODD, "number": 5.0, "yes": True, "bytes": b"\x00\xff"}
    entity = {"PartitionKey": pk, "RowKey": "sdk", **data}
    await asyncio.to_thread(connection.tables.get_table_client("index").submit_transaction, [("create", entity)])
    with ThreadPoolExecutor(1) as pool:
        tables = AzureTables(connection, pool, ServiceClock())
        await tables.transact("index", [Op("insert", Row(pk, "ours", data))])
        ours, theirs = await tables.query("index", pk=pk)
    assert ours.data == theirs.data


def test_answers_that_are_not_whole_are_refused() -> None:
    with pytest.raises(batch.TransactionRefusedError):
        batch.answer(b"--changesetresponse_1\r\n\r\nHTTP/1.1 204 No Content\r\nETag: x\r\n", 1)


async def test_the_service_clock_is_told_by_the_answers(connection: StorageConnection) -> None:
    clock = ServiceClock(wall=lambda: 0.0)
    with ThreadPoolExecutor(1) as pool:
        tables = AzureTables(connection, pool, clock)
        await tables.get("index", "p", "none")
        assert abs(clock.now() - time.time()) < 2.0
        await tables.transact("index", [Op("upsert", row(uuid.uuid4().hex, "1"))])
        assert abs(clock.now() - time.time()) < 2.0


async def test_blobs_and_queue(connection: StorageConnection) -> None:
    with ThreadPoolExecutor(2) as pool:
        blobs = AzureBlobs(connection, pool)
        name = uuid.uuid4().hex
        assert await blobs.get("parts", name) is None
        await blobs.put("parts", name, b"one")
        await blobs.put("parts", name, b"two")
        assert await blobs.get("parts", name) == b"two"
        await blobs.delete("parts", name)
        await blobs.delete("parts", name)
        assert await blobs.get("parts", name) is None
        with pytest.raises(StorageError):
            await blobs.get("no-such-container", name)
        queue = AzureQueue(connection, pool)
        assert await queue.receive_poison(5, 10.0) == []
        before = await queue.depth()
        await queue.send('{"v": 1, "part": "<&>"}', visible_after=30.0)
        assert await queue.depth() == before + 1
