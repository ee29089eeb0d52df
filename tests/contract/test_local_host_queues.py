"""The storage-queue trigger of the host double, against a queue service and through the genuine runtime."""

from __future__ import annotations

import base64
import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.processes import StackError
from tests.contract.host_process import KEYS, Host, wait_for

ENCODING = "AzureFunctionsJobHost__extensions__queues__messageEncoding"
DELAY = "AzureFunctionsJobHost__extensions__queues__visibilityTimeout"


@pytest.fixture
def host(tmp_path: Path, azurite: str) -> Iterator[Host]:
    with Host(tmp_path, azurite) as running:
        yield running


def status(host: Host) -> dict[str, Any]:
    request = urllib.request.Request(f"{host.url}/admin/host/status", headers={"x-functions-key": KEYS["master"]})
    with urllib.request.urlopen(request) as answer:
        return dict(json.load(answer)["queues"][0])


def test_plain_text_arrives_as_it_was_sent_and_is_deleted(host: Host) -> None:
    text = 'a <b> & "c" \r\n line 2\ttab  trailing '
    sent = host.queue.send_message(text)
    host.start("queue:Work")
    wait_for(lambda: host.left() == 0 and host.seen(ended=sent.id), "message done")
    (begun,) = host.begun(text)
    assert begun["begun"] == sent.id
    assert begun["count"] == 1
    assert begun["inserted"] == sent.inserted_on.isoformat()
    assert begun["receipt"]


def test_base64_is_decoded_and_what_is_not_base64_is_poisoned_unrun(host: Host) -> None:
    host.queue.send_message(base64.b64encode("grüß".encode()).decode())
    host.queue.send_message("not base64!")
    host.start("queue:Work", settings={ENCODING: "base64", DELAY: "00:00:00"})
    wait_for(lambda: host.left() == 0 and host.poisoned(), "both settled")
    assert [line["text"] for line in host.seen() if "begun" in line] == ["grüß"]
    assert [message.content for message in host.poisoned()] == ["not base64!"]


def test_a_failure_comes_back_after_the_delay_and_is_poisoned_under_a_new_id(host: Host) -> None:
    sent = host.queue.send_message("fail <1>")
    host.start("queue:Work")
    (poison,) = wait_for(host.poisoned, "poisoned")
    wait_for(lambda: host.left() == 0, "original deleted")
    assert [line["count"] for line in host.begun("fail <1>")] == [1, 2, 3]  # maxDequeueCount of the sample's host.json
    assert poison.content == "fail <1>"
    assert poison.id != sent.id
    assert poison.expires_on.year == 9999


def test_a_failed_message_is_invisible_for_visibility_timeout(host: Host) -> None:
    host.queue.send_message("fail once")
    child = host.start("queue:Work", settings={DELAY: "00:05:00"})
    wait_for(lambda: host.begun("fail once"), "first attempt")
    wait_for(lambda: status(host)["failed"] == 1 and status(host)["in_flight"] == 0, "failure settled")
    child.stop()
    assert host.left() == 1  # kept, neither deleted nor poisoned
    assert host.queue.receive_message() is None  # the lease of five seconds is not what hides it
    assert not host.poisoned()


def test_what_was_delivered_too_often_is_poisoned_without_running(host: Host) -> None:
    host.queue.send_message("worn")
    for _ in range(3):
        message = host.queue.receive_message(visibility_timeout=30)
        assert message is not None
        host.queue.update_message(message, visibility_timeout=0)
    host.start("queue:Work")
    (poison,) = wait_for(host.poisoned, "poisoned")
    assert poison.content == "worn"
    assert host.begun("worn") == []


def test_kill_9_returns_a_message_after_its_lease(host: Host) -> None:
    host.queue.send_message("sleep 60")
    child = host.start("queue:Work", "--lease", "2")
    (first,) = wait_for(lambda: host.begun("sleep 60"), "begun")
    child.kill()
    host.start("queue:Work", "--lease", "2")
    wait_for(lambda: len(host.begun("sleep 60")) == 2, "begun again")
    second = host.begun("sleep 60")[1]
    assert second["begun"] == first["begun"]
    assert second["count"] == 2
    assert second["pid"] != first["pid"]


def test_the_lease_is_renewed_while_a_function_runs(host: Host) -> None:
    sent = host.queue.send_message("sleep 4.5")
    host.start("queue:Work", "--lease", "2")
    wait_for(lambda: host.seen(ended=sent.id) and host.left() == 0, "done after more than two leases")
    assert len(host.begun("sleep 4.5")) == 1


def test_in_flight_never_exceeds_batch_size_plus_threshold_and_reaches_it(host: Host) -> None:
    for number in range(24):
        host.queue.send_message(f"sleep 0.4 {number}")
    host.start("queue:Work")
    wait_for(lambda: host.left() == 0, "all done")
    wait_for(lambda: status(host)["in_flight"] == 0, "settled")
    found = status(host)
    assert found["succeeded"] == 24
    # The sample's host.json: batchSize 4, newBatchThreshold 2. Fetched at 2 or fewer in flight, so never more than 6.
    running = peak = 0
    for line in host.seen():
        running += 1 if "begun" in line else -1
        peak = max(peak, running)
    assert 4 <= peak <= 6
    assert found["peak"] <= 6


def test_two_instances_share_a_queue_without_doing_anything_twice(host: Host) -> None:
    host.start("queue:Work")
    host.start("queue:Work")
    for number in range(24):
        host.queue.send_message(f"sleep 0.5 {number}")
    wait_for(lambda: host.left() == 0, "all done")
    begun = [line["begun"] for line in host.seen() if "begun" in line]
    assert len(begun) == len(set(begun)) == 24
    assert len({line["pid"] for line in host.seen()}) == 2


def test_sigterm_lets_what_runs_finish(host: Host) -> None:
    sent = host.queue.send_message("sleep 1.5")
    child = host.start("queue:Work")
    wait_for(lambda: host.begun("sleep 1.5"), "begun")
    child.stop()
    assert child.status == 0
    assert host.seen(ended=sent.id)
    assert host.left() == 0


@pytest.mark.parametrize(
    ("group", "settings", "said"),
    [
        ("queue:Nobody", {}, "no queue function 'Nobody'"),
        ("queue:Work", {ENCODING: "rot13"}, "messageEncoding must be base64 or none"),
        ("timers", {"SAMPLE_SCHEDULE": "every day"}, "six fields"),
    ],
)
def test_the_host_does_not_start_on_what_it_cannot_serve(
    host: Host, group: str, settings: dict[str, str], said: str
) -> None:
    with pytest.raises(StackError, match=re.escape(said)):
        host.start(group, settings=settings)


def test_an_annotation_that_the_runtime_refuses_takes_the_whole_app_down(host: Host, tmp_path: Path) -> None:
    app = tmp_path / "app"
    app.mkdir()
    (app / "function_app.py").write_text(
        """
import azure.functions as func
app = func.FunctionApp()

@app.route(route="fine")
def Fine(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse("fine")

@app.route(route="x")
@app.queue_output(arg_name="out", queue_name="q", connection="RelayStorage")
def X(req: func.HttpRequest, out: func.Out[list[str]]) -> func.HttpResponse:
    return func.HttpResponse("never")
""",
        "utf-8",
    )
    with pytest.raises(StackError, match="invalid non-type annotation"):
        host.start("http", app=app)


def test_timers_run_on_their_schedule_or_at_a_scaled_pace(host: Host) -> None:
    host.start("timers", settings={"SAMPLE_SCHEDULE": "* * * * * *"})
    wait_for(lambda: len(host.seen(tick=True)) >= 2, "two ticks of a schedule of each second")
    before = len(host.seen(tick=True))
    host.start("timers", "--timer", "Tick=0.1")  # the schedule itself would fire next year
    wait_for(lambda: len(host.seen(tick=True)) >= before + 5, "ticks at the scaled pace")


def test_what_code_logs_is_a_json_line_with_function_and_invocation(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    host.queue.send_message("fail loudly")
    host.start("queue:Work", "--json-log", str(file), settings={DELAY: "00:00:00"})
    wait_for(host.poisoned, "poisoned")
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert any("RuntimeError: boom" in line["message"] and line["level"] == "ERROR" for line in lines)
