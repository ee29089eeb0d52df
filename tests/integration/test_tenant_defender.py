"""The Defender double over TLS: routes, roles, upsert, list, import, deletion, quota. One test a rule."""

from __future__ import annotations

import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from local.tenant import RunningTenant, running
from tests.integration.tenant_helpers import Client, item, many, said, token

INTERNAL = "https://api.security.microsoft.com"
FAST = {"service_time": {"import": 0, "submit": 0, "list": 0, "get": 0, "delete": 0, "batch_delete": 0}}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningTenant]:
    with running(tmp_path_factory.mktemp("tenant")) as tenant:
        yield tenant


@pytest.fixture
def tenant(shared: RunningTenant) -> RunningTenant:
    shared.admin.reset("indicators", "throttle", "metrics", "faults", "rules")
    shared.admin.rules(**FAST)
    for who in ("direct", "relay"):
        shared.admin.roles(who, "Ti.ReadWrite.All")
    return shared


@pytest.fixture
def api(tenant: RunningTenant) -> Iterator[Client]:
    with Client(tenant) as client:
        yield client


class TestRoutes:
    def test_both_paths_are_the_same_api_and_the_context_echoes_host_and_path(self, api: Client) -> None:
        created = api.put()
        host = api.base.removesuffix("/api/indicators")
        assert created["@odata.context"] == f"{host}/api/$metadata#Indicators/$entity"
        other = api.session.get(f"{host}/api/v1.0/indicators/{created['id']}", timeout=30).json()
        assert other["@odata.context"] == f"{host}/api/v1.0/$metadata#Indicators/$entity"
        assert other["id"] == created["id"] and len(other) == 32
        named = api.session.get(api.base, headers={"Host": "eu.api.security.microsoft.com"}, timeout=30).json()
        assert named["@odata.context"] == "https://eu.api.security.microsoft.com/api/$metadata#Indicators"

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("PUT", "", "GET, POST"),
            ("GET", "/import", "POST"),
            ("DELETE", "/BatchDelete", "POST"),
            ("PATCH", "/1", "GET, DELETE"),
        ],
    )
    def test_a_wrong_verb_is_405_with_allow_and_nothing_else(
        self, api: Client, method: str, path: str, allowed: str
    ) -> None:
        answer = api(method, path)
        assert (answer.status_code, answer.headers["Allow"], answer.content) == (405, allowed, b"")
        assert answer.headers["Content-Length"] == "0" and "Content-Type" not in answer.headers

    def test_headers_of_success_and_of_error(self, api: Client) -> None:
        fine, wrong = api("GET"), api("GET", "/77")
        assert fine.headers["Content-Type"] == (
            "application/json; odata.metadata=minimal; odata.streaming=true; charset=utf-8"
        )
        assert fine.headers["OData-Version"] == "4.0" and "Strict-Transport-Security" in fine.headers
        assert wrong.headers["Content-Type"] == "application/json; charset=utf-8"
        assert "OData-Version" not in wrong.headers


class TestRoles:
    def test_without_a_token_or_with_one_for_somebody_else_it_is_401(self, tenant: RunningTenant, api: Client) -> None:
        url = f"{tenant.defender}/api/indicators"
        for header in ({}, {"Authorization": "Bearer x.y.z"}, {"Authorization": "Basic eDp5"}):
            assert said(requests.get(url, headers=header, verify=tenant.ca_file, timeout=30))[:2] == (
                401,
                "Unauthorized",
            )
        with Client(tenant, resource="https://vault.azure.net") as wrong:
            assert said(wrong("GET"))[:2] == (401, "Unauthorized")

    def test_the_trap_a_token_for_the_base_url_carries_no_role(self, tenant: RunningTenant) -> None:
        with Client(tenant, resource=INTERNAL) as trapped:
            status, code, message = said(trapped.send(item()))
        assert (status, code) == (403, "Forbidden")
        assert message.startswith("Missing application roles. API required roles: Ti.ReadWrite.All, Ti.ReadWrite")

    def test_a_role_taken_away_counts_from_the_next_token_on(self, tenant: RunningTenant, api: Client) -> None:
        tenant.admin.roles("direct")
        assert api("GET").status_code == 200
        with Client(tenant) as fresh:
            assert fresh("GET").status_code == 403

    def test_with_the_narrow_role_others_indicators_do_not_exist(self, tenant: RunningTenant, api: Client) -> None:
        foreign = tenant.admin.portal_create(**item("1.1.1.1"))
        assert (foreign["createdBySource"], foreign["createdBy"]) == ("Portal", "analyst@tenant.example")
        own = api.put()
        tenant.admin.roles("relay", "Ti.ReadWrite")
        with Client(tenant, "relay") as narrow:
            mine = narrow.put(value="9.9.9.9")
            assert narrow.values() == ["9.9.9.9"]
            for identifier in (own["id"], foreign["id"]):
                assert narrow("GET", f"/{identifier}").status_code == 404
                assert narrow("DELETE", f"/{identifier}").status_code == 404
            assert narrow("GET", f"/{mine['id']}").json()["createdBy"] == tenant.client_id
            rows = narrow.send(item("1.1.1.1"), item("4.4.4.4")).json()["value"]
            assert [row["isFailed"] for row in rows] == [True, False]
            assert said(narrow("POST", json=item("1.1.1.1")))[:2] == (403, "Forbidden")
        assert api.values() == ["1.1.1.1", "8.8.8.8", "9.9.9.9", "4.4.4.4"]

    def test_a_revoked_or_expired_token_is_401(self, tenant: RunningTenant, api: Client) -> None:
        assert api("GET").status_code == 200
        tenant.admin.clock(4000)
        try:
            assert api("GET").status_code == 401
        finally:
            tenant.admin.clock(0)
        tenant.admin.revoke_tokens()
        assert api("GET").status_code == 401
        tenant.admin.revoke_tokens(ahead=-3600)

    def test_device_groups_want_a_role_of_their_own(self, tenant: RunningTenant, api: Client) -> None:
        tenant.admin.rules(groups={"Servers": 3})
        url = f"{tenant.defender}/api/exposureScore/ByMachineGroups"
        assert api.session.get(url, timeout=30).status_code == 403
        tenant.admin.roles("direct", "Score.Read.All")
        with Client(tenant) as reader:
            assert reader.session.get(url, timeout=30).json()["value"] == [
                {"rbacGroupId": 3, "rbacGroupName": "Servers"}
            ]


class TestUpsert:
    def test_update_keeps_id_creation_and_application(self, tenant: RunningTenant, api: Client) -> None:
        first = api.put(application="a", severity="Informational")
        second = api.put(application="b", severity="Low", expirationTime="2040-08-18T08:58:11.000Z")
        kept = ("id", "creationTimeDateTimeUtc", "application", "createdBy", "indicatorValue")
        assert {name: first[name] for name in kept} == {name: second[name] for name in kept}
        assert (first["lastUpdatedBy"], second["lastUpdatedBy"]) == (None, tenant.direct_client_id)
        assert (second["severity"], second["expirationTime"]) == ("Low", "2040-08-18T08:58:11Z")
        assert second["createdBySource"] == "PublicApi" and first["createdBy"] == tenant.direct_client_id

    def test_another_action_stays_beside_the_first(self, api: Client) -> None:
        ids = {api.put(action=action)["id"] for action in ("Block", "Allowed", "Warn")}
        assert len(ids) == 3 and len(api.values()) == 3

    def test_a_bad_one_is_400(self, api: Client) -> None:
        assert said(api("POST", json=item("10.0.0.1"))) == (
            400,
            "InvalidIpAddress",
            "IP address 10.0.0.1 is invalid",
        )
        assert said(api("POST", data="{")) == (400, "InvalidRequestBody", "Request body is incorrect")
        assert said(api("POST", json=item(action="Audit")))[0] == 400
        assert api.put(action="Audit", generateAlert=True)["generateAlert"] is True

    def test_over_the_cap_it_is_400(self, tenant: RunningTenant, api: Client) -> None:
        tenant.admin.rules(capacity=0)
        status, _, message = said(api("POST", json=item()))
        assert (status, message) == (
            400,
            "Max capacity exceeded. Current Total: 0, Limit: 0 (Parameter 'Capacity: 0/0')",
        )


class TestImport:
    def test_a_result_for_each_in_order(self, api: Client) -> None:
        answer = api.send(item("8.8.8.8"), item("10.0.0.1"), item("8.8.8.8"), item("8.8.8.8", action="Warn"))
        content = answer.json()
        assert content["@odata.context"].endswith(
            "/api/$metadata#Collection(microsoft.windowsDefenderATP.api.ImportIndicatorResult)"
        )
        rows = content["value"]
        assert [(row["indicator"], row["isFailed"]) for row in rows] == [
            ("8.8.8.8", False),
            ("10.0.0.1", True),
            ("8.8.8.8", False),
            ("8.8.8.8", False),
        ]
        assert rows[1] == {
            "id": None,
            "indicator": "10.0.0.1",
            "isFailed": True,
            "failureReason": "IP address 10.0.0.1 is invalid",
        }
        assert rows[0]["id"] == rows[2]["id"] != rows[3]["id"] and rows[0]["failureReason"] is None

    def test_one_that_expired_sinks_all(self, api: Client) -> None:
        answer = api.send(item("9.9.9.9"), item("203.0.113.1", expirationTime="2020-01-01T00:00:00.0Z"))
        assert said(answer) == (
            400,
            "BadRequest",
            "Indicator 203.0.113.1 is inactive. (Expiration time should be set to a future date time)",
        )
        assert api.values() == []

    def test_the_same_fault_in_either_class(self, tenant: RunningTenant, api: Client) -> None:
        for how, status in (("batch", 400), ("item", 200)):
            tenant.admin.rules(classes={"hash": how, "expired": how})
            assert api.send(item("zz", "FileSha1"), item()).status_code == status
            assert api.send(item(expirationTime="2020-01-01T00:00:00Z")).status_code == status

    def test_over_500_and_over_the_cap(self, tenant: RunningTenant, api: Client) -> None:
        assert said(api.send(*many(501))) == (
            400,
            "MaximumBatchSizeExceeded",
            "Maximum batch size exceeded. Received: 501, allowed: 500.",
        )
        assert api.values() == []
        tenant.admin.rules(capacity=499)
        rows = api.send(*many(500)).json()["value"]
        assert [row["isFailed"] for row in rows] == [False] * 499 + [True]
        assert rows[-1]["id"] is None
        assert rows[-1]["failureReason"] == (
            "Max capacity exceeded. Current Total: 499, Limit: 499 (Parameter 'Capacity: 499/499')"
        )

    def test_bodies_that_are_none(self, tenant: RunningTenant, api: Client) -> None:
        unreadable = (400, "InvalidRequestBody", "Request body is incorrect")
        assert said(api("POST", "/import", data="[]")) == unreadable
        assert said(api("POST", "/import", json={"Indicators": {}})) == unreadable
        assert said(api.send("text")) == unreadable  # type: ignore[arg-type]
        assert said(api.send(item(action="block"), item())) == unreadable
        assert said(api("POST", "/import", json={"indicators": [item()]})) == (
            400,
            "MissingRequiredParameter",
            "Parameter Indicators is missing",
        )
        assert said(api.send())[0] == 400
        tenant.admin.rules(empty_import_status=200)
        assert api.send().json()["value"] == []

    def test_what_has_expired_is_gone_to_the_second(self, api: Client) -> None:
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
        api.send(item("9.9.9.9", expirationTime=moment), item())
        while time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()) < moment:
            before = api.values()
            if time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()) < moment:
                assert before == ["9.9.9.9", "8.8.8.8"]
            time.sleep(0.1)
        assert api.values() == ["8.8.8.8"]

    @pytest.mark.parametrize(("how", "status"), [("batch", 400), ("named", 400), ("item", 200)])
    def test_poison(self, tenant: RunningTenant, api: Client, how: str, status: int) -> None:
        tenant.admin.poison("9.9.9.9", how)
        answer = api.send(item(), item("9.9.9.9"))
        assert answer.status_code == status and ("9.9.9.9" in answer.text) == (how != "batch")
        tenant.admin.poison("9.9.9.9", None)
        assert api.send(item("9.9.9.9")).json()["value"][0]["isFailed"] is False


class TestList:
    def test_filter_with_plus_for_spaces_and_doubled_quotes(self, api: Client) -> None:
        url = "http://evil.example/?a=1&b='c'"
        api.put(value=url, kind="Url")
        api.put(action="Warn")
        assert api.values("?$filter=action+eq+'Warn'") == ["8.8.8.8"]
        assert api.values("?$filter=indicatorValue+in+['8.8.8.8','1.1.1.1']") == ["8.8.8.8"]
        escaped = urllib.parse.quote("indicatorValue eq '" + url.replace("'", "''") + "'", safe="")
        assert api.values(f"?$filter={escaped}") == [url]

    def test_an_unescaped_ampersand_ends_the_literal(self, api: Client) -> None:
        answer = api("GET", "?$filter=indicatorValue+eq+'http://evil.example/?a=1&b=2'")
        assert said(answer)[:2] == (400, "ODataError") and "unterminated string literal" in answer.text

    @pytest.mark.parametrize("query", ["$top=10001", "$top=-1", "$skip=x", "$orderby=id", "$filter=externalId+eq+'x'"])
    def test_bad_queries(self, api: Client, query: str) -> None:
        assert said(api("GET", f"?{query}"))[:2] == (400, "ODataError")

    def test_pages(self, tenant: RunningTenant, api: Client) -> None:
        api.send(*many(7))
        every = [row["indicatorValue"] for row in many(7)]
        assert api.values("?$top=10000") == every
        assert api.values("?$top=3&$skip=5") == every[5:]
        tenant.admin.rules(page_size=3)
        content = api("GET").json()
        assert len(content["value"]) == 3 and "@odata.nextLink" not in content
        tenant.admin.rules(next_link=True)
        seen: list[str] = []
        link = f"{api.base}?$filter=action+eq+'Block'&$top=6"
        while link:
            content = api.session.get(link, timeout=30).json()
            seen += [row["indicatorValue"] for row in content["value"]]
            link = content.get("@odata.nextLink")
        assert seen == every[:6]

    def test_no_count_and_no_next_link_on_a_small_tenant(self, api: Client) -> None:
        api.put()
        assert set(api("GET").json()) == {"@odata.context", "value"}


class TestDelete:
    def test_204_or_200_then_404(self, tenant: RunningTenant, api: Client) -> None:
        for status in (204, 200):
            tenant.admin.rules(delete_status=status)
            identifier = api.put()["id"]
            answer = api("DELETE", f"/{identifier}")
            assert (answer.status_code, answer.content) == (status, b"")
            assert said(api("DELETE", f"/{identifier}"))[:2] == (404, "ResourceNotFound")
            assert api("GET", f"/{identifier}").status_code == 404

    def test_in_a_batch_all_or_nothing_unless_switched(self, tenant: RunningTenant, api: Client) -> None:
        ids = [row["id"] for row in api.send(*many(4)).json()["value"]]

        def drop(*identifiers: Any) -> requests.Response:
            return api("POST", "/BatchDelete", json={"IndicatorIds": list(identifiers)})

        assert drop(*ids[:2]).status_code == 204 and len(api.values()) == 2
        assert said(drop(ids[2], "999999"))[:2] == (404, "ResourceNotFound") and len(api.values()) == 2
        tenant.admin.rules(batch_delete_partial=True)
        assert drop(ids[2], "999999").status_code == 404 and len(api.values()) == 1
        assert drop().status_code == drop("x").status_code == drop(5).status_code == 400
        assert said(drop(*map(str, range(501))))[1] == "MaximumBatchSizeExceeded"


class TestQuota:
    def test_the_31st_import_in_a_minute(self, tenant: RunningTenant, api: Client) -> None:
        for _ in range(30):
            assert api.send(item()).status_code == 200
        answer = api.send(item())
        status, code, message = said(answer)
        assert (status, code) == (429, "429")
        assert message.startswith(
            "API calls quota exceeded! Maximum allowed 30 per 00:01:00 for the key Destination+TenantID+AppID. "
            "You can send requests again in "
        )
        left = int(message.rsplit(" in ", 1)[1].removesuffix(" seconds."))
        assert 1 <= left <= 60 and answer.headers["Retry-After"] == str(left)
        assert api("GET").status_code == 200, "another route"
        with Client(tenant, "relay") as other:
            assert other.send(item()).status_code == 200, "another app"
        tenant.admin.rules(retry_after_header=False, throttle_code="TooManyRequests")
        answer = api.send(item())
        assert said(answer)[1] == "TooManyRequests" and "Retry-After" not in answer.headers
        counters = tenant.admin.counters()
        assert counters["answers"]["import"] == {"200": 31, "429": 2} and counters["throttled"] == 2
        assert counters["most_in_60s"]["import"] == 33
        tenant.admin.reset("throttle")
        assert api.send(item()).status_code == 200

    @pytest.mark.parametrize(
        ("method", "path", "limit"),
        [("GET", "", 100), ("GET", "/1", 100), ("POST", "", 100), ("DELETE", "/1", 100), ("POST", "/BatchDelete", 30)],
    )
    def test_limits_of_the_other_routes(self, api: Client, method: str, path: str, limit: int) -> None:
        statuses = [api(method, path).status_code for _ in range(limit + 1)]
        assert 429 not in statuses[:-1] and statuses[-1] == 429

    def test_limits_are_settings(self, tenant: RunningTenant, api: Client) -> None:
        tenant.admin.rules(limits={"list": [[2, 60], [1, 3600]]})
        assert api("GET").status_code == 200
        answer = api("GET")
        assert "Maximum allowed 1 per 01:00:00" in answer.text
        tenant.admin.rules(limits={"list": []})
        assert api("GET").status_code == 200


def test_the_direct_client_and_the_relay_are_different_apps(tenant: RunningTenant) -> None:
    assert token(tenant, "direct") != token(tenant, "relay")
    with Client(tenant, "direct") as one, Client(tenant, "relay") as two:
        assert one.put(value="1.1.1.1")["createdBy"] == tenant.direct_client_id
        assert two.put(value="1.0.0.1")["createdByDisplayName"] == "Defender Indicator Relay"
