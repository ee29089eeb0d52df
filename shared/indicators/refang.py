"""Undoing defanging, only where no reading but one is possible.

Brackets and braces never occur in an address or a host name, so there a mark has one meaning. In the path or query of
a URL they may be what is requested: there `[.]` is undone only when scheme or host show that the URL was defanged, and
any other mark only when the host uses the same one.
"""

from __future__ import annotations

import re

from shared.indicators.problem import Problem, shorten

NOTE = "refanged"

_DOT = re.compile(r"\[\.\]|\(\.\)|\{\.\}|\[dot\]|\(dot\)|\{dot\}", re.IGNORECASE)
_COLON = re.compile(r"\[:\]")
_SCHEME = re.compile(r"(?:h(?:xx|tt)ps?|f[tx]p)(?:://|\[://\]|\[:\]//|\[:\]\[//\])", re.IGNORECASE)
_HOST_END = re.compile(r"[/?#\\]")


def has_marks(text: str) -> bool:
    """Whether `text` may hold a mark of defanging; cheap."""
    return "[" in text or "(" in text or "{" in text or text[1:2] in ("x", "X")


def refang(text: str) -> str:
    """`text`, an address, a name or a URL, with its marks undone as far as they have one meaning."""
    if _SCHEME.match(text):
        whole = refang_url(text)
        return text if isinstance(whole, Problem) else whole
    end = _HOST_END.search(text)
    head, tail = (text, "") if end is None else (text[: end.start()], text[end.start() :])
    return _COLON.sub(":", _DOT.sub(".", head)) + tail


def refang_url(text: str) -> str | Problem:
    """The URL `text` with scheme and host refanged; a Problem when its path holds a mark that may be meant."""
    scheme = _SCHEME.match(text)
    if scheme is None:
        return refang(text) if has_marks(text) else text
    front = scheme[0]
    name = front.rstrip("[]:/").lower().replace("xx", "tt").replace("fxp", "ftp")
    # An untouched scheme keeps its case here: what was not defanged is none of this module's business.
    whole = "://" in front and "[" not in front and "x" not in front.lower()
    rest = text[scheme.end() :]
    end = _HOST_END.search(rest)
    host, tail = (rest, "") if end is None else (rest[: end.start()], rest[end.start() :])
    marks = {mark.lower() for mark in _DOT.findall(host)}
    clean = _COLON.sub(":", _DOT.sub(".", host))
    if whole and clean == host:
        return text
    for mark in {mark.lower() for mark in _DOT.findall(tail)}:
        if mark != "[.]" and mark not in marks:
            return Problem(
                "ambiguous_defanging",
                f"value {shorten(text)!r} is defanged, and {mark} behind its host may be part of the URL or another "
                "mark. Send the URL as it is requested.",
            )
    return f"{front if whole else name + '://'}{clean}{_DOT.sub('.', tail)}"
