"""The store of the tenant double: upsert, ids, expiry, the cap and ownership."""

from __future__ import annotations

from typing import Any

import pytest

from local.tenant.clock import TICKS, Clock, dotnet, parse
from local.tenant.indicators import PROPERTIES, Caller, Store
from local.tenant.rules import Rules
from local.tenant.validation import Fault, check

RELAY = Caller("app-1", "Relay", sees_all=True)


def item(value: str = "a" * 64, kind: str = "FileSha256", action: str = "Block", **more: Any) -> dict[str, Any]:
    return {"indicatorValue": value, "indicatorType": kind, "action": action, "title": "t", "description": "d", **more}


class TestStore:
    def put(self, store: Store, given: dict[str, Any], who: Caller = RELAY, rules: Rules | None = None) -> Any:
        fault, understood = check(given, rules or Rules(), 0)
        assert fault is None
        return store.upsert(understood, who, store._clock.ticks())

    def test_a_new_indicator_has_all_31_properties(self) -> None:
        store = Store(Clock(), Rules())
        row = self.put(store, item())
        assert tuple(row) == PROPERTIES and len(row) == 31
        assert (row["id"], row["category"], row["severity"], row["generateAlert"]) == ("1", 1, "Informational", False)
        assert row["rbacGroupNames"] == row["rbacGroupIds"] == row["mitreTechniques"] == []
        assert row["lastUpdatedBy"] is None and row["expirationTime"] is None and row["certificateInfo"] is None
        assert parse(row["lastUpdateTime"]) > parse(row["creationTimeDateTimeUtc"])

    def test_the_same_key_updates_in_place(self) -> None:
        store = Store(Clock(), Rules())
        first = dict(self.put(store, item(application="one", severity="High", externalId="e1")))
        second = self.put(store, item(application="two", severity="Low"), Caller("app-2", "Other", sees_all=True))
        kept = ("id", "creationTimeDateTimeUtc", "application", "createdBy", "createdByDisplayName")
        assert {name: second[name] for name in kept} == {name: first[name] for name in kept}
        assert second["severity"] == "Low" and second["externalId"] is None and second["lastUpdatedBy"] == "app-2"
        assert len(store) == 1

    def test_another_action_is_another_indicator(self) -> None:
        store = Store(Clock(), Rules())
        ids = [self.put(store, item(action=action))["id"] for action in ("Block", "Allowed", "Warn")]
        assert ids == ["1", "2", "3"]

    def test_device_groups_may_be_part_of_the_key(self) -> None:
        for switch, expected in ((False, 1), (True, 2)):
            rules = Rules(rbac_in_key=switch, groups={"g1": 4})
            store = Store(Clock(), rules)
            row = self.put(store, item(rbacGroupNames=["g1"]))
            assert row["rbacGroupIds"] == [4]
            self.put(store, item(rbacGroupNames="g2, g3"))
            assert len(store) == expected

    def test_what_is_omitted_in_an_update_can_be_kept(self) -> None:
        store = Store(Clock(), Rules(update_keeps_omitted=True))
        self.put(store, item(externalId="e1", expirationTime="2040-01-01T00:00:00Z"))
        row = self.put(store, item())
        assert row["externalId"] == "e1" and row["expirationTime"] == "2040-01-01T00:00:00Z"

    def test_expiry_deletes_at_the_second_and_an_update_moves_it(self) -> None:
        clock = Clock()
        store = Store(clock, Rules())
        soon, later = dotnet(clock.ticks() + 100 * TICKS), dotnet(clock.ticks() + 200 * TICKS)
        self.put(store, item("a" * 64, expirationTime=soon))
        self.put(store, item("b" * 64, expirationTime=soon))
        self.put(store, item("b" * 64, expirationTime=later))
        self.put(store, item("c" * 64, expirationTime=soon))
        self.put(store, item("c" * 64))
        clock.offset = 99.0
        assert len(store) == 3
        clock.offset = 101.0
        assert [row["indicatorValue"][0] for row in store.rows(RELAY)] == ["b", "c"]
        clock.offset = 201.0
        assert [row["indicatorValue"][0] for row in store.rows(RELAY)] == ["c"]
        assert self.put(store, item("a" * 64))["id"] == "4", "an id is never used again"

    def test_the_cap_refuses_what_is_new_and_updates_what_is_there(self) -> None:
        store = Store(Clock(), Rules(capacity=1))
        self.put(store, item())
        with pytest.raises(Fault) as caught:
            self.put(store, item("b" * 64))
        assert caught.value.message == ("Max capacity exceeded. Current Total: 1, Limit: 1 (Parameter 'Capacity: 1/1')")
        assert self.put(store, item(severity="Low"))["severity"] == "Low"

    def test_what_others_made_cannot_be_seen_or_updated_without_the_wider_role(self) -> None:
        store = Store(Clock(), Rules())
        self.put(store, item())
        other = Caller("app-2", "Other", sees_all=False)
        with pytest.raises(Fault) as caught:
            self.put(store, item(), other)
        assert (caught.value.how, caught.value.status) == ("item", 403)
        assert store.get("1", other) is None and list(store.rows(other)) == []
        assert self.put(store, item("b" * 64), other)["id"] == "2"
        assert [row["id"] for row in store.rows(other)] == ["2"]

    def test_conflicting_actions_can_be_refused(self) -> None:
        rules = Rules()
        rules.update({"classes": {"conflict": "item"}})
        store = Store(Clock(), rules)
        self.put(store, item())
        with pytest.raises(Fault) as caught:
            self.put(store, item(action="Allowed"))
        assert caught.value.status == 409
