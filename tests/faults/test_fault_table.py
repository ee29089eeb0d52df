"""Every dependency in every kind of trouble, a cell each: nothing lost, nothing twice, the newest stands, by itself."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from local.tenant import RunningTenant, running
from shared.identity.tokens import Identity, build_identity
from shared.settings import load
from shared.storage.azure import ensure
from tests.faults.table import DEPENDENCIES, FAULTS, TABLE, WORDS, Dependency
from tests.support.desk import Backdoor, Desk
from tests.support.proxy import Fault, StorageProxy, proxied
from tests.support.stacklab import leaks

PRIVATE = "10.0.0.1"
SINKING = "sinking.fault.example"
CHANGED = [f"changed{n}.fault.example" for n in range(4)]
SIGN_IN = ("entra", "identity", "vault")
CELLS = [(dependency, fault) for dependency in DEPENDENCIES for fault in FAULTS]
# These hit each operation once or twice and are over by themselves; the others last until the first round is over.
BRIEF = {"slow": 1, "429_header": 1, "reset": 2, "reset_mid_body": 2, "garbage": 2, "half": 2, "lost": 2}


@pytest.fixture(scope="module")
def tenant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningTenant]:
    with running(tmp_path_factory.mktemp("tenant")) as made:
        many = [[1_000_000, 60]]
        made.admin.rules(
            limits=dict.fromkeys(("list", "get", "submit", "delete", "import", "batch_delete"), many),
            service_time=dict.fromkeys(("list", "get", "submit", "delete", "import", "batch_delete"), 0),
        )
        yield made


@pytest.fixture(scope="module")
def back(azurite: str) -> Iterator[Backdoor]:
    made = Backdoor(azurite)
    ensure(made.connection)
    yield made
    made.close()


@pytest.fixture(scope="module")
def proxy(azurite: str) -> Iterator[StorageProxy]:
    with proxied(azurite) as made:
        yield made


@pytest.fixture(scope="module")
def signed_in(tenant: RunningTenant) -> Iterator[Identity]:
    """One that has its token, for all whose trouble is another."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in tenant.environment().items():
            patch.setenv(name, value)
        made = build_identity(load())
        made.tokens.get()
    yield made


@pytest.fixture
def calm(tenant: RunningTenant, proxy: StorageProxy, back: Backdoor) -> Iterator[None]:
    """Nothing is stored, nothing is held, nothing is wrong: before and after."""
    tenant.admin.reset()
    back.empty()
    yield
    proxy.lift()
    for service in ("defender", "entra", "vault", "identity"):
        tenant.admin.up(service)
    tenant.admin.clock(0)
    tenant.admin.poison(SINKING, None)
    tenant.admin.clear_faults()


class Trouble:
    """One fault of one dependency: put into force, lifted, and whether it was met."""

    def __init__(self, what: Dependency, fault: str, tenant: RunningTenant, proxy: StorageProxy) -> None:
        self.what = what
        self.fault = fault
        self.tenant = tenant
        self.proxy = proxy
        self.put: Fault | None = None
        self.ids: list[int] = []
        self.was_met = False
        self.offset = {"clock_ahead": 60.0, "clock_behind": -60.0}.get(fault, 0.0)
        self.queue_offset = self.offset if what.kind == "queue" else 0.0

    def begin(self) -> None:
        """From now on."""
        if self.what.kind == "tenant":
            self._of_tenant()
        elif self.offset:
            self.proxy.clock(self.offset if self.what.kind == "table" else 0.0)
        else:
            self._of_storage()

    def _of_storage(self) -> None:
        status = int(self.fault[:3]) if self.fault[0].isdigit() else 500
        kind: Any = {"reset_mid_body": "reset_mid"}.get(self.fault, "status" if status != 500 else self.fault)
        kind = "status" if self.fault[0].isdigit() else kind
        headers = {"Retry-After": "1"} if self.fault == "429_header" else {}
        service: Any = self.what.kind
        self.put = self.proxy.put(
            Fault(service, self.what.name, kind, BRIEF.get(self.fault), status, headers, seconds=0.8)
        )

    def _of_tenant(self) -> None:
        admin = self.tenant.admin
        if self.offset:
            admin.clock(self.offset)
            return
        if self.fault == "down" and self.what.routes[0] not in ("list", "delete"):
            admin.down(self.what.name, "refuse")
            return
        times = BRIEF.get(self.fault)
        for route in self.what.routes:
            if self.fault == "down":
                self._fault(route, "reset", times=None)
            elif self.fault == "slow":
                # The API's time limit is a second here; for a token the SDK waits ten.
                slow = self.what.name == "defender"
                self._fault(route, "slow_answer" if slow else "slow", times=1, seconds=1.3 if slow else 0.7)
            elif self.fault.startswith("429"):
                said = {
                    "error": {"code": "429", "message": "Too many requests. Try again in 1 seconds.", "target": "|0."}
                }
                headers = {"Retry-After": "1"} if self.fault == "429_header" else {}
                self._fault(route, "status", times=1, status=429, headers=headers, body=said)
            elif self.fault.isdigit():
                said = {"error": {"code": "OnPurpose", "message": "on purpose", "target": "|0."}}
                self._fault(route, "status", times=None, status=int(self.fault), body=said)
            else:
                kind = {"reset_mid_body": "reset_mid"}.get(self.fault, self.fault)
                self._fault(route, kind, times=times)

    def _fault(self, route: str, kind: str, **options: Any) -> None:
        self.ids.append(self.tenant.admin.fault(route, kind, **options))

    def pause_over(self) -> None:
        """The first round is over: what lasts ends here; what is brief goes on, and a wrong clock stays wrong."""
        self.met()
        if self.fault in BRIEF or self.offset:
            return
        if self.what.kind == "tenant":
            self.tenant.admin.up(self.what.name)
            self.tenant.admin.clear_faults()
        else:
            self.proxy.lift()

    def met(self) -> bool:
        """Whether the trouble was run into."""
        if self.offset or (self.fault == "down" and not self.ids and self.put is None):
            self.was_met = True
        elif self.put is not None:
            self.was_met |= bool(self.put.used)
        else:
            left = {row["id"]: row["used"] for row in self.tenant.admin.request("GET", "faults")["value"]}
            self.was_met |= any(left.get(number, 1) > 0 for number in self.ids)
        return self.was_met


def one(value: str, action: str = "Block") -> dict[str, Any]:
    return {"indicatorValue": value, "action": action}


@pytest.mark.parametrize(("dependency", "fault"), CELLS, ids=[f"{dependency}-{fault}" for dependency, fault in CELLS])
async def test_cell(
    dependency: str,
    fault: str,
    calm: None,
    signed_in: Identity,
    record_property: Callable[[str, object], None],
    tenant: RunningTenant,
    proxy: StorageProxy,
    back: Backdoor,
) -> None:
    trouble = Trouble(DEPENDENCIES[dependency], fault, tenant, proxy)
    if trouble.offset:
        trouble.begin()  # a clock that is off was so before: one that jumps back is another trouble
    signs_in = dependency in SIGN_IN
    identity = None if signs_in else signed_in
    desk = Desk(proxy, back, tenant, identity=identity, queue_offset=trouble.queue_offset, impatient=fault == "slow")
    try:
        # Accepted before, and to be changed to another action under trouble: that takes lists and deletions. A worker
        # that is to sign in under trouble has not done anything before.
        before = None if signs_in else await desk.submit("before", [one(value) for value in CHANGED])
        if before:
            await desk.settle()
        # An older intent on its way, and a newer one that is sent under trouble.
        older = await desk.submit("older", [one("both.fault.example")])
        await play(desk, trouble, before, older)
    finally:
        await desk.close()
    shown = outcome(desk)
    record_property("outcome", f"{dependency} {fault} {shown}")
    assert trouble.met()
    assert WORDS.index(shown) <= WORDS.index(TABLE[dependency][fault]), f"{shown}: worse than the table says"
    unexpected = [name for name in desk.seen if name.startswith("unexpected")]
    assert not unexpected
    key = re.findall(r"AccountKey=([^;]+)", proxy.connection_string)[0]
    secrets = {"client secret": tenant.client_secret, "identity header": tenant.identity_header, "storage key": key}
    assert not leaks({"the log": desk.log.getvalue()}, secrets)


def outcome(desk: Desk) -> str:
    """The most that anybody saw of it."""
    seen = {
        "asked again": desk.seen["asked again"],
        "redelivered": desk.seen["redelivered"],
        "deferred": '"event": "deferred"' in desk.log.getvalue(),
    }
    return next((word for word, found in seen.items() if found), "unseen")


async def play(desk: Desk, trouble: Trouble, before: str | None, older: str) -> None:
    await asyncio.to_thread(trouble.begin)
    expected: dict[str, dict[str, int]] = {before: {"accepted": len(CHANGED)}} if before else {}
    expected[await desk.put(one("foreign.fault.example"))] = {"accepted": 1}
    bad = await desk.put("this is no JSON")
    expected[bad] = {"rejected": 1}
    several = [one("a.fault.example"), one(PRIVATE), *(one(value, "Audit") for value in CHANGED)]
    if trouble.what.name == "suspects":
        # One that sinks the whole call it is in: the table is needed to find out which.
        desk.tenant.admin.poison(SINKING)
        expected[await desk.put(one(SINKING))] = {"rejected": 1}
    callers = [
        asyncio.ensure_future(desk.submit("several", several, incident="1234")),
        asyncio.ensure_future(desk.submit("newer", [one("both.fault.example", "Audit")])),
    ]
    await asyncio.wait(callers, timeout=0.2)
    for _ in range(4):
        await desk.round()
        if await asyncio.to_thread(trouble.met):
            break
        await asyncio.sleep(0.3)  # what was put off comes next
    await asyncio.to_thread(trouble.pause_over)
    known = await desk.settle(*callers)
    expected[callers[0].result()] = {"accepted": len(CHANGED) + 1, "rejected": 1}
    expected[callers[1].result()] = {"accepted": 1}
    found = {
        name: {state: number for state, number in one.fold.counts().items() if number and state != "submitted"}
        for name, one in known.items()
    }
    # The older one was accepted and then replaced, or never needed to be sent.
    assert found.pop(older) in ({"accepted": 1}, {"superseded": 1})
    assert found == expected, desk.log.getvalue()[-3000:]
    held = sorted((row["indicatorValue"], row["action"]) for row in desk.tenant.admin.indicators())
    wanted = [(value, "Audit") for value in (*CHANGED, "both.fault.example")]
    wanted += [(f"{name}.fault.example", "Block") for name in ("a", "foreign")]
    assert held == sorted(wanted)
    letters = await desk.back.rows("deadletters")
    assert [row.rk for row in letters] == [f"x{bad}"]
