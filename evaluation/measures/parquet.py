"""Parquet inputs of an evaluation (judged pairs, senses), with errors that name file, column and remedy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dpsr.data.dataset.schema import DatasetError


def column_names(path: Path, key: str) -> list[str]:
    """Reads the names of a file's columns.

    Args:
        path: a Parquet file.
        key: the configuration key that names the file, for errors.

    Raises:
        DatasetError: the file is missing or not Parquet.
    """
    with _readable(path, key):
        return list(pq.ParquetFile(path).schema_arrow.names)


def read_columns(path: Path, key: str, types: Mapping[str, pa.DataType]) -> pa.Table:
    """Reads columns as given types, without rows that have a null among them.

    Args:
        path: a Parquet file that has the columns.
        key: the configuration key that names the file, for errors.
        types: column -> type.

    Returns:
        A table of the columns in the order of ``types``.

    Raises:
        DatasetError: the file is damaged, a column occurs twice, or a value cannot be read as the type.
    """
    _check_once(path, column_names(path, key), list(types))
    with _readable(path, key):
        table = pq.ParquetFile(path).read(columns=list(types))
    columns = {}
    for name, kind in types.items():
        try:
            columns[name] = table.column(name).cast(kind)
            columns[name].validate(full=True)
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise DatasetError(
                f"{path}: column {name!r} has type {table.column(name).type} and cannot be read as {kind}: {error}; "
                f"write it as {kind}"
            ) from None
    return pa.table(columns).drop_null()


def _check_once(path: Path, found: Sequence[str], names: Sequence[str]) -> None:
    for name in names:
        if found.count(name) > 1:
            raise DatasetError(f"{path}: column {name!r} occurs {found.count(name)} times; keep one of them")


@contextmanager
def _readable(path: Path, key: str) -> Iterator[None]:
    if not path.is_file():
        raise DatasetError(f"{key}: {path}: no such file")
    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        raise DatasetError(f"{path}: cannot be read as Parquet: {error}; {key} names a Parquet file") from None
