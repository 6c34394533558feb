"""The records of CSV: which physical lines belong together, and which lines are damage.

A quoted value may hold line ends. A quote that is never closed would make one value of all lines up to the next quote:
such a record is found by what follows its closing quote, or by the lines within it, each of which is a record itself.
Its first line alone is malformed then; the lines after it are read as if it were not there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_LONGEST_RECORD = 1 << 20
"""Bytes of a record that has line ends in its values."""
_SEPARATORS_OF_ROWS = 4
"""Lines within a value are taken for rows when they have the separators of rows, and at least this many together."""
_UNCLOSED = "a quoted value is not closed"


class Malformed(NamedTuple):
    """A line that is not a record."""

    record: int
    """How many records come before it."""
    line: int
    """Its place among the lines, from 0."""
    reason: str
    text: bytes


class Records(NamedTuple):
    """The records of a block."""

    data: bytes
    """Their bytes, record after record."""
    lines: np.ndarray
    """int64 [records]; the place of the first line of each, from 0."""
    spans: np.ndarray
    """int64 [records]; how many lines each has."""
    malformed: list[Malformed]
    rest: bytes
    """The start of a record that the block does not end."""
    rest_line: int
    """The place of the first line of ``rest``: how many lines the block has before it."""


def one_a_line(data: bytes) -> Records | None:
    """The records of lines each of which seems to be one; None where the last goes on in the next block.

    A parser shows whether it is so: with quotes over line ends it finds fewer rows, and blank lines are no rows.
    """
    if _after_line(data[data.rfind(b"\n", 0, -1) + 1 :].rstrip(b"\n"), quoted=False)[0]:
        return None
    count = data.count(b"\n") + (not data.endswith(b"\n"))
    return Records(data, np.arange(count), np.ones(count, np.int64), [], b"", count)


def _has_blank_lines(data: bytes) -> bool:
    return data[:1] in (b"\n", b"\r") or b"\n\n" in data or b"\n\r\n" in data


def find_records(data: bytes, columns: int, *, last: bool) -> Records:
    """Finds the records of a block of whole lines.

    Args:
        data: the lines, with line ends LF or CR LF.
        columns: fields of a record.
        last: no lines follow.
    """
    if not _has_blank_lines(data):
        found = one_a_line(data) if b'"' not in data else _well_quoted(data, columns, last)
        if found is not None:
            return found
    return _line_by_line(data, columns, last)


def _well_quoted(data: bytes, columns: int, last: bool) -> Records | None:
    """The records of lines whose quotes all stand where RFC 4180 has them, by whole arrays; None for other lines."""
    if not data.endswith(b"\n"):
        data += b"\n"
    characters = np.frombuffer(data, np.uint8)
    quotes = np.flatnonzero(characters == ord('"'))
    ends = np.flatnonzero(characters == ord("\n"))
    whole = np.flatnonzero(np.searchsorted(quotes, ends) % 2 == 0)
    rest = b""
    if len(quotes) % 2:  # the last record continues in the next block
        if last or not len(whole) or len(data) - ends[whole[-1]] > _LONGEST_RECORD:
            return None
        ends = ends[: whole[-1] + 1]
        data, rest = data[: ends[-1] + 1], data[ends[-1] + 1 :]
        quotes = quotes[: np.searchsorted(quotes, len(data))]
    opening, closing = quotes[::2], quotes[1::2]
    before = np.where(opening > 0, characters[opening - 1], ord("\n"))
    if not _one_of(before, b',\n"').all() or not _one_of(characters[closing + 1], b',\r\n"').all():
        return None
    lines = np.concatenate([[0], whole[:-1] + 1])
    spans = whole + 1 - lines
    for record in np.flatnonzero(spans >= 3).tolist():
        first, final = lines[record], whole[record]
        inner = data[ends[first] + 1 : ends[final - 1]].split(b"\n")
        if _are_rows(inner, columns) or ends[final] - ends[first] > _LONGEST_RECORD:
            return None
    return Records(data, lines, spans, [], rest, len(ends))


def _one_of(characters: np.ndarray, allowed: bytes) -> np.ndarray:
    table = np.zeros(256, dtype=bool)
    table[list(allowed)] = True
    return table[characters]


def _line_by_line(data: bytes, columns: int, last: bool) -> Records:
    lines = data.removesuffix(b"\n").split(b"\n")
    starts: list[int] = []
    spans: list[int] = []
    kept: list[bytes] = []
    malformed: list[Malformed] = []
    place = 0
    while place < len(lines):
        line = lines[place]
        span, sound = 1, True
        if b'"' in line:
            span, sound = _span(lines, place, columns)
            if span == 0 and not last:
                rest = b"\n".join(lines[place:]) + b"\n"
                break
        if not sound or span == 0:
            malformed.append(Malformed(len(starts), place, _UNCLOSED, line))
            span = 1
        elif line.strip(b"\r"):
            starts.append(place)
            spans.append(span)
            kept += lines[place : place + span]
        place += span
    else:
        rest = b""
    text = b"\n".join(kept) + b"\n" if kept else b""
    return Records(text, np.array(starts, np.int64), np.array(spans, np.int64), malformed, rest, place)


def _span(lines: list[bytes], place: int, columns: int) -> tuple[int, bool]:
    """How many lines the record at a line has, 0 where they do not end it; and whether it is one record, not damage."""
    is_open, stray = _after_line(lines[place], quoted=False)
    if not is_open:
        return 1, True
    size, final = len(lines[place]), place
    while is_open:
        final += 1
        if final == len(lines):
            return 0, False
        size += len(lines[final]) + 1
        if size > _LONGEST_RECORD:
            return 1, False
        if b'"' in lines[final]:
            is_open, more = _after_line(lines[final], quoted=True)
            stray |= more
    return final - place + 1, not stray and not _are_rows(lines[place + 1 : final], columns)


def _after_line(line: bytes, *, quoted: bool) -> tuple[bool, bool]:
    """Whether a line ends within a quoted value, and whether text follows a closing quote.

    Args:
        line: without its end.
        quoted: it begins within a quoted value.
    """
    position, stray = 0, False
    while True:
        if not quoted:
            if line[position : position + 1] == b'"':
                position += 1
            else:
                comma = line.find(b",", position)
                if comma < 0:
                    return False, stray
                position = comma + 1
                continue
        close = line.find(b'"', position)
        while close >= 0 and line[close + 1 : close + 2] == b'"':
            close = line.find(b'"', close + 2)
        if close < 0:
            return True, stray
        quoted = False
        stray |= line[close + 1 : close + 2] not in (b",", b"\r", b"")
        comma = line.find(b",", close + 1)
        if comma < 0:
            return False, stray
        position = comma + 1


def _are_rows(lines: list[bytes], columns: int) -> bool:
    """Whether most lines within a quoted value have the separators of a record."""
    rows = sum(line.count(b",") == columns - 1 for line in lines)
    return rows * (columns - 1) >= _SEPARATORS_OF_ROWS and 2 * rows > len(lines)
