"""A bounded sample of a raw input: rows spread over its files, and the number of rows in all."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dpsr.data.dataset.schema import DatasetError
from dpsr.data.raw.files import InputFile, find_files
from dpsr.data.raw.formats import FORMATS, Format, format_of
from dpsr.data.raw.line_blocks import COMPRESSIONS, open_bytes
from dpsr.data.raw.parquet_files import ParquetFile
from dpsr.data.raw.readers import readable
from dpsr.data.raw.rejected import CollectedRows
from dpsr.data.raw.timestamps import Clock
from dpsr.data.raw.values import is_nested, numbers, trimmed_strings

T = TypeVar("T")

SAMPLED_FILES = 16
SAMPLED_ROWS = 8000
_SAMPLED_SPLITS = 4
_COUNTED_BYTES = 1 << 24


@dataclass(frozen=True)
class Column:
    """The sampled values of one column."""

    name: str
    arrays: list[pa.Array]
    """As the reader has them; their types may differ from file to file."""

    @cached_property
    def texts(self) -> list[str | None]:
        """All values as text; None where there is none."""
        return [text for array in self.arrays for text in trimmed_strings(array).to_pylist()]

    @cached_property
    def values(self) -> list[str]:
        """The values that are there."""
        return [text for text in self.texts if text is not None]

    @cached_property
    def present(self) -> float:
        """Share of the rows that have a value."""
        return len(self.values) / max(1, len(self.texts))

    @cached_property
    def distinct(self) -> int:
        """Number of different values."""
        return len(set(self.values))

    @property
    def distinct_share(self) -> float:
        """Different values over values."""
        return self.distinct / max(1, len(self.values))

    @cached_property
    def words(self) -> float:
        """Mean number of words; an ideograph or kana counts half a word."""
        cjk = sum(sum("\u3040" <= letter <= "\u9fff" for letter in text) for text in self.values)
        return (sum(len(text.split()) for text in self.values) + cjk / 2) / max(1, len(self.values))

    @cached_property
    def number_share(self) -> float:
        """Share of the values that are numbers."""
        found = sum(len(array) - numbers(array).null_count for array in self.arrays)
        return found / max(1, len(self.values))

    @cached_property
    def is_fraction(self) -> bool:
        """Whether some value is a number with a fraction."""
        return any(bool(np.any(found != np.floor(found))) for found in map(_found_numbers, self.arrays) if len(found))

    @cached_property
    def link_share(self) -> float:
        """Share of the values that are addresses, or begin with markup."""
        links = ("http://", "https://", "//", "www.", "<", "{", "[")
        return sum(text.startswith(links) for text in self.values) / max(1, len(self.values))

    def timed(self) -> list[bool]:
        """Whether each row has a time that ``dpsr prepare`` reads."""
        clock = Clock()
        return [bool(known) for array in self.arrays for known in clock.read(array)[1]]


@dataclass(frozen=True)
class Sample:
    """Some rows of an input."""

    path: str
    files: int
    rows: int
    """Of the whole input; estimated for text files."""
    columns: dict[str, Column]

    @property
    def listed(self) -> str:
        """The names of the columns, for messages."""
        return ", ".join(self.columns)


def read_sample(path: str) -> Sample:
    """Samples an input.

    Args:
        path: a file, a directory or a pattern, as in the configuration.

    Raises:
        DatasetError: there is no file, no row, or a file cannot be read.
    """
    found = find_files(path, "the path")
    chosen = _spread(found, SAMPLED_FILES)
    parts: list[tuple[int, dict[str, pa.Array]]] = []
    rows = 0
    for file in chosen:
        reader_of = format_of(file.path)
        if reader_of is None:
            raise DatasetError(f"{file.path}: unknown format; expected {', '.join(FORMATS)} files")
        with readable(file.path):
            reader = reader_of(file.path)
            parts += _sampled(file, reader, SAMPLED_ROWS // len(chosen))
            rows += _count_rows(file.path, reader)
    if not any(size for size, _ in parts):
        raise DatasetError(f"{path}: has no rows")
    names = list(dict.fromkeys(name for _, part in parts for name in part))
    columns = {name: Column(name, [part.get(name, pa.nulls(size)) for size, part in parts]) for name in names}
    return Sample(path, len(found), round(rows * len(found) / len(chosen)), columns)


def read_ids(path: str, column: str, limit: int) -> tuple[set[str], bool]:
    """The values of a column as text, and whether these are all: at most about ``limit`` rows are read."""
    ids: set[str] = set()
    read = 0
    for file in find_files(path, "the path"):
        with readable(file.path):
            reader = format_of(file.path)
            for rows in reader(file.path).batches([column], CollectedRows()) if reader else ():
                if column in rows.columns:
                    ids |= set(trimmed_strings(rows.columns[column]).to_pylist())
                read += len(rows.numbers)
                if read >= limit:
                    return ids, False
    return ids, True


def _sampled(file: InputFile, reader: Format, count: int) -> list[tuple[int, dict[str, pa.Array]]]:
    """Rows spread over a file: over its row groups, or over its first blocks."""
    found = reader.columns()
    if twice := sorted(name for name, count in Counter(name for name, _ in found).items() if count > 1):
        raise DatasetError(f"{file.path}: has two columns named {twice[0]!r}; rename or remove one of them")
    names = [name for name, kind in found if not is_nested(kind)]
    splits = _spread(range(reader.num_splits()), _SAMPLED_SPLITS)
    blocks = _SAMPLED_SPLITS // len(splits)
    parts = []
    for split in splits:
        for rows in islice(reader.batches(names, CollectedRows(), split), blocks):
            kept = pa.array(_spread(range(len(rows.numbers)), max(1, count // (len(splits) * blocks))), pa.int64())
            columns = {name: column.take(kept) for name, column in rows.columns.items()}
            for key, value in file.partition.items():
                columns.setdefault(key, pa.array([value] * len(kept), pa.string()))
            parts.append((len(kept), columns))
    return parts


def _count_rows(file: str, reader: Format) -> int:
    """Rows of a file; of a text file that is larger than 16 MiB, by the size of its first rows."""
    if isinstance(reader, ParquetFile):
        return int(pq.read_metadata(file).num_rows) if Path(file).stat().st_size else 0
    compression = COMPRESSIONS.get(Path(file).suffix.lower())
    with open_bytes(file) as stream:
        head = stream.read(_COUNTED_BYTES)
        lines, whole = head.count(b"\n"), not stream.read(1)
    if whole:
        return lines
    with io.FileIO(file) as raw:
        stream = pa.PythonFile(raw, mode="r")
        read = len((pa.CompressedInputStream(stream, compression) if compression else stream).read(_COUNTED_BYTES))
        return round(lines * Path(file).stat().st_size / max(1, raw.tell()) * len(head) / max(1, read))


def _found_numbers(array: pa.Array) -> np.ndarray:
    return numbers(array).drop_null().to_numpy(zero_copy_only=False)


def _spread(entries: Sequence[T], count: int) -> list[T]:
    """At most ``count`` entries at equal distances, the first and the last among them."""
    if len(entries) <= count:
        return list(entries)
    return [entries[place] for place in np.linspace(0, len(entries) - 1, count).astype(int).tolist()]
