"""host.json as the host reads it: defaults, the file, then application settings that override it."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_OVERRIDE = "AzureFunctionsJobHost__"
_SPAN = re.compile(r"(?:(?P<d>\d+)\.)?(?P<h>\d{1,2}):(?P<m>\d{2})(?::(?P<s>\d{2}(?:\.\d{1,7})?))?")


class HostConfigError(Exception):
    """host.json, or a setting it points at, would keep the host from starting."""


def seconds(span: str) -> float:
    """A .NET TimeSpan such as `00:01:30` or `1.02:00:00` in seconds. Raises HostConfigError."""
    match = _SPAN.fullmatch(span.strip())
    if match is None:
        raise HostConfigError(f"{span!r} is not a time span like 00:00:30")
    days, hours, minutes, rest = (float(match[key] or 0) for key in "dhms")
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


def expand(text: str, environ: Mapping[str, str] | None = None) -> str:
    """Replace %SETTING% by the application setting of that name. Raises HostConfigError when there is none."""
    settings = os.environ if environ is None else environ

    def value(match: re.Match[str]) -> str:
        if match[1] not in settings:
            raise HostConfigError(f"%{match[1]}% does not resolve to an application setting")
        return settings[match[1]]

    return re.sub(r"%([^%]+)%", value, text)


@dataclasses.dataclass(frozen=True, slots=True)
class QueueOptions:
    """`extensions.queues`; times in seconds. Bounds as in the storage extension's own QueuesOptions."""

    batch_size: int = 16
    new_batch_threshold: int = 16
    max_polling_interval: float = 60.0
    max_dequeue_count: int = 5
    visibility_timeout: float = 0.0
    encoded: bool = True

    def __post_init__(self) -> None:
        checks = (
            (1 <= self.batch_size <= 32, "batchSize must be 1 to 32"),
            (self.new_batch_threshold >= 0, "newBatchThreshold must not be negative"),
            (self.max_polling_interval >= 0.1, "maxPollingInterval must be at least 100 ms"),
            (self.max_dequeue_count >= 1, "maxDequeueCount must be at least 1"),
        )
        for fine, message in checks:
            if not fine:
                raise HostConfigError(f"host.json: extensions.queues.{message}")


@dataclasses.dataclass(frozen=True, slots=True)
class HostConfig:
    """What this host double uses of host.json."""

    queues: QueueOptions
    route_prefix: str = "api"
    function_timeout: float | None = 1800.0


def _override(tree: dict[str, Any], environ: Mapping[str, str]) -> None:
    for name, value in environ.items():
        if not name.startswith(_OVERRIDE):
            continue
        node = tree
        *path, last = name.removeprefix(_OVERRIDE).replace(":", "__").split("__")
        for key in path:
            node = node.setdefault(_same_key(node, key), {})
        node[_same_key(node, last)] = value


def _same_key(node: dict[str, Any], key: str) -> str:
    """Configuration keys are the same in any case; the file's spelling wins."""
    return next((known for known in node if known.lower() == key.lower()), key)


def load(app_folder: Path, environ: Mapping[str, str] | None = None) -> HostConfig:
    """Read host.json of an app; overrides come from `environ` (default: os.environ). Raises HostConfigError."""
    environ = os.environ if environ is None else environ
    file = app_folder / "host.json"
    tree: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    _override(tree, environ)
    queues = tree.get("extensions", {}).get("queues", {})
    batch_size = int(queues.get("batchSize", 16))
    encoding = str(queues.get("messageEncoding", "base64")).lower()
    if encoding not in ("base64", "none"):
        raise HostConfigError("host.json: extensions.queues.messageEncoding must be base64 or none")
    timeout = str(tree.get("functionTimeout", "00:30:00"))
    return HostConfig(
        queues=QueueOptions(
            batch_size=batch_size,
            new_batch_threshold=int(queues.get("newBatchThreshold", max(1, batch_size // 2) * (os.cpu_count() or 1))),
            max_polling_interval=seconds(str(queues.get("maxPollingInterval", "00:01:00"))),
            max_dequeue_count=int(queues.get("maxDequeueCount", 5)),
            visibility_timeout=seconds(str(queues.get("visibilityTimeout", "00:00:00"))),
            encoded=encoding == "base64",
        ),
        route_prefix=str(tree.get("extensions", {}).get("http", {}).get("routePrefix", "api")).strip("/"),
        function_timeout=None if timeout == "-1" else seconds(timeout),
    )
