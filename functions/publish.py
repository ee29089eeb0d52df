"""The queue door: one call per message of the queue `indicators`."""

from __future__ import annotations

import asyncio

import azure.functions as func

from shared.errors import RelayError
from shared.publishing.deliver import Delivery
from shared.publishing.failures import pause
from shared.relay import relay
from shared.settings import Settings
from shared.storage.connection import NAME, QUEUE

bp = func.Blueprint()


@bp.function_name("Publish")
@bp.queue_trigger(arg_name="msg", queue_name=QUEUE, connection=NAME)
async def publish(msg: func.QueueMessage) -> None:
    """Publish a message; returns when every item's fate is written. An error gives the message back to the queue."""
    if msg.id is None or msg.insertion_time is None:
        raise RuntimeError("the host gave a message without its id or insertion time")
    delivery = Delivery(msg.id, msg.insertion_time, msg.dequeue_count or 1, msg.get_body())
    first = Settings().failure_pause
    try:
        app = relay()
        first = app.settings.failure_pause
        with app.publishing.presence.working():
            await app.publishing.deliveries.deliver(delivery)
    except RelayError:
        await asyncio.sleep(pause(delivery.dequeue_count, first))
        raise
