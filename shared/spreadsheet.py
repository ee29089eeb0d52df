"""CSV that people open in a spreadsheet: UTF-8 with a byte order mark, CRLF, quoted as RFC 4180 says.

No cell runs: what a spreadsheet takes for a formula begins with one of a few characters (their full-width forms count),
and gets an apostrophe before it. So does what follows a semicolon, a tab or a line break in a cell, because where lists
are separated by semicolons a spreadsheet begins a new cell there.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterable, Sequence

MIMETYPE = "text/csv"
_BOM = b"\xef\xbb\xbf"
_FORMULA = re.compile(r'(?:^|(?<=[;\t\r\n]))(?=[" ]*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20])')
_QUOTED = re.compile(r'[,"\r\n;\t]|^ | $')


def safe(text: str) -> str:
    """`text` so that no spreadsheet runs it."""
    return _FORMULA.sub("'", text)


def cell(value: object) -> str:
    """A value as it stands in a line."""
    text = safe("" if value is None else str(value))
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text


def table(columns: Sequence[str], lines: Iterable[Sequence[object]]) -> bytes:
    """The whole file; `lines` is gone through once, and only the result is kept."""
    out = io.BytesIO()
    out.write(_BOM)
    for line in itertools.chain([columns], lines):
        out.write((",".join(map(cell, line)) + "\r\n").encode("utf-8", "backslashreplace"))
    return out.getvalue()
