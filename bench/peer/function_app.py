"""The peer: receives a message, writes one row of it by an insert of its own, and lets the host delete it.

The same trigger, host.json, SDK, client and pool of threads as the relay's own; it decodes nothing, guards nothing,
publishes nothing and shares no transaction.
"""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor

import azure.functions as func

from shared.ledger import ids
from shared.settings import Settings
from shared.storage.azure import AzureTables
from shared.storage.clock import ServiceClock
from shared.storage.connection import NAME, QUEUE, StorageConnection
from shared.storage.protocols import Row

app = func.FunctionApp()


@functools.cache
def _tables() -> AzureTables:
    pool = ThreadPoolExecutor(Settings().pool_threads)
    return AzureTables(StorageConnection.from_environment(os.environ), pool, ServiceClock())


@app.function_name("Publish")
@app.queue_trigger(arg_name="msg", queue_name=QUEUE, connection=NAME)
async def publish(msg: func.QueueMessage) -> None:
    """One row for one message; an error gives the message back to the queue."""
    if msg.id is None or msg.insertion_time is None:
        raise RuntimeError("the host gave a message without its id or insertion time")
    name = ids.foreign_submission(msg.id, msg.insertion_time)
    await _tables().insert("submissions", Row(ids.partition(name), f"{name}|h", {"body": msg.get_body()}))
