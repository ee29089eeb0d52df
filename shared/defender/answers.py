"""What an answer of the indicators API means: statuses into the error tree, rows of an import into results."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from shared.defender.limits import RETRY_AFTER_MAX, RETRY_AFTER_UNKNOWN, seconds_named
from shared.errors import BatchRefusedError, DefenderError, DeniedError, ThrottledError, UnavailableError
from shared.redaction import redact, shorten

_MESSAGE_MAX = 4000

# What is kept of an indicator in a list: a smaller object.
Keep = Callable[[dict[str, Any]], dict[str, Any]]

_ROLE_REMEDY = (
    "Grant the application permission Ti.ReadWrite or Ti.ReadWrite.All of WindowsDefenderATP with admin consent; a new "
    "grant can take an hour to show."
)
_REMEDIES = {
    401: "A new token is fetched for the next call. If it lasts, check RELAY_TENANT_ID, RELAY_CLOUD and "
    "RELAY_TOKEN_RESOURCE.",
    403: "The token is valid but not allowed to do this: " + _ROLE_REMEDY,
    404: "Check RELAY_DEFENDER_URL: this host does not serve the indicators API.",
    405: "Check RELAY_DEFENDER_URL: this host does not serve the indicators API.",
    407: "The proxy in front asks for a login; correct HTTPS_PROXY.",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. `headers` are looked up without regard to case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class ImportResult:
    """What became of one indicator of an import call.

    `id` is the service's number for it, only when it did not fail; `reason` is empty then, else what the service said.
    """

    value: str
    failed: bool
    reason: str = ""
    id: str | None = None


def retry_after(answer: Answer) -> float | None:
    """The wait that the Retry-After header asks for, in seconds from 1 to 3600; None when it is absent or unreadable.

    Both forms of RFC 9110 count: seconds, and a date, which is compared with the answer's own Date.
    """
    text = (answer.headers.get("Retry-After") or "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        until = _date(text)
        if until is None:
            return None
        now = _date(answer.headers.get("Date") or "") or datetime.now(UTC)
        seconds = (until - now).total_seconds()
    if seconds != seconds or seconds < 0:
        seconds = 0.0
    return min(max(seconds, 1.0), RETRY_AFTER_MAX)


def _date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def fold(answer: Answer, *known: str) -> DefenderError:
    """The error that an answer other than the hoped-for one stands for; its text holds none of the `known` secrets."""
    code, said = _error_text(answer)
    said = redact(said, *known)
    status = answer.status
    shown = shorten(f"{code}: {said}" if code and said else code or said)
    told = f"Defender answered {status}" + (f": {shown}" if shown else "")
    if status == 429:
        wait = retry_after(answer)
        if wait is None:
            named = seconds_named(said)
            wait = RETRY_AFTER_UNKNOWN if named is None else min(max(named, 1.0), RETRY_AFTER_MAX)
        return ThrottledError(told, retry_after=wait)
    if status == 400:
        return BatchRefusedError(told, code=code, message_text=said[:_MESSAGE_MAX])
    if status >= 500 or status == 408:
        return UnavailableError(told, status=status, retry_after=retry_after(answer))
    if 300 <= status < 400:
        remedy = "Set RELAY_DEFENDER_URL to the host that serves the API itself: redirects are not followed."
    elif status == 403 and "missing application roles" in said.casefold():
        remedy = _ROLE_REMEDY
    else:
        remedy = _REMEDIES.get(status, "Defender gave an answer this app does not know; report it with this text.")
    return DeniedError(told, status=status, remediation=remedy)


def says_missing(answer: Answer) -> bool:
    """Whether this is the API's own word that something is not there (its recorded codes), not just anybody's 404."""
    return _error_text(answer)[0] in ("NotFound", "ResourceNotFound")


def _error_text(answer: Answer) -> tuple[str, str]:
    """(code, message) of an error body; both forms seen: `{"error": {"code", "message"}}` and anything else as text."""
    text = answer.body.decode("utf-8", "replace")
    try:
        body = json.loads(text)
    except ValueError:
        return "", text
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict):
        return str(error.get("code") or "")[:100], str(error.get("message") or "")
    return "", text


@dataclasses.dataclass(frozen=True, slots=True)
class Listing:
    """The objects in the `value` of a 200, and the next link when there is one."""

    rows: tuple[dict[str, Any], ...]
    next_link: str | None


def listing(answer: Answer, keep: Keep | None = None) -> Listing:
    """Read a 200 whose body is a collection; `keep` makes of each indicator in it what is kept.

    Raises:
        UnavailableError: the body is not JSON, so perhaps half of one.
        DeniedError: it is a whole JSON document of a form nobody knows.
    """
    body = json_body(answer, keep)
    value = body.get("value") if isinstance(body, dict) else None
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise DeniedError(
            "Defender answered 200 with a body of an unknown form",
            status=answer.status,
            remediation="Check that RELAY_DEFENDER_URL is the API's own host and no gateway rewrites its answers.",
        )
    link = body.get("@odata.nextLink")
    return Listing(tuple(value), str(link) if link else None)


def json_body(answer: Answer, keep: Keep | None = None) -> Any:
    """The body as JSON. Raises UnavailableError."""

    def hook(found: dict[str, Any]) -> dict[str, Any]:
        return keep(found) if keep is not None and "indicatorValue" in found else found

    try:
        return json.loads(answer.body, object_hook=None if keep is None else hook)
    except (ValueError, RecursionError):
        pass
    raise UnavailableError("Defender answered with a body that is not JSON", status=answer.status)


def match_results(values: Sequence[str], answered: Sequence[Mapping[str, Any]]) -> list[ImportResult]:
    """One result for each of `values`, in their order, from the rows of an import answer.

    A row belongs to the value it names, without regard to case. Where one value was sent twice (as two types), or the
    service wrote a value in another way, place decides, provided that all other rows stand in the order sent.

    Raises:
        UnavailableError: the rows cannot be matched without guessing; the call may have been carried out.
    """
    if len(values) != len(answered):
        raise UnavailableError(f"result count differs: {len(values)} sent, {len(answered)} answered", status=200)
    for row in answered:
        if not isinstance(row.get("isFailed"), bool) or not isinstance(row.get("indicator"), str | None):
            raise UnavailableError("a row of the import answer has an unknown form", status=200)
    # Letter case counts only between values that nothing else tells apart (two URLs may differ in it alone).
    folded = Counter(value.casefold() for value in values)

    def key(text: str) -> str:
        return text if folded[text.casefold()] > 1 else text.casefold()

    sent = [key(value) for value in values]
    named = [key((row.get("indicator") or "").strip()) for row in answered]
    sent_times, named_times = Counter(sent), Counter(named)
    at = {name: place for place, name in enumerate(named)}
    by_name = {
        place: at[value] for place, value in enumerate(sent) if sent_times[value] == 1 and named_times[value] == 1
    }
    by_place = [place for place in range(len(sent)) if place not in by_name]
    if by_place:
        in_order = all(place == found for place, found in by_name.items())
        spelt_as_sent = [sent[place] == named[place] for place in by_place]
        # Order is believed when something shows it: a row that names what was sent at its place, or there is one row.
        shown = bool(by_name) or any(spelt_as_sent) or len(sent) == 1
        # A row that names a value sent at another place contradicts the order.
        contradicted = any(
            named[place] in sent_times and not same for place, same in zip(by_place, spelt_as_sent, strict=True)
        )
        if not (in_order and shown) or contradicted:
            raise UnavailableError("the rows of the import answer cannot be matched with what was sent", status=200)
    return [_result(value, answered[by_name.get(place, place)]) for place, value in enumerate(values)]


def _result(value: str, row: Mapping[str, Any]) -> ImportResult:
    if row["isFailed"]:
        reason = row.get("failureReason")
        text = redact(reason) if isinstance(reason, str) and reason.strip() else "Defender named no reason"
        return ImportResult(value, failed=True, reason=shorten(text, 500))
    number = row.get("id")
    return ImportResult(value, failed=False, id=str(number) if isinstance(number, str | int) else None)
