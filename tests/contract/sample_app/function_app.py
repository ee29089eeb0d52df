"""A small app that tells what the host hands it. What it sees goes to the file SAMPLE_SEEN, a JSON line each."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from pathlib import Path

import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)


def seen(**fields: object) -> None:
    with Path(os.environ["SAMPLE_SEEN"]).open("a", encoding="utf-8") as file:
        file.write(json.dumps(fields) + "\n")


@app.route(route="echo/{kind}/{number:int?}", methods=["GET", "POST"])
async def Echo(req: func.HttpRequest) -> func.HttpResponse:
    answer = {
        "headers": dict(req.headers),
        "params": dict(req.params),
        "route": dict(req.route_params),
        "body": req.get_body().decode(),
        "method": req.method,
    }
    return func.HttpResponse(json.dumps(answer), mimetype="application/json", headers={"X-Sample": "yes"})


@app.function_name("Early")
@app.route(route="echo/fixed", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def Fixed(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse("fixed", status_code=201)


@app.route(route="operate", methods=["POST"], auth_level=func.AuthLevel.ADMIN)
def Operate(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(status_code=204)


@app.route(route="broken", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def Broken(req: func.HttpRequest) -> func.HttpResponse:
    raise RuntimeError("not for the caller to see")


@app.route(route="slow", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def Slow(req: func.HttpRequest) -> func.HttpResponse:
    await asyncio.sleep(2)
    seen(slow="ended")
    return func.HttpResponse("late")


@app.function_name("Work")
@app.queue_trigger(arg_name="msg", queue_name="%SAMPLE_QUEUE%", connection="RelayStorage")
async def work(msg: func.QueueMessage) -> None:
    text = msg.get_body().decode()
    seen(
        begun=msg.id,
        text=text,
        count=msg.dequeue_count,
        inserted=msg.insertion_time.isoformat(),
        receipt=msg.pop_receipt,
        pid=os.getpid(),
    )
    if text.startswith("sleep "):
        await asyncio.sleep(float(text.split()[1]))
    if text.startswith("fail"):
        raise RuntimeError("boom")
    seen(ended=msg.id, text=text, pid=os.getpid())


@app.timer_trigger(schedule="%SAMPLE_SCHEDULE%", arg_name="timer", run_on_startup=False, use_monitor=False)
def Tick(timer: func.TimerRequest) -> None:
    logging.info("tick, past due %s", timer.past_due)
    seen(tick=True)
