"""Operations: everything at one look, what fails is named, and what the heartbeat tells of a stop."""

from __future__ import annotations

import asyncio
import tomllib
from pathlib import Path
from typing import Any

import pytest

from shared.errors import StorageError, UnavailableError
from shared.health import Check, Health, overall, with_pause
from shared.ledger.view import duration, paused_sentence
from shared.publishing.pause import Paused
from shared.publishing.presence import VERSION
from shared.settings import Settings
from tests.support import virtual
from tests.support.rig import Host, Rig

ROOT = Path(__file__).resolve().parents[2]


def message(n: int, **fields: Any) -> dict[str, Any]:
    return {"indicatorValue": f"h{n}.evil-domain.com", "action": "Block", **fields}


def test_everything_at_one_look() -> None:
    async def main() -> None:
        rig = Rig(Settings(unsent_step=600.0))
        worker = rig.worker()
        host = Host(rig, worker)
        done = rig.put(message(1, incident="4711"))
        await host.drain(10.0)
        rig.tenant.fault = lambda _payloads: UnavailableError("down", status=503)
        rig.put(message(2))
        await host.serve(20.0)
        await worker.pauses.pause("the tenant moves", None, "person:1", "Ada")
        await worker.imports.hold(worker.stores.clock.now() + 400.0, "Defender answered 429")
        rig.put({"indicators": [message(n) for n in range(10, 17)]})
        await host.serve(40.0)
        await worker.deliveries.bury("20260921a0000000000000001", b"x", 1.0, "poison", "why")
        with worker.presence.working():
            await asyncio.sleep(1.0)
            told = await worker.operations.look("https://app")
        assert told["problems"] == []
        assert told["paused"]["byName"] == "Ada" and told["paused"]["reason"] == "the tenant moves"
        assert told["pauses"] == [told["pauses"][0]] and told["pauses"][0]["what"] == "pause"
        assert told["queue"]["depth"] == 2 and told["queue"]["poison"] == 0
        assert told["queue"]["oldestPendingSeconds"] > 20
        parts = told["openParts"]
        assert (parts["parts"], parts["items"], parts["deferred"], parts["afterFailure"]) == (2, 8, 2, 1)
        assert parts["soonest"] <= parts["latest"] and parts["complete"]
        [hold] = told["holds"]
        assert (hold["route"], hold["reason"]) == ("import", "Defender answered 429")
        [seen] = told["workers"]
        assert (seen["inFlight"], seen["messages"], seen["version"]) == (1, 1, VERSION)
        assert told["deadLetters"] == {"open": 1, "byReason": {"poison": 1}}
        listed = {one["id"]: one for one in told["submissions"]}
        assert listed[done]["counts"]["accepted"] == 1 and listed[done]["link"] == f"https://app/api/submissions/{done}"
        for part in ("paused since", "by Ada (person:1)", "held until", "8 items", "waits"):
            assert part in told["text"], (part, told["text"])

    virtual.run(main())


def test_a_quiet_app_says_little() -> None:
    async def main() -> None:
        told = await Rig().worker().operations.look()
        assert "paused" not in told and told["holds"] == [] and told["workers"] == [] and told["problems"] == []
        assert told["queue"]["oldestPendingSeconds"] is None
        assert told["text"] == "About 0 messages are queued; 0 items wait in open parts."

    virtual.run(main())


@pytest.mark.parametrize(
    ("broken", "part"),
    [
        ("query open", {"queue", "openParts"}),
        ("query deadletters", {"deadLetters"}),
        ("query index", {"submissions"}),
        ("query permits", {"paused", "holds", "workers", "timers"}),
    ],
)
@pytest.mark.parametrize("how", ["fails", "hangs"])
def test_what_cannot_be_told_is_named_and_the_rest_is_told(broken: str, part: set[str], how: str) -> None:
    async def main() -> None:
        rig = Rig()
        rig.put(message(1))

        async def gate(when: str, what: str) -> None:
            if when == "before" and what == broken:
                if how == "hangs":
                    await asyncio.sleep(10_000.0)
                raise StorageError("storage did not answer")

        began = asyncio.get_running_loop().time()
        told = await rig.worker(gate=gate).operations.look(seconds=15.0)
        assert asyncio.get_running_loop().time() - began < 20.0
        assert {problem["part"] for problem in told["problems"]} == part
        names = {"queue", "openParts", "deadLetters", "submissions", "workers", "timers", "holds", "pauses"}
        missing = {"pauses" if name == "paused" else name for name in part}
        assert names - told.keys() == missing
        assert "Not told: " in told["text"]

    virtual.run(main())


def test_a_worker_tells_of_itself_once_a_minute_while_it_works_and_then_no_more() -> None:
    async def main() -> None:
        rig = Rig()
        writes = 0

        async def gate(when: str, what: str) -> None:
            nonlocal writes
            writes += when == "before" and what == "upsert permits"

        worker = rig.worker(gate=gate)

        async def take(seconds: float) -> None:
            with worker.presence.working():
                await asyncio.sleep(seconds)

        for _ in range(100):
            await asyncio.gather(*(take(1.0) for _ in range(10)))
        assert writes == 2, "100 seconds of work, 1,000 messages"
        await asyncio.sleep(61.0)
        [seen] = await worker.presence.workers()
        assert (seen.in_flight, seen.taken) == (0, 1000), "the last word is how it stands"
        before = writes
        await asyncio.sleep(600.0)
        assert writes - before <= 1
        await take(1.0)
        await asyncio.sleep(1.0)
        assert (await worker.presence.workers())[0].at > seen.at + 600.0
        assert await worker.presence.forget_before(worker.stores.clock.now() - 10.0) == 0
        assert await worker.presence.forget_before(worker.stores.clock.now() + 10.0) == 1

    virtual.run(main())


def test_signs_of_life_that_cannot_be_written_harm_nobody() -> None:
    async def main() -> None:
        rig = Rig()
        broken = True

        async def gate(_when: str, what: str) -> None:
            if broken and what == "upsert permits":
                raise StorageError("storage did not answer")

        worker = rig.worker(gate=gate)
        with worker.presence.working():
            await asyncio.sleep(1.0)
        await worker.presence.ran("Sweep")
        assert await worker.presence.workers() == [] and await worker.presence.timers() == {}
        broken = False
        await asyncio.sleep(130.0)
        [seen] = await worker.presence.workers()
        assert (seen.taken, seen.in_flight) == (1, 0)
        await worker.presence.ran("Sweep")
        assert list(await worker.presence.timers()) == ["Sweep"]

    virtual.run(main())


def test_the_heartbeat_reminds_of_a_standing_pause_each_hour_and_of_a_long_hold_once() -> None:
    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        await worker.pauses.pause("stop", None, "key")
        await worker.imports.hold(worker.stores.clock.now() + 7200.0, "Defender answered 429")
        rig.tell.alarms.clear()
        for _ in range(200):
            paused, held = await worker.operations.stops()
            assert paused is not None
            await asyncio.sleep(60.0)
        kinds = [kind for kind, _ in rig.tell.alarms]
        assert kinds.count("paused") == 3 and kinds.count("held") == 1
        assert held == 0.0
        await worker.pauses.resume("go", "key")
        assert await worker.operations.stops() == (None, 0.0)
        await worker.imports.hold(worker.stores.clock.now() + 8.0, "Defender answered 429")
        assert (await worker.operations.stops())[1] == pytest.approx(8.0)
        assert len(rig.tell.alarms) == 4

    virtual.run(main())


def test_retention_forgets_old_pauses_and_workers() -> None:
    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        await worker.pauses.pause("stop", None, "key")
        await worker.pauses.resume("go", "key")
        with worker.presence.working():
            await asyncio.sleep(1.0)
        await asyncio.sleep(200.0)
        await worker.sweeper.retention()
        assert len(await worker.pauses.log()) == 2 and len(await worker.presence.workers()) == 1
        await asyncio.sleep(3 * 86_400.0)
        await worker.sweeper.retention()
        assert len(await worker.pauses.log()) == 2 and not await worker.presence.workers()
        await asyncio.sleep(90 * 86_400.0)
        await worker.sweeper.retention()
        assert not await worker.pauses.log()

    virtual.run(main())


def test_health_says_that_it_is_paused() -> None:
    fine = Health("ok", (Check("queue", True, "about 0 messages"),))
    paused = Paused(1_790_000_000.0, "key", "", "maintenance", None)
    told = with_pause(fine, {"reason": "maintenance"}, paused_sentence(paused))
    assert told.status == "degraded" == overall(told.checks)
    assert told.as_json()["paused"] == {"reason": "maintenance"}
    [check] = [check for check in told.checks if check.name == "paused"]
    assert check.ok is None and "until somebody resumes" in check.detail and "resume" in check.remedy
    failing = Health("failing", (Check("queue", False, "gone", "mend it"),))
    assert with_pause(failing, {}, "").status == "failing"
    assert "paused" not in fine.as_json()


def test_the_version_is_that_of_the_project() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"] == VERSION


def test_durations_for_people() -> None:
    assert [duration(s) for s in (0.2, 59, 61, 3600, 90_061)] == ["0 s", "59 s", "1 min 1 s", "1 h", "1 d 1 h"]
