"""The timers: what makes sure of everything that no message does."""

from __future__ import annotations

import azure.functions as func

from shared import telemetry
from shared.relay import relay

bp = func.Blueprint()


@bp.function_name("Sweep")
@bp.timer_trigger(arg_name="timer", schedule="20 * * * * *", run_on_startup=False, use_monitor=False)
async def sweep(timer: func.TimerRequest) -> None:
    """Point again to parts whose pointer is overdue."""
    app = relay().publishing
    await app.sweeper.overdue()
    await app.presence.ran("Sweep")


@bp.function_name("Poison")
@bp.timer_trigger(arg_name="timer", schedule="40 * * * * *", run_on_startup=False, use_monitor=False)
async def poison(timer: func.TimerRequest) -> None:
    """Make dead letters of what is in the poison queue."""
    app = relay().publishing
    await app.sweeper.poison()
    await app.presence.ran("Poison")


@bp.function_name("Heartbeat")
@bp.timer_trigger(arg_name="timer", schedule="0 * * * * *", run_on_startup=False, use_monitor=False)
async def heartbeat(timer: func.TimerRequest) -> None:
    """One sign of life a minute, with what waits, what stops it and how full things are; a pause may end by it."""
    metrics = telemetry.metrics()
    metrics.heartbeat()
    app = relay().publishing
    paused, held = await app.operations.stops()
    metrics.stopped(app.stores.clock.now() - paused.since if paused else 0.0, held)
    waiting = await app.sweeper.waiting()
    metrics.queue_depth(waiting.depth)
    metrics.oldest_pending(waiting.oldest)
    await app.presence.ran("Heartbeat")
    await relay().levels.tell(metrics)


@bp.function_name("Retention")
@bp.timer_trigger(arg_name="timer", schedule="0 17 3 * * *", run_on_startup=False, use_monitor=True)
async def retention(timer: func.TimerRequest) -> None:
    """Forget what is past its time."""
    app = relay().publishing
    await app.sweeper.retention()
    await app.presence.ran("Retention")
