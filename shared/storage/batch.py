"""Entity group transactions of the table service, written and read by hand.

The SDK does the same through Python's e-mail parser and a pool of threads for every transaction, which was nine
tenths of what publishing an indicator cost (docs/decisions/0014). Signing, retries and the connection stay the SDK's:
the request goes through its own pipeline. The format is that of Microsoft's page "Performing entity group
transactions"; what is written here was compared with what the SDK writes.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from shared.storage.protocols import Op, Row

if TYPE_CHECKING:
    from azure.data.tables import TableServiceClient

_VERSION = "2019-02-02"
_PART = re.compile(rb"HTTP/1\.1 (\d{3})[^\r\n]*\r?\n(.*?)(?=\r?\n--changesetresponse_)", re.DOTALL)
_ETAG = re.compile(rb"^ETag: *(.+?)\r?$", re.MULTILINE | re.IGNORECASE)
_INDEX = re.compile(rb'"value" *: *"(\d{1,2}):')
_CODE = re.compile(rb'"code" *: *"([A-Za-z]+)"')
_CONFLICTS = {b"404", b"409", b"412"}
# 404 and 409 have other meanings too, which no second try with other rows can mend.
_NO_CONFLICTS = {b"TableNotFound", b"TableBeingDeleted", b"AccountBeingCreated"}
_METHODS = {"insert": "POST", "upsert": "PATCH", "merge": "PATCH", "replace": "PUT", "delete": "DELETE"}


class TransactionRefusedError(Exception):
    """The service refused the transaction for another reason than a conflict. `status` is the HTTP status."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{status} {code}")
        self.status_code = status


def submit(
    client: TableServiceClient, table: str, operations: Sequence[Op], hook: Callable[[Any], None]
) -> list[str] | int:
    """Carry out a transaction (blocking).

    Returns the new etags, or the index of the first operation that conflicts. `hook` is shown the SDK's response.
    Raises azure.core's errors, or TransactionRefusedError.
    """
    from azure.core.exceptions import HttpResponseError
    from azure.core.rest import HttpRequest

    boundary = secrets.token_hex(16)
    base = client.url.rstrip("/")
    request = HttpRequest(
        "POST",
        f"{base}/$batch",
        headers={
            "x-ms-version": _VERSION,
            "DataServiceVersion": "3.0",
            "MaxDataServiceVersion": "3.0;NetFx",
            "Content-Type": f"multipart/mixed; boundary=batch_{boundary}",
            "Accept": "application/json",
        },
        content=body(base, table, operations, boundary),
    )
    # As a stream, or the SDK would try to decode the answer, which it cannot.
    response = client._client.send_request(request, stream=True, raw_response_hook=hook)
    content = response.read()
    if response.status_code != 202:
        raise HttpResponseError(response=response)
    return answer(content, len(operations))


def body(base: str, table: str, operations: Sequence[Op], boundary: str) -> bytes:
    """The request's body: one change set."""
    lines = [
        f"--batch_{boundary}",
        f"Content-Type: multipart/mixed; boundary=changeset_{boundary}",
        "",
    ]
    for number, op in enumerate(operations):
        lines += [
            f"--changeset_{boundary}",
            "Content-Type: application/http",
            "Content-Transfer-Encoding: binary",
            f"Content-ID: {number}",
            "",
            *_operation(base, table, op),
        ]
    lines += [f"--changeset_{boundary}--", "", f"--batch_{boundary}--", ""]
    return "\r\n".join(lines).encode("ascii")


def _operation(base: str, table: str, op: Op) -> list[str]:
    row = op.row
    key = f"(PartitionKey='{_quoted(row.pk)}',RowKey='{_quoted(row.rk)}')"
    lines = [f"{_METHODS[op.kind]} {base}/{table}{'' if op.kind == 'insert' else key} HTTP/1.1"]
    if op.kind in ("merge", "replace"):
        lines.append(f"If-Match: {row.etag}")
    elif op.kind == "delete":
        lines.append("If-Match: *")
    lines += [f"x-ms-version: {_VERSION}", "DataServiceVersion: 3.0", "Accept: application/json;odata=minimalmetadata"]
    if op.kind == "delete":
        return [*lines, "", ""]
    if op.kind == "insert":
        lines.append("Prefer: return-no-content")
    content = json.dumps(_entity(row))  # ASCII, so that a character is a byte
    return [*lines, "Content-Type: application/json", f"Content-Length: {len(content)}", "", content]


def _quoted(key: str) -> str:
    return quote(key.replace("'", "''"), safe="")


def _entity(row: Row) -> dict[str, Any]:
    entity: dict[str, Any] = {"PartitionKey": row.pk, "RowKey": row.rk}
    for name, value in row.data.items():
        if isinstance(value, bytes):
            entity[name] = base64.b64encode(value).decode("ascii")
            entity[f"{name}@odata.type"] = "Edm.Binary"
        elif isinstance(value, bool | str):
            entity[name] = value
        elif isinstance(value, float):
            entity[name] = value
            entity[f"{name}@odata.type"] = "Edm.Double"
        else:
            raise TypeError(f"a table row holds str, float, bool or bytes, not {type(value).__name__}")
    return entity


def answer(content: bytes, operations: int) -> list[str] | int:
    """Read the answer: the new etags, or the index of the operation that conflicts."""
    etags: list[str] = []
    for found in _PART.finditer(content):
        status, rest = found.group(1), found.group(2)
        if not status.startswith(b"2"):
            code = _CODE.search(rest)
            name = code.group(1) if code else b""
            if status in _CONFLICTS and name not in _NO_CONFLICTS:
                index = _INDEX.search(rest)
                return int(index.group(1)) if index else 0
            raise TransactionRefusedError(int(status), name.decode())
        etag = _ETAG.search(rest)
        etags.append(etag.group(1).decode() if etag else "")
    if len(etags) != operations:
        raise TransactionRefusedError(202, f"{len(etags)} results for {operations} operations")
    return etags
