"""`http`: 13,000 indicators in one HTTP submission, from the request to the last outcome."""

from __future__ import annotations

import json
import time

import requests

from bench.figure import Figure
from bench.run import Options, Running, Span, running, until, values

CALL = 500


def service_time(here: Running, calls: int) -> float:
    """Seconds of so many full calls one after the other, by the double's own account of each."""
    session = requests.Session()
    session.verify = here.stack.tenant["ca_file"]
    session.trust_env = False
    session.headers["Authorization"] = f"Bearer {here.token()}"
    address = here.stack.tenant["defender"].rstrip("/") + "/api/indicators/import"
    expires = time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime(time.time() + 30 * 86_400))
    for call in range(calls):
        items = [
            {
                "indicatorValue": value,
                "indicatorType": "DomainName",
                "action": "Audit",
                "title": "Seen in an incident",
                "description": "One call after the other",
                "severity": "Informational",
                "expirationTime": expires,
                "generateAlert": True,
            }
            for value in values(f"alone{call}", CALL)
        ]
        answer = session.post(address, data=json.dumps({"Indicators": items}), timeout=60)
        if answer.status_code != 200 or any(one["isFailed"] for one in answer.json()["value"]):
            raise RuntimeError(f"the double refused a call of the measure itself: {answer.status_code}")
    session.close()
    return sum(float(call["seconds"]) for call in here.admin.imports())


def measure(options: Options) -> list[Figure]:
    """A fresh stack for each round."""
    count = options.size(13_000, 1_500)
    calls = -(-count // CALL)
    ratios: list[float] = []
    waits: list[float] = []
    limits: list[float] = []
    made, refused, lost, span = [], 0, 0, Span()
    for _ in range(options.times(3)):
        with running() as here:
            here.warm()
            limits.append(service_time(here, calls))
            here.empty()
            done = here.succeeded() + calls
            with here.span() as span:
                begun = time.monotonic()
                submission = here.submit(values("http", count))
                answered = time.monotonic() - begun
                # A part's function returns when its outcomes are written. Asking the app would be work of its own.
                waits.append(until(lambda: here.succeeded() >= done, "all parts are through", 600) - begun)  # noqa: B023
            here.finished(submission)
            ratios.append(waits[-1] / limits[-1])
            seen = here.admin.counters()
            made.append(float(seen["calls"].get("import", 0)))
            refused += int(seen["throttled"])
            told = here.app.submission(submission)
            lost += count - (told["counts"]["accepted"] if told else 0)
    limit = f"{calls} calls one after the other: {min(limits):.2f} to {max(limits):.2f} s by the double's clock"
    note = f"{min(waits):.2f} to {max(waits):.2f} s; answered with 202 after {answered:.2f} s in the last round"
    note += f"; {span.total / count:.3f} storage operations an indicator"
    return [
        Figure(
            f"{count:,} indicators in one submission, request to last outcome",
            "x",
            ratios,
            limit=limit,
            goal=1.0,
            cpu=span.cpu,
            wall=span.wall,
            note=note,
            lost=lost,
        ),
        Figure("its import calls", "calls", made, limit=f"{calls}", goal=float(calls), note=f"{refused} x 429"),
    ]
