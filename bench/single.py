"""`single`: one POST for each indicator, the way of scripts and playbooks: measured on 150, extrapolated to 13,000.

Documented limits of that route: 100 calls a minute and 1,500 an hour. They are off in the double for the measure of
150, over one kept connection and with the token in hand, which flatters it; the extrapolation puts them back.
"""

from __future__ import annotations

import json
import time

import requests

from bench.figure import Figure
from bench.run import Options, running

MEASURED = 150
ASKED = 13_000
PER_MINUTE, PER_HOUR = 100, 1_500


def measure(options: Options) -> list[Figure]:
    """The time of 150, and what 13,000 take under the documented limits."""
    times = []
    for _ in range(options.times(3)):
        with running() as here:
            here.admin.rules(limits={"submit": [[100_000, 60.0]]})
            expires = time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime(time.time() + 30 * 86_400))
            with requests.Session() as session:
                session.verify = here.stack.tenant["ca_file"]
                session.trust_env = False
                session.headers["Authorization"] = f"Bearer {here.token()}"
                address = here.stack.tenant["defender"].rstrip("/") + "/api/indicators"
                begun = time.monotonic()
                for number in range(MEASURED):
                    item = {
                        "indicatorValue": f"n{number}.single.example",
                        "indicatorType": "DomainName",
                        "action": "Audit",
                        "title": "Seen in an incident",
                        "description": "One POST for each",
                        "expirationTime": expires,
                        "generateAlert": True,
                    }
                    answer = session.post(address, data=json.dumps(item), timeout=60)
                    if answer.status_code != 200:
                        raise RuntimeError(f"the double answered {answer.status_code}")
                times.append(time.monotonic() - begun)
    hours = [max(ASKED * taken / MEASURED, ASKED * 60 / PER_MINUTE, ASKED * 3600 / PER_HOUR) / 3600 for taken in times]
    return [
        Figure(f"one POST for each of {MEASURED}, limits off", "s", times, f"{MEASURED} x the double's 0.1 s"),
        Figure(
            f"one POST for each of {ASKED:,}: EXTRAPOLATED",
            "hours",
            hours,
            f"{PER_HOUR:,} an hour, documented",
            note="the hourly limit is the bound, not the calls",
        ),
    ]
