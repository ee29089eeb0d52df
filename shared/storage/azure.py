"""Tables, blobs and queues through Microsoft's SDKs, on one bounded thread pool.

The SDKs' synchronous clients are used on purpose: the asynchronous ones need a second HTTP stack, and a pool bounds
what storage may take of a small instance. Azure errors become StorageError; conflicts are results, not errors.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from shared.errors import StorageError
from shared.storage import batch
from shared.storage.clock import ServiceClock
from shared.storage.connection import POISON, QUEUE, StorageConnection
from shared.storage.protocols import Op, Received, Row

if TYPE_CHECKING:
    from azure.data.tables import TableClient, TableEntity

_REMEDY = "Check that the storage account is reachable and that the app's identity has its data roles; docs/operate.md."


def _error(what: str, error: Exception) -> StorageError:
    status = getattr(error, "status_code", None)
    return StorageError(f"{what} failed: {type(error).__name__}{f' {status}' if status else ''}", remediation=_REMEDY)


class _Client:
    """What the three clients share: the pool, and waiting for a call in it."""

    def __init__(self, connection: StorageConnection, pool: Executor) -> None:
        self._connection = connection
        self._pool = pool

    async def _run[T](self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except (ValueError, LookupError) as error:
            # It was not the service that answered, maybe a gateway with a page; the SDKs' readers do not expect that.
            raise _error("reading an answer of storage", error) from error
        except AttributeError as error:
            from azure.core.exceptions import AzureError

            # The tables' SDK looks into the answer to an insert for the reason also when only half of it came.
            if not isinstance(error.__context__, AzureError):
                raise
            raise _error("reading an answer of storage", error.__context__) from error


def _quote(text: str) -> str:
    return text.replace("'", "''")


def _filter(pk: str, pk_to: str, rk: str, rk_to: str) -> str:
    parts = []
    if pk and not pk_to:
        parts.append(f"PartitionKey eq '{_quote(pk)}'")
    elif pk_to:
        parts += [f"PartitionKey ge '{_quote(pk)}'", f"PartitionKey lt '{_quote(pk_to)}'"]
    if rk:
        parts.append(f"RowKey ge '{_quote(rk)}'")
    if rk_to:
        parts.append(f"RowKey lt '{_quote(rk_to)}'")
    return " and ".join(parts)


def _entity(row: Row) -> dict[str, Any]:
    return {"PartitionKey": row.pk, "RowKey": row.rk, **row.data}


def _row(entity: TableEntity) -> Row:
    data = dict(entity)
    stamp = entity.metadata.get("timestamp")
    return Row(
        pk=data.pop("PartitionKey"),
        rk=data.pop("RowKey"),
        data=data,
        etag=str(entity.metadata.get("etag") or ""),
        stamp=stamp.timestamp() if isinstance(stamp, datetime) else 0.0,
    )


def _repeated[T](work: Callable[[], T]) -> T:
    """Do it, and once more when the connection broke before an answer came.

    The service closes connections that are idle, and a request may meet that; the SDK then repeats every method but
    POST. Whoever inserts, or carries out a transaction, must take a conflict for the answer to its own write anyway.
    """
    from azure.core.exceptions import ServiceResponseError, ServiceResponseTimeoutError

    try:
        return work()
    except ServiceResponseTimeoutError:
        raise  # it has had its time
    except ServiceResponseError:
        return work()


class AzureTables(_Client):
    """Tables through azure-data-tables; every answer's Date header feeds the clock."""

    def __init__(self, connection: StorageConnection, pool: Executor, clock: ServiceClock) -> None:
        super().__init__(connection, pool)
        self._clock = clock

    @functools.cache  # noqa: B019  one client a table, for the life of the process
    def _table(self, table: str) -> TableClient:
        return self._connection.tables.get_table_client(table)

    def _hook(self) -> dict[str, Any]:
        asked = self._clock.monotonic()

        def observe(response: Any) -> None:
            date = response.http_response.headers.get("Date")
            if date:
                self._clock.observe(parsedate_to_datetime(date).timestamp(), asked, self._clock.monotonic())

        return {"raw_response_hook": observe}

    async def get(self, table: str, pk: str, rk: str) -> Row | None:
        """See Tables."""

        def work() -> Row | None:
            from azure.core.exceptions import AzureError, ResourceNotFoundError

            try:
                return _row(self._table(table).get_entity(pk, rk, **self._hook()))
            except ResourceNotFoundError:
                return None
            except AzureError as error:
                raise _error(f"reading a row of table {table}", error) from error

        return await self._run(work)

    async def query(
        self, table: str, *, pk: str = "", pk_to: str = "", rk: str = "", rk_to: str = "", top: int | None = None
    ) -> list[Row]:
        """See Tables."""

        def work() -> list[Row]:
            from azure.core.exceptions import AzureError

            try:
                found = self._table(table).query_entities(
                    _filter(pk, pk_to, rk, rk_to), results_per_page=top, **self._hook()
                )
                if top is None:
                    return [_row(entity) for entity in found]
                rows: list[Row] = []
                for page in found.by_page():  # a page may be short, or even empty, before the last
                    rows += [_row(entity) for entity in page]
                    if len(rows) >= top:
                        break
                return rows[:top]
            except AzureError as error:
                raise _error(f"reading table {table}", error) from error

        return await self._run(work)

    async def insert(self, table: str, row: Row) -> str | None:
        """See Tables."""

        def work() -> str | None:
            from azure.core.exceptions import AzureError, ResourceExistsError

            try:
                return _repeated(lambda: str(self._table(table).create_entity(_entity(row), **self._hook())["etag"]))
            except ResourceExistsError:
                return None
            except AzureError as error:
                raise _error(f"inserting into table {table}", error) from error

        return await self._run(work)

    async def upsert(self, table: str, row: Row) -> None:
        """See Tables."""

        def work() -> None:
            from azure.core.exceptions import AzureError

            try:
                self._table(table).upsert_entity(_entity(row), **self._hook())
            except AzureError as error:
                raise _error(f"writing to table {table}", error) from error

        await self._run(work)

    async def update(self, table: str, row: Row, *, replace: bool = False) -> str | None:
        """See Tables."""

        def work() -> str | None:
            from azure.core import MatchConditions
            from azure.core.exceptions import AzureError, HttpResponseError
            from azure.data.tables import UpdateMode

            try:
                answer = self._table(table).update_entity(
                    _entity(row),
                    mode=UpdateMode.REPLACE if replace else UpdateMode.MERGE,
                    etag=row.etag,
                    match_condition=MatchConditions.IfNotModified,
                    **self._hook(),
                )
                return str(answer["etag"])
            except HttpResponseError as error:
                if error.status_code in (404, 412):
                    return None
                raise _error(f"updating table {table}", error) from error
            except AzureError as error:
                raise _error(f"updating table {table}", error) from error

        return await self._run(work)

    async def delete(self, table: str, pk: str, rk: str, *, etag: str = "") -> bool:
        """See Tables. Without an etag the SDK reports no difference for a row that was not there."""

        def work() -> bool:
            from azure.core import MatchConditions
            from azure.core.exceptions import AzureError, HttpResponseError

            match = MatchConditions.IfNotModified if etag else None
            try:
                self._table(table).delete_entity(pk, rk, etag=etag or None, match_condition=match, **self._hook())
                return True
            except HttpResponseError as error:
                if error.status_code in (404, 412):
                    return False
                raise _error(f"deleting from table {table}", error) from error
            except AzureError as error:
                raise _error(f"deleting from table {table}", error) from error

        return await self._run(work)

    async def transact(self, table: str, operations: Sequence[Op]) -> list[str] | int:
        """See Tables."""

        def work() -> list[str] | int:
            from azure.core.exceptions import AzureError

            try:
                tables = self._connection.tables
                return _repeated(lambda: batch.submit(tables, table, operations, self._hook()["raw_response_hook"]))
            except (AzureError, batch.TransactionRefusedError) as error:
                raise _error(f"a transaction on table {table}", error) from error

        return await self._run(work)


class AzureBlobs(_Client):
    """Blobs through azure-storage-blob."""

    async def put(self, container: str, name: str, data: bytes) -> None:
        """See Blobs."""

        def work() -> None:
            from azure.core.exceptions import AzureError

            try:
                self._connection.blobs.get_blob_client(container, name).upload_blob(data, overwrite=True)
            except AzureError as error:
                raise _error(f"writing a blob to {container}", error) from error

        await self._run(work)

    async def get(self, container: str, name: str) -> bytes | None:
        """See Blobs."""

        def work() -> bytes | None:
            from azure.core.exceptions import AzureError, ResourceNotFoundError

            try:
                return bytes(self._connection.blobs.get_blob_client(container, name).download_blob().readall())
            except ResourceNotFoundError as error:
                if getattr(error, "error_code", None) == "ContainerNotFound":
                    raise _error(f"reading a blob of {container}, a container that is not there,", error) from error
                return None
            except AzureError as error:
                raise _error(f"reading a blob of {container}", error) from error

        return await self._run(work)

    async def delete(self, container: str, name: str) -> None:
        """See Blobs."""

        def work() -> None:
            from azure.core.exceptions import AzureError, ResourceNotFoundError

            try:
                self._connection.blobs.get_blob_client(container, name).delete_blob()
            except ResourceNotFoundError:
                return
            except AzureError as error:
                raise _error(f"deleting a blob of {container}", error) from error

        await self._run(work)


class AzureQueue(_Client):
    """The queue `indicators` and its poison queue through azure-storage-queue, text as it is."""

    async def send(self, text: str, *, visible_after: float = 0.0) -> None:
        """See Queue. The service takes whole seconds, at most seven days."""

        def work() -> None:
            from azure.core.exceptions import AzureError

            try:
                seconds = min(max(round(visible_after), 0), 7 * 86_400 - 60)
                self._connection.queues.get_queue_client(QUEUE).send_message(
                    text, visibility_timeout=seconds or None, time_to_live=-1
                )
            except AzureError as error:
                raise _error("sending to the queue", error) from error

        await self._run(work)

    async def depth(self) -> int:
        """See Queue."""
        return await self._run(lambda: self._count(QUEUE))

    async def poison_depth(self) -> int:
        """See Queue."""
        return await self._run(lambda: self._count(POISON))

    def _count(self, queue: str) -> int:
        from azure.core.exceptions import AzureError, ResourceNotFoundError

        try:
            properties = self._connection.queues.get_queue_client(queue).get_queue_properties()
            return int(properties.approximate_message_count or 0)
        except AzureError as error:
            # The host makes the poison queue when it first needs it.
            if queue == POISON and isinstance(error, ResourceNotFoundError):
                return 0
            raise _error(f"asking for the depth of the queue {queue}", error) from error

    async def oldest(self) -> float | None:
        """See Queue. The service shows the first 32 visible messages, the oldest of which come first."""

        def work() -> float | None:
            from azure.core.exceptions import AzureError

            try:
                seen = self._connection.queues.get_queue_client(QUEUE).peek_messages(max_messages=32)
                return min((message.inserted_on.timestamp() for message in seen if message.inserted_on), default=None)
            except AzureError as error:
                raise _error("looking at the queue", error) from error

        return await self._run(work)

    async def receive_poison(self, most: int, lease: float) -> list[Received]:
        """See Queue."""

        def work() -> list[Received]:
            from azure.core.exceptions import AzureError, ResourceNotFoundError

            try:
                messages = self._connection.queues.get_queue_client(POISON).receive_messages(
                    messages_per_page=min(most, 32), max_messages=most, visibility_timeout=round(lease)
                )
                return [
                    Received(
                        id=message.id,
                        receipt=message.pop_receipt or "",
                        body=str(message.content).encode(),
                        dequeue_count=message.dequeue_count or 1,
                        inserted=message.inserted_on or datetime.now(UTC),
                    )
                    for message in messages
                ]
            except ResourceNotFoundError:
                return []
            except AzureError as error:
                raise _error("receiving from the poison queue", error) from error

        return await self._run(work)

    async def delete_poison(self, message: Received) -> None:
        """See Queue."""

        def work() -> None:
            from azure.core.exceptions import AzureError, ResourceNotFoundError

            try:
                self._connection.queues.get_queue_client(POISON).delete_message(message.id, message.receipt)
            except ResourceNotFoundError:
                return
            except AzureError as error:
                raise _error("deleting from the poison queue", error) from error

        await self._run(work)


def ensure(connection: StorageConnection) -> None:
    """Create the queue, containers and tables that are not there yet (blocking; Bicep makes them in a tenant)."""
    from azure.core.exceptions import ResourceExistsError

    def once(create: Callable[[], object]) -> None:
        try:
            create()
        except ResourceExistsError:
            pass

    once(lambda: connection.queues.create_queue(QUEUE))
    from shared.storage.connection import CONTAINERS, TABLES

    for container in CONTAINERS:
        once(lambda container=container: connection.blobs.create_container(container))  # type: ignore[misc]
    for table in TABLES:
        connection.tables.create_table_if_not_exists(table)
