"""Parquet files: typed columns in row groups."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dpsr.data.dataset.schema import DatasetError
from dpsr.data.raw.rejected import RejectsRows
from dpsr.data.raw.rows import Rows
from dpsr.data.raw.values import plain

BATCH_ROWS = 1 << 18


class ParquetFile:
    """A Parquet file; a file of 0 bytes has no columns and no rows."""

    def __init__(self, file: str) -> None:
        """Keeps the name."""
        self._file = file

    def columns(self) -> list[tuple[str, pa.DataType]]:
        """The columns of the schema."""
        with self._open() as parquet:
            return [] if parquet is None else [(field.name, field.type) for field in parquet.schema_arrow]

    def has_late_column(self, name: str) -> bool:
        """False: the schema shows all columns."""
        return False

    def num_splits(self) -> int:
        """The number of row groups."""
        with self._open() as parquet:
            return 1 if parquet is None else max(1, parquet.num_row_groups)

    def batches(self, columns: list[str], rejected: RejectsRows, split: int | None = None) -> Iterator[Rows]:
        """See ``formats.Format``."""
        with self._open() as parquet:
            if parquet is None:
                return
            groups = list(range(parquet.num_row_groups)) if split is None else [split][: parquet.num_row_groups]
            sizes = [parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups)]
            start = sum(sizes[: split or 0])
            first, expected = 1 + start, 1 + start + sum(sizes[group] for group in groups)
            names = [name for name in dict.fromkeys(columns) if name in parquet.schema_arrow.names]
            if not names:
                for number in range(first, expected, BATCH_ROWS):
                    yield Rows(np.arange(number, min(number + BATCH_ROWS, expected)), None, {})
                return
            for batch in parquet.iter_batches(BATCH_ROWS, row_groups=groups, columns=names):
                numbers = np.arange(first, first + len(batch))
                yield Rows(numbers, None, {name: plain(batch.column(name)) for name in names})
                first += len(batch)
            if first != expected:
                raise DatasetError(f"{self._file}: is damaged: row {first} and those after it are missing")

    @contextmanager
    def _open(self) -> Iterator[pq.ParquetFile | None]:
        if not Path(self._file).stat().st_size:
            yield None
            return
        try:
            # Timestamps of 96 bits (Spark, Hive) reach beyond the years that 64-bit nanoseconds have.
            parquet = pq.ParquetFile(self._file, coerce_int96_timestamp_unit="us")
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DatasetError(
                f"{self._file}: not a Parquet file: {error}; write the file again, or rename it by its format"
            ) from None
        with parquet:
            yield parquet
