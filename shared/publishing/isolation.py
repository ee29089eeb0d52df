"""The message that kills its worker: found out, and put aside alone, so that its neighbours live.

From its fourth delivery on a message joins no call with others. One such attempt at a time in a worker: `started` is
written, the work done, `ended` written. Two starts without an end mean that it killed its worker twice while it was
alone: it goes to the dead letters. A stored part of several items is split in halves instead, until one is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from shared.errors import StorageError
from shared.ledger.submissions import Submissions

DEATHS = 2
PATIENCE = 180.0  # seconds to wait for the turn; well under the host's functionTimeout


class Isolation:
    """One lonely attempt at a time in this worker."""

    def __init__(self, submissions: Submissions) -> None:
        self._submissions = submissions
        self._turn = asyncio.Lock()

    async def attempt(
        self, name: str, alone: Callable[[], Awaitable[None]], killer: Callable[[], Awaitable[None]]
    ) -> None:
        """Run `alone`, or `killer` when two attempts under this name began and never ended.

        `name` has a submission's form: it is made from the queue message, so that every delivery finds it.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                await self._turn.acquire()
        except TimeoutError:
            raise StorageError("too many messages wait to be tried alone; this one comes again") from None
        try:
            started, ended = await self._submissions.attempts(name)
            if started - ended >= DEATHS:
                await killer()
                return
            await self._submissions.mark(name, "s", started)
            try:
                await alone()
            finally:
                # An error is no death: the worker lives, and the message will come again.
                await self._submissions.mark(name, "e", started)
        finally:
            self._turn.release()
