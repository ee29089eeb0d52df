"""How long the storage SDKs go on trying by themselves: a thread of the small pool that sleeps serves nobody."""

from __future__ import annotations

from typing import Any

import pytest

from shared.storage.connection import StorageConnection

ACCOUNT = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;" + "".join(
    f"{kind}Endpoint=http://127.0.0.1:9/a;" for kind in ("Blob", "Queue", "Table")
)


def _pipeline(client: Any) -> Any:
    return getattr(client, "_pipeline", None) or client._client._client._pipeline


def sleeps(client: Any) -> list[float]:
    """What a client sleeps between its tries of one operation that always fails, at most."""
    (policy,) = [policy for policy in _pipeline(client)._impl_policies if hasattr(policy, "get_backoff_time")]
    found = []
    for tries in range(1, policy.total_retries + 1):
        settings = {"count": tries - 1, "history": [None] * tries, "backoff": getattr(policy, "backoff_factor", 0.0)}
        settings["max_backoff"] = 120.0
        found.append(max(float(policy.get_backoff_time(settings)) for _ in range(50)))
    return found


@pytest.mark.parametrize("kind", ["tables", "blobs", "queues"])
def test_storage_clients_sleep_a_few_seconds_at_most_before_they_give_up(kind: str) -> None:
    connection = StorageConnection(connection_string=ACCOUNT)
    with getattr(connection, kind) as client:
        found = sleeps(client)
    assert len(found) == 3
    assert sum(found) <= 4.0, found


@pytest.mark.parametrize("kind", ["tables", "blobs", "queues"])
def test_storage_patience_is_what_the_connection_was_told(kind: str) -> None:
    connection = StorageConnection(connection_string=ACCOUNT, timeout=1.5, backoff=0.01)
    with getattr(connection, kind) as client:
        assert sum(sleeps(client)) <= 0.2
        transport = _pipeline(client)._transport
        while hasattr(transport, "_transport"):
            transport = transport._transport  # the blob and queue clients wrap it
        assert transport.connection_config.read_timeout == 1.5
