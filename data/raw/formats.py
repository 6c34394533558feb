"""The file formats of raw inputs: Parquet, and CSV and JSON Lines, plain or compressed with gzip or zstd."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from dpsr.data.dataset.schema import DatasetError
from dpsr.data.raw.rejected import RejectsRows

BATCH_ROWS = 1 << 18
_BLOCK_BYTES = 1 << 24
_COMPRESSIONS = {"": None, ".gz": "gzip", ".zst": "zstd"}


class Format(Protocol):
    """One file as a stream of record batches."""

    def column_names(self) -> list[str]:
        """The names of all columns of the file."""
        ...

    def num_pieces(self) -> int:
        """How many pieces can be read each for itself, at least 1."""
        ...

    def batches(
        self, columns: list[str], rejected: RejectsRows, piece: int | None = None
    ) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        """Some columns of a piece, or of the whole file; rows that cannot be read go to ``rejected``.

        Yields:
            the number of each row in the file, from 1, int64 [n]; and the rows.
        """
        ...


class _Parquet:
    def __init__(self, file: str) -> None:
        self._file = file

    def _open(self) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self._file)
        except pa.ArrowException as error:
            raise DatasetError(f"{self._file}: not a Parquet file: {error}") from None

    def column_names(self) -> list[str]:
        with self._open() as parquet:
            return list(parquet.schema_arrow.names)

    def num_pieces(self) -> int:
        with self._open() as parquet:
            return max(1, parquet.num_row_groups)

    def batches(
        self, columns: list[str], rejected: RejectsRows, piece: int | None = None
    ) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        with self._open() as parquet:
            groups = list(range(parquet.num_row_groups)) if piece is None else [piece][: parquet.num_row_groups]
            first = 1 + sum(parquet.metadata.row_group(group).num_rows for group in range(piece or 0))
            for batch in parquet.iter_batches(BATCH_ROWS, row_groups=groups, columns=list(dict.fromkeys(columns))):
                yield np.arange(first, first + len(batch)), batch
                first += len(batch)


class _Whole:
    """A file whose rows are found only by reading all before them."""

    def __init__(self, file: str) -> None:
        self._file = file

    def num_pieces(self) -> int:
        return 1


class _Csv(_Whole):
    def _open(
        self, columns: list[str] | None = None, on_invalid: Callable[[Any], str] | None = None
    ) -> pa.csv.CSVStreamingReader:
        names = columns or []
        try:
            return pa.csv.open_csv(
                open_bytes(self._file),
                # One thread: only then does the parser know the numbers of the rows that it cannot read.
                read_options=pa.csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
                parse_options=pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=on_invalid),
                convert_options=pa.csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()),
                    include_columns=names,
                    null_values=[""],
                    strings_can_be_null=True,
                ),
            )
        except pa.ArrowException as error:
            raise DatasetError(f"{self._file}: not a CSV file with a header: {error}") from None

    def column_names(self) -> list[str]:
        with open_bytes(self._file) as file:
            header = file.readline()
        if not header.strip():
            raise DatasetError(f"{self._file}: is empty; expected a CSV file with a header")
        try:
            return list(pa.csv.read_csv(io.BytesIO(header)).schema.names)
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise DatasetError(f"{self._file}: not a CSV file with a header in UTF-8: {error}") from None

    def batches(
        self, columns: list[str], rejected: RejectsRows, piece: int | None = None
    ) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        invalid: list[int] = []

        def on_invalid(row: Any) -> str:
            number = row.number - 1  # the header is row 1
            invalid.append(number)
            reason = f"malformed CSV row: expected {row.expected_columns} columns"
            rejected.add(self._file, number, reason, row.text)
            return "skip"

        with self._open(list(dict.fromkeys(columns)), on_invalid) as reader:
            first = 0
            for batch in reader:
                # The i-th readable row is number i + 1 and one more for each unreadable row before it.
                gaps = np.asarray(invalid, dtype=np.int64) - np.arange(len(invalid)) - 1
                readable = np.arange(first, first + len(batch))
                yield readable + 1 + np.searchsorted(gaps, readable, side="right"), batch
                first += len(batch)


class _JsonLines(_Whole):
    def column_names(self) -> list[str]:
        return list(self._first_schema())

    def batches(
        self, columns: list[str], rejected: RejectsRows, piece: int | None = None
    ) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        found = self._first_schema()
        schema = pa.schema([(column, found[column]) for column in dict.fromkeys(columns)])
        with open_bytes(self._file) as file:
            first = 1
            for block in _line_blocks(file):
                try:
                    yield self._parse(block, schema, first)
                except (pa.ArrowException, _LineCountError):
                    yield self._parse_line_by_line(block, schema, first, rejected)
                first += _count_lines(block)

    def _first_schema(self) -> dict[str, pa.DataType]:
        """The columns of the first block; what is neither a number nor a truth value is read as a string."""
        with open_bytes(self._file) as file:
            block = next(_line_blocks(file), b"")
        names: dict[str, set[type]] = {}
        for line in block.splitlines()[:1000]:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                for name, value in row.items():
                    names.setdefault(name, set()).add(type(value))
        if not names:
            raise DatasetError(f"{self._file}: found no JSON object in its first lines; expected one on each line")
        return {name: _json_type(types - {type(None)}) for name, types in names.items()}

    @staticmethod
    def _parse(block: bytes, schema: pa.Schema, first: int) -> tuple[np.ndarray, pa.RecordBatch]:
        table = pa.json.read_json(
            io.BytesIO(block),
            read_options=pa.json.ReadOptions(use_threads=False, block_size=len(block) + 1),
            parse_options=pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
        if len(table) != _count_lines(block):
            raise _LineCountError
        batch = pa.RecordBatch.from_arrays([column.combine_chunks() for column in table.columns], table.schema.names)
        return np.arange(first, first + len(batch)), batch

    def _parse_line_by_line(
        self, block: bytes, schema: pa.Schema, first: int, rejected: RejectsRows
    ) -> tuple[np.ndarray, pa.RecordBatch]:
        """The slow path for a block with a line that Arrow cannot read."""
        numbers: list[int] = []
        rows: list[dict[str, Any]] = []
        for number, line in enumerate(block.split(b"\n")[: _count_lines(block)], start=first):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                rows.append({field.name: _json_value(row.get(field.name), field) for field in schema})
                numbers.append(number)
            except (ValueError, AttributeError) as error:
                reason = f"malformed JSON line: {error}" if isinstance(error, _JsonTypeError) else "malformed JSON line"
                rejected.add(self._file, number, reason, line.decode("utf-8", "replace"))
        return np.array(numbers, dtype=np.int64), pa.RecordBatch.from_pylist(rows, schema)


class _LineCountError(Exception):
    """A block has blank lines or several objects on a line."""


class _JsonTypeError(ValueError):
    """A value that its column cannot hold."""


def _json_type(types: set[type]) -> pa.DataType:
    if types == {int}:
        return pa.int64()
    if types and types <= {int, float}:
        return pa.float64()
    return pa.bool_() if types == {bool} else pa.string()


def _json_value(value: Any, field: pa.Field) -> Any:
    """A value as the column's type has it."""
    if value is None:
        return None
    if pa.types.is_string(field.type):
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    expected: dict[pa.DataType, tuple[type, ...]] = {
        pa.int64(): (int,),
        pa.float64(): (int, float),
        pa.bool_(): (bool,),
    }
    if type(value) not in expected[field.type]:
        raise _JsonTypeError(f"{field.name} is no {field.type}")
    return value


def _line_blocks(file: BinaryIO) -> Iterator[bytes]:
    """Blocks of about ``_BLOCK_BYTES`` that end with a line."""
    while block := file.read(_BLOCK_BYTES):
        yield block + file.readline()


def _count_lines(block: bytes) -> int:
    return block.count(b"\n") + (not block.endswith(b"\n"))


def open_bytes(file: str) -> BinaryIO:
    """The bytes of a file, decompressed as its name says."""
    stream = pa.input_stream(file, compression=_COMPRESSIONS.get(Path(file).suffix))
    return io.BufferedReader(stream, 1 << 20)


FORMATS: dict[str, Callable[[str], Format]] = {".parquet": _Parquet} | {
    name + compression: reader
    for name, reader in ((".csv", _Csv), (".jsonl", _JsonLines))
    for compression in _COMPRESSIONS
}
"""How to read a file, by the end of its name."""


def format_of(file: str) -> Callable[[str], Format] | None:
    """The reader of a file by its name; None where there is none."""
    return next((reader for end, reader in FORMATS.items() if file.endswith(end)), None)
