"""The gate before decoding: bodies and parts stay bytes until there is room for what they decode to."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_BYTES_AN_INDICATOR = 100  # the least a useful indicator takes as JSON, so the most there can be in a body


def most_in(body: bytes) -> int:
    """The most useful indicators that these bytes can hold."""
    return len(body) // _BYTES_AN_INDICATOR


class Gate:
    """At most `most` decoded indicators in this worker; first come, first served."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._most = most
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def room_for(self, items: int) -> AsyncIterator[Room]:
        """Hold room for so many indicators; less, once `keep` was told that fewer are enough."""
        need = min(max(1, items), self._most)
        if self._queue or need > self._free:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._queue.append((need, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._free += need
                    self._let_in()
                raise
        else:
            self._free -= need
        room = Room(self, need)
        try:
            yield room
        finally:
            room.keep(0)

    def give_back(self, items: int) -> None:
        """Room for so many is free again."""
        self._free += items
        self._let_in()

    def _let_in(self) -> None:
        while self._queue:
            need, turn = self._queue[0]
            if turn.cancelled():
                self._queue.popleft()
                continue
            if need > self._free:
                return
            self._queue.popleft()
            self._free -= need
            turn.set_result(None)


class Room:
    """What one has of a gate's room."""

    def __init__(self, gate: Gate, items: int) -> None:
        self._gate = gate
        self._items = items

    def keep(self, items: int) -> None:
        """Give back what is not needed for so many indicators."""
        unneeded = max(0, self._items - items)
        self._items -= unneeded
        self._gate.give_back(unneeded)
