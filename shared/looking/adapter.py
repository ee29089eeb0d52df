"""Defender's list as looking wants it: the blocking client in the app's pool of threads."""

from __future__ import annotations

import time
from collections.abc import Callable

from shared.defender.answers import Keep
from shared.defender.client import DefenderClient, Page
from shared.identity.tokens import Token, TokenSource
from shared.looking.ports import Sees, Who
from shared.publishing.adapters import PooledDefender


class PooledLister:
    """shared.looking.ports.Lister over the blocking client; its calls are counted with those of publishing."""

    def __init__(self, client: DefenderClient[Token], tokens: TokenSource, pooled: PooledDefender) -> None:
        self._client = client
        self._tokens = tokens
        self._pooled = pooled

    async def prepare(self) -> None:
        """See Lister."""
        await self._pooled.prepare()

    async def who(self) -> Who:
        """See Lister."""

        def work() -> Who:
            token = self._tokens.get()
            sees: Sees = "everyone" if "Ti.ReadWrite.All" in token.roles else "own"
            return Who(token.app_id, sees if token.readable else "unknown")

        return await self._pooled.run(work)

    async def list_page(self, filter: str | None, top: int, skip: int, keep: Keep | None, *, within: float) -> Page:
        """See Lister."""
        until = time.monotonic() + within

        def work() -> Page:
            return self._client.list_page(filter, top, skip=skip, keep=keep, not_after=until)

        return await self._pooled.call("list", work)

    async def run[T](self, work: Callable[[], T]) -> T:
        """See Lister."""
        return await self._pooled.run(work)
