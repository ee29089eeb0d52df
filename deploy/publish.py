"""The zip onto a Flex Consumption app: one POST to its publishing site, with the caller's own token.

Not by `az functionapp deployment source config-zip`: for a Python app on Flex that command always asks for a remote
build (read in azure-cli 2.91, `enable_zip_deploy_flex`), which would throw the packages away that were tested and
install others with whatever Python the build has. `RemoteBuild=false` takes the zip as it is. Statuses are the ones
that the CLI goes by.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploy.say import Failed
from deploy.trouble import Denied, NotYet
from deploy.web import Answer, Site

_SUCCEEDED = 4
_ENDED = {-1: "was cancelled", 3: "failed", 5: "was cancelled for another one", 6: "succeeded only in part"}
_TIMEOUT = 900.0


def publishing_host(app: Any) -> str:
    """The host of the app's publishing site, from what `az functionapp show` tells. Raises Failed."""
    properties = app.get("properties") or {}
    for host in app.get("hostNameSslStates") or properties.get("hostNameSslStates") or ():
        if host.get("hostType") == "Repository" and host.get("name"):
            return str(host["name"])
    raise Failed("The app has no publishing site.", "It must be a Flex Consumption app, as infra/main.bicep makes it.")


def publish(host: str, file: Path, token: str, say: Callable[[str], None], *, every: float = 3.0) -> None:
    """Publish `file` and wait until the platform has taken it.

    Raises:
        NotYet: the app's identity cannot write to its deployment container yet.
        Denied: the caller may not publish.
        Failed: anything else, with what the platform says.
    """
    site = Site(f"https://{host}")
    headers = {"authorization": f"Bearer {token}", "cache-control": "no-cache"}
    say(f"  sending {file.stat().st_size:,} bytes ...")
    path = "/api/publish?RemoteBuild=false&Deployer=defender-indicator-relay"
    answer = site.send("POST", path, headers, file.read_bytes(), "application/zip", timeout=600.0)
    _refused(answer)
    until = time.monotonic() + _TIMEOUT
    accepted = False
    while time.monotonic() < until:
        time.sleep(every)
        answer = site.ask_patiently("GET", "/api/deployments/latest", headers)
        accepted = accepted or answer.status == 202
        status = answer.told.get("status")
        if status == _SUCCEEDED or (answer.status == 404 and accepted):  # the publishing site restarts at the end
            say("  the platform has it")
            return
        if status in _ENDED:
            raise _failure(f"The publication {_ENDED[status]}: {_said(answer)}")
        if answer.status in (401, 403):
            _refused(answer)
    raise Failed(
        f"The publication has not ended after {_TIMEOUT:.0f} s.", "Look at the app's deployments, then run this again."
    )


def _refused(answer: Answer) -> None:
    if answer.status in (200, 202):
        return
    if answer.status in (401, 403):
        raise Denied(
            f"The publishing site refuses you ({answer.status}).",
            "It takes Website Contributor on the app. With private networking, run this inside the network.",
        )
    if answer.status == 409:
        raise NotYet("Another publication is under way.", "Wait for it, then the same again.")
    raise _failure(f"The publishing site answers {answer.status}: {_said(answer)}")


def _failure(what: str) -> Failed:
    if any(word in what for word in ("AuthorizationPermissionMismatch", "AuthorizationFailure", "StorageAccess")):
        return NotYet(what, "Role assignments take some minutes to show: the same again.")
    return Failed(what, "Run it again; az functionapp log deployment show tells more.")


def _said(answer: Answer) -> str:
    told = answer.told
    parts = [str(told[name]) for name in ("status_text", "message", "progress", "Message") if told.get(name)]
    return (" ".join(parts) or answer.body[:400].decode("utf-8", "replace")).strip()[:600]
