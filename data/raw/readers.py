"""Raw inputs as a stream of Arrow record batches with the contract's column names.

One path may be a glob over files of ``data.formats``. CSV has no types, so that all its columns are strings;
ids keep their leading zeros.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpsr.config import SourceConfig
from dpsr.data.dataset.schema import DatasetError
from dpsr.data.raw.formats import FORMATS, Format, format_of
from dpsr.data.raw.rejected import RejectsRows


@dataclass(frozen=True)
class Chunk:
    """Some rows of one file."""

    file: str
    rows: np.ndarray
    """int64 [n]; the number of each row in the file, from 1, without a header."""
    columns: dict[str, pa.Array]
    """Contract name -> [n]."""


class Piece(NamedTuple):
    """A part of an input."""

    file: int
    """Which of ``Source.files``."""
    part: int | None
    """Which of the file's pieces (the row groups of Parquet); None is the whole file."""


class Source:
    """One raw input: its files, and which columns of the contract they have."""

    def __init__(self, name: str, config: SourceConfig, required: Sequence[str], optional: Sequence[str] = ()) -> None:
        """Opens the input and checks the columns of every file.

        Args:
            name: ``items``, ``users`` or ``interactions``, as in the configuration.
            config: path and column names.
            required: columns of the contract that every file must have.
            optional: columns that are used where the files have them.

        Raises:
            DatasetError: no file, an unknown format, a column is missing or mapped in vain.
        """
        self.name = name
        self._key = f"data.{name}"
        for column in config.columns:
            if column not in (*required, *optional):
                raise DatasetError(
                    f"{self._key}.columns.{column}: the {name} have no such column "
                    f"(known: {', '.join((*required, *optional))})"
                )
        self.files = self._find_files(config.path)
        self._readers = [self._reader(file) for file in self.files]
        mapping = {column: config.columns.get(column, column) for column in (*required, *optional)}
        names = []
        for file, reader in zip(self.files, self._readers, strict=True):
            with _readable(file):
                names.append(reader.column_names())
        self._mapping = {
            column: found
            for column, found in mapping.items()
            if column in required or column in config.columns or found in names[0]
        }
        for file, found_names in zip(self.files, names, strict=True):
            self._check_columns(file, found_names)

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
            yield from self.piece(Piece(number, None), rejected)

    def pieces(self) -> list[Piece]:
        """All rows in pieces that can be read each for itself, in the order of ``chunks``.

        Raises:
            DatasetError: a file is damaged.
        """
        pieces = []
        for number, reader in enumerate(self._readers):
            with _readable(self.files[number]):
                pieces += [Piece(number, part) for part in range(reader.num_pieces())]
        return pieces

    def piece(self, piece: Piece, rejected: RejectsRows) -> Iterator[Chunk]:
        """Streams the rows of one piece; see ``chunks``."""
        file, reader = self.files[piece.file], self._readers[piece.file]
        with _readable(file):
            for rows, batch in reader.batches(list(self._mapping.values()), rejected, piece.part):
                columns = {name: _plain(batch.column(found)) for name, found in self._mapping.items()}
                yield Chunk(file, rows, columns)

    def _find_files(self, path: str) -> list[str]:
        files = sorted(name for name in glob.glob(path, recursive=True) if Path(name).is_file())
        if not files:
            raise DatasetError(f"{path}: no such file (working directory {Path.cwd()}); set {self._key}.path")
        return files

    def _reader(self, file: str) -> Format:
        reader = format_of(file)
        if reader is None:
            raise DatasetError(f"{file}: unknown format; {self._key}.path must name {', '.join(FORMATS)} files")
        return reader(file)

    def _check_columns(self, file: str, names: Sequence[str]) -> None:
        for column, found in self._mapping.items():
            if found in names:
                continue
            listed = f"(found: {', '.join(names)})"
            if found != column:
                raise DatasetError(
                    f"{Path(file).name}: column {found!r}, named by {self._key}.columns.{column}, is missing {listed}"
                )
            hint = next((name for name in names if name not in self._mapping.values()), "NAME")
            raise DatasetError(
                f"{Path(file).name}: column {column!r} is missing {listed}; "
                f'map it with {self._key}.columns.{column} = "{hint}"'
            )


@contextmanager
def _readable(file: str) -> Iterator[None]:
    """Turns what the reader of a file raises into an error that names the file."""
    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        raise DatasetError(f"{file}: cannot be read: {error}") from None


def _plain(array: pa.Array) -> pa.Array:
    """Without dictionary encoding, and with one type for strings and one for integers."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type) or pa.types.is_binary(array.type):
        return array.cast(pa.string())
    if pa.types.is_integer(array.type):
        return array.cast(pa.int64())
    return array


def trimmed_strings(array: pa.Array) -> pa.Array:
    """Values as strings without white space at the ends; null where nothing is left, string [n]."""
    texts = pc.utf8_trim_whitespace(array.cast(pa.string()))
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
