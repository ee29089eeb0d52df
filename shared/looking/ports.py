"""What looking needs of Defender's list: one call a page, and who we are to Defender."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, Protocol

from shared.defender.answers import Keep
from shared.defender.client import Page

Sees = Literal["everyone", "own", "unknown"]


@dataclasses.dataclass(frozen=True, slots=True)
class Who:
    """Who we are to Defender. `app` is the client id in the token, "" when the token cannot be read.

    sees: whose indicators the list shows us: everyone's with Ti.ReadWrite.All, our own with Ti.ReadWrite.
    """

    app: str
    sees: Sees

    def mine(self, row: dict[str, Any]) -> bool | None:
        """Whether this app created an indicator; None when it cannot be told."""
        return str(row.get("createdBy", "")).casefold() == self.app.casefold() if self.app else None


class Lister(Protocol):
    """Defender's list, one attempt a call; raises the errors of shared/errors.py. Callers own the budget."""

    async def prepare(self) -> None:
        """Get token and connection ready, so that a permit is used at once."""
        ...

    async def who(self) -> Who:
        """Who we are, as the token says."""
        ...

    async def list_page(self, filter: str | None, top: int, skip: int, keep: Keep | None, *, within: float) -> Page:
        """One page; NotSentError when it could not be on the wire `within` seconds from now."""
        ...

    async def run[T](self, work: Callable[[], T]) -> T:
        """Work that takes the processor for more than a moment, in the pool of threads."""
        ...
