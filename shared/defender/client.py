"""The client of Defender's indicators API: one attempt a call, an exact answer to "was it sent?", no waiting.

The caller owns permits, retries and waiting. `not_after` is a moment of `time.monotonic()`: after it nothing is sent.
Every call raises, besides what it lists itself:
    IdentityError: no token; nothing was sent.
    NotSentError: it was too late, or no connection came about; nothing was sent.
    ThrottledError (429), BatchRefusedError (400), DeniedError (other 4xx, 3xx, unknown answers).
    UnavailableError: 5xx, time-out, reset, half an answer; what was asked may have been done.
"""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import quote, urljoin, urlsplit

from shared.defender.answers import Answer, ImportResult, Keep, fold, listing, match_results, says_missing
from shared.defender.limits import BATCH_DELETE_MAX, IMPORT_MAX, TOP_MAX
from shared.errors import DefenderError, DeniedError, LateError, NotSentError, UnavailableError
from shared.redaction import redact, shorten

if TYPE_CHECKING:
    import requests

    from shared.defender.wire import Wire

_PATH = "/api/indicators"
_USER_AGENT = "DefenderIndicatorRelay"
# 10,000 rows of the list are some 12 MB; whatever is much larger is not an answer of this API.
_BODY_MAX = 64 * 1024 * 1024


class BearerToken(Protocol):
    """What the client needs of a token."""

    @property
    def value(self) -> str: ...


class Tokens[T: BearerToken](Protocol):
    """Where tokens come from; `shared.identity.tokens.TokenSource` is the one of the product."""

    def get(self) -> T: ...

    def invalidate(self, token: T, /) -> None: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """One answer of the list. `cursor` asks for the next one; None when this was the last."""

    rows: tuple[dict[str, Any], ...]
    cursor: str | None


class _Bearer:
    """Sets the header as requests' own kind of credential: a .netrc entry would otherwise replace it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = "Bearer " + self._value
        return request


def _default_session() -> requests.Session:
    from shared.defender.wire import new_session

    return new_session()


class DefenderClient[T: BearerToken]:
    """Calls the indicators API at `base_url` (`https://host`). Thread safe; use one for the whole process.

    timeout: seconds from the first byte sent to the last byte received.
    session_factory: makes the session at first use; its https adapter must be a `shared.defender.wire.Wire`.
    """

    def __init__(
        self,
        base_url: str,
        tokens: Tokens[T],
        *,
        timeout: float = 25.0,
        session_factory: Callable[[], requests.Session] = _default_session,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme != "https" or not parts.hostname:
            raise ValueError("the base URL of the API must be https://host")
        self._base = base_url.rstrip("/")
        self._tokens = tokens
        self._timeout = timeout
        self._session_factory = session_factory
        self._making = threading.Lock()
        self._made: requests.Session | None = None

    def import_indicators(
        self, payloads: Sequence[dict[str, Any]], *, not_after: float | None = None
    ) -> list[ImportResult]:
        """POST /api/indicators/import: one result for each payload, in the same order.

        A result that failed is a fact of that one indicator; the rest of the call stands (documented).

        Raises:
            ValueError: not between 1 and 500 payloads.
            UnavailableError: also when the results cannot be matched with what was sent.
        """
        if not 1 <= len(payloads) <= IMPORT_MAX:
            raise ValueError(f"an import call takes 1 to {IMPORT_MAX} indicators, not {len(payloads)}")
        body = _json({"Indicators": list(payloads)})
        answer = self._call("POST", _PATH + "/import", body=body, not_after=not_after)
        if answer.status != 200:
            raise fold(answer)
        return match_results([str(payload["indicatorValue"]) for payload in payloads], listing(answer).rows)

    def list_page(
        self,
        filter: str | None = None,
        top: int = TOP_MAX,
        *,
        cursor: str | None = None,
        skip: int = 0,
        keep: Keep | None = None,
        not_after: float | None = None,
    ) -> Page:
        """GET /api/indicators: one page, one call. Begin without `cursor`, go on with the one of the page before.

        filter: an OData expression, not yet percent-encoded; `equals` writes one.
        skip: rows to leave out, where it begins without a cursor.
        keep: what is to be kept of each row, called while the answer is read: 10,000 whole rows are much memory.

        A page is the last when it is shorter than `top` and names no next link. (Whether the service sends next links
        is undocumented, so both are followed.)

        Raises:
            DeniedError: also when the next link leads away from the API's own host.
        """
        query = f"$top={top}" + (f"&$filter={quote(filter, safe='')}" if filter else "")
        skipped = int(cursor[5:]) if cursor is not None and cursor.startswith("skip:") else skip
        target = f"{_PATH}?{query}" + (f"&$skip={skipped}" if skipped else "")
        if cursor is not None and not cursor.startswith("skip:"):
            target = self._own(cursor)
        answer = self._call("GET", target, not_after=not_after)
        if answer.status != 200:
            raise fold(answer)
        found = listing(answer, keep)
        if found.next_link is not None:
            following = self._own(found.next_link)
            if following == target:
                raise DeniedError("Defender's next link leads to the page it stands on", status=200)
            return Page(found.rows, following)
        if cursor is not None and not cursor.startswith("skip:"):
            return Page(found.rows, None)
        full = len(found.rows) >= top
        return Page(found.rows, f"skip:{skipped + len(found.rows)}" if full else None)

    def list_indicators(
        self,
        filter: str | None = None,
        top: int = TOP_MAX,
        *,
        before_call: Callable[[], float | None] = lambda: None,
    ) -> Iterator[dict[str, Any]]:
        """All rows of the list, page after page, each row once although rows may move while the list is read.

        before_call: called before each page, for a permit; returns that call's `not_after`.
        """
        seen: set[str] = set()
        cursor: str | None = None
        while True:
            page = self.list_page(filter, top, cursor=cursor, not_after=before_call())
            for row in page.rows:
                number = str(row.get("id", ""))
                if number not in seen:
                    seen.add(number)
                    yield row
            if page.cursor is None:
                return
            cursor = page.cursor

    def by_value(self, type: str, value: str, *, not_after: float | None = None) -> list[dict[str, Any]]:
        """The indicators of one value, whatever their action. One call.

        The filter names the value alone and the type is compared here: a filter on the enumeration is unproven.
        """
        page = self.list_page(equals("indicatorValue", value), TOP_MAX, not_after=not_after)
        return [row for row in page.rows if str(row.get("indicatorType", "")).casefold() == type.casefold()]

    def delete(self, id: str, *, not_after: float | None = None) -> bool:
        """DELETE /api/indicators/{id}: True when it was deleted, False when it was gone already.

        Any 2xx without a body counts: 204 is documented, an empty 200 has been recorded. A 404 counts when it is the
        API's own: one from a gateway or another host says nothing about the indicator.

        Raises:
            DeniedError: also for an answer that may not be the API's; list again to see what holds.
        """
        answer = self._call("DELETE", f"{_PATH}/{quote(id, safe='')}", not_after=not_after)
        if answer.status == 404 and says_missing(answer):
            return False
        _check_done(answer)
        return True

    def batch_delete(self, ids: Sequence[str], *, not_after: float | None = None) -> None:
        """POST /api/indicators/BatchDelete.

        Raises:
            ValueError: not between 1 and 500 ids.
            DeniedError: status 404 when any of the ids is missing; whether the others were deleted is undocumented, so
                list again before going on.
        """
        if not 1 <= len(ids) <= BATCH_DELETE_MAX:
            raise ValueError(f"a batch deletion takes 1 to {BATCH_DELETE_MAX} ids, not {len(ids)}")
        body = _json({"IndicatorIds": list(ids)})
        _check_done(self._call("POST", _PATH + "/BatchDelete", body=body, not_after=not_after))

    def probe(self, *, not_after: float | None = None) -> None:
        """One cheap authorised call (a list of one row), for a health check."""
        self.list_page(top=1, not_after=not_after)

    def prepare(self, *, timeout: float = 10.0) -> None:
        """Have the token and a verified connection ready, so that a permit taken next is used at once.

        Sends no request. Raises IdentityError, or NotSentError when no connection comes about.
        """
        import requests
        from urllib3.exceptions import HTTPError

        self._tokens.get()
        try:
            self._wire().warm(self._session, self._base, timeout)
        except (requests.RequestException, HTTPError, OSError) as error:
            failure = _not_connected(error)
        else:
            return
        raise failure

    def close(self) -> None:
        """Close the idle connections."""
        if self._made is not None:
            self._made.close()

    @property
    def _session(self) -> requests.Session:
        with self._making:
            if self._made is None:
                self._made = self._session_factory()
            return self._made

    def _wire(self) -> Wire:
        return cast("Wire", self._session.get_adapter(self._base))

    def _own(self, link: str) -> str:
        """Path and query of a next link, which must stay within this API: the token goes wherever it leads."""
        whole = urlsplit(urljoin(self._base + _PATH, link))
        base = urlsplit(self._base)
        if (whole.scheme, whole.netloc.casefold()) != (
            base.scheme,
            base.netloc.casefold(),
        ) or not whole.path.startswith("/api/"):
            raise DeniedError(
                "Defender's next link leads to another host",
                status=200,
                remediation="Set RELAY_DEFENDER_URL to the host that the API itself names in its links.",
            )
        return whole.path + (f"?{whole.query}" if whole.query else "")

    def _call(self, method: str, target: str, *, body: bytes | None = None, not_after: float | None) -> Answer:
        """One exchange. An answer of any status is returned, but 401 also takes the token out of use."""
        import requests
        from urllib3.exceptions import HTTPError

        from shared.defender.wire import Attempt, TooLateError, on_the_wire

        token = self._tokens.get()
        attempt = Attempt(not_after=not_after, timeout=self._timeout)
        headers = {"Accept": "application/json", "User-Agent": _USER_AGENT}
        if body is not None:
            headers["Content-Type"] = "application/json"
        failure: DefenderError
        try:
            with (
                on_the_wire(attempt),
                self._session.request(
                    method,
                    self._base + target,
                    data=body,
                    headers=headers,
                    auth=_Bearer(token.value),
                    timeout=(attempt.connect_timeout(), self._timeout),
                    allow_redirects=False,
                    stream=True,
                ) as response,
            ):
                answer = Answer(response.status_code, response.headers, _read(response))
        except TooLateError:
            failure = LateError("it became too late before the call could be sent")
        except (requests.RequestException, HTTPError, OSError) as error:
            failure = self._failure(error, sent=attempt.sent, timed_out=attempt.timed_out, token=token.value)
        except _TooLongError:
            failure = UnavailableError("Defender's answer is longer than any answer of this API")
        else:
            if attempt.timed_out:
                raise UnavailableError(f"Defender gave no whole answer within {self._timeout:g} s")
            if answer.status == 401:
                self._tokens.invalidate(token)
            return _without(answer, token.value)
        # Raised out here: the caught exception holds the request with its Authorization header.
        raise failure

    def _failure(self, error: Exception, *, sent: bool, timed_out: bool, token: str) -> DefenderError:
        import requests

        if not sent:
            return _not_connected(error)
        if timed_out or isinstance(error, requests.Timeout):
            return UnavailableError(f"Defender gave no whole answer within {self._timeout:g} s")
        return UnavailableError(f"the connection to Defender broke: {shorten(redact(str(error), token), 200)}")


class _TooLongError(Exception):
    pass


def _check_done(answer: Answer) -> None:
    """Raises what anything but a 2xx stands for; DeniedError for a 2xx with something in it, as a gateway's page."""
    if not 200 <= answer.status < 300:
        raise fold(answer)
    if answer.body.strip():
        raise DeniedError(
            f"Defender answered {answer.status} to a deletion with a body, which it has none of: "
            + shorten(redact(answer.body.decode("utf-8", "replace")), 100),
            status=answer.status,
            remediation="Check what stands between the app and RELAY_DEFENDER_URL.",
        )


def _read(response: requests.Response) -> bytes:
    pieces = bytearray()
    for piece in response.iter_content(65_536):
        pieces += piece
        if len(pieces) > _BODY_MAX:
            raise _TooLongError
    return bytes(pieces)


def _without(answer: Answer, token: str) -> Answer:
    """The answer with the token blotted out, should a service or a gateway echo it."""
    secret = token.encode()
    if secret not in answer.body:
        return answer
    return Answer(answer.status, answer.headers, answer.body.replace(secret, b"[redacted]"))


def _not_connected(error: Exception) -> NotSentError:
    return NotSentError(
        f"no connection to Defender: {shorten(redact(str(error)), 200)}",
        remediation="Check that the app reaches RELAY_DEFENDER_URL (DNS, firewall, proxy, trusted certificates).",
    )


def _json(body: object) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def equals(field: str, value: str) -> str:
    """The OData expression `field eq 'value'`, with quotes in the value doubled as OData asks."""
    return f"{field} eq '{value.replace("'", "''")}'"
