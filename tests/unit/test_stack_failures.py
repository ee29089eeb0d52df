"""Many messages that fail together by one fault of storage: what each of them costs."""

from __future__ import annotations

import asyncio
import traceback
from datetime import UTC, datetime

import pytest

from shared.errors import StorageError
from shared.publishing.deliver import Delivery
from tests.support import virtual
from tests.support.rig import Rig
from tests.support.virtual import service_now

MESSAGES = 300


def test_three_hundred_messages_that_fail_together_tell_it_in_a_few_lines_each() -> None:
    """One error raised by all of them would grow by a few frames each time, and telling it by its square."""

    async def main() -> None:
        broken: list[str] = []

        async def gate(when: str, what: str) -> None:
            if when == "before" and what.startswith("transact"):
                broken.append(what)
                raise StorageError("a transaction failed")

        rig = Rig()
        deliveries = rig.worker(gate=gate).deliveries
        inserted = datetime.fromtimestamp(service_now(), UTC).replace(microsecond=0)
        bodies = [f'{{"indicatorValue": "n{n}.together.com", "action": "Audit"}}'.encode() for n in range(MESSAGES)]
        results = await asyncio.gather(
            *(deliveries.deliver(Delivery(f"m{n}", inserted, 1, body)) for n, body in enumerate(bodies)),
            return_exceptions=True,
        )
        assert broken
        assert all(isinstance(result, StorageError) for result in results)
        told = [
            len("".join(traceback.format_exception(result))) for result in results if isinstance(result, StorageError)
        ]
        assert len(told) == MESSAGES
        assert max(told) < 10_000
        assert len({id(result) for result in results}) == MESSAGES

    virtual.run(main())


def test_an_error_nobody_foresaw_is_told_with_its_cause() -> None:
    async def main() -> None:
        async def gate(when: str, what: str) -> None:
            if when == "before" and what.startswith("transact"):
                raise KeyError("what")

        rig = Rig()
        inserted = datetime.fromtimestamp(service_now(), UTC).replace(microsecond=0)
        body = b'{"indicatorValue": "n.unforeseen.com", "action": "Audit"}'
        with pytest.raises(RuntimeError, match="KeyError") as told:
            await rig.worker(gate=gate).deliveries.deliver(Delivery("m", inserted, 1, body))
        assert isinstance(told.value.__cause__, KeyError)

    virtual.run(main())
