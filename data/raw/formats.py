"""The file formats of raw inputs: Parquet, and CSV and JSON Lines, plain or compressed with gzip or zstd."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from dpsr.data.raw.csv_files import CsvFile
from dpsr.data.raw.json_files import JsonFile
from dpsr.data.raw.line_blocks import COMPRESSIONS
from dpsr.data.raw.parquet_files import ParquetFile
from dpsr.data.raw.rejected import RejectsRows
from dpsr.data.raw.rows import Rows

_PARQUET_MAGIC = b"PAR1"


class Format(Protocol):
    """One file as a stream of rows."""

    def columns(self) -> list[tuple[str, pa.DataType]]:
        """Names and types of the columns, in their order, as far as the beginning of the file shows."""
        ...

    def has_late_column(self, name: str) -> bool:
        """Whether some row has a column that ``columns`` does not show; JSON Lines are read to the end for it."""
        ...

    def num_splits(self) -> int:
        """How many splits can be read each for itself, at least 1."""
        ...

    def batches(self, columns: list[str], rejected: RejectsRows, split: int | None = None) -> Iterator[Rows]:
        """Some columns of a split, or of the whole file.

        Args:
            columns: names; those that the file does not have may be left out of the rows.
            rejected: takes the rows that cannot be read.
            split: which of ``num_splits``; None is the whole file.

        Yields:
            Rows whose columns are as ``values.plain`` has them.
        """
        ...


FORMATS: dict[str, Callable[[str], Format]] = {".parquet": ParquetFile} | {
    name + compression: reader
    for name, reader in ((".csv", CsvFile), (".jsonl", JsonFile), (".json", JsonFile), (".ndjson", JsonFile))
    for compression in COMPRESSIONS
}
"""How to read a file, by the end of its name in lower case."""


def format_of(file: str) -> Callable[[str], Format] | None:
    """The reader of a file by its name, or, for Parquet, by its first bytes (files of Hive have no ending)."""
    by_name = next((reader for end, reader in FORMATS.items() if file.lower().endswith(end)), None)
    if by_name or Path(file).suffix:
        return by_name
    with open(file, "rb") as stream:
        return ParquetFile if stream.read(4) in (_PARQUET_MAGIC, b"") else None
