"""The error tree of the relay. Each error says whether trying again can help and what the reader should do.

RelayError
├── SettingsError            a setting is missing or wrong; the app says so at start and in /api/health
├── IntakeError              what was sent cannot be taken
│   ├── UnreadableError      not one indicator can be read from it: kept whole as a dead letter
│   └── TooLargeError        over a bound on bytes or items
├── IdempotencyError         an Idempotency-Key does not do
│   ├── KeyFormError         it is not written as one (400)
│   ├── KeyReuseError        it was sent before with another body (422)
│   └── KeyBusyError         its first request has not ended yet (409)
├── AccessError              who asks is not known (401), or may not do this (403)
├── IdentityError            no token for Defender
│   ├── VaultError           the secret cannot be read from Key Vault
│   ├── TokenError           Entra ID refuses or does not answer
│   └── RoleError            the token lacks the role the API asks for
├── QuestionError            what was asked of Defender's list cannot be understood
├── OrderError               an order to operate the app cannot be understood
│   └── ConflictError        it cannot be carried out as things are
├── UndoError                a submission cannot be undone
│   ├── UndoOfUndoError      it is an undo itself
│   └── UndoTooSoonError     nothing is known yet of what it holds
├── BudgetError              the calls for looking are used up for now
├── StorageError             queue, table or blob did not do what was asked
└── DefenderError            the indicators API did not do what was asked
    ├── NotSentError         nothing left this machine: the permit was late or no connection was made
    │   ├── LateError        the permit ran out first: this worker was too busy
    │   └── PausedError      a person has paused the calls
    ├── ThrottledError       429
    ├── UnavailableError     5xx, timeout, reset, half an answer: may have been done or not
    ├── DeniedError          401, 403, 404, 405 or a whole answer that nobody knows
    └── BatchRefusedError    400 for the whole request
"""

from __future__ import annotations


class RelayError(Exception):
    """Base of all errors raised by this project.

    Attributes:
        retryable: whether the same thing may succeed later without anybody changing anything.
        remediation: what the reader should do, in one sentence; never holds a secret.
    """

    retryable: bool = False
    remediation: str = ""

    def __init__(self, message: str, *, remediation: str | None = None) -> None:
        super().__init__(message)
        if remediation is not None:
            self.remediation = remediation


class SettingsError(RelayError):
    """A setting is missing or cannot be understood."""


class IntakeError(RelayError):
    """What was sent cannot be taken."""


class UnreadableError(IntakeError):
    """Not one indicator can be read from a body; `reason` is a short code for the ledger."""

    def __init__(self, message: str, *, reason: str = "unreadable", remediation: str | None = None) -> None:
        super().__init__(message, remediation=remediation)
        self.reason = reason


class TooLargeError(IntakeError):
    """A body or a list is over its bound."""


class IdempotencyError(RelayError):
    """An Idempotency-Key cannot be used so."""


class KeyFormError(IdempotencyError):
    """The header does not hold a key."""


class KeyReuseError(IdempotencyError):
    """The key stands for another body."""


class KeyBusyError(IdempotencyError):
    """The request that brought the key first has not ended yet. `retry_after` is in seconds, at least 1."""

    retryable = True

    def __init__(self, message: str, *, retry_after: float, remediation: str | None = None) -> None:
        super().__init__(message, remediation=remediation)
        self.retry_after = max(1.0, retry_after)


class AccessError(RelayError):
    """Who asks over HTTP is not known (`status` 401), or may not do this (403)."""

    def __init__(self, message: str, *, status: int, remediation: str | None = None) -> None:
        super().__init__(message, remediation=remediation)
        self.status = status


class IdentityError(RelayError):
    """No token for Defender can be had."""

    retryable = True


class VaultError(IdentityError):
    """The client secret cannot be read from Key Vault. `status` is the HTTP status, 0 when there was no answer."""

    def __init__(self, message: str, *, status: int = 0, remediation: str | None = None) -> None:
        super().__init__(message, remediation=remediation)
        self.status = status


class TokenError(IdentityError):
    """Entra ID refused to issue a token or did not answer.

    `code` is the AADSTS code ("AADSTS7000215"), or "" when there was none.
    """

    def __init__(self, message: str, *, code: str = "", remediation: str | None = None) -> None:
        super().__init__(message, remediation=remediation)
        self.code = code


class RoleError(IdentityError):
    """The token was issued but carries no role that the indicators API accepts."""


class QuestionError(RelayError):
    """A question about indicators cannot be understood: the value, the type, the action or the place to go on from."""


class BudgetError(RelayError):
    """There is no call left for this now. `retry_after` is in seconds, at least 1."""

    retryable = True

    def __init__(self, message: str, *, retry_after: float, remediation: str | None = None) -> None:
        super().__init__(message, remediation=remediation)
        self.retry_after = max(1.0, retry_after)


class OrderError(RelayError):
    """An order to operate the app (pause, replay, discard) cannot be understood."""


class ConflictError(OrderError):
    """An order cannot be carried out as things are. `kind` is a short code; `retry_after` in seconds, 0: never."""

    def __init__(self, message: str, *, kind: str, retry_after: float = 0.0, remediation: str | None = None) -> None:
        super().__init__(message, remediation=remediation)
        self.kind = kind
        self.retry_after = retry_after


class UndoError(RelayError):
    """A submission cannot be undone as things are."""


class UndoOfUndoError(UndoError):
    """It is itself an undo."""


class UndoTooSoonError(UndoError):
    """What it holds is on its way to where it can be read. `retry_after` is in seconds."""

    retryable = True

    def __init__(self, message: str, *, retry_after: int, remediation: str | None = None) -> None:
        super().__init__(message, remediation=remediation)
        self.retry_after = retry_after


class StorageError(RelayError):
    """Queue, table or blob storage did not do what was asked."""

    retryable = True


class DefenderError(RelayError):
    """The indicators API did not do what was asked. `status` is the HTTP status, 0 when there was no answer."""

    retryable = True

    def __init__(self, message: str, *, status: int = 0, remediation: str | None = None) -> None:
        super().__init__(message, remediation=remediation)
        self.status = status


class NotSentError(DefenderError):
    """Nothing was sent: the permit was too old or no connection could be made."""


class LateError(NotSentError):
    """Nothing was sent: the permit ran out before the call was on the wire. It is the worker that was too busy."""


class PausedError(NotSentError):
    """Nothing was sent, and nothing was tried: a person has paused the calls (see publishing/pause.py)."""


class ThrottledError(DefenderError):
    """429. `retry_after` is in seconds, already bounded below by 1."""

    def __init__(self, message: str, *, retry_after: float, remediation: str | None = None) -> None:
        super().__init__(message, status=429, remediation=remediation)
        self.retry_after = retry_after


class UnavailableError(DefenderError):
    """5xx, timeout, reset or an answer that breaks off: the call may have been carried out or not.

    `retry_after` is in seconds, or None when the service named none.
    """

    def __init__(
        self, message: str, *, status: int = 0, retry_after: float | None = None, remediation: str | None = None
    ) -> None:
        super().__init__(message, status=status, remediation=remediation)
        self.retry_after = retry_after


class DeniedError(DefenderError):
    """401, 403, 404, 405, or a whole answer that nobody knows: retryable, but it raises an alarm."""


class BatchRefusedError(DefenderError):
    """400 for the whole request: one item may have sunk all of them. `message_text` is what the service said."""

    def __init__(self, message: str, *, code: str = "", message_text: str = "", remediation: str | None = None) -> None:
        super().__init__(message, status=400, remediation=remediation)
        self.code = code
        self.message_text = message_text
