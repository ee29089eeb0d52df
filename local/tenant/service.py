"""What all services share: the way of a request through faults, metrics and the service's own rules."""

from __future__ import annotations

import asyncio
import json
import socket
import struct

import aiohttp
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from local.tenant.answers import Answer, Refused
from local.tenant.clock import Clock
from local.tenant.faults import GARBAGE, Fault, FaultBook
from local.tenant.metrics import Call, Metrics


def cut(request: web.BaseRequest) -> None:
    """End the connection with a reset, so that the client cannot take it for an orderly end."""
    transport = request.transport
    if transport is None:
        return
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class _Cut(Exception):
    """The connection was cut on purpose: nothing more is to be done for this request."""


class Service:
    """One service of the tenant. Subclasses say which route a request is for and what the answer is."""

    name = ""

    def __init__(self, clock: Clock, faults: FaultBook, metrics: Metrics) -> None:
        self.clock = clock
        self._faults = faults
        self._metrics = metrics

    def route(self, request: web.BaseRequest) -> str:
        """The name by which faults and counters know this request."""
        raise NotImplementedError

    def arrived(self, request: web.BaseRequest, call: Call) -> None:
        """Called once at arrival, before anything can go wrong; for who counts arrivals himself."""

    async def answer(self, request: web.BaseRequest, call: Call) -> Answer:
        """The answer of the service; may raise Refused."""
        raise NotImplementedError

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """The handler which aiohttp calls for each request."""
        call = Call(self.name, self.route(request))
        self._metrics.arrived(call)
        self.arrived(request, call)
        fault = self._faults.take(self.name, call.route)
        if fault is not None:
            call.fault = fault.kind
        try:
            answer = await self._before(request, fault) or await self._answered(request, call)
            answer = await self._after(request, fault, answer)
        except _Cut:
            self._metrics.ended(call, call.fault)
            return web.Response()
        except (OSError, aiohttp.ClientError, HttpProcessingError):
            self._metrics.ended(call, "gone")  # the client went away before its request was whole
            return web.Response()
        call.status = answer.status
        self._metrics.ended(call, str(answer.status))
        headers = {"Date": self.clock.http_date(), "x-ms-request-id": f"{id(call):x}", **answer.headers}
        response = web.Response(status=answer.status, body=answer.body, headers=headers)
        if not answer.body:
            response.headers.pop("Content-Type", None)
        return response

    async def _answered(self, request: web.BaseRequest, call: Call) -> Answer:
        try:
            return await self.answer(request, call)
        except Refused as refused:
            return refused.answer

    async def _before(self, request: web.BaseRequest, fault: Fault | None) -> Answer | None:
        if fault is None:
            return None
        match fault.kind:
            case "status":
                await request.content.read()
                return spoken(fault)
            case "garbage":
                await request.content.read()
                return Answer(200, GARBAGE, {"Content-Type": "application/json; charset=utf-8"})
            case "slow":
                await asyncio.sleep(fault.seconds)
            case "hold":
                await fault.cleared.wait()
            case "reset":
                cut(request)
                raise _Cut
            case "reset_mid":
                await request.content.read(256)
                cut(request)
                raise _Cut
            case _:
                pass
        return None

    async def _after(self, request: web.BaseRequest, fault: Fault | None, answer: Answer) -> Answer:
        if fault is None:
            return answer
        match fault.kind:
            case "slow_answer":
                await asyncio.sleep(fault.seconds)
            case "hold_answer":
                await fault.cleared.wait()
            case "garbled":
                return Answer(200, GARBAGE, {"Content-Type": "application/json; charset=utf-8"})
            case "lost":
                cut(request)
                raise _Cut
            case "half":
                _send_half(request, answer)
                raise _Cut
            case _:
                pass
        return answer


def spoken(fault: Fault) -> Answer:
    """The answer that a `status` fault describes: its body is text, JSON or nothing."""
    if fault.body is None:
        return Answer(fault.status, b"", dict(fault.headers))
    if isinstance(fault.body, str):
        return Answer(fault.status, fault.body.encode(), {"Content-Type": "text/plain", **fault.headers})
    kind = {"Content-Type": "application/json; charset=utf-8", **fault.headers}
    return Answer(fault.status, json.dumps(fault.body).encode(), kind)


def _send_half(request: web.BaseRequest, answer: Answer) -> None:
    transport = request.transport
    if transport is None:
        return
    body = answer.body or b'{"value": []}'
    head = f"HTTP/1.1 {answer.status} OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    transport.write(head.encode() + body[: len(body) // 2])
    transport.close()
