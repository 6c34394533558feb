"""Quepid's ratings as CSV: columns ``query``, ``docid`` and ``rating``, found by name.

As Quepid does, the writer puts a space before a text that a spreadsheet would take for a formula; the reader takes one
space away before such a text. Quepid's detailed export, with ``Query Text`` and ``Doc ID``, is read too.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator

from dpsr.data.judgements.errors import JudgementError
from dpsr.data.judgements.formats.rows import Rejected, Row
from dpsr.data.judgements.pooling import pooled_grades
from dpsr.data.judgements.records import Judgement

_NAMES = {"query": ("query", "querytext"), "docid": ("docid",), "rating": ("rating",)}
"""Column -> what its header is called, in lower case and without spaces and underscores."""
_FORMULA = re.compile(r" *[=+\-@\t\r]")


def write(judgements: Iterable[Judgement]) -> bytes:
    """Writes pooled grades, a row for each pair."""
    file = io.StringIO(newline="")
    rows = csv.writer(file, lineterminator="\r\n")
    rows.writerow(_NAMES)
    rows.writerows(
        [_guarded(query), _guarded(item), grade] for (query, item), grade in pooled_grades(judgements).items()
    )
    return file.getvalue().encode()


def read(text: str) -> Iterator[Row | Rejected]:
    """Reads the rows of a file.

    Raises:
        JudgementError: a column is missing.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    places: dict[str, int] | None = None
    while True:
        place = f"line {reader.line_num + 1}"
        try:
            fields = next(reader, None)
        except csv.Error as error:
            yield Rejected(place, f"not CSV: {error}; the lines up to {reader.line_num} were read as one row")
            continue
        if fields is None:
            break
        if not fields:
            continue
        if places is None:
            places = _places(fields)
            continue
        if len(fields) <= max(places.values()):
            yield Rejected(place, f"{len(fields)} fields; expected a query, a docid and a rating")
            continue
        query, item_id, rating = (fields[places[name]] for name in _NAMES)
        yield Row(place, _unguarded(query), _unguarded(item_id), rating)
    if places is None:
        raise JudgementError("the file is empty; expected CSV with the columns query, docid and rating")


def _places(header: list[str]) -> dict[str, int]:
    """The place of every column.

    Raises:
        JudgementError: one is missing.
    """
    names = [re.sub(r"[\s_]", "", name).lower() for name in header]
    found = {
        column: place
        for column, known in _NAMES.items()
        for place in [next((names.index(name) for name in known if name in names), None)]
        if place is not None
    }
    missing = [column for column in _NAMES if column not in found]
    if missing:
        raise JudgementError(
            f"line 1: column {missing[0]!r} is missing (found: {', '.join(map(repr, header[:10]))}); "
            "expected CSV with the columns query, docid and rating"
        )
    return found


def _guarded(text: str) -> str:
    return f" {text}" if _FORMULA.match(text) else text


def _unguarded(text: str) -> str:
    return text[1:] if text.startswith(" ") and _FORMULA.match(text) else text
