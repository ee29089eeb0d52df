"""CSV that a spreadsheet opens: nothing runs, nothing is lost, and it is the CSV of RFC 4180."""

from __future__ import annotations

import csv
import io

from hypothesis import example, given
from hypothesis import strategies as st

from shared import spreadsheet

STARTS = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
# What CSV, formulas and lists separated otherwise are made of, and everything else.
pieces = st.sampled_from([*STARTS, '"', ",", ";", "\n", "\r\n", "'", " ", "=cmd|' /C calc'!A0", "@SUM(1)", "é", "🛑"])
cells = st.one_of(st.text(max_size=12), st.lists(pieces, max_size=6).map("".join))


def read(body: bytes) -> list[list[str]]:
    assert body.startswith(b"\xef\xbb\xbf"), "without its mark a spreadsheet takes UTF-8 for something else"
    return list(csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True))


@given(st.lists(st.lists(cells, min_size=2, max_size=4), max_size=5))
@example([["=1+1", "＝1+1"], ['"=1', "\t=1"], ["x;=1", "x\n=1"]])
def test_what_is_read_back_is_what_was_written_and_runs_nowhere(lines: list[list[str]]) -> None:
    found = read(spreadsheet.table(["one", "two"], lines))
    assert found[0] == ["one", "two"] and len(found) == len(lines) + 1
    for line, back in zip(lines, found[1:], strict=True):
        assert len(back) == len(line)
        for text, cell in zip(line, back, strict=True):
            assert not cell.startswith(STARTS)
            for separator in (";", "\t", "\n", "\r"):  # where lists are separated otherwise, or lines are
                assert not any(piece.lstrip(' "').startswith(STARTS[:4]) for piece in cell.split(separator))
            # Nothing but apostrophes is added, and none where nothing begins.
            left = iter(cell)
            assert all(any(other == character for other in left) for character in text)
            assert len(cell) - len(text) == cell.count("'") - text.count("'")
            if not any(start in text for start in STARTS):
                assert cell == text or "\n" in text


def test_lines_end_as_the_standard_has_it() -> None:
    body = spreadsheet.table(["a", "b"], [[1, None], ['x "y"', "z, ;"]])
    assert body == b'\xef\xbb\xbfa,b\r\n1,\r\n"x ""y""","z, ;"\r\n'


def test_what_cannot_be_encoded_does_not_end_the_file() -> None:
    assert read(spreadsheet.table(["a", "b"], [["\ud800", "x"]]))[1] == ["\\ud800", "x"]


def test_usual_values_stay_as_they_are() -> None:
    values = ["https://evil.example/a?b=c&d=-1", "2026-11-22T12:00:00.000Z", "1.2.3.4", "2001:db8:0:0:0:0:0:1", "a@b"]
    assert read(spreadsheet.table(values, [values]))[1] == values
