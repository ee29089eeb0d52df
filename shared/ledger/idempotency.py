"""The table `idempotency`: which submission an Idempotency-Key stands for, and how far it has got.

One row for each caller and key, inserted before anything else is done. Whoever writes the row's newest run under its
etag is at it; that run keeps it for some time and, when it ends without an end, another may take its place.
"""

from __future__ import annotations

import dataclasses
import json
import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

from shared.errors import IntakeError, KeyFormError, StorageError, TooLargeError, UnreadableError
from shared.ledger import ids
from shared.storage.protocols import Clock, Row, Tables

TABLE = "idempotency"
KEY_MAX = 255
_ROW = "key"
_RUNS_MAX = 100  # names of runs that are kept in a row, so that it stays small
_VISIBLE = re.compile(r"[\x21-\x7e]+").fullmatch
_QUOTED = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"').fullmatch
_ESCAPED = re.compile(r"\\([\"\\])")

State = Literal["started", "done", "refused"]


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """A row. Times are epoch seconds by the service's clock.

    submission, at: the submission that the key stands for, and the moment its sender meant it; neither ever changes.
    claimed: when the newest run began, 0 when it gave up; runs: the names of all runs, the newest last.
    refusal: of a refused body, what its sender was told.
    """

    name: str
    sha256: str
    submission: str
    at: float
    state: State
    claimed: float
    runs: tuple[str, ...]
    refusal: str = ""
    etag: str = ""

    @property
    def run(self) -> str:
        """The name of the newest run."""
        return self.runs[-1]

    def row(self) -> Row:
        """As a table row."""
        data = {
            "sha256": self.sha256,
            "submission": self.submission,
            "at": self.at,
            "state": self.state,
            "claimed": self.claimed,
            "runs": ",".join(self.runs),
            "refusal": self.refusal,
        }
        return Row(self.name, _ROW, data, self.etag)

    @classmethod
    def from_row(cls, row: Row) -> Record:
        """The inverse of `row`."""
        data = row.data
        return cls(
            name=row.pk,
            sha256=data["sha256"],
            submission=data["submission"],
            at=float(data["at"]),
            state=data["state"],
            claimed=float(data["claimed"]),
            runs=tuple(data["runs"].split(",")),
            refusal=data.get("refusal", ""),
            etag=row.etag,
        )


def parse_key(header: str) -> str:
    """The key in an Idempotency-Key header: 1 to 255 visible ASCII characters, or these in double quotes.

    The quoted form is that of the IETF draft (draft-ietf-httpapi-idempotency-key-header); both name the same key.
    Raises KeyFormError.
    """
    text = header.strip(" \t")
    quoted = _QUOTED(text)
    key = _ESCAPED.sub(r"\1", quoted.group(1)) if quoted else text
    if len(key) <= KEY_MAX and _VISIBLE(key) and (quoted or not key.startswith('"')):
        return key
    raise KeyFormError(
        f"The header Idempotency-Key has {len(key)} characters, or others than it may have.",
        remediation=f"Send 1 to {KEY_MAX} visible ASCII characters without blanks, such as a UUID.",
    )


def row_name(caller: str, key: str) -> str:
    """The PartitionKey of a caller's key. A key may hold anything; its hash may be a name."""
    return ids.digest(json.dumps([caller, key]).encode())


class Idempotency:
    """Keeps the rows. `keep`, `lease` in seconds: how long a key stands, and how long a run may take."""

    def __init__(self, tables: Tables, clock: Clock, *, keep: float, lease: float) -> None:
        self._tables = tables
        self._clock = clock
        self._keep = keep
        self._lease = lease

    async def find(self, name: str) -> Record | None:
        """The row as it is now, whether it still stands or not."""
        row = await self._tables.get(TABLE, name, _ROW)
        return None if row is None else Record.from_row(row)

    def stands(self, record: Record) -> bool:
        """Whether the key is within its time."""
        return record.at + self._keep > self._clock.now()

    def left(self, record: Record) -> float:
        """Seconds for which the newest run of an unfinished row is still to be waited for; 0 or less: it is free."""
        return record.claimed + self._lease - self._clock.now()

    async def claim(self, name: str, sha256: str, known: Record | None) -> Record | None:
        """Begin a run: of a new submission, or again of the one in `known`. None when somebody else was faster.

        `known` is what `find` told; a row that no longer stands is written anew.
        """
        now = self._clock.now()
        run = secrets.token_hex(5)
        if known is not None and self.stands(known):
            runs = (*known.runs, run)[-_RUNS_MAX:]
            made = dataclasses.replace(known, claimed=now, runs=runs)
        else:
            made = Record(name, sha256, ids.new_submission(now), now, "started", now, (run,))
        failed: StorageError | None = None
        etag = None
        try:
            if known is None:
                etag = await self._tables.insert(TABLE, made.row())
            else:
                etag = await self._tables.update(TABLE, dataclasses.replace(made.row(), etag=known.etag), replace=True)
        except StorageError as error:
            failed = error
        if etag is not None:
            return dataclasses.replace(made, etag=etag)
        # A failure may come after the write, and a conflict may be with it, when the client has asked again.
        found = await self.find(name)
        if found is not None and found.run == run:
            return found
        if failed is not None:
            raise failed
        return None

    async def done(self, record: Record) -> None:
        """The submission is stored. Nothing happens when another run took over meanwhile."""
        await self._merge(record, {"state": "done"})

    async def refused(self, record: Record, error: IntakeError) -> None:
        """The body cannot be taken; its sender is told the same again."""
        told = {
            "kind": "too_large" if isinstance(error, TooLargeError) else "unreadable",
            "text": str(error)[:2000],
            "reason": getattr(error, "reason", ""),
            "remedy": error.remediation[:2000],
        }
        await self._merge(record, {"state": "refused", "refusal": json.dumps(told)})

    async def free(self, record: Record) -> None:
        """The run has failed: let the next one begin at once."""
        await self._merge(record, {"claimed": 0.0})

    async def _merge(self, record: Record, data: dict[str, Any]) -> None:
        await self._tables.update(TABLE, Row(record.name, _ROW, data, record.etag))

    async def forget_old(self, forget: Callable[[str, Sequence[str]], Awaitable[None]]) -> int:
        """Delete the rows past their time, after `forget(submission, runs)` has deleted what hangs from each."""
        forgotten = 0
        for digit in "0123456789abcdef":
            rows = await self._tables.query(TABLE, pk=digit, pk_to=digit + "g")
            for record in map(Record.from_row, rows):
                if self.stands(record):
                    continue
                await forget(record.submission, record.runs)
                # Somebody may use the key anew this very moment: then the row is theirs.
                forgotten += await self._tables.delete(TABLE, record.name, _ROW, etag=record.etag)
        return forgotten


def refusal_of(record: Record) -> IntakeError:
    """What the sender of a refused body was told, to be raised again."""
    told = json.loads(record.refusal)
    if told["kind"] == "too_large":
        return TooLargeError(told["text"], remediation=told["remedy"])
    return UnreadableError(told["text"], reason=told["reason"], remediation=told["remedy"])
