"""What publishing needs of the rooms beside it: Defender, and somewhere to tell what happens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from shared.publishing.failures import Result


class Held(NamedTuple):
    """An indicator at Defender, and whether this app created it."""

    kind: str
    value: str
    action: str
    id: str
    ours: bool


class Defender(Protocol):
    """The indicators API, one attempt a call; raises the errors of shared/errors.py. Callers own the budget."""

    async def prepare(self) -> None:
        """Get token and connection ready, so that a permit is used at once."""
        ...

    async def import_indicators(self, payloads: Sequence[dict[str, Any]], *, within: float) -> Sequence[Result]:
        """One import call; NotSentError when it could not be on the wire `within` seconds from now."""
        ...

    async def held(self, kind: str, value: str, *, within: float) -> Sequence[Held]:
        """What Defender holds for a type and value, as far as this app may see it; one list call."""
        ...

    async def all_held(self, cursor: str | None, *, within: float) -> tuple[Sequence[Held], str | None]:
        """A page of everything, from the beginning or where `cursor` says, and the next cursor; one list call."""
        ...

    async def delete(self, id_: str, *, within: float) -> None:
        """One delete call; an indicator that is gone already is no error."""
        ...

    async def delete_many(self, ids: Sequence[str], *, within: float) -> None:
        """One batch delete call, all or nothing; BatchRefusedError or DeniedError when any id is gone already."""
        ...


class Tell(Protocol):
    """Metrics and alarms."""

    def count(self, name: str, number: int = 1) -> None:
        """Add to a counter."""
        ...

    def rejected(self, reason: str, number: int = 1) -> None:
        """Count rejections by reason."""
        ...

    def observe(self, name: str, value: float) -> None:
        """Record a value."""
        ...

    def event(self, name: str, **fields: Any) -> None:
        """A structured log line."""
        ...

    def alarm(self, kind: str, detail: str) -> None:
        """Something a person should look at."""
        ...
