"""An event loop whose time is not the machine's: it jumps to the next timer when nothing is left to do."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any

START = 1_790_000_000.0


class _Selector(selectors.SelectSelector):
    """Never waits: what it would have waited for is added to the loop's time."""

    def __init__(self) -> None:
        super().__init__()
        self.elapsed = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("nothing is left to do, and nothing will happen: a task waits for ever")
        if timeout <= 0.0:
            return []  # callbacks are due; sockets are looked at before time passes (one look costs as much as a step)
        ready = super().select(0)
        if not ready:
            self.elapsed += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)
        # After half a year of virtual time a nanosecond is lost in rounding, and a timer that is due would never be.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self._virtual.elapsed

    def run_in_executor[*A, T](
        self, executor: Executor | None, func: Callable[[*A], T], *args: *A
    ) -> asyncio.Future[T]:
        """At once: a thread would take real time while the virtual time runs on without it."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future


class VirtualClock:
    """shared.storage.protocols.Clock on the running loop's virtual time; `skew` seconds off the service's clock."""

    def __init__(self, skew: float = 0.0) -> None:
        self.skew = skew

    def now(self) -> float:
        return START + asyncio.get_running_loop().time() + self.skew


def service_now() -> float:
    """The service's own clock."""
    return START + asyncio.get_running_loop().time()


def run[T](main: Coroutine[Any, Any, T]) -> T:
    """Run to the end in virtual time; tasks that are left are cancelled."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
