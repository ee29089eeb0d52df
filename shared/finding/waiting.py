"""Items of a value that wait in open parts and were never chosen for a call: nothing else tells of them yet."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Collection

from shared.ledger import intents, packing
from shared.ledger.parts import CONTAINER, Part, PartItem, Parts
from shared.storage.protocols import Blobs, Tables

PARTS_MOST = 200
_AT_ONCE = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Waiting:
    """Items that wait, the oldest intent first, each with its part; and whether all parts were looked into."""

    items: list[tuple[str, PartItem]]
    complete: bool


async def waiting(tables: Tables, blobs: Blobs, parts: Parts, keys: Collection[tuple[str, str]]) -> Waiting:
    """What waits of these (type, value)s. Raises StorageError."""
    opened = await parts.all_open(PARTS_MOST + 1)
    turns = asyncio.Semaphore(_AT_ONCE)

    async def look(part: str) -> list[tuple[str, PartItem]]:
        async with turns:
            data = await blobs.get(CONTAINER, part)
            if data is None:
                return []  # done since
            items = await asyncio.to_thread(_items, data, keys)
            return [(part, item) for item in items if not await intents.used(tables, item)]

    found = await asyncio.gather(*(look(part.id) for part in opened[:PARTS_MOST]))
    # One item may lie in two parts for a moment, while it moves.
    unique = {(item.submission, item.ordinal): (part, item) for entries in found for part, item in entries}
    items = sorted(unique.values(), key=lambda entry: entry[1].order)
    return Waiting(items, len(opened) <= PARTS_MOST)


def _items(data: bytes, keys: Collection[tuple[str, str]]) -> list[PartItem]:
    """The items of these keys in a part's blob. Most parts have none, and are not decoded to know."""
    plain = packing.text_of(data)
    if not any(json.dumps(value, ensure_ascii=False).encode() in plain for _, value in keys):
        return []
    return [item for item in Part.decode(data).items if item.key in keys and not item.reassert]
