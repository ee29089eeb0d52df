"""How full the tenant is and how long the secret lasts: asked for once an hour, told each minute, never in the way."""

from __future__ import annotations

import asyncio

import pytest

from shared.errors import RelayError, UnavailableError, VaultError
from shared.identity.vault import Secret, SecretSource
from shared.looking.capacity import Capacity
from shared.looking.levels import AGAIN, EVERY, FIRST_AFTER, Levels
from shared.looking.permits import Looks
from shared.looking.ports import Who
from shared.publishing.budget import Budget
from shared.settings import Limit
from shared.telemetry import Metrics
from tests.support import virtual
from tests.support.listing import FakeLister, row
from tests.support.memory import MemoryTables, Service

DAY = 86_400.0


class Desk:
    """Levels of a tenant that may hold a thousand indicators, in virtual time."""

    def __init__(self, held: int = 820, who: Who | None = None) -> None:
        self.lister = FakeLister(rows=[row(n) for n in range(held)])
        if who is not None:
            self.lister.who_ = who
        self.clock = virtual.VirtualClock()
        tables = MemoryTables(Service(virtual.service_now))
        budgets = [Budget(tables, self.clock, route, (Limit(100, 63.0),)) for route in ("look", "list")]
        self.vault: list[Secret | VaultError] = []
        self.read = 0
        self.secrets = SecretSource(self._read, max_age=3600.0, clock=self.clock.now)
        capacity = Capacity(Looks(self.lister, *budgets, self.clock), 1000, budgets)
        self.levels = Levels(self.clock, capacity, 1000, self.secrets, self.lister.run)
        self.metrics = Metrics(clock=self.clock.now)

    def _read(self) -> Secret:
        self.read += 1
        answer = self.vault[0]
        if isinstance(answer, VaultError):
            raise answer
        return answer

    async def minutes(self, number: int) -> list[tuple[float | None, float | None]]:
        """What each of so many heartbeats leaves in the gauges."""
        told = []
        for _ in range(number):
            await self.levels.tell(self.metrics)
            told.append((self.metrics.gauge("capacity"), self.metrics.gauge("secret_days")))
            await asyncio.sleep(60.0)
        return told


def secret(days: float | None) -> Secret:
    return Secret("s", "v1", None if days is None else virtual.START + days * DAY)


def test_levels_are_asked_for_once_an_hour_and_told_each_minute() -> None:
    async def hours() -> None:
        desk = Desk()
        desk.vault = [secret(30.0)]
        told = await desk.minutes(130)
        first = int(FIRST_AFTER // 60)
        assert [percent for percent, _ in told[:first]] == [None] * first, "a process that has just begun asks nothing"
        assert {percent for percent, _ in told[first + 1 :]} == {82.0}
        assert len(desk.lister.calls) == 3 and desk.read == 3, "each hour anew, and not each minute"
        days = [left for _, left in told if left is not None]
        assert len(days) == 130 and days == sorted(days, reverse=True) and days[0] == pytest.approx(30.0, abs=0.01)

    virtual.run(hours())


@pytest.mark.parametrize("error", [UnavailableError("503"), None])
def test_levels_that_cannot_be_asked_are_left_out_and_tried_again(error: RelayError | None) -> None:
    async def hour() -> None:
        desk = Desk()
        desk.vault = [VaultError("the vault cannot be reached")]
        desk.lister.before = lambda number: error if error and number == 1 else None
        if error is None:
            desk.lister.rows = []
        told = await desk.minutes(40)
        assert {left for _, left in told} == {None}
        percents = [percent for percent, _ in told if percent is not None]
        assert set(percents) == ({82.0} if error else {0.0})
        late = int((FIRST_AFTER + (AGAIN if error else 0)) // 60)
        assert 40 - late - 1 <= len(percents) <= 40 - late
        desk.vault = [secret(0.5)]
        assert (await desk.minutes(1))[0][1] == pytest.approx(0.5, abs=0.1)

    virtual.run(hour())


def test_levels_an_old_count_is_told_no_more() -> None:
    async def day() -> None:
        desk = Desk()
        desk.vault = [secret(None)]
        assert (await desk.minutes(10))[-1] == (82.0, None), "a secret without an expiry has no days"
        desk.lister.before = lambda _number: UnavailableError("503")
        told = await desk.minutes(int(4 * EVERY // 60))
        assert told[100][0] == 82.0 and told[-1][0] is None

    virtual.run(day())


def test_levels_without_a_secret_and_with_own_indicators_only() -> None:
    async def minutes() -> None:
        desk = Desk(500, Who("app-1", "own"))
        desk.levels = Levels(desk.clock, desk.levels._capacity, 1000, None, desk.lister.run)
        assert (await desk.minutes(10))[-1] == (50.0, None)
        assert desk.read == 0

    virtual.run(minutes())
