"""Judged pairs as ``evaluation.labels`` names them: Parquet with the columns ``query``, ``item_id`` and ``label``."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from dpsr.data.judgements.errors import JudgementError
from dpsr.data.judgements.formats.rows import Rejected, Row
from dpsr.data.judgements.pooling import pooled_grades
from dpsr.data.judgements.records import Judgement

_SCHEMA = pa.schema([("query", pa.string()), ("item_id", pa.string()), ("label", pa.float64())])


def write(judgements: Iterable[Judgement]) -> bytes:
    """Writes pooled grades, a row for each pair, whose label is the grade."""
    grades = pooled_grades(judgements)
    columns = [
        [query for query, _ in grades],
        [item for _, item in grades],
        [float(grade) for grade in grades.values()],
    ]
    file = io.BytesIO()
    pq.write_table(pa.table(columns, schema=_SCHEMA), file)
    return file.getvalue()


def read(content: bytes) -> Iterator[Row | Rejected]:
    """Reads the rows of a file.

    Raises:
        JudgementError: the file is not Parquet, or lacks a column, or one has another type.
    """
    for number, (query, item_id, label) in enumerate(zip(*_columns(content), strict=True), 1):
        yield Row(f"row {number}", query, item_id, label)


def _columns(content: bytes) -> list[list[object]]:
    try:
        table = pq.ParquetFile(io.BytesIO(content)).read()
    except (pa.ArrowException, OSError) as error:
        raise JudgementError(
            f"the file is not Parquet: {error}; expected the columns {', '.join(_SCHEMA.names)}"
        ) from None
    columns = []
    for field in _SCHEMA:
        if table.column_names.count(field.name) != 1:
            raise JudgementError(
                f"column {field.name!r} occurs {table.column_names.count(field.name)} times (found: "
                f"{', '.join(table.column_names)}); expected the columns {', '.join(_SCHEMA.names)}"
            )
        column = table.column(field.name)
        try:
            column = column.cast(field.type)
            column.validate(full=True)
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise JudgementError(
                f"column {field.name!r} has type {table.column(field.name).type} and cannot be read as {field.type}: "
                f"{error}; write it as {field.type}"
            ) from None
        columns.append(column.to_pylist())
    return columns
