"""Allowed and the overriding of guards: over HTTP, with the role for it, and in no other way."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from shared import guard
from shared.errors import UnavailableError
from shared.identity.caller import ADMIN_KEY, FUNCTION_KEY, Role
from shared.indicators.model import Action
from shared.indicators.parse import OVERRIDE_MAX
from shared.intake import read
from shared.intake.contract import Door, Item, Message, Privilege
from shared.ledger.outcomes import State
from shared.publishing.submit import Taken
from shared.settings import Settings
from tests.support import virtual
from tests.support.rig import Host, Rig

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
BOTH = frozenset(Privilege)
NONE: frozenset[Privilege] = frozenset()
APP = "app:11111111-2222-3333-4444-555555555555"
WHY = "sinkhole of ours, ticket 4711"
# (value, reason code of the guard)
OVERRIDABLE = [
    ("10.0.0.1", "private_address"),
    ("169.254.1.1", "link_local_address"),
    ("203.0.113.7", "documentation_address"),
    ("127.0.0.1", "reserved_address"),
    ("fc00::1", "private_address"),
    ("http://10.0.0.1/a", "private_address"),
    ("co.uk", "public_suffix"),
    ("https://github.io/a", "public_suffix"),
    ("http://intranet/", "single_label"),
]
NEVER = [("::ffff:10.0.0.1", "reserved_address"), ("http://[::ffff:8.8.8.8]/", "reserved_address")]


def take(
    *items: Any,
    privileges: frozenset[Privilege] = BOTH,
    door: Door = Door.HTTP,
    settings: Settings | None = None,
    **batch: Any,
) -> tuple[Item, ...]:
    body = json.dumps({"indicators": items, **batch}).encode()
    message = read(body, door=door, now=NOW, settings=settings or Settings(), privileges=privileges, caller=APP)
    assert isinstance(message, Message)
    return message.items


def reason(item: Item) -> str:
    assert (item.problem is None) != (item.indicator is None)
    return item.problem.reason if item.problem else ""


def test_the_privileges_are_the_roles_that_give_them_and_no_key_has_them() -> None:
    assert {privilege.value for privilege in Privilege} == {Role.OVERRIDE.value, Role.ALLOW.value}
    for caller in (FUNCTION_KEY, ADMIN_KEY):
        assert not {role.value for role in caller.roles} & {privilege.value for privilege in Privilege}


@pytest.mark.parametrize(("value", "code"), OVERRIDABLE)
def test_a_guard_is_overridden_by_who_may_with_a_reason(value: str, code: str) -> None:
    [item] = take({"value": value, "action": "Block", "override": f" {WHY} "})
    assert item.indicator is not None and item.overridden == (code,)
    assert item.notes[-1] == f"guard {code} overridden by {APP}: {WHY}"
    [item] = take({"value": value, "action": "Block"})
    assert reason(item) == code and not item.overridden


@pytest.mark.parametrize(("value", "code"), NEVER)
def test_what_cannot_be_overridden_is_rejected_in_words(value: str, code: str) -> None:
    [item] = take({"value": value, "action": "Block", "override": WHY})
    assert reason(item) == code and item.problem and "cannot be overridden" in item.problem.text


def test_what_is_wrong_with_the_item_itself_is_not_for_overriding() -> None:
    items = take("10.0.0.0/8", "no value", {"value": "10.0.0.1", "colour": "red"}, defaults={"override": WHY})
    assert not any(item.indicator for item in items) and not any(item.overridden for item in items)


def test_an_override_that_nothing_needs_is_noted() -> None:
    [item] = take({"value": "evil-domain.com", "override": WHY})
    assert item.indicator is not None and not item.overridden and "not needed" in item.notes[-1]


def test_defaults_may_hold_the_reason_and_an_item_its_own() -> None:
    first, second, third = take(
        "10.0.0.1", {"value": "10.0.0.2", "Override": "another"}, {"value": "10.0.0.3", "override": None},
        defaults={"override": WHY},
    )  # fmt: skip
    assert WHY in first.notes[-1] and second.notes[-1].endswith(": another") and WHY in third.notes[-1]


@pytest.mark.parametrize("why", ["", "  ", "a\nb", "x" * (OVERRIDE_MAX + 1), True, 1, ["x"], {"reason": "x"}])
def test_a_reason_is_a_line_of_text(why: Any) -> None:
    assert reason(take({"value": "10.0.0.1", "override": why})[0]) in (
        "bad_override",
        "text_too_long",
        "wrong_type",
        "control_character",
    )
    assert reason(take({"value": "10.0.0.1", "override": "x" * OVERRIDE_MAX})[0]) == ""


@pytest.mark.parametrize("privileges", [NONE, frozenset({Privilege.ALLOW})])
def test_without_the_role_an_override_is_rejected_by_name(privileges: frozenset[Privilege]) -> None:
    for name in ("override", "OVERRIDE"):
        for item in (
            *take({"value": "evil-domain.com", name: WHY}, privileges=privileges),
            *take("evil-domain.com", defaults={name: WHY}, privileges=privileges),
        ):
            assert reason(item) == "not_permitted"
            assert item.problem and name in item.problem.text and "Guards.Override" in item.problem.text


@pytest.mark.parametrize("name", ["over_ride", "overrides", "overrideReason", "force", "privileges", "role"])
def test_other_names_are_rejected_whatever_the_role(name: str) -> None:
    assert reason(take({"value": "10.0.0.1", name: WHY})[0]) == "not_permitted"


def test_allowed_is_for_who_has_the_role_and_asks_by_name() -> None:
    asked = {"value": "good-domain.com", "action": "Allowed"}
    for privileges in (NONE, frozenset({Privilege.OVERRIDE})):
        [item] = take(asked, privileges=privileges)
        assert reason(item) == "not_permitted" and item.problem and "Indicators.Allow" in item.problem.text
    [item] = take(asked, privileges=frozenset({Privilege.ALLOW}))
    assert item.indicator is not None and item.indicator.action is Action.ALLOWED
    [item] = take("good-domain.com", settings=Settings(default_action="Allowed"))
    assert reason(item) == "not_permitted"
    # To allow what a guard protects takes both.
    [item] = take({"value": "co.uk", "action": "Allowed"})
    assert reason(item) == "public_suffix"
    [item] = take({"value": "co.uk", "action": "Allowed", "override": WHY})
    assert item.indicator is not None


def test_the_queue_carries_no_privilege_whoever_reads_it() -> None:
    for asked in ({"value": "good-domain.com", "action": "Allowed"}, {"value": "10.0.0.1", "override": WHY}):
        [item] = take(asked, door=Door.QUEUE)
        assert reason(item) == "not_permitted"


def test_every_guard_is_asked_when_one_is_overridden() -> None:
    [item] = take({"value": "evil-domain.com", "action": "Block"})
    assert item.indicator is not None
    hard = guard.Problem("hard", "text", False)
    soft = guard.Problem("soft", "text", True)
    before = guard.GUARDS
    try:
        guard.GUARDS = (lambda _: soft, lambda _: hard)
        assert [problem.reason for problem in guard.check_all(item.indicator)] == ["hard", "soft"]
        assert reason(take({"value": "evil-domain.com", "override": WHY})[0]) == "hard"
        guard.GUARDS = (lambda _: soft, lambda _: soft)
        assert take({"value": "evil-domain.com", "override": WHY})[0].overridden == ("soft", "soft")
    finally:
        guard.GUARDS = before


# All the way


async def send(rig: Rig, *items: Any, privileges: frozenset[Privilege] = BOTH) -> Taken:
    body = json.dumps({"incident": 9, "indicators": items}).encode()
    return await rig.worker().submitting.submit(body, caller=APP, caller_name="an app", privileges=privileges)


def test_who_overrode_what_and_why_is_in_verdict_ledger_and_log() -> None:
    async def main() -> None:
        rig = Rig()
        allowed = {"value": "good-domain.com", "action": "Allowed"}
        taken = await send(rig, {"value": "10.0.0.1", "action": "Block", "override": WHY}, allowed)
        note = f"guard private_address overridden by {APP}: {WHY}"
        assert taken.items[0].notes == (note,) and not taken.items[0].reason
        await Host(rig, rig.worker()).drain()
        known = await rig.read(taken.id)
        assert known.fold.counts()["accepted"] == 2
        assert known.fold.fates[0].notes == (note,)
        assert (known.header.caller, known.header.caller_name) == (APP, "an app")
        assert rig.tenant.actions("10.0.0.1") == ["Block"] and rig.tenant.actions("good-domain.com") == ["Allowed"]
        told = {name: fields for name, fields in rig.tell.events if name in ("guard_overridden", "allowed")}
        assert told["guard_overridden"]["detail"] == note and told["guard_overridden"]["values"] == "10.0.0.1"
        assert told["allowed"]["caller"] == APP and told["allowed"]["submission"] == taken.id

    virtual.run(main())


def test_no_way_through_the_queue() -> None:
    async def main() -> None:
        rig = Rig()
        first = await send(rig, {"value": "10.0.0.9", "action": "Block", "override": WHY})
        rig.service.messages.clear()
        [(_, part)] = [key for key in rig.service.blobs if key[0] == "parts"]
        forged = [
            {"indicatorValue": "10.0.0.1", "action": "Block", "override": WHY},
            {"indicatorValue": "good-domain.com", "action": "Allowed"},
            {"defaults": {"override": WHY}, "indicators": ["10.0.0.2"]},
            {"defaults": {"action": "Allowed"}, "indicators": ["good-domain.com"]},
            {"v": 1, "part": part, "items": [["x", "0000", 0, 1.0, 1.0, ["IpAddress", "10.0.0.3"], {}, [], 0, 0, ""]]},
            {"v": 1, "part": part, "privileges": ["Guards.Override"]},
            {"v": 1, "part": "20260921a0000000000000000-0000"},
            {"indicatorValue": "10.0.0.4", "caller": APP, "override": WHY},
        ]
        names = [rig.put(body) for body in forged]
        await Host(rig, rig.worker()).drain()
        assert not rig.tenant.held
        for name in names[:4]:
            known = await rig.read(name)
            assert known.fold.reasons() == {"not_permitted": 1} and known.finished
        # A pointer to a part makes it run as it was stored, and that is what its sender was allowed.
        rig.put({"v": 1, "part": part})
        await Host(rig, rig.worker()).drain()
        assert (await rig.read(first.id)).fold.state(0) is State.ACCEPTED
        assert rig.tenant.actions("10.0.0.9") == ["Block"]

    virtual.run(main())


def test_a_raw_dead_letter_is_replayed_without_privilege() -> None:
    async def main() -> None:
        rig = Rig()
        worker = rig.worker()
        body = json.dumps(
            {"indicators": [{"value": "10.0.0.1", "override": WHY}, {"value": "good-domain.com", "action": "Allowed"}]}
        ).encode()
        letter = await worker.deliveries.bury("20260921a0000000000000001", body, worker.stores.clock.now(), "x", "y")
        found = await worker.letters.get(letter)
        assert found is not None
        name = await worker.replays.replay(found.id, caller=APP, caller_name="an app")
        await Host(rig, worker).drain()
        known = await rig.read(name)
        assert known.fold.reasons() == {"not_permitted": 2} and not rig.tenant.held
        assert (known.header.caller, known.header.caller_name) == (APP, "an app")

    virtual.run(main())


def test_kept_items_are_replayed_as_they_were_allowed() -> None:
    async def main() -> None:
        rig = Rig(Settings(exhausted_after=300.0))
        rig.tenant.fault = lambda _payloads: UnavailableError("down", status=503)
        await send(rig, {"value": "10.0.0.1", "action": "Block", "override": WHY})
        host = Host(rig, rig.worker())
        while not rig.service.all_rows("deadletters"):
            await host.drain(50_000.0)
        rig.tenant.fault = None
        [letter] = await host.publishing.letters.all()
        name = await host.publishing.replays.replay(letter.id, caller="person:1", caller_name="p")
        await host.drain()
        known = await rig.read(name)
        assert known.fold.counts()["accepted"] == 1
        assert known.fold.fates[0].notes == (f"guard private_address overridden by {APP}: {WHY}",)
        assert known.header.caller_name == "p"

    virtual.run(main())
