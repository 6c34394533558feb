"""Raw inputs as a stream of rows with the contract's column names.

A column counts if any file, any line or any ``key=value`` directory of the input has it, and is null elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from dpsr.config import SourceConfig
from dpsr.data.dataset.schema import DatasetError
from dpsr.data.raw.files import find_files
from dpsr.data.raw.formats import FORMATS, Format, format_of
from dpsr.data.raw.line_blocks import line_blocks
from dpsr.data.raw.rejected import RejectsRows
from dpsr.data.raw.values import Kind, check_type, is_instant, is_number, storage_type


@dataclass(frozen=True)
class Chunk:
    """Some rows of one file."""

    file: str
    rows: np.ndarray
    """int64 [n]; the number of each row in the file, from 1, without a header."""
    columns: dict[str, pa.Array]
    """Contract name -> [n], as ``values.plain`` has them."""
    lines: np.ndarray | None = None
    """int64 [n]; the first line of each row in a text file, from 1; None for Parquet."""

    def reject(self, rejected: RejectsRows, position: int, reason: str, column: str | None = None) -> None:
        """Lists one of the rows as rejected, with the value of a column."""
        value = None if column is None else _python_value(self.columns[column][position])
        line = None if self.lines is None else int(self.lines[position])
        rejected.add(self.file, int(self.rows[position]), reason, value, line=line)


class InputSplit(NamedTuple):
    """Rows of an input that can be read without the others."""

    file: int
    """Which of ``Source.files``."""
    part: int | None
    """Which of the file's splits (the row groups of Parquet); None is the whole file."""


class Source:
    """One raw input: its files, and which columns of the contract they have."""

    def __init__(
        self,
        name: str,
        config: SourceConfig,
        required: Mapping[str, Kind],
        optional: Mapping[str, Kind] | None = None,
    ) -> None:
        """Opens the input and checks the columns of all files.

        Args:
            name: ``items``, ``users``, ``interactions`` or ``supervision``, as in the configuration.
            config: path and column names.
            required: columns of the contract that some file must have, and what they hold.
            optional: columns that are used where a file has them.

        Raises:
            DatasetError: no file, an unknown format; a column is missing, mapped in vain, twice in a file, or of a
                type that it cannot have.
        """
        self.name = name
        self._key = f"data.{name}"
        self.kinds = kinds = {**required, **(optional or {})}
        """What the columns of the contract hold."""
        for column in config.columns:
            if column not in kinds:
                raise DatasetError(
                    f"{self._key}.columns.{column}: the {name} have no such column (known: {', '.join(kinds)})"
                )
        found = find_files(config.path, f"{self._key}.path")
        self.files = [file.path for file in found]
        self._partitions = [file.partition for file in found]
        self._readers = [self._reader(file) for file in self.files]
        mapping = {column: config.columns.get(column, column) for column in kinds}
        self._names = self._columns_of_files(mapping, kinds)
        self._mapping = {}
        for column, given in mapping.items():
            if self._is_anywhere(given):
                self._mapping[column] = given
            elif column in required or column in config.columns:
                raise self._missing(column, given)

    @property
    def columns(self) -> tuple[str, ...]:
        """The contract's columns that this input has."""
        return tuple(self._mapping)

    def chunks(self, rejected: RejectsRows) -> Iterator[Chunk]:
        """Streams all rows, file by file in the order of their names.

        Args:
            rejected: takes the rows that cannot even be read.

        Raises:
            DatasetError: a file is damaged.
        """
        for number in range(len(self.files)):
            yield from self.read_split(InputSplit(number, None), rejected)

    def splits(self) -> list[InputSplit]:
        """All rows in splits, in the order of ``chunks``.

        Raises:
            DatasetError: a file is damaged.
        """
        splits = []
        for number, reader in enumerate(self._readers):
            with readable(self.files[number]):
                splits += [InputSplit(number, part) for part in range(reader.num_splits())]
        return splits

    def read_split(self, split: InputSplit, rejected: RejectsRows) -> Iterator[Chunk]:
        """Streams the rows of one split; see ``chunks``."""
        file, reader, partition = self.files[split.file], self._readers[split.file], self._partitions[split.file]
        shown = self._names[split.file]
        in_file = [given for given in dict.fromkeys(self._mapping.values()) if given in shown or given not in partition]
        with readable(file):
            for rows in reader.batches(in_file, rejected, split.part):
                size = len(rows.numbers)
                columns = {
                    column: rows.columns[given] if given in rows.columns else _constant(partition.get(given), size)
                    for column, given in self._mapping.items()
                }
                yield Chunk(file, rows.numbers, columns, rows.lines)

    def _reader(self, file: str) -> Format:
        with readable(file):
            reader: Callable[[str], Format] | None = format_of(file)
        if reader is None:
            raise DatasetError(f"{file}: unknown format; {self._key}.path must name {', '.join(FORMATS)} files")
        return reader(file)

    def _columns_of_files(self, mapping: Mapping[str, str], kinds: Mapping[str, Kind]) -> list[list[str]]:
        """For each file the columns that its beginning shows; checks those that are mapped."""
        names = []
        time_types: dict[str, tuple[str, pa.DataType]] = {}
        for file, reader in zip(self.files, self._readers, strict=True):
            with readable(file):
                found = reader.columns()
            types = dict(found)
            for column, given in mapping.items():
                if given not in types:
                    continue
                if sum(name == given for name, _ in found) > 1:
                    raise DatasetError(f"{file}: has two columns named {given!r}; rename or remove one of them")
                check_type(kinds[column], types[given], f"{file}: column {given!r}")
                if kinds[column] is Kind.TIME:
                    _check_one_clock(file, given, types[given], time_types)
            names.append(list(types))
        return names

    def _is_anywhere(self, given: str) -> bool:
        if any(given in names for names in self._names) or any(given in keys for keys in self._partitions):
            return True
        for file, reader in zip(self.files, self._readers, strict=True):
            with readable(file):
                if reader.has_late_column(given):
                    return True
        return False

    def _missing(self, column: str, given: str) -> DatasetError:
        names = list(dict.fromkeys(name for found in self._names for name in found))
        where = Path(self.files[0]).name if len(self.files) == 1 else f"{len(self.files):,} files of {self._key}.path"
        if not names:
            return DatasetError(
                f"{', '.join(self.files[:3])}: has no rows and no columns; set {self._key}.path to a file with rows"
            )
        listed = f"(found: {', '.join(names)})"
        if given != column:
            return DatasetError(
                f"{where}: column {given!r}, named by {self._key}.columns.{column}, is missing {listed}"
            )
        if len(names) == 1 and (separator := next((sign for sign in ";\t|" if sign in names[0]), None)):
            return DatasetError(
                f"{where}: its columns are separated by {separator!r}; expected commas (found: {names[0]})"
            )
        hint = next((name for name in names if name not in self._mapping.values()), "NAME")
        return DatasetError(
            f'{where}: column {column!r} is missing {listed}; map it with {self._key}.columns.{column} = "{hint}"'
        )


def _check_one_clock(file: str, given: str, found: pa.DataType, seen: dict[str, tuple[str, pa.DataType]]) -> None:
    """Ends the job where one file has numbers for times and another timestamps."""
    kind = storage_type(found)
    unit = "number" if is_number(kind) else "timestamp" if is_instant(kind) else None
    if unit is None:
        return
    for other, (other_file, other_type) in seen.items():
        if other != unit:
            raise DatasetError(
                f"{file}: column {given!r} has type {found}, but {other_type} in {other_file}; use one type for times"
            )
    seen[unit] = (file, found)


@contextmanager
def readable(file: str) -> Iterator[None]:
    """Turns what the reader of a file raises into an error that names the file."""
    try:
        yield
    except DatasetError:
        raise
    except (pa.ArrowException, OSError, ValueError, ArithmeticError, MemoryError, RecursionError) as error:
        raise DatasetError(
            f"{file}: cannot be read: {error}; write the file again, or leave it out of the path"
        ) from None


def _python_value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, ArithmeticError):  # a time outside the years of Python
        return scalar.cast(pa.int64()).as_py()


def _constant(value: str | None, size: int) -> pa.Array:
    return pa.nulls(size) if value is None else pa.repeat(pa.scalar(value, pa.string()), size)


def numbered_lines(file: str) -> Iterator[tuple[int, bytes]]:
    """The lines of a text file that are not blank, with their numbers."""
    with readable(file):
        for block in line_blocks(file):
            for number, line in enumerate(block.data.split(b"\n"), start=block.first):
                if line.strip():
                    yield number, line
