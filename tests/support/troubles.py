"""What may befall a worker of the memory stores at one of its operations."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from shared.errors import StorageError, UnavailableError
from tests.support.fakes import TooLateError
from tests.support.memory import Killed
from tests.support.rig import Host

if TYPE_CHECKING:
    from tests.support.crash import World

AT_DEFENDER = frozenset({"import", "list", "delete"})
_SLOW = 70.0  # seconds: longer than anybody waits
_LATER = 30.0  # seconds after its caller has gone, Defender carries a call out: less than until it is tried again


def fail(what: str) -> None:
    """The operation fails. Raises as storage or Defender does."""
    if what in AT_DEFENDER:
        raise UnavailableError("the connection broke")
    raise StorageError("storage did not answer")


async def befall(host: Host, trouble: str, when: str, what: str) -> None:
    """`trouble` is kill, fail, slow, or again: a lease is lost, and what is in flight is delivered once more beside it.

    Slow is a worker that stands still; at Defender it is an answer that does not come within the time limit, and
    before the work a call that is carried out when nobody waits for it any more. Raises what the worker is to see.
    """
    match trouble:
        case "kill":
            host.die()
            raise Killed
        case "fail":
            fail(what)
        case "slow" if what in AT_DEFENDER:
            await asyncio.sleep(host.rig.settings.call_timeout)
            raise TooLateError(_LATER) if when == "before" else UnavailableError("no answer in time")
        case "slow":
            await asyncio.sleep(_SLOW)
            if host.dead:
                raise Killed
        case "again":
            service = host.rig.service
            for message in service.messages.values():
                message[0] = min(message[0], service.now())
        case _:
            raise ValueError(trouble)


class Troubled:
    """A worker's gate: what befalls it at its n-th point is in `plan`. Give it its `host` before it is used."""

    def __init__(self, world: World, plan: dict[int, str]) -> None:
        self.world = world
        self.plan = plan
        self.points = 0
        self.host: Host | None = None

    async def __call__(self, when: str, what: str) -> None:
        assert self.host is not None
        if self.host.dead:
            raise Killed
        self.points += 1
        if when == "after" and what.endswith("submissions"):
            self.world.check_sums()
        if trouble := self.plan.pop(self.points, ""):
            self.met(trouble, what)
            await befall(self.host, trouble, when, what)

    def met(self, trouble: str, what: str) -> None:
        """Told of each trouble that is run into."""
