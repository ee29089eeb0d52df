"""Suspects: the one that sinks a call is found, whatever happens meanwhile, and nobody is rejected on a hunch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from shared.errors import BatchRefusedError, DefenderError, UnavailableError
from tests.support import virtual
from tests.support.rig import Host, Rig


def value(n: int) -> str:
    return f"h{n}.evil-domain.com"


def message(n: int, **fields: Any) -> dict[str, Any]:
    return {"indicatorValue": value(n), "action": "Block", **fields}


async def with_control(rig: Rig) -> Host:
    host = Host(rig, rig.worker())
    rig.put(message(1000))
    await host.drain(5.0)
    return host


@pytest.mark.parametrize("bad", [0, 37, 63])
def test_an_outage_during_the_search_frees_nobody_from_suspicion(bad: int) -> None:
    async def main() -> None:
        rig = Rig()
        host = await with_control(rig)
        calls = 0

        def fault(payloads: Sequence[dict[str, Any]]) -> DefenderError | None:
            nonlocal calls
            calls += 1
            if 2 <= calls < 8:
                return UnavailableError("down", status=503)
            values = {payload["indicatorValue"] for payload in payloads}
            if value(bad) in values:
                sunk.update(values)
                return BatchRefusedError("400", message_text="Request body is incorrect")
            return None

        sunk: set[str] = set()
        rig.tenant.fault = fault
        name = rig.put({"indicators": [message(n) for n in range(64)]})
        await host.serve(30.0)
        others = []
        for n in range(600):
            others.append(rig.put(message(2000 + n)))
            await host.serve(asyncio.get_running_loop().time() + 0.5)
        await host.drain(8000.0)
        counts = (await rig.read(name)).fold.counts()
        assert (counts["accepted"], counts["rejected"]) == (63, 1)
        assert sunk <= {value(n) for n in range(64)}, "others were sunk with it"
        for other in others:
            assert (await rig.read(other)).fold.counts()["accepted"] == 1

    virtual.run(main())


def test_no_permit_for_a_control_is_no_sign_that_everything_is_refused() -> None:
    async def main() -> None:
        rig = Rig()
        host = await with_control(rig)
        worker = host.publishing
        rig.tenant.sinking.add(value(1))
        sent = 0
        inner = worker.suspects.send

        async def send(batch: Any, deadline: float) -> Any:
            nonlocal sent
            sent += 1
            return None if sent == 2 else await inner(batch, deadline)

        worker.suspects.send = send  # type: ignore[method-assign]
        name = rig.put(message(1))
        await host.drain(2000.0)
        assert sent > 2
        assert (await rig.read(name)).fold.counts()["rejected"] == 1
        assert "defender_refuses_all" not in [kind for kind, _ in rig.tell.alarms]

    virtual.run(main())


def test_a_control_does_not_bring_back_an_older_intent() -> None:
    async def main() -> None:
        rig = Rig()
        await with_control(rig)
        await asyncio.sleep(2.0)
        armed = True

        async def gate(when: str, what: str) -> None:
            # The control has been chosen; before it is sent somebody changes that very indicator.
            nonlocal armed
            if armed and (when, what) == ("after", "get intents") and found:
                armed = False
                rig.put(message(1000, action="Audit"))
                await Host(rig, rig.worker()).serve(asyncio.get_running_loop().time() + 20.0)
            if (when, what) == ("after", "get suspects"):
                found.append(True)

        found: list[bool] = []
        rig.tenant.sinking.add(value(1))
        rig.put(message(1))
        await Host(rig, rig.worker(gate=gate)).drain(2000.0)
        assert not armed
        assert rig.tenant.actions(value(1000)) == ["Audit"]

    virtual.run(main())
