"""CSV files: a header, then rows of untyped values."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from dpsr.data.dataset.schema import DatasetError
from dpsr.data.raw.csv_records import Records, find_records, one_a_line
from dpsr.data.raw.line_blocks import line_blocks
from dpsr.data.raw.rejected import RejectsRows
from dpsr.data.raw.rows import Rows
from dpsr.data.raw.values import plain

_HEADER_BYTES = 1 << 16


class CsvFile:
    """A CSV file in UTF-8 with a header; all values are strings, those without a character are null."""

    def __init__(self, file: str) -> None:
        """Keeps the name."""
        self._file = file

    def columns(self) -> list[tuple[str, pa.DataType]]:
        """The columns of the header; none where the file is empty."""
        return [(name, pa.string()) for name in self._header()]

    def has_late_column(self, name: str) -> bool:
        """False: the header shows all columns."""
        return False

    def num_splits(self) -> int:
        """1: where a row begins is known only after all rows before it."""
        return 1

    def batches(self, columns: list[str], rejected: RejectsRows, split: int | None = None) -> Iterator[Rows]:
        """See ``formats.Format``."""
        header = self._header()
        places = {name: header.index(name) for name in dict.fromkeys(columns) if name in header}
        header_pending, row, line, rest = True, 1, 1, b""
        blocks = line_blocks(self._file)
        block = next(blocks, None)
        while block is not None:
            following = next(blocks, None)
            read, simple = None, None if header_pending or rest or len(header) == 1 else one_a_line(block.data)
            if simple:
                records, read = simple, self._parse(simple, len(header), places, row, line, rejected)
            if read is None:
                records = find_records(rest + block.data, len(header), last=following is None)
                if header_pending and len(records.lines):
                    records, header_pending = _without_first(records), False
                read = self._parse(records, len(header), places, row, line, rejected)
            if read is None:
                raise DatasetError(f"{self._file}: line {line} and those after it cannot be parsed as CSV")
            row += len(records.lines) + len(records.malformed)
            line, rest = line + records.rest_line, records.rest
            if len(read.numbers):
                yield read
            block = following

    def _header(self) -> list[str]:
        rest = b""
        for block in line_blocks(self._file, _HEADER_BYTES):
            records = find_records(rest + block.data, 1, last=False)
            if len(records.lines):
                first = b"\n".join(records.data.split(b"\n")[: int(records.spans[0])])
                try:
                    names = next(csv.reader(io.StringIO(first.decode("utf-8", "replace"), newline="")), [])
                except csv.Error as error:
                    raise DatasetError(f"{self._file}: line 1 is not a CSV header: {error}") from None
                return [name.strip() for name in names]
            if records.malformed:
                break
            rest = records.rest
        else:
            if not rest:
                return []
        raise DatasetError(f"{self._file}: line 1 is not a CSV header: a quoted name is not closed")

    def _parse(
        self, records: Records, width: int, places: dict[str, int], row: int, line: int, rejected: RejectsRows
    ) -> Rows | None:
        """Parses records; None where the parser finds others.

        Args:
            records: of a block.
            width: columns of the file.
            places: names of the columns to read, and which they are.
            row: the number of the first row.
            line: the number of the first line.
            rejected: takes what is malformed.
        """
        # A malformed line is a row of its own: record i is row i and one more for each malformed line before it.
        numbers = np.arange(len(records.lines)) + row
        numbers += np.searchsorted([bad.record for bad in records.malformed], np.arange(len(numbers)), side="right")
        lines = records.lines + line
        found: list[tuple[int, int, int, str, str]] = [
            (bad.record + row + place, bad.line + line, 1, bad.reason, bad.text.decode("utf-8", "replace"))
            for place, bad in enumerate(records.malformed)
        ]
        misfits: list[int] = []

        def on_invalid(invalid: Any) -> str:
            record = invalid.number - 1
            misfits.append(record)
            reason = f"expected {invalid.expected_columns} columns"
            found.append((int(numbers[record]), int(lines[record]), int(records.spans[record]), reason, invalid.text))
            return "skip"

        names = [str(place) for place in range(width)]
        wanted = [names[place] for place in places.values()] or names[:1]
        if records.data:
            table = pa.csv.read_csv(
                pa.BufferReader(records.data),
                # One thread: only then does the parser know the numbers of the rows that it cannot read.
                read_options=pa.csv.ReadOptions(
                    use_threads=False, block_size=len(records.data) + 1, column_names=names
                ),
                parse_options=pa.csv.ParseOptions(
                    newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=on_invalid
                ),
                convert_options=pa.csv.ConvertOptions(
                    column_types=dict.fromkeys(wanted, pa.string()),
                    include_columns=wanted,
                    null_values=[""],
                    strings_can_be_null=True,
                    check_utf8=False,
                ),
            )
        else:
            table = pa.table({name: pa.array([], pa.string()) for name in wanted})
        kept = np.delete(np.arange(len(numbers)), misfits)
        if len(kept) != len(table) or not all(text.strip("\r") for *_, text in found):
            return None
        for number, at, span, reason, text in sorted(found):
            rejected.add(self._file, number, f"malformed CSV row: {reason}", text, line=at, lines=span)
        columns = {name: plain(_one(table.column(names[place]))) for name, place in places.items()}
        return Rows(numbers[kept], lines[kept], columns)


def _one(column: pa.ChunkedArray) -> pa.Array:
    chunks = column.chunks
    return chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks) if chunks else pa.array([], column.type)


def _without_first(records: Records) -> Records:
    """The records after the header."""
    lines = int(records.spans[0])
    position = 0
    for _ in range(lines):
        position = records.data.index(b"\n", position) + 1 if b"\n" in records.data[position:] else len(records.data)
    return records._replace(
        data=records.data[position:],
        lines=records.lines[1:],
        spans=records.spans[1:],
        malformed=[bad._replace(record=max(0, bad.record - 1)) for bad in records.malformed],
    )
