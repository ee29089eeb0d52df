"""Rules of the Defender double that no other test holds it to: numbers, names, what it ignores and what it keeps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local.tenant import RunningTenant, running
from tests.integration.tenant_helpers import Client, item, many, said

FAST = dict.fromkeys(("import", "submit", "list", "get", "delete", "batch_delete"), 0)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningTenant]:
    with running(tmp_path_factory.mktemp("tenant")) as tenant:
        yield tenant


@pytest.fixture
def tenant(shared: RunningTenant) -> RunningTenant:
    shared.admin.reset("indicators", "throttle", "metrics", "faults", "rules")
    shared.admin.rules(service_time=FAST)
    return shared


@pytest.fixture
def api(tenant: RunningTenant) -> Iterator[Client]:
    with Client(tenant) as client:
        yield client


def test_tenant_limits_are_the_documented_ones_by_the_minute_and_by_the_hour(tenant: RunningTenant) -> None:
    hourly = [1500, 3600]
    assert tenant.admin.rules()["limits"] == {
        **{route: [[100, 60], hourly] for route in ("list", "get", "submit", "delete")},
        "import": [[30, 60]],
        "batch_delete": [[30, 60], hourly],
    }
    assert (tenant.admin.rules()["capacity"], tenant.admin.rules()["batch_max"]) == (15_000, 500)


def test_tenant_counts_both_paths_of_a_route_against_one_quota(tenant: RunningTenant, api: Client) -> None:
    tenant.admin.rules(limits={"list": [[2, 60]]})
    other = api.base.replace("/api/", "/api/v1.0/")
    assert [api.session.get(url, timeout=30).status_code for url in (api.base, other, api.base, other)] == [
        200,
        200,
        429,
        429,
    ]


def test_tenant_can_leave_refused_calls_uncounted(tenant: RunningTenant, api: Client) -> None:
    tenant.admin.rules(limits={"list": [[1, 60]]}, count_throttled=False)
    assert [api("GET").status_code for _ in range(3)] == [200, 429, 429]
    assert tenant.admin.counters()["throttled"] == 2


def test_tenant_import_over_somebody_elses_updates_theirs_and_names_their_id(
    tenant: RunningTenant, api: Client
) -> None:
    theirs = tenant.admin.portal_create(**item("9.9.9.9"))
    (row,) = api.send(item("9.9.9.9", description="ours now")).json()["value"]
    assert row["id"] == theirs["id"]
    (held,) = tenant.admin.indicators("9.9.9.9")
    assert (held["createdBy"], held["description"]) == (theirs["createdBy"], "ours now")


def test_tenant_import_keeps_the_id_and_the_creation_of_what_it_updates(api: Client) -> None:
    first = api.put(value="9.9.9.9", application="one")
    assert api.send(item("9.9.9.9", title="new", application="two")).json()["value"][0]["id"] == first["id"]
    (held,) = api("GET").json()["value"]
    assert (held["title"], held["creationTimeDateTimeUtc"]) == ("new", first["creationTimeDateTimeUtc"])
    assert held["application"] == "one"


@pytest.mark.parametrize("field", ["id", "createdBy", "creationTimeDateTimeUtc", "lastUpdateTime"])
def test_tenant_ignores_what_is_only_its_own_to_set(api: Client, field: str) -> None:
    made = api.put(**{field: "7"})
    assert made[field] != "7"


def test_tenant_names_of_fields_count_with_their_case(api: Client) -> None:
    wrong = {name[0].upper() + name[1:]: text for name, text in item().items()}
    assert api("POST", json=wrong).status_code == 400
    assert api.values() == []


def test_tenant_has_no_409_for_another_action_on_the_same_value(api: Client) -> None:
    assert [api.send(item(action=action)).status_code for action in ("Block", "Allowed", "Block")] == [200] * 3
    assert sorted(row["action"] for row in api("GET").json()["value"]) == ["Allowed", "Block"]


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_tenant_server_errors_come_without_a_message(tenant: RunningTenant, api: Client, status: int) -> None:
    tenant.admin.fault("import", "status", status=status)
    answer = api.send(item())
    assert (answer.status_code, answer.content) == (status, b"")
    assert api.send(item()).status_code == 200


def test_tenant_mixes_success_and_failure_in_one_200(tenant: RunningTenant, api: Client) -> None:
    tenant.admin.poison("2.2.2.2", "item")
    rows = api.send(item("8.8.8.8"), item("2.2.2.2"), item("10.0.0.1")).json()["value"]
    assert [row["isFailed"] for row in rows] == [False, True, True]
    assert api.values() == ["8.8.8.8"]


def test_tenant_takes_500_and_holds_them_with_rising_ids(api: Client) -> None:
    rows = api.send(*many(500)).json()["value"]
    numbers = [int(row["id"]) for row in rows]
    assert numbers == sorted(set(numbers)) and len(numbers) == 500


@pytest.mark.parametrize("kind", ["IpAddress", "Url", "DomainName"])
def test_tenant_refuses_block_and_remediate_of_the_network(api: Client, kind: str) -> None:
    value = {"IpAddress": "8.8.8.8", "Url": "https://evil.example/x", "DomainName": "evil.example"}[kind]
    status, _, _ = said(api("POST", json=item(value, kind, "BlockAndRemediate")))
    assert status == 400
