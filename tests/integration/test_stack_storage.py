"""A table service that closes a connection just when a request goes out on it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ProtocolError

from shared.errors import StorageError
from shared.storage.azure import AzureTables
from shared.storage.clock import ServiceClock
from shared.storage.connection import StorageConnection
from shared.storage.protocols import Op, Row

TABLE = "breaking"


@pytest.fixture
def tables(azurite: str) -> Iterator[AzureTables]:
    connection = StorageConnection(connection_string=azurite)
    connection.tables.create_table_if_not_exists(TABLE)
    with ThreadPoolExecutor(2) as pool:
        yield AzureTables(connection, pool, ServiceClock())
    connection.tables.close()


class Breaking:
    """The next `times` POSTs break: before the service sees them, or after it has carried them out."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, times: int, done: bool) -> None:
        self.left = times
        self.seen = 0
        send = HTTPAdapter.send

        def broken(adapter: HTTPAdapter, request: requests.PreparedRequest, **options: Any) -> requests.Response:
            if request.method != "POST":
                return send(adapter, request, **options)
            self.seen += 1
            if self.left == 0:
                return send(adapter, request, **options)
            self.left -= 1
            if done:
                send(adapter, request, **options).close()
            raise requests.ConnectionError(ProtocolError("Connection aborted.", ConnectionResetError(104, "reset")))

        monkeypatch.setattr(HTTPAdapter, "send", broken)


@pytest.mark.parametrize("done", [False, True], ids=["not carried out", "carried out"])
async def test_a_broken_connection_costs_an_insert_or_a_transaction_one_more_request(
    tables: AzureTables, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    pk = f"p{done}"
    broken = Breaking(monkeypatch, times=1, done=done)
    etag = await tables.insert(TABLE, Row(pk, "alone", {"text": "a"}))
    # What was carried out is found there: the caller takes that for its own write.
    assert (etag is None) is done
    assert broken.seen == 2
    broken.left = 1
    answer = await tables.transact(TABLE, [Op("insert", Row(pk, f"r{n}", {"text": "b"})) for n in range(3)])
    assert isinstance(answer, int) is done
    assert sorted(row.rk for row in await tables.query(TABLE, pk=pk)) == ["alone", "r0", "r1", "r2"]


async def test_a_connection_that_breaks_again_and_again_is_an_error(
    tables: AzureTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Breaking(monkeypatch, times=9, done=False)
    with pytest.raises(StorageError):
        await tables.transact(TABLE, [Op("insert", Row("again", "r", {}))])
    assert broken.seen == 2
