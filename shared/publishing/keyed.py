"""Requests with an Idempotency-Key: one submission however often, and however broken off, the same request is sent.

A request is a run of its key's submission. Each run stores parts under names of its own; the header, which only one
run can insert, says whose parts count. So a run that is taken for dead, and is not, does no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from shared.errors import IntakeError, KeyBusyError, KeyReuseError, StorageError
from shared.ledger.idempotency import Idempotency, Record, refusal_of
from shared.ledger.submissions import Header, Submissions
from shared.ledger.verdicts import Verdict, Verdicts

PATIENCE = 20.0  # seconds for which the second of two equal requests waits for the first
_POLL = 0.1
_POLL_MOST = 1.0

# What a run does: stores the submission, and tells its verdicts; None when another run's header was there first.
type Run = Callable[[Record], Awaitable[tuple[Verdict, ...] | None]]


class Keyed:
    """Finds out what a key stands for, and lets one run at a time store it."""

    def __init__(self, idempotency: Idempotency, submissions: Submissions, verdicts: Verdicts) -> None:
        self._idempotency = idempotency
        self._submissions = submissions
        self._verdicts = verdicts

    async def take(
        self,
        name: str,
        sha256: str,
        *,
        room: Callable[[], AbstractAsyncContextManager[object]],
        run: Run,
        point: Callable[[Header], Awaitable[None]],
    ) -> tuple[str, tuple[Verdict, ...], bool]:
        """(submission, its verdicts, whether they are an earlier request's).

        room: what to hold while a body is read and stored; point: sees to it that a stored submission goes its way.
        Raises KeyReuseError, KeyBusyError, what `run` raises, and what it raised the first time for a refused body.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + PATIENCE
        pause = _POLL
        while True:
            known = await self._idempotency.find(name)
            stands = known is not None and self._idempotency.stands(known)
            if known is not None and stands:
                run_of = await self._settled(known, sha256)
                if run_of is not None:
                    return known.submission, await self._kept(known.submission, run_of), True
                left = self._idempotency.left(known)
                if left > 0:
                    if loop.time() + pause > until:
                        raise KeyBusyError(
                            f"The request that first brought this Idempotency-Key, submission {known.submission}, has "
                            "not ended yet.",
                            retry_after=min(left, 10.0),
                            remediation="Send it again, with the same key and body, after Retry-After.",
                        )
                    await asyncio.sleep(pause)
                    pause = min(pause * 1.5, _POLL_MOST)
                    continue
            async with room():
                record = await self._idempotency.claim(name, sha256, known)
                if record is not None:
                    if known is not None and not stands:
                        await self._verdicts.forget(known.submission, known.runs)
                    return await self._go(record, run, point)

    async def _settled(self, known: Record, sha256: str) -> str | None:
        """Which run's answer stands, when there is one to be given now.

        Raises KeyReuseError for another body, and the refusal of a refused one.
        """
        if known.sha256 != sha256:
            raise KeyReuseError(
                "This Idempotency-Key came before with another body.",
                remediation="Send a new key with a new body; repeat a request with its key and its body unchanged.",
            )
        if known.state == "refused":
            raise refusal_of(known)
        if known.state == "started" and self._idempotency.left(known) <= 0:
            return None
        header = await self._submissions.header(known.submission)
        if header is None and known.state == "done":
            raise StorageError(f"submission {known.submission} of this key is gone", remediation="Send a new key.")
        return None if header is None else header.run

    async def _go(
        self, record: Record, run: Run, point: Callable[[Header], Awaitable[None]]
    ) -> tuple[str, tuple[Verdict, ...], bool]:
        try:
            header = await self._submissions.header(record.submission) if len(record.runs) > 1 else None
            if header is not None:
                await point(header)
            verdicts = await run(record) if header is None else None
        except IntakeError as error:
            with contextlib.suppress(StorageError):
                await self._idempotency.refused(record, error)
            raise
        except Exception:
            with contextlib.suppress(StorageError):
                await self._idempotency.free(record)
            raise
        # The submission stands, whether this can be written or not: the next one with the key finds the header.
        with contextlib.suppress(StorageError):
            await self._idempotency.done(record)
        if verdicts is not None:
            return record.submission, verdicts, False
        header = header or await self._submissions.header(record.submission)
        if header is None:
            raise StorageError(f"submission {record.submission} is there and is not")
        return record.submission, await self._kept(record.submission, header.run), True

    async def _kept(self, submission: str, run: str) -> tuple[Verdict, ...]:
        verdicts = await self._verdicts.read(submission, run)
        if verdicts is None:
            raise StorageError(
                f"the answer of submission {submission} is gone", remediation="Ask for the submission by its id."
            )
        return verdicts
