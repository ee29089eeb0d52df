"""Trouble on demand, the admin endpoint, and the double as a process of its own."""

from __future__ import annotations

import gc
import json
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from local.tenant import RunningTenant, running
from tests.integration.tenant_helpers import Client, item, many

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningTenant]:
    with running(tmp_path_factory.mktemp("tenant")) as tenant:
        yield tenant


@pytest.fixture
def tenant(shared: RunningTenant) -> RunningTenant:
    shared.admin.up("defender")
    shared.admin.reset("indicators", "throttle", "metrics", "faults", "rules")
    shared.admin.rules(service_time={"import": 0, "list": 0})
    return shared


@pytest.fixture
def api(tenant: RunningTenant) -> Iterator[Client]:
    with Client(tenant) as client:
        yield client


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class TestAnswers:
    def test_a_status_with_and_without_a_body_for_the_next_calls(self, tenant: RunningTenant, api: Client) -> None:
        tenant.admin.fault("import", "status", times=2, status=503, headers={"Retry-After": "7"})
        tenant.admin.fault("defender", "status", skip=1, status=502, body={"a": 1})
        answer = api.send(item())
        assert (answer.status_code, answer.content, answer.headers["Retry-After"]) == (503, b"", "7")
        assert api("GET").status_code == 200, "skipped"
        assert api.send(item()).status_code == 503
        assert api("GET").json() == {"a": 1}
        assert api.send(item()).status_code == 200
        answers = tenant.admin.counters()["answers"]
        assert (answers["import"], answers["list"]) == ({"503": 2, "200": 1}, {"200": 1, "502": 1})

    def test_every_import_refused_until_cleared(self, tenant: RunningTenant, api: Client) -> None:
        fault = tenant.admin.refuse_imports()
        for _ in range(3):
            answer = api.send(item())
            assert answer.status_code == 400
            assert answer.json()["error"]["message"] == "Request body is incorrect"
        assert tenant.admin.clear_faults(fault) == 1
        assert api.send(item()).status_code == 200

    @pytest.mark.parametrize(("kind", "done"), [("garbage", 0), ("garbled", 1)])
    def test_what_is_not_json(self, tenant: RunningTenant, api: Client, kind: str, done: int) -> None:
        tenant.admin.fault("import", kind)
        answer = api.send(item())
        assert answer.status_code == 200
        with pytest.raises(ValueError):
            answer.json()
        assert tenant.admin.counters()["indicators"] == done

    @pytest.mark.parametrize(
        ("route", "request_of"),
        [
            ("token", lambda t: requests.post(f"{t.entra}/x/oauth2/v2.0/token", verify=t.ca_file, timeout=30)),
            ("entra", lambda t: requests.get(f"{t.entra}/x/discovery/keys", verify=t.ca_file, timeout=30)),
            ("identity", lambda t: requests.get(t.identity_endpoint, timeout=30)),
            ("vault", lambda t: requests.get(f"{t.vault}/secrets/x", verify=t.ca_file, timeout=30)),
            ("*", lambda t: requests.get(f"{t.defender}/api/indicators", verify=t.ca_file, timeout=30)),
        ],
    )
    def test_every_service_has_faults(
        self, tenant: RunningTenant, route: str, request_of: Callable[[RunningTenant], requests.Response]
    ) -> None:
        tenant.admin.fault(route, "status", status=504, body="too late")
        answer = request_of(tenant)
        assert (answer.status_code, answer.text) == (504, "too late")


class TestConnections:
    @pytest.mark.parametrize(("kind", "done"), [("reset", 0), ("reset_mid", 0), ("lost", 500), ("half", 500)])
    def test_broken_connections_and_whether_the_work_was_done(
        self, tenant: RunningTenant, api: Client, kind: str, done: int
    ) -> None:
        tenant.admin.fault("import", kind)
        with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
            api.send(*many(500))
        assert tenant.admin.counters()["indicators"] == done
        (call,) = tenant.admin.imports()
        assert (call["ended"], call["fault"], call["status"]) == (kind, kind, 0)
        assert api.send(*many(500)).status_code == 200

    @pytest.mark.parametrize("how", ["refuse", "close"])
    def test_down_and_up_at_the_same_address(self, tenant: RunningTenant, api: Client, how: str) -> None:
        assert api("GET").status_code == 200
        tenant.admin.down("defender", how)
        for _ in range(2):
            with pytest.raises(requests.ConnectionError):
                api("GET")
        if how == "refuse":
            port = int(tenant.defender.rsplit(":", 1)[1])
            with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=5):
                pass
        tenant.admin.up("defender")
        assert api("GET").status_code == 200

    def test_a_client_that_goes_away_in_the_middle_does_no_harm(self, tenant: RunningTenant, api: Client) -> None:
        with socket.create_connection(("127.0.0.1", int(tenant.identity_endpoint.split(":")[2].split("/")[0]))) as raw:
            raw.sendall(b"POST /msi/token HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert requests.get(tenant.identity_endpoint, timeout=30).status_code == 401
        assert api("GET").status_code == 200


class TestTime:
    def test_a_call_held_before_its_work_is_done_when_let_go(self, tenant: RunningTenant, api: Client) -> None:
        fault = tenant.admin.fault("import", "hold")
        answers: list[int] = []
        thread = threading.Thread(target=lambda: answers.append(api.send(item()).status_code))
        thread.start()
        until(lambda: tenant.admin.counters()["calls"].get("import") == 1)
        assert tenant.admin.counters()["indicators"] == 0 and answers == []
        assert tenant.admin.clear_faults(fault) == 1
        thread.join(120)
        assert answers == [200] and tenant.admin.counters()["indicators"] == 1

    def test_a_call_held_after_its_work_whose_client_dies_was_done(self, tenant: RunningTenant, api: Client) -> None:
        tenant.admin.fault("import", "hold_answer")
        with pytest.raises(requests.ReadTimeout):
            api.session.post(f"{api.base}/import", json={"Indicators": [item()]}, timeout=0.5)
        until(lambda: tenant.admin.counters()["indicators"] == 1)
        assert tenant.admin.clear_faults() == 1

    def test_a_hold_holds_no_more_calls_than_it_says(self, tenant: RunningTenant, api: Client) -> None:
        tenant.admin.fault("import", "hold_answer", times=1)
        with pytest.raises(requests.ReadTimeout):
            api.session.post(f"{api.base}/import", json={"Indicators": [item()]}, timeout=0.5)
        assert api.send(item()).status_code == 200

    @pytest.mark.parametrize(("kind", "done"), [("slow", 0), ("slow_answer", 1)])
    def test_slow_before_or_after_the_work(self, tenant: RunningTenant, api: Client, kind: str, done: int) -> None:
        tenant.admin.fault("import", kind, seconds=3600)
        with pytest.raises(requests.ReadTimeout):
            api.session.post(f"{api.base}/import", json={"Indicators": [item()]}, timeout=0.5)
        assert tenant.admin.counters()["indicators"] == done

    def test_the_service_takes_its_time_and_says_so(self, tenant: RunningTenant, api: Client) -> None:
        tenant.admin.rules(service_time={"import": 0.2})
        assert api.send(item()).status_code == 200
        assert tenant.admin.imports()[-1]["seconds"] >= 0.2

    def test_the_wall_clock_can_be_shifted(self, tenant: RunningTenant, api: Client) -> None:
        tenant.admin.clock(-86_400)
        try:
            shifted = api("GET").headers["Date"]
        finally:
            tenant.admin.clock(0)
        assert shifted != api("GET").headers["Date"]


class TestAdmin:
    def test_what_was_called_can_be_told(self, tenant: RunningTenant, api: Client) -> None:
        before = time.time()
        api.send(item(), item("10.0.0.1"))
        (call,) = tenant.admin.imports()
        assert before <= call["at"] <= time.time()
        assert (call["items"], call["failed"], call["app"], call["status"]) == (2, 1, tenant.direct_client_id, 200)
        assert tenant.admin.counters()["most_in_60s"]["import"] == 1
        assert [row["indicatorValue"] for row in tenant.admin.indicators()] == ["8.8.8.8"]
        assert tenant.admin.indicators("9.9.9.9") == []

    def test_the_portal(self, tenant: RunningTenant, api: Client) -> None:
        made = tenant.admin.portal_create(**item(user="someone@tenant.example"))
        assert (made["createdBy"], made["createdByDisplayName"]) == ("someone@tenant.example",) * 2
        assert made["creationTimeDateTimeUtc"] == made["lastUpdateTime"]
        assert api("GET", f"/{made['id']}").json()["createdBySource"] == "Portal"
        with pytest.raises(ValueError, match="is invalid"):
            tenant.admin.portal_create(**item("10.0.0.1"))
        assert tenant.admin.portal_delete(made["id"]) and not tenant.admin.portal_delete(made["id"])

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("POST", "faults", {"route": "import", "kind": "nonsense"}),
            ("POST", "faults", {"route": "import", "kind": "slow", "nonsense": 1}),
            ("POST", "faults", {"route": "import", "kind": "slow", "times": 0}),
            ("POST", "rules", {"nonsense": 1}),
            ("POST", "reset", {"what": ["nonsense"]}),
            ("POST", "down/nonsense", {}),
            ("POST", "down/vault", {"how": "nonsense"}),
            ("POST", "roles", {"who": "nonsense", "roles": []}),
            ("POST", "rotate", {"where": "nonsense"}),
            ("POST", "secret", {"name": "nonsense"}),
            ("GET", "nonsense", None),
        ],
    )
    def test_nonsense_is_refused(self, tenant: RunningTenant, method: str, path: str, body: object) -> None:
        with pytest.raises(ValueError):
            tenant.admin.request(method, path, body)

    def test_faults_in_force_can_be_listed(self, tenant: RunningTenant) -> None:
        tenant.admin.fault("import", "slow", seconds=1.5)
        (fault,) = tenant.admin.request("GET", "faults")["value"]
        assert (fault["route"], fault["kind"], fault["seconds"], fault["used"]) == ("import", "slow", 1.5, 0)

    def test_the_description_holds_its_secrets_back_from_a_log(self, tenant: RunningTenant) -> None:
        shown = repr(tenant)
        for secret in (tenant.client_secret, tenant.direct_client_secret, tenant.identity_header):
            assert secret not in shown
        assert set(tenant.environment()) >= {"RELAY_TENANT_ID", "IDENTITY_ENDPOINT", "REQUESTS_CA_BUNDLE"}


def test_as_a_process_it_prints_one_line_and_ends_when_told(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "local.tenant", "--folder", str(tmp_path)]
    config = json.dumps({"rules": {"service_time": {"import": 0}}})
    with subprocess.Popen([*command, "--config", config], cwd=REPO, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], 60)[0], "not ready after a minute"
            tenant = RunningTenant.of(json.loads(process.stdout.readline()))
            assert tenant.ca_file == str(tmp_path / "ca.pem")
            with Client(tenant) as api:
                assert api.send(item()).json()["value"][0]["isFailed"] is False
                tenant.admin.fault("list", "hold")
                with pytest.raises(requests.ReadTimeout):
                    api.session.get(api.base, timeout=0.3)
            process.send_signal(signal.SIGTERM)
            assert process.stdout.read() == "" and process.wait(120) == 0
        finally:
            process.kill()


def test_ports_can_be_chosen_and_a_start_that_fails_says_why(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError), running(tmp_path, port=port):
            pass
    with pytest.raises(ValueError, match="nonsense"), running(tmp_path, {"rules": {"nonsense": 1}}):
        pass


def test_the_end_cuts_open_connections_and_leaves_no_socket_behind(tmp_path: Path) -> None:
    with running(tmp_path) as tenant:
        api = Client(tenant)
        assert api("GET").status_code == 200
        tenant.admin.down("vault", "close")
        half_way = socket.create_connection(("127.0.0.1", int(tenant.entra.rsplit(":", 1)[1])))
    with api, half_way:
        gc.collect()  # what was left open would warn now, and a warning is an error
        with pytest.raises(requests.ConnectionError):
            api("GET")
        assert half_way.recv(1) == b""
