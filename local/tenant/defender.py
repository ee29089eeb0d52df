"""The indicators API: routes, roles, quota, and the answers in the words of the service."""

from __future__ import annotations

import asyncio
import json
import math
import re
import urllib.parse
from typing import Any

from aiohttp import web

from local.tenant.answers import Answer, Refused, as_json, error
from local.tenant.clock import Clock
from local.tenant.directory import DEFENDER_RESOURCES, THREAT_PROTECTION
from local.tenant.faults import FaultBook
from local.tenant.indicators import Caller, Row, Store
from local.tenant.metrics import Call, Metrics
from local.tenant.odata import Filter, ODataError, parse_count, parse_filter
from local.tenant.rules import Rules
from local.tenant.service import Service
from local.tenant.throttle import Throttle
from local.tenant.tokens import Issuer, bearer, peek
from local.tenant.validation import Fault, check

_PATH = re.compile(r"^(/api(?:/v1\.0)?)/indicators(?:/([^/]+))?/?$", re.IGNORECASE)
_GROUPS = re.compile(r"^/api(?:/v1\.0)?/exposureScore/ByMachineGroups/?$", re.IGNORECASE)
_METHODS = {
    "collection": {"GET": "list", "POST": "submit"},
    "import": {"POST": "import"},
    "batchdelete": {"POST": "batch_delete"},
    "one": {"GET": "get", "DELETE": "delete"},
}
_RESULT = "Collection(microsoft.windowsDefenderATP.api.ImportIndicatorResult)"


class Defender(Service):
    """The API. One store for each tenant that has called; `store()` is that of the tenant itself."""

    name = "defender"

    def __init__(
        self, clock: Clock, faults: FaultBook, metrics: Metrics, issuer: Issuer, rules: Rules, tenant: str
    ) -> None:
        super().__init__(clock, faults, metrics)
        self._issuer = issuer
        self._tenant = tenant
        self.rules = rules
        self.throttle = Throttle()
        self.stores: dict[str, Store] = {}
        self._verdicts: dict[int, tuple[int, float, float]] = {}

    def store(self, tenant: str = "") -> Store:
        """The indicators of a tenant."""
        tenant = tenant or self._tenant
        if tenant not in self.stores:
            self.stores[tenant] = Store(self.clock, self.rules)
        return self.stores[tenant]

    def clear(self) -> None:
        """Delete every indicator of every tenant."""
        for store in self.stores.values():
            store.clear()

    def route(self, request: web.BaseRequest) -> str:
        """list, get, submit, import, delete, batch_delete; groups for device groups; other for the rest."""
        found = _PATH.match(request.path)
        if found is None:
            return "groups" if _GROUPS.match(request.path) else "other"
        return _METHODS[_resource(found)].get(request.method, "other")

    def arrived(self, request: web.BaseRequest, call: Call) -> None:
        """Count the arrival against the quota of (route, tenant, app), whatever becomes of the request."""
        try:
            token = bearer(request.headers.get("Authorization"))
            claims = self._issuer.check(token)
        except ValueError:
            call.app = str(peek(request.headers.get("Authorization") or "").get("appid", ""))
            return
        call.app = claims["appid"]
        limits = self.rules.limits.get(call.route)
        if limits:
            key = (call.route, claims["tid"], claims["appid"])
            verdict = self.throttle.arrive(key, limits, count_refused=self.rules.count_throttled)
            if verdict is not None:
                self._verdicts[id(call)] = verdict

    async def answer(self, request: web.BaseRequest, call: Call) -> Answer:
        """See Service."""
        verdict = self._verdicts.pop(id(call), None)
        body = await request.content.read()
        found = _PATH.match(request.path)
        if found is None and call.route != "groups":
            raise Refused(error(404, "NotFound", "The requested resource was not found."))
        if found is not None and call.route == "other":
            methods = ", ".join(_METHODS[_resource(found)])
            raise Refused(Answer(405, b"", {"Allow": methods}))
        claims = self._claims(request)
        if found is None:
            self._need(claims, ["Score.Read.All"])
            rows = [{"rbacGroupId": number, "rbacGroupName": name} for name, number in self.rules.groups.items()]
            return as_json(200, {"value": rows})
        roles = self.rules.read_roles if call.route in ("list", "get") else ["Ti.ReadWrite.All", "Ti.ReadWrite"]
        self._need(claims, roles)
        if verdict is not None:
            raise Refused(self._throttled(verdict))
        await asyncio.sleep(self.rules.service_time[call.route])
        sees_all = bool({"Ti.ReadWrite.All", "Ti.Read.All"} & set(claims.get("roles", [])))
        caller = Caller(claims["appid"], claims.get("app_displayname", claims["appid"]), sees_all=sees_all)
        work = _Work(self, request, found[1], found[2] or "", caller, self.store(claims["tid"]), call)
        return work.run(body)

    def _claims(self, request: web.BaseRequest) -> dict[str, Any]:
        try:
            token = bearer(request.headers.get("Authorization"))
            return self._issuer.check(token, *DEFENDER_RESOURCES, THREAT_PROTECTION)
        except ValueError as fault:
            message = f"Authorization header is invalid or expired: {fault}"
            raise Refused(error(401, "Unauthorized", message, WWW_Authenticate="Bearer")) from None

    @staticmethod
    def _need(claims: dict[str, Any], wanted: list[str]) -> None:
        roles = claims.get("roles", [])
        if not set(wanted) & set(roles):
            message = f"Missing application roles. API required roles: {', '.join(wanted)}"
            message += f", application roles: {', '.join(roles)}."  # only the first part is recorded
            raise Refused(error(403, "Forbidden", message))

    def _throttled(self, verdict: tuple[int, float, float]) -> Answer:
        calls, seconds, wait = verdict
        span = f"{int(seconds) // 3600:02d}:{int(seconds) // 60 % 60:02d}:{int(seconds) % 60:02d}"
        left = max(1, math.ceil(wait))
        message = (
            f"API calls quota exceeded! Maximum allowed {calls} per {span} for the key Destination+TenantID+AppID. "
            f"You can send requests again in {left} seconds."
        )
        headers = {"Retry_After": str(left)} if self.rules.retry_after_header else {}
        return error(429, self.rules.throttle_code, message, **headers)


def _resource(found: re.Match[str]) -> str:
    tail = (found[2] or "").lower()
    if not tail:
        return "collection"
    return tail if tail in ("import", "batchdelete") else "one"


class _Work:
    """One authorised request that is within its quota. Nothing in here awaits: each request is one step."""

    def __init__(
        self,
        defender: Defender,
        request: web.BaseRequest,
        prefix: str,
        tail: str,
        caller: Caller,
        store: Store,
        call: Call,
    ) -> None:
        self._rules = defender.rules
        self._now = defender.clock.ticks()
        self._request = request
        self._base = f"{request.scheme}://{request.host}{prefix}"
        self._tail = urllib.parse.unquote(tail)
        self._caller = caller
        self._store = store
        self._call = call

    def run(self, body: bytes) -> Answer:
        match self._call.route:
            case "list":
                return self._list()
            case "get":
                row = self._store.get(self._tail, self._caller) or self._missing(self._tail)
                return self._said({"@odata.context": f"{self._base}/$metadata#Indicators/$entity", **row})
            case "delete":
                if self._store.get(self._tail, self._caller) is None:
                    self._missing(self._tail)
                self._store.delete(self._tail)
                return Answer(self._rules.delete_status)
            case "batch_delete":
                return self._batch_delete(self._items(body, "IndicatorIds"))
            case "submit":
                return self._submit(body)
            case _:
                return self._import(self._items(body, "Indicators"))

    def _said(self, content: dict[str, Any]) -> Answer:
        answer = as_json(200, content)
        answer.headers |= {
            "Content-Type": "application/json; odata.metadata=minimal; odata.streaming=true; charset=utf-8",
            "OData-Version": "4.0",
            "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
            "Vary": "Accept-Encoding",
        }
        return answer

    def _missing(self, identifier: str) -> Row:
        raise Refused(error(404, "ResourceNotFound", f"Resource {identifier} was not found"))

    def _malformed(self) -> Refused:
        return Refused(error(400, self._rules.malformed_code, "Request body is incorrect"))

    def _items(self, body: bytes, name: str) -> list[Any]:
        content = self._json(body)
        if name not in content:
            raise Refused(error(400, "MissingRequiredParameter", f"Parameter {name} is missing"))
        items = content[name]
        if not isinstance(items, list):
            raise self._malformed()
        self._call.items = len(items)
        if len(items) > self._rules.batch_max:
            message = f"Maximum batch size exceeded. Received: {len(items)}, allowed: {self._rules.batch_max}."
            raise Refused(error(400, "MaximumBatchSizeExceeded", message))
        return items

    def _json(self, body: bytes) -> dict[str, Any]:
        try:
            content = json.loads(body)
        except ValueError:
            raise self._malformed() from None
        if not isinstance(content, dict):
            raise self._malformed()
        return content

    def _list(self) -> Answer:
        query = self._request.query
        try:
            for name in query:
                if name.startswith("$") and name not in ("$filter", "$top", "$skip"):
                    raise ODataError(f"Query option '{name}' is not allowed.")
            wanted = parse_filter(query["$filter"]) if "$filter" in query else Filter(lambda row: True)
            top = parse_count(query.get("$top"), "top", 10_000)
            skip = parse_count(query.get("$skip"), "skip", None) or 0
        except ODataError as fault:
            raise Refused(error(400, "ODataError", str(fault))) from None
        rows = [row for row in self._store.rows(self._caller, wanted.value) if wanted.matches(row)]
        size = self._rules.page_size if top is None else min(top, self._rules.page_size)
        content: dict[str, Any] = {
            "@odata.context": f"{self._base}/$metadata#Indicators",
            "value": rows[skip : skip + size],
        }
        left = len(rows) - skip - size
        if self._rules.next_link and left > 0 and (top is None or top > size):
            changed: dict[str, str] = {**query, "$skip": str(skip + size)}
            if top is not None:
                changed["$top"] = str(top - size)
            content["@odata.nextLink"] = f"{self._base}/indicators?{urllib.parse.urlencode(changed, safe='$')}"
        return self._said(content)

    def _check(self, item: Any) -> tuple[Fault | None, dict[str, Any]]:
        fault, understood = check(item, self._rules, self._now)
        if fault is None and self._rules.poison:
            value = understood["indicatorValue"]
            match self._rules.poison.get(value):
                case "batch":
                    fault = Fault("batch", self._rules.malformed_code, "Request body is incorrect")
                case "named":
                    fault = Fault("batch", "InvalidInput", f"Invalid input {value}")
                case "item":
                    fault = Fault("item", "InvalidInput", f"Invalid input {value}")
                case _:
                    pass
        return fault, understood

    def _submit(self, body: bytes) -> Answer:
        self._call.items = 1
        fault, item = self._check(self._json(body))
        row: Row = {}
        if fault is None:
            self._store.sweep()
            try:
                row = self._store.upsert(item, self._caller, self._now)
            except Fault as raised:
                fault = raised
        if fault is not None:
            raise Refused(error(fault.status, fault.code, fault.message))
        return self._said({"@odata.context": f"{self._base}/$metadata#Indicators/$entity", **row})

    def _import(self, items: list[Any]) -> Answer:
        if not items and self._rules.empty_import_status != 200:
            message = "Parameter Indicators is missing"
            raise Refused(error(self._rules.empty_import_status, "MissingRequiredParameter", message))
        checked = [self._check(item) for item in items]
        for fault, _ in checked:
            if fault is not None and fault.how == "batch":
                raise Refused(error(fault.status, fault.code, fault.message))
        self._store.sweep()
        results: list[dict[str, Any]] = []
        failed = 0
        for fault, item in checked:
            identifier = None
            if fault is None:
                try:
                    identifier = self._store.upsert(item, self._caller, self._now)["id"]
                except Fault as raised:
                    fault = raised
            failed += fault is not None
            results.append(
                {
                    "id": identifier,
                    "indicator": item.get("indicatorValue"),
                    "isFailed": fault is not None,
                    "failureReason": fault.message if fault is not None else None,
                }
            )
        self._call.failed = failed
        return self._said({"@odata.context": f"{self._base}/$metadata#{_RESULT}", "value": results})

    def _batch_delete(self, identifiers: list[Any]) -> Answer:
        if not identifiers:
            raise Refused(error(400, "MissingRequiredParameter", "Parameter IndicatorIds is missing"))
        for identifier in identifiers:
            if not isinstance(identifier, str) or not identifier.isdecimal():
                raise Refused(error(400, "InvalidInput", f"Invalid input {identifier}"))
        known = [one for one in dict.fromkeys(identifiers) if self._store.get(one, self._caller) is not None]
        missing = set(identifiers) - set(known)
        if not missing or self._rules.batch_delete_partial:
            for identifier in known:
                self._store.delete(identifier)
        if missing:
            self._missing(min(missing, key=int))
        return Answer(204)
