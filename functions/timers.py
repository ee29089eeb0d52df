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
    await relay().publishing.sweeper.overdue()


@bp.function_name("Poison")
@bp.timer_trigger(arg_name="timer", schedule="40 * * * * *", run_on_startup=False, use_monitor=False)
async def poison(timer: func.TimerRequest) -> None:
    """Make dead letters of what is in the poison queue."""
    await relay().publishing.sweeper.poison()


@bp.function_name("Heartbeat")
@bp.timer_trigger(arg_name="timer", schedule="0 * * * * *", run_on_startup=False, use_monitor=False)
async def heartbeat(timer: func.TimerRequest) -> None:
    """One sign of life a minute, with what waits."""
    metrics = telemetry.metrics()
    metrics.heartbeat()
    waiting = await relay().publishing.sweeper.waiting()
    metrics.queue_depth(waiting.depth)
    metrics.oldest_pending(waiting.oldest)


@bp.function_name("Retention")
@bp.timer_trigger(arg_name="timer", schedule="0 17 3 * * *", run_on_startup=False, use_monitor=True)
async def retention(timer: func.TimerRequest) -> None:
    """Forget what is past its time."""
    await relay().publishing.sweeper.retention()
