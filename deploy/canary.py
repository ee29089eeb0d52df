"""The canary: a random file hash, Audit, for an hour; published, seen in Defender, withdrawn, and seen gone."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from deploy.say import Failed
from deploy.web import Answer, Site

_ACTION = "Audit"
_LIFE = timedelta(hours=1)
_WAIT = 20  # seconds that one request waits for the end of a submission
_LATE = 10.0  # seconds that an answer may take beyond what it was to wait: a busy app is not one that is not there
_CLEANING = 90.0


class Canary:
    """One canary. The steps are called in their order; `clean_up` after whatever happened."""

    def __init__(
        self,
        site: Site,
        headers: Mapping[str, str],
        admin: Mapping[str, str],
        tell: Callable[[str], None],
        *,
        timeout: float = 180.0,
    ) -> None:
        """headers, admin: to submit and look, and to undo; timeout: seconds for each wait."""
        self._site = site
        self._headers = dict(headers)
        self._admin = dict(admin)
        self._tell = tell
        self._timeout = timeout
        self.value = secrets.token_hex(32)
        self._key = str(uuid.uuid4())
        self._sent = False
        self._item: dict[str, Any] = {}
        self._submission = ""
        self._undo = ""
        self._expires: datetime | None = None
        self._gone = False
        self._outcome = "not submitted"

    def as_json(self) -> dict[str, Any]:
        """What it was and what is left of it; None when it was never sent."""
        told: dict[str, Any] = {"value": self.value, "action": _ACTION, "outcome": self._outcome}
        told |= {"submission": self._submission} if self._submission else {}
        told |= {"undo": self._undo} if self._undo else {}
        return told | ({"expires": f"{self._expires:%Y-%m-%dT%H:%M:%SZ}"} if self._expires else {})

    def submit(self) -> str:
        """Send it. Raises Failed."""
        self._expires = datetime.now(UTC) + _LIFE
        item = {
            "indicatorValue": self.value,
            "indicatorType": "FileSha256",
            "action": _ACTION,
            "severity": "Informational",
            "generateAlert": False,
            "title": "Deployment check",
            "description": "Canary of scripts/verify; it is withdrawn again.",
            "expirationTime": f"{self._expires:%Y-%m-%dT%H:%M:%SZ}",
        }
        self._sent, self._outcome = True, "it is not known whether it was submitted"
        self._item = item
        answer = self._send()
        if answer.status not in (200, 202) or not self._submission:
            if 400 <= answer.status < 500:
                self._sent, self._outcome = False, "not submitted: it was refused"
            raise Failed(f"The submission is answered with {answer}.", str(answer.told.get("remedy", "")))
        self._outcome = "submitted"
        verdicts = [one for one in answer.told.get("items", ()) if one.get("verdict") == "rejected"]
        if verdicts:
            raise Failed(f"The canary is rejected: {verdicts[0].get('reason')}, {verdicts[0].get('text')}")
        return f"{self.value[:12]}..., {_ACTION}, until {self._expires:%H:%M} UTC: submission {self._submission}"

    def published(self) -> str:
        """Wait until Defender has taken it. Raises Failed with what is known of the reason."""
        begun = time.monotonic()
        told = self._finished(f"/api/submissions/{self._submission}", self._timeout)
        if told is None:
            raise Failed(
                f"It is not published after {self._timeout:.0f} s. {self._why_it_waits()}",
                "Look at /api/operations and /api/health; no worker at all means that the queue function does not run: "
                "its connection setting RelayStorage, its role on the storage account, its log stream.",
            )
        item = (told.get("items") or [{}])[0]
        if item.get("state") != "accepted":
            raise Failed(f"It was not accepted: {item.get('state')}. {item.get('text', '')}".strip())
        self._outcome = "published"
        return f"accepted by Defender after {time.monotonic() - begun:.0f} s"

    def seen(self) -> str:
        """Find it in Defender. Raises Failed."""
        found = self._look(lambda rows: any(row.get("action") == _ACTION for row in rows), "It was accepted, but")
        return f"Defender holds it as indicator {found[0].get('id')}"

    def undo(self) -> str:
        """Withdraw it. Raises Failed."""
        self._withdraw(self._timeout)
        return f"withdrawn: undo {self._undo}"

    def gone(self) -> str:
        """Defender holds it no more. Raises Failed."""
        self._look(lambda rows: not rows, "It was withdrawn, but")
        self._gone, self._outcome = True, "withdrawn, and seen gone"
        return "Defender holds it no more"

    def clean_up(self) -> None:
        """Withdraw what an unfinished run has left, and say so when that fails. Raises nothing of its own."""
        if not self._sent or self._gone:
            return
        self._tell("  withdrawing the canary ...")
        try:
            if not self._submission:  # its answer was lost: the same request again tells which submission it became
                answer = self._send()
                if not self._submission:
                    raise Failed(f"Sent again, it is answered with {answer}.")
            self._withdraw(min(self._timeout, _CLEANING))
            self.gone()
        except Failed as error:
            self._outcome = (
                f"NOT seen gone ({error.what}) It only audits, and expires by itself at {self._expires:%H:%M} UTC."
            )
        self._tell(f"  canary {self.value}: {self._outcome}")

    # How

    def _send(self) -> Answer:
        """Submit; sent again it is the same submission (Idempotency-Key)."""
        headers = {**self._headers, "idempotency-key": self._key}
        body = {"source": "verify", "indicators": [self._item]}
        answer = self._site.ask_patiently("POST", "/api/submissions", headers, body)
        self._submission = str(answer.told.get("id", ""))
        return answer

    def _withdraw(self, patience: float) -> None:
        until = time.monotonic() + patience
        path = f"/api/submissions/{self._submission}"
        while True:
            answer = self._site.ask_patiently("DELETE", path, self._admin)
            if answer.status != 409 or answer.problem != "on-its-way" or time.monotonic() >= until:
                break
            time.sleep(max(1.0, answer.retry_after))
        self._undo = str(answer.told.get("id", ""))
        if answer.status not in (200, 202) or not self._undo:
            raise Failed(f"The undo is answered with {answer}.", str(answer.told.get("remedy", "")))
        left = max(0.0, until - time.monotonic())
        told = answer.told if answer.status == 200 else self._finished(f"/api/submissions/{self._undo}", left)
        if told is None:
            raise Failed(f"Its undo {self._undo} has not ended after {patience:.0f} s. {self._why_it_waits()}")
        counts = told.get("counts") or {}
        if counts.get("rejected"):
            raise Failed(f"Its undo {self._undo} was refused: {told.get('text', '')}")
        self._outcome = "withdrawn"

    def _finished(self, path: str, patience: float) -> dict[str, Any] | None:
        """The submission once it is finished; None when that takes longer."""
        until, told_of = time.monotonic() + patience, ""
        while (left := until - time.monotonic()) > 0:
            wait = max(1, min(_WAIT, int(left)))
            answer = self._site.ask_patiently("GET", f"{path}?wait={wait}", self._headers, patience=left + _LATE)
            if answer.status == 200:
                return answer.told
            if answer.status != 202:
                raise Failed(f"{path} is answered with {answer}.", str(answer.told.get("remedy", "")))
            if (text := str(answer.told.get("text", ""))) != told_of:
                self._tell(f"        {text}")
                told_of = text
        return None

    def _look(self, fits: Callable[[list[dict[str, Any]]], bool], but: str) -> list[dict[str, Any]]:
        """What this app holds of it at Defender, as soon as that fits."""
        path = f"/api/indicators/{self.value}"
        until = time.monotonic() + self._timeout
        while True:
            answer = self._site.ask_patiently("GET", path, self._headers, patience=until - time.monotonic())
            wait = answer.retry_after or 2.0
            if answer.status == 200:
                rows = [row for row in answer.told.get("indicators", ()) if row.get("mine")]
                if fits(rows):
                    return rows
                said = f"Defender {'still holds' if rows else 'does not show'} it"
            elif answer.status in (429, 502):  # the share of calls for looking is used up; Defender does not answer
                said = f"looking at Defender is answered with {answer}"
            else:
                raise Failed(f"The look at Defender is answered with {answer}.", str(answer.told.get("remedy", "")))
            if time.monotonic() + wait >= until:
                raise Failed(f"{but} {said} after {self._timeout:.0f} s.", "Look it up in the portal, and at the log.")
            time.sleep(wait)

    def _why_it_waits(self) -> str:
        try:
            answer: Answer = self._site.ask_patiently("GET", "/api/operations", self._headers, patience=10.0)
        except Failed:
            return ""
        told = answer.told
        if answer.status != 200 or "workers" not in told:
            return ""
        workers = told["workers"]
        seen = (
            f"The last worker of the queue was seen at {workers[0]['lastSeen']}."
            if workers
            else ("No worker of the queue was ever seen.")
        )
        return f"{told.get('text', '')} {seen}".strip()
