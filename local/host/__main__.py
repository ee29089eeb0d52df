"""One instance of one scale group: `python -m local.host --app DIR --group http ...`.

Prints one JSON line {"pid", "port", "group", "functions"} on standard output when it is ready, and runs until
SIGTERM (drains for up to five seconds) or SIGKILL (an instance's death: leases run out by themselves).
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import logging
import os
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from aiohttp import web

from local.host import hostjson, logs, runtime
from local.host.easyauth import ENABLED, AuthSettings, EasyAuth
from local.host.front import FRONT_END_LIMIT, FrontEnd, Keys
from local.host.protos import TypedData
from local.host.queues import LEASE, QueueListener
from local.host.queueservice import QueueService
from local.host.runtime import Function, Result
from local.host.timers import Timer, intervals

log = logging.getLogger("host")

DRAIN = 5.0
_HEADER_MAX = 32 * 1024  # the host's web server takes so much of all headers together
_LINE_MAX = 64 * 1024  # Kestrel takes 8 KiB; more here, so that a test meets the answer of the app and not of a server


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m local.host", description=__doc__)
    parser.add_argument("--app", type=Path, required=True, help="folder with function_app.py and host.json")
    parser.add_argument("--group", required=True, help="http, timers, or queue:FUNCTION")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0: any free one")
    parser.add_argument("--keys", type=Path, required=True, help="JSON file with the host's keys")
    parser.add_argument("--lease", type=float, default=LEASE, help="seconds a message is leased; whole seconds")
    parser.add_argument("--json-log", type=Path, help="file for the log lines; default: standard error")
    parser.add_argument("--front-end-limit", type=float, default=FRONT_END_LIMIT, help="seconds for one HTTP request")
    parser.add_argument("--easy-auth", type=Path, help="JSON file with authsettingsV2 properties; default: off")
    parser.add_argument("--speed", type=float, default=1.0, help="how much faster the timers' clock runs")
    parser.add_argument("--timer", action="append", default=[], help="NAME=SECONDS instead of its schedule")
    parser.add_argument("--preload", action="append", default=[], help="module to import before the app (fault tests)")
    return parser.parse_args()


class Instance:
    """What one process runs."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._app: Path = options.app.resolve()
        self._config = hostjson.load(self._app)
        self._listeners: list[QueueListener] = []
        self._timers: list[Timer] = []

    async def invoke(self, function: Function, inputs: dict[str, TypedData], metadata: dict[str, TypedData]) -> Result:
        """Call a function under `functionTimeout`. When that passes, the host kills the worker: so does this."""
        loop = asyncio.get_running_loop()
        watchdog = None
        if self._config.function_timeout is not None:
            watchdog = loop.call_later(self._config.function_timeout, self._overrun, function.name)
        try:
            return await runtime.invoke(function, inputs, metadata)
        finally:
            if watchdog is not None:
                watchdog.cancel()

    def _overrun(self, name: str) -> None:
        log.critical("Timeout value of %s seconds exceeded by function '%s'", self._config.function_timeout, name)
        logging.shutdown()
        os._exit(3)

    async def run(self) -> None:
        """Load the app, serve the group, return after SIGTERM or SIGINT."""
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        functions = await runtime.load(self._app)
        group: str = self._options.group
        async with AsyncExitStack() as stack:
            http = [f for f in functions.values() if f.kind == "httpTrigger"] if group == "http" else []
            running: list[asyncio.Task[None]] = []
            if group.startswith("queue:"):
                running.append(asyncio.create_task((await self._listener(functions, group, stack)).run()))
            elif group == "timers":
                running += self._start_timers(functions)
            elif group != "http":
                raise hostjson.HostConfigError(f"group {group!r} is not http, timers or queue:FUNCTION")
            # Only the door to the world has authentication in front; the other groups have no address in Azure.
            guarded = group == "http" and self._options.easy_auth is not None
            front = FrontEnd(
                http,
                functions,
                self._config.route_prefix,
                Keys.read(self._options.keys),
                self.invoke,
                limit=self._options.front_end_limit,
                status=self._status,
                easy_auth=EasyAuth(AuthSettings.read(self._options.easy_auth)) if guarded else None,
            )
            port = await self._serve(front, stack)
            ready = {"pid": os.getpid(), "port": port, "group": group, "functions": sorted(functions)}
            print(json.dumps(ready), flush=True)
            os.dup2(2, 1)  # nobody reads our standard output after this line; a full pipe would stop the app
            watch = asyncio.create_task(stopping.wait())
            done, _ = await asyncio.wait({watch, *running}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {watch}:
                task.result()  # a listener ends only by an error of ours: let it be seen
            for timer in self._timers:
                timer.stop()
            await asyncio.gather(*(listener.stop(DRAIN) for listener in self._listeners))
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _listener(self, functions: dict[str, Function], group: str, stack: AsyncExitStack) -> QueueListener:
        name = group.removeprefix("queue:")
        function = functions.get(name)
        if function is None or function.kind != "queueTrigger":
            raise hostjson.HostConfigError(f"the app has no queue function {name!r}")
        connection = str(function.trigger.get("connection") or "AzureWebJobsStorage")
        if connection not in os.environ:
            raise hostjson.HostConfigError(f"setting {connection} is missing; here it must be a connection string")
        service = await stack.enter_async_context(QueueService(os.environ[connection]))
        listener = QueueListener(
            function,
            hostjson.expand(str(function.trigger["queueName"])),
            service,
            self._config.queues,
            self.invoke,
            lease=self._options.lease,
        )
        self._listeners.append(listener)
        return listener

    def _start_timers(self, functions: dict[str, Function]) -> list[asyncio.Task[None]]:
        every = intervals(self._options.timer)
        unknown = set(every) - {f.name for f in functions.values() if f.kind == "timerTrigger"}
        if unknown:
            raise hostjson.HostConfigError(f"the app has no timer {', '.join(sorted(unknown))}")
        for function in functions.values():
            if function.kind == "timerTrigger":
                timer = Timer(function, self.invoke, speed=self._options.speed, every=every.get(function.name))
                self._timers.append(timer)
        return [asyncio.create_task(timer.run()) for timer in self._timers]

    async def _serve(self, front: FrontEnd, stack: AsyncExitStack) -> int:
        # Azure's front end hands a packed body on as it came.
        runner = web.AppRunner(
            front.application(),
            access_log=None,
            shutdown_timeout=DRAIN,
            max_field_size=_HEADER_MAX,
            auto_decompress=False,
            max_line_size=_LINE_MAX,
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", self._options.port)
        await site.start()
        return int(runner.addresses[0][1])

    def _status(self) -> dict[str, Any]:
        queues = [{**listener.counts, "in_flight": listener.in_flight} for listener in self._listeners]
        return {"state": "Running", "pid": os.getpid(), "queues": queues, "timers": [t.runs for t in self._timers]}


def main() -> int:
    """Exit status: 0 after a signal, 1 when the app or its configuration would keep a host from starting."""
    options = arguments()
    logs.configure(options.json_log.resolve() if options.json_log else None)
    options.keys = options.keys.resolve()
    if options.easy_auth is not None:
        options.easy_auth = options.easy_auth.resolve()
        try:
            if AuthSettings.read(options.easy_auth).enabled:
                os.environ[ENABLED] = "True"  # the platform sets it for every worker of the app
        except hostjson.HostConfigError as error:
            print(f"local.host: {error}", file=sys.stderr)
            return 1
    for name in options.preload:
        importlib.import_module(name)
    try:
        asyncio.run(Instance(options).run())
    except (runtime.LoadError, hostjson.HostConfigError) as error:
        log.critical("the host does not start: %s", error)
        print(f"local.host: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
