"""scripts/verify: whether an app, deployed or local, does what it is for.

Keys and tokens come from the environment, never from the command line:

    VERIFY_KEY            key mode: a function or host key
    VERIFY_MASTER_KEY     key mode: the master key; it takes one to withdraw the canary
    VERIFY_TOKEN          Easy Auth mode: a token for the API with Submissions.Write and Operations.Manage
    VERIFY_WEAK_TOKEN     Easy Auth mode, by choice: a token without Operations.Manage, to see it refused
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import Any

from deploy.say import Failed, orderly, show, tell
from deploy.verification import Credentials, Verification
from deploy.web import Site


def credentials(api_client_id: str = "") -> Credentials:
    """From the environment; with `api_client_id` and no token there, from the Azure CLI.

    Raises:
        Failed: nothing to ask with.
    """
    given = {
        name: os.environ.get(f"VERIFY_{name}", "").strip() for name in ("KEY", "MASTER_KEY", "TOKEN", "WEAK_TOKEN")
    }
    if api_client_id and not given["TOKEN"]:
        from deploy.az import Az

        given["TOKEN"] = Az().token(f"api://{api_client_id}")
    if given["TOKEN"]:
        return Credentials(token=given["TOKEN"], weak_token=given["WEAK_TOKEN"])
    if not given["MASTER_KEY"]:
        raise Failed(
            "Nothing to ask the app with.",
            "Key mode: put a function key into VERIFY_KEY and the master key into VERIFY_MASTER_KEY. Easy Auth mode: "
            "--api-client-id ID after az login, or a token in VERIFY_TOKEN.",
        )
    return Credentials(key=given["KEY"], master=given["MASTER_KEY"])


def verify(url: str, who: Credentials, *, timeout: float = 180.0, patience: float = 0.0) -> dict[str, Any]:
    """Carry all steps out; the result as scripts/verify prints it. Raises Failed for a bad address."""
    site = Site(url)
    begun = time.monotonic()
    verification = Verification(site, who, tell, timeout=timeout, patience=patience)
    try:
        verification.run()
    except KeyboardInterrupt:
        told = result(verification, url, who, time.monotonic() - begun)
        told["failed"] = told["failed"] or "interrupted"
        told["ok"] = False
        show(told)
        raise
    return result(verification, url, who, time.monotonic() - begun)


def result(verification: Verification, url: str, who: Credentials, seconds: float) -> dict[str, Any]:
    """As JSON."""
    return {
        "ok": verification.failed is None,
        "failed": verification.failed,
        "url": url,
        "auth": who.mode,
        "steps": [step.as_json() for step in verification.steps],
        "canary": verification.canary.as_json(),
        "seconds": round(seconds, 1),
    }


def main() -> int:
    """Exit status: 0 verified, 1 a step failed, 2 it could not begin, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="scripts/verify")
    parser.add_argument("--url", required=True)
    parser.add_argument("--api-client-id", default="")
    parser.add_argument("--timeout", type=float, default=180.0)
    parser.add_argument("--patience", type=float, default=0.0)
    options = parser.parse_args()
    orderly()
    try:
        who = credentials(options.api_client_id)
        tell(f"Verifying {options.url} ({who.mode}) ...")
        told = verify(options.url, who, timeout=options.timeout, patience=options.patience)
    except Failed as error:
        tell(f"\nNot verified. {error}")
        return 2
    except KeyboardInterrupt:
        return 130
    show(told)
    if told["ok"]:
        tell(f"\nVerified in {told['seconds']:.0f} s.")
        return 0
    tell(f"\nNOT verified: {told['failed']} failed.")
    return 1


if __name__ == "__main__":
    sys.exit(main())
