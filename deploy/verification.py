"""The steps of scripts/verify: what is asked of a running app, and what counts as an answer.

Everything that is sent is harmless also to an app that lets it in by mistake: orders lack what they must have, ids are
of nothing, the one indicator is a random file hash with the action Audit that expires in an hour.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Literal

from deploy.canary import Canary
from deploy.say import Failed
from deploy.web import Site
from functions.routes import TABLE, Entry
from shared.identity.caller import Role

#: Functions that have no entry in the table of routes; a test holds this to the app.
OTHERS = frozenset({"Publish", "Sweep", "Poison", "Heartbeat", "Retention", "ZNoSuchRoute"})
_NEEDED = (Role.SUBMIT, Role.OPERATE)
_NOTHING = "20000101a0000000000000000"
_HEARTBEAT_AGE = 300.0


@dataclasses.dataclass(frozen=True, slots=True)
class Credentials:
    """Who asks. With `token` the app is in Easy Auth mode, else in key mode. Never shown."""

    key: str = dataclasses.field(default="", repr=False)
    master: str = dataclasses.field(default="", repr=False)
    token: str = dataclasses.field(default="", repr=False)
    weak_token: str = dataclasses.field(default="", repr=False)

    @property
    def mode(self) -> Literal["keys", "easy-auth"]:
        """As RELAY_AUTH has it."""
        return "easy-auth" if self.token else "keys"

    def headers(self, level: str = "function") -> dict[str, str]:
        """For a route of this level."""
        if self.token:
            return {"authorization": f"Bearer {self.token}"}
        return {"x-functions-key": self.master if level == "admin" else self.key or self.master}

    def roles(self) -> frozenset[str]:
        """What the token says of itself; nothing is decided by it but which step can be tried."""
        try:
            middle = self.token.split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
            return frozenset(str(role) for role in claims.get("roles", ()))
        except (IndexError, ValueError, AttributeError, TypeError):
            return frozenset()


@dataclasses.dataclass(slots=True)
class Step:
    """One step as it is told: `ok` None means that it was not tried, and `detail` says why."""

    name: str
    ok: bool | None
    detail: str
    how: str = ""
    remedy: str = ""
    seconds: float = 0.0
    more: dict[str, Any] = dataclasses.field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For the result."""
        told: dict[str, Any] = {"name": self.name, "ok": self.ok, "detail": self.detail}
        told |= {"how": self.how} if self.how else {}
        told |= {"remedy": self.remedy} if self.remedy else {}
        return told | {"seconds": round(self.seconds, 1), **self.more}


class NotTried(Exception):
    """A step that cannot be tried here; the text says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Done:
    """What a step that succeeded found, and how it was looked at."""

    detail: str
    how: str = ""
    more: dict[str, Any] = dataclasses.field(default_factory=dict)


class Verification:
    """Carries the steps out, one after the other, and tells each as it ends."""

    def __init__(
        self,
        site: Site,
        credentials: Credentials,
        tell: Callable[[str], None],
        *,
        timeout: float = 180.0,
        patience: float = 0.0,
    ) -> None:
        """timeout: seconds for each wait; patience: seconds to wait for health, as after a first deployment."""
        self._site = site
        self._who = credentials
        self._tell = tell
        self._timeout = timeout
        self._patience = patience
        self._may_publish = False
        self.steps: list[Step] = []
        self.canary = Canary(site, credentials.headers(), credentials.headers("admin"), tell, timeout=timeout)

    @property
    def failed(self) -> str | None:
        """The first step that failed."""
        return next((step.name for step in self.steps if step.ok is False), None)

    def run(self) -> None:
        """All steps. The canary is withdrawn whatever happens, also by an interruption, which goes on afterwards."""
        before: tuple[tuple[str, Callable[[], Done]], ...] = (
            ("unauthenticated", self._unauthenticated),
            ("functions", self._functions),
            ("health", self._health),
            ("wrong-role", self._wrong_role),
        )
        ready = self._step("reach", self._reach) and self._step("sign-in", self._sign_in)
        for name, act in before:
            if ready:
                self._step(name, act)
            else:
                self._skip(name)
        publish = ready and self._may_publish and not {"unauthenticated", "wrong-role"} & self._wrong()
        steps: tuple[tuple[str, Callable[[], Done]], ...] = (
            ("submit", lambda: Done(self.canary.submit())),
            ("publish", lambda: Done(self.canary.published())),
            ("seen", lambda: Done(self.canary.seen(), "GET /api/indicators/{value}, which asks Defender")),
            ("undo", lambda: Done(self.canary.undo())),
            ("gone", lambda: Done(self.canary.gone(), "GET /api/indicators/{value}, which asks Defender")),
        )
        try:
            for name, act in steps:
                if publish:
                    publish = self._step(name, act)
                else:
                    self._skip(name)
        finally:
            self.canary.clean_up()

    def _wrong(self) -> set[str]:
        return {step.name for step in self.steps if step.ok is False}

    def _skip(self, name: str) -> None:
        self.steps.append(Step(name, None, f"not tried, since {self.failed} failed"))
        self._tell(f"  --    {name}: not tried")

    def _step(self, name: str, act: Callable[[], Done]) -> bool:
        begun = time.monotonic()
        try:
            done = act()
            step = Step(name, True, done.detail, done.how, more=done.more)
        except NotTried as reason:
            step = Step(name, None, str(reason))
        except Failed as error:
            step = Step(name, False, error.what, remedy=error.remedy)
        step.seconds = time.monotonic() - begun
        self.steps.append(step)
        mark = {True: "ok", False: "FAIL", None: "--"}[step.ok]
        self._tell(f"  {mark:<4}  {name}: {step.detail}" + (f"\n        {step.remedy}" if step.remedy else ""))
        return step.ok is not False

    # Who may come in

    def _reach(self) -> Done:
        answer = self._site.ask_patiently("GET", "/api/health", patience=max(120.0, self._patience))
        if answer.status in (502, 503, 504):
            detail = f"The host answers {answer}: the app does not start."
            raise Failed(detail, "Look at its log stream; a binding whose connection setting is missing keeps it down.")
        if answer.status in (301, 302, 307, 308):
            raise Failed(f"It answers with a redirection ({answer.status}).", "Give the address that it goes to.")
        return Done(f"{self._site.url} answers")

    def _sign_in(self) -> Done:
        if self._who.mode == "easy-auth":
            return self._sign_in_by_token()
        for level, name in (("function", "VERIFY_KEY"), ("admin", "VERIFY_MASTER_KEY")):
            answer = self._probe(_ENTRIES["GetOpenApi" if level == "function" else "UndoSubmission"], level)
            if answer.status == 401:
                what = "A function or host key" if level == "function" else "The master key"
                raise Failed(
                    f"The app does not take the key in {name} (401).",
                    f"{what} is needed: az functionapp keys list. In Easy Auth mode the app takes tokens, no keys.",
                )
            if answer.status not in (200, 404) or answer.problem == "no-route":
                raise Failed(f"With the key in {name} it answers {answer}.", str(answer.told.get("remedy", "")))
        told = "function key and master key are taken" if self._who.key else "the master key is taken"
        return Done(told)

    def _sign_in_by_token(self) -> Done:
        answer = self._probe(_ENTRIES["GetOpenApi"], "function")
        if answer.status == 401:
            raise Failed(
                "The app does not take the token (401).",
                "It must be one for the API's own app (its audience), of this tenant, not expired. In key mode the app "
                "takes keys, no tokens.",
            )
        if answer.status == 403:
            raise Failed(
                "The token is good, but its application or person may not come in (403).",
                f"Add its application to allowedApplications, and assign the roles {_listed(_NEEDED)}.",
            )
        if answer.status != 200:
            raise Failed(f"With the token it answers {answer}.", str(answer.told.get("remedy", "")))
        held = self._who.roles()
        lacking = [role for role in _NEEDED if role not in held]
        if lacking:
            raise Failed(
                f"The token lacks the roles {_listed(lacking)}.",
                "Assign them to whoever verifies; a new role shows after signing in anew (az logout, az login).",
            )
        return Done(f"the token is taken; its roles are {', '.join(sorted(held))}")

    def _unauthenticated(self) -> Done:
        forged = base64.b64encode(json.dumps({"auth_typ": "aad", "claims": []}).encode()).decode()
        tries: dict[str, Mapping[str, str]] = {"nothing": {}, "a forged principal": {"x-ms-client-principal": forged}}
        tries["a wrong key"] = {"x-functions-key": uuid.uuid4().hex}
        tries["a forged token"] = {"authorization": f"Bearer {_forged_token()}"}
        asked = 0
        for entry in TABLE:
            for case, headers in tries.items():
                if case != "nothing" and entry.function not in ("GetHealth", "PostSubmission", "UndoSubmission"):
                    continue
                answer = self._ask(entry, headers)
                asked += 1
                if answer.status not in (401, 403):
                    raise Failed(
                        f"{entry.method} /api/{entry.path} with {case} is answered with {answer}, not refused.",
                        "Stop the app (az functionapp stop) and look at its authentication: docs/access.md.",
                    )
        return Done(f"{len(TABLE)} routes refuse calls with no credential, three also a forged one ({asked} calls)")

    def _wrong_role(self) -> Done:
        tried = []
        if self._who.mode == "keys" and self._who.key:
            answer = self._ask(_ENTRIES["UndoSubmission"], {"x-functions-key": self._who.key})
            if answer.status != 401:
                raise Failed(
                    f"An undo with the key in VERIFY_KEY is answered with {answer}, not refused.",
                    "VERIFY_KEY must be a function or host key, not the master key.",
                )
            tried.append("a function key may not undo")
        if self._who.weak_token:
            headers = {"authorization": f"Bearer {self._who.weak_token}"}
            answer = self._ask(_ENTRIES["UndoSubmission"], headers)
            if answer.status != 403:
                raise Failed(
                    f"An undo with the token in VERIFY_WEAK_TOKEN is answered with {answer}, not with 403.",
                    f"That token must be a good one without the role {Role.OPERATE}.",
                )
            tried.append("a token without the role may not undo")
        if Role.ALLOW not in self._who.roles():
            self._ask_for_allowed()
            tried.append("this caller may not ask for the action Allowed")
        if not tried:
            raise NotTried(f"this token has every role: put one without {Role.OPERATE} into VERIFY_WEAK_TOKEN")
        return Done("; ".join(tried))

    def _ask_for_allowed(self) -> None:
        item = {"indicatorValue": uuid.uuid4().hex * 2, "indicatorType": "FileSha256", "action": "Allowed"}
        item |= {"title": "Deployment check", "description": "A dry run of scripts/verify"}
        body = {"source": "verify", "indicators": [item]}
        answer = self._site.ask_patiently("POST", "/api/submissions?dry_run=true", self._who.headers(), body)
        reasons = [one.get("reason") for one in answer.told.get("items", ())]
        if answer.status != 200 or reasons != ["not_permitted"]:
            raise Failed(
                f"A dry run of the action Allowed, without the role for it, is answered with {answer} {reasons}.",
                f"Only callers with {Role.ALLOW} may have it: look at the assignments of the API's app roles.",
            )

    # What is there

    def _functions(self) -> Done:
        wanted = set(_ENTRIES) | OTHERS
        why_not = "Easy Auth mode has no master key"
        if self._who.master and self._who.mode == "keys":
            answer = self._site.ask_patiently("GET", "/admin/functions", {"x-functions-key": self._who.master})
            listed = answer.listed
            if answer.status == 200 and listed is not None:
                found = {str(one.get("name")) for one in listed if isinstance(one, dict)}
                missing = sorted(wanted - found)
                if missing:
                    raise Failed(
                        f"The host has not indexed {', '.join(missing)}.",
                        "It loads all or nothing: its log stream has the error. Publish the package again.",
                    )
                return Done(
                    f"all {len(wanted)} functions are indexed", "GET /admin/functions", {"indexed": len(wanted)}
                )
            why_not = f"GET /admin/functions answered {answer.status}"
        for entry in TABLE:
            answer = self._probe(entry, entry.level)
            if answer.status == 405 or (answer.status == 404 and answer.problem != "not-found"):
                raise Failed(
                    f"{entry.method} /api/{entry.path} is answered with {answer}: it is not indexed.",
                    "The host's log stream says why. Publish the package again.",
                )
        timers = self._site.ask_patiently("GET", "/api/operations", self._who.headers()).told.get("timers") or {}
        return Done(
            f"all {len(TABLE)} routes answer; timers that have run: {', '.join(sorted(timers)) or 'none yet'}; "
            "the queue function is shown by the canary",
            f"each route asked for something that changes nothing ({why_not})",
        )

    def _health(self) -> Done:
        until, told_of = time.monotonic() + self._patience, False
        while True:
            answer = self._site.ask_patiently("GET", "/api/health", self._who.headers(), patience=60.0)
            told = answer.told
            checks = [one for one in told.get("checks", ()) if isinstance(one, dict)]
            if answer.status in (200, 503) and told.get("status") == "ok" and checks:
                self._may_publish = True
                return Done(f"{len(checks)} checks", more={"checks": [f"{c['name']}: {c['detail']}" for c in checks]})
            if time.monotonic() >= until:
                break
            if not told_of:
                self._tell(f"        health is {told.get('status', answer)}; waiting, up to {self._patience:.0f} s ...")
                told_of = True
            time.sleep(min(10.0, max(0.1, until - time.monotonic())))
        if not checks:
            raise Failed(f"It answers {answer}.", str(told.get("remedy", "")))
        bad = [one for one in checks if one.get("ok") is False or (one.get("ok") is None and one.get("remedy"))]
        # What only warns, such as a secret that expires this month, does not keep the canary from being published.
        self._may_publish = (
            not any(one.get("ok") is False or one["name"] == "paused" for one in bad) and "paused" not in told
        )
        raise Failed(
            f"It is {told.get('status')}: " + "; ".join(f"{one['name']}: {one['detail']}" for one in bad),
            " ".join(dict.fromkeys(str(one.get("remedy", "")) for one in bad if one.get("remedy"))),
        )

    # Asking

    def _probe(self, entry: Entry, level: str) -> Any:
        return self._ask(entry, self._who.headers(level))

    def _ask(self, entry: Entry, headers: Mapping[str, str]) -> Any:
        path = f"/api/{entry.path}".replace("{id}", _NOTHING).replace("{value}", "0.0.0.0")
        body: dict[str, Any] | None = {} if entry.method == "POST" else None
        if entry.method == "GET" and entry.function in ("FindIndicators", "GetCapacity"):
            path += "?none=1"  # not one of its parameters: refused before Defender is asked
        return self._site.ask_patiently(entry.method, path, headers, body)


_ENTRIES = {entry.function: entry for entry in TABLE}


def _listed(roles: Any) -> str:
    return " and ".join(str(role) for role in roles)


def _forged_token() -> str:
    """Looks like a token with every role, and nobody has signed it."""
    parts = ({"alg": "none", "typ": "JWT"}, {"roles": [str(role) for role in Role], "exp": int(time.time()) + 3600})
    made = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return f"{made[0]}.{made[1]}."
