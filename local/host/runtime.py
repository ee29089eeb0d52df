"""Loads a function app through azure-functions-runtime and calls its functions.

The runtime keeps one registry for the whole process: one app per process.
"""

from __future__ import annotations

import contextvars
import dataclasses
import json
import os
import random
import sys
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import azure_functions_runtime as runtime

from local.host.protos import ParameterBinding, StatusResult, TypedData, envelope

#: Function name and invocation id of the code that runs, for the log lines.
CURRENT: contextvars.ContextVar[tuple[str, str]] = contextvars.ContextVar("invocation", default=("", ""))


class LoadError(Exception):
    """The runtime refuses the app: in Azure it would have no functions at all."""


class InvocationError(Exception):
    """A function raised; `detail` is its type, message and stack as the host would log them."""

    def __init__(self, message: str, detail: str) -> None:
        super().__init__(message)
        self.detail = detail


@dataclasses.dataclass(frozen=True, slots=True)
class Function:
    """One indexed function: its trigger is the binding that the host listens to."""

    name: str
    function_id: str
    trigger: dict[str, Any]
    bindings: tuple[dict[str, Any], ...]

    @property
    def kind(self) -> str:
        """`httpTrigger`, `queueTrigger`, `timerTrigger`, ..."""
        return str(self.trigger["type"])


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What a function that did not raise gave back."""

    return_value: Any
    outputs: dict[str, Any]


async def load(app_folder: Path) -> dict[str, Function]:
    """Index the app in `app_folder` and return its functions by name.

    Raises:
        LoadError: with the runtime's own message.
    """
    os.chdir(app_folder)
    if str(app_folder) not in sys.path:
        sys.path.insert(0, str(app_folder))
    runtime.start_threadpool_executor()  # sync functions would use the loop's default executor otherwise
    answer = await runtime.worker_init_request(
        envelope("worker_init_request", SimpleNamespace(capabilities={}, function_app_directory=str(app_folder)))
    )
    if answer.result.status != StatusResult.Success:
        raise LoadError(answer.result.exception.message)
    answer = await runtime.functions_metadata_request(
        envelope("functions_metadata_request", SimpleNamespace(function_app_directory=str(app_folder)))
    )
    if not answer.function_metadata_results:
        raise LoadError(f"no functions in {app_folder}")
    functions: dict[str, Function] = {}
    for item in answer.function_metadata_results:
        bindings = tuple(json.loads(raw) if isinstance(raw, str) else dict(raw) for raw in item.raw_bindings)
        trigger = next((b for b in bindings if str(b["type"]).lower().endswith("trigger")), None)
        if trigger is None:
            raise LoadError(f"{item.name} has no trigger")
        functions[item.name] = Function(item.name, item.function_id, trigger, bindings)
    return functions


async def invoke(function: Function, inputs: dict[str, TypedData], metadata: dict[str, TypedData]) -> Result:
    """Call `function` on the running loop (sync functions on the runtime's thread pool).

    Raises:
        InvocationError: the function raised.
    """
    # Not uuid4: reading the system's randomness gives up the interpreter lock, twice for each of a thousand messages.
    trace = random.getrandbits(128)
    invocation_id = str(uuid.UUID(int=trace))
    token = CURRENT.set((function.name, invocation_id))
    try:
        answer = await runtime.invocation_request(
            envelope(
                "invocation_request",
                SimpleNamespace(
                    invocation_id=invocation_id,
                    function_id=function.function_id,
                    input_data=[ParameterBinding(name=name, data=data) for name, data in inputs.items()],
                    trigger_metadata=metadata,
                    trace_context=SimpleNamespace(
                        trace_parent=f"00-{trace:032x}-{trace & (1 << 64) - 1:016x}-01",
                        trace_state="",
                        attributes={},
                    ),
                    retry_context=SimpleNamespace(retry_count=0, max_retry_count=0, exception=None),
                ),
            )
        )
    finally:
        CURRENT.reset(token)
    if answer.result.status != StatusResult.Success:
        failure = answer.result.exception
        raise InvocationError(failure.message, f"{failure.message}\n{getattr(failure, 'stack_trace', '')}")
    return Result(answer.return_value, {binding.name: binding.data for binding in answer.output_data})
