"""Lists of small records as table properties and blobs, compressed where that pays.

A table property holds 64 KiB of bytes, an entity 1 MiB, a transaction 3 MiB (chosen below the service's 4 MiB).
"""

from __future__ import annotations

import json
import zlib
from typing import Any

_SHORT = 1_000  # bytes
_CHUNK = 60 * 1024
_ROW_OVERHEAD = 1000  # headers and keys of one operation in a transaction
_PROPERTY_OVERHEAD = 60  # name and type beside a value
ENTITY_LIMIT = 900 * 1024
TRANSACTION_LIMIT = 3 * 1024 * 1024
TRANSACTION_ROWS = 100
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode  # json.dumps would make one each time


def squeeze(value: list[Any] | dict[str, Any]) -> bytes:
    """JSON, compressed unless it is short.

    Setting up a compressor takes a quarter of a megabyte and some 50 microseconds, however short the text: four times
    for a message of one indicator, which was a tenth of all that publishing it cost.
    """
    text = _encode(value).encode()
    return text if len(text) <= _SHORT else zlib.compress(text, 6)


def unsqueeze(data: bytes) -> Any:
    """The inverse of `squeeze`."""
    return json.loads(text_of(data))


def text_of(data: bytes) -> bytes:
    """The JSON text that was squeezed. What is compressed begins with `x`, as no list and no object in JSON does."""
    return zlib.decompress(data) if data[:1] == b"x" else data


def pack(value: Any, name: str = "d") -> dict[str, bytes]:
    """As properties `d0`, `d1`, ... of a table row."""
    data = squeeze(value)
    return {f"{name}{n}": data[at : at + _CHUNK] for n, at in enumerate(range(0, len(data), _CHUNK))}


def unpack(properties: dict[str, Any], name: str = "d") -> Any:
    """The inverse of `pack`; None when the row holds no such properties."""
    pieces: list[bytes] = []
    while (piece := properties.get(f"{name}{len(pieces)}")) is not None:
        pieces.append(piece)
    return unsqueeze(b"".join(pieces)) if pieces else None


def packed_size(properties: dict[str, Any]) -> int:
    """About how many bytes these properties take on their way to the service, never fewer: bytes travel as base64."""
    size = _ROW_OVERHEAD
    for name, value in properties.items():
        size += len(name) + _PROPERTY_OVERHEAD
        if isinstance(value, bytes):
            size += 4 * (len(value) // 3 + 1)
        elif isinstance(value, str):
            size += len(json.dumps(value))
        else:
            size += 24
    return size
