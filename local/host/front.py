"""The HTTP side of the host: routes, keys, and what happens to a request on its way to the worker."""

from __future__ import annotations

import asyncio
import dataclasses
import hmac
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

from aiohttp import web
from multidict import CIMultiDict

from local.host.easyauth import EasyAuth
from local.host.protos import TypedData
from local.host.routes import Router
from local.host.runtime import Function, InvocationError, Result

log = logging.getLogger("host.http")

#: The platform's front end gives up on a request after this many seconds; the function goes on.
FRONT_END_LIMIT = 230.0
_BODY_MAX = 100 * 1024 * 1024

Invoke = Callable[[Function, dict[str, TypedData], dict[str, TypedData]], Awaitable[Result]]


@dataclasses.dataclass(frozen=True, slots=True)
class Keys:
    """The host's keys. `functions` holds function name -> key."""

    master: str
    host: str
    functions: Mapping[str, str]

    @classmethod
    def read(cls, file: Path) -> Self:
        """From a JSON file {"master", "host", "functions": {}}."""
        data = json.loads(file.read_text("utf-8"))
        return cls(data["master"], data["host"], data.get("functions", {}))

    def allow(self, level: str, function: str, given: str) -> bool:
        """Whether the key opens a function of this auth level; `admin` takes the master key alone."""
        if level == "anonymous":
            return True
        accepted = [self.master]
        if level == "function":
            accepted += [self.host, *([self.functions[function]] if function in self.functions else [])]
        return bool(given) and any(hmac.compare_digest(given.encode(), key.encode()) for key in accepted)


class FrontEnd:
    """Serves the HTTP functions under the route prefix, and `/admin/functions/NAME` for every function."""

    def __init__(
        self,
        functions: Iterable[Function],
        all_functions: Mapping[str, Function],
        prefix: str,
        keys: Keys,
        invoke: Invoke,
        *,
        limit: float = FRONT_END_LIMIT,
        status: Callable[[], dict[str, Any]] = dict,
        easy_auth: EasyAuth | None = None,
    ) -> None:
        self._router = Router(functions, prefix)
        self._all = {name.lower(): function for name, function in all_functions.items()}
        self._keys = keys
        self._invoke = invoke
        self._limit = limit
        self._status = status
        self._easy_auth = easy_auth
        self._background: set[asyncio.Task[None]] = set()

    def application(self) -> web.Application:
        """The aiohttp application."""
        before = [web.middleware(self._easy_auth)] if self._easy_auth else []
        app = web.Application(client_max_size=_BODY_MAX, middlewares=before)
        app.router.add_post("/admin/functions/{name}", self._run_one)
        app.router.add_get("/admin/functions", self._list)
        app.router.add_get("/admin/host/status", self._tell)
        app.router.add_route("*", r"/{rest:[\s\S]*}", self._serve)
        return app

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        found = self._router.find(request.method, request.rel_url.raw_path)
        if found is None:
            return web.Response(status=404)
        route, parameters = found
        given = request.headers.get("x-functions-key") or request.query.get("code") or ""
        if not self._keys.allow(route.auth_level, route.function.name, given):
            return web.Response(status=401)
        # The worker gets a body only when its length was announced: a chunked one arrives empty.
        body = await request.read() if (request.content_length or 0) > 0 else b""
        data = TypedData(
            http=SimpleNamespace(
                method=request.method,
                url=str(request.url),
                headers=_joined((name.lower(), value) for name, value in request.headers.items()),
                body=TypedData(bytes=body),
                params=parameters,
                query={name: value for name, value in _joined(request.query.items()).items() if value},
            )
        )
        call = asyncio.ensure_future(self._invoke(route.function, {str(route.function.trigger["name"]): data}, {}))
        try:
            async with asyncio.timeout(self._limit):
                result = await asyncio.shield(call)
        except TimeoutError:
            self._keep(call)
            return web.Response(status=504)
        except asyncio.CancelledError:  # the caller has gone; the function goes on
            self._keep(call)
            raise
        except InvocationError as error:
            log.error("Executed 'Functions.%s' (Failed): %s", route.function.name, error.detail)
            return web.Response(status=500)
        return _response(result.return_value)

    async def _run_one(self, request: web.Request) -> web.Response:
        """Runs any function now, as the host's admin API does: POST {"input": "..."} with the master key."""
        if not self._keys.allow("admin", "", request.headers.get("x-functions-key", "")):
            return web.Response(status=401)
        function = self._all.get(request.match_info["name"].lower())
        if function is None:
            return web.Response(status=404)
        given = (await request.json()).get("input", "") if request.can_read_body else ""
        if function.kind == "timerTrigger":
            data = TypedData(json='{"Schedule":{},"ScheduleStatus":null,"IsPastDue":false}')
        else:
            data = TypedData(string=str(given))
        self._keep(asyncio.ensure_future(self._invoke(function, {str(function.trigger["name"]): data}, {})))
        return web.Response(status=202)

    async def _list(self, request: web.Request) -> web.Response:
        """What is indexed, as the host's admin API tells it (of each entry only what says which function it is)."""
        if not self._keys.allow("admin", "", request.headers.get("x-functions-key", "")):
            return web.Response(status=401)
        return web.json_response(
            [
                {
                    "name": function.name,
                    "language": "python",
                    "isDisabled": False,
                    "config": {"bindings": function.bindings},
                }
                for function in self._all.values()
            ]
        )

    async def _tell(self, request: web.Request) -> web.Response:
        if not self._keys.allow("admin", "", request.headers.get("x-functions-key", "")):
            return web.Response(status=401)
        return web.json_response(self._status())

    def _keep(self, call: asyncio.Future[Result]) -> None:
        """Hold a call that nobody waits for, and log how it ends when it fails."""

        async def watch() -> None:
            try:
                await call
            except InvocationError as error:
                log.error("Executed (Failed): %s", error.detail)

        task = asyncio.ensure_future(watch())
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _joined(items: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Repeated names are joined by commas, as the host does."""
    joined: dict[str, str] = {}
    for name, value in items:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


def _text(value: Any) -> str:
    """A header or status, which comes as text or as a value that wraps one."""
    return str(value if isinstance(value, str) else getattr(value, "string", value))


def _response(value: Any) -> web.Response:
    if value is None:
        return web.Response(status=204)
    if value.WhichOneof("data") != "http":
        return web.Response(text=str(getattr(value, "string", "")))
    http = value.http
    headers: CIMultiDict[str] = CIMultiDict((name, _text(content)) for name, content in http.headers.items())
    headers.popall("content-length", None)
    body = http.body
    content = b"" if body is None else getattr(body, "bytes", None) or getattr(body, "string", "").encode()
    return web.Response(status=int(_text(http.status_code)), headers=headers, body=content)
