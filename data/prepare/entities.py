"""The catalogue and the users: whole in memory, one row for each id, their columns as ids of embedding tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpsr.data.dataset.schema import DatasetError
from dpsr.data.dataset.texts import one_array, take_rows, with_small_strings
from dpsr.data.prepare.vocabulary import bucket_edges, category_vocabulary, column_ids, numbers
from dpsr.data.raw.readers import Source, trimmed_strings
from dpsr.data.raw.rejected import RejectedRows


def read_features(
    source: Source,
    ids_as: Callable[[pa.Array], pa.Array] | None,
    rejected: RejectedRows,
    advance: Callable[[int], object],
) -> pa.Table:
    """All rows that have an id.

    Args:
        source: the raw input; its first column is the id.
        ids_as: turns ids into those that are stored; None keeps strings and integers.
        rejected: takes the rows without an id, and those whose id has been there before.
        advance: told the number of rows after each chunk.

    Raises:
        DatasetError: ids are of a strange type, or the files disagree about a column.
    """
    key = source.columns[0]
    parts: list[pa.Table] = []
    for chunk in source.chunks(rejected):
        ids = (ids_as or (lambda column: _checked_ids(column, chunk.file, key)))(chunk.columns[key])  # noqa: B023, called at once
        for position in np.flatnonzero(ids.is_null().to_numpy(zero_copy_only=False)):
            rejected.add(chunk.file, int(chunk.rows[position]), f"empty {key}")
        part = pa.table(chunk.columns | {key: ids, _FILE: pa.repeat(chunk.file, len(ids)), _ROW: chunk.rows})
        parts.append(part.filter(ids.is_valid()))
        advance(len(part))
    if not parts:
        return pa.table({name: pa.array([], pa.string()) for name in (*source.columns, _FILE, _ROW)})
    try:
        return pa.concat_tables(parts, promote_options="permissive").combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DatasetError(f"{', '.join(source.files)}: the files disagree about a column: {error}") from None


def without_duplicates(source: Source, table: pa.Table, rejected: RejectedRows, kept_at: Path) -> pa.Table:
    """The table of ``read_features``, proven to have every id once.

    Raises:
        DatasetError: ids occur more than once; every such row is in the list of rejected rows at ``kept_at``.
    """
    key = source.columns[0]
    counts = pc.value_counts(table.column(key))
    duplicates = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    if len(duplicates):
        again = table.filter(pc.is_in(table.column(key), value_set=duplicates))
        for file, row, value in zip(*(again.column(name).to_pylist() for name in (_FILE, _ROW, key)), strict=True):
            rejected.add(file, row, f"duplicate {key}", value)
        some = ", ".join(str(value) for value in duplicates[:5].to_pylist())
        raise DatasetError(
            f"{', '.join(source.files)}: {len(duplicates):,} values of {key} occur more than once ({some}"
            f"{', ...' if len(duplicates) > 5 else ''}); all rows are listed in {kept_at / rejected.path.name}; "
            "keep one row for each"
        )
    return table.drop_columns([_FILE, _ROW])


def merged(before: pa.Table, new: pa.Table) -> pa.Table:
    """Rows of ``before`` in their places, replaced where ``new`` has the same id, then what only ``new`` has.

    Raises:
        DatasetError: a column has changed its type.
    """
    key = before.column_names[0]
    try:
        both = pa.concat_tables([before, new.select(before.column_names)], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DatasetError(f"the new rows do not fit the columns of the dataset: {error}") from None
    place = pc.index_in(one_array(new.column(key)), value_set=one_array(before.column(key)))
    known = place.is_valid().to_numpy(zero_copy_only=False)
    positions = len(before) + np.arange(len(new))
    order = np.arange(len(before))
    order[place.drop_null().to_numpy()] = positions[known]
    return with_small_strings(take_rows(both, np.concatenate([order, positions[~known]])))


class ColumnWriter:
    """Writes the id columns of a table, and the vocabularies that their ids stand for."""

    def __init__(
        self, directory: Path, name: str, table: pa.Table, before: Mapping[str, Sequence[str]], grow: bool
    ) -> None:
        """Keeps where to write.

        Args:
            directory: the dataset directory.
            name: ``items`` or ``users``.
            table: the rows.
            before: vocabularies of the dataset that is appended to, as ``items.brand``; empty for a new one.
            grow: new values get ids behind those of ``before``; else they are out of vocabulary.
        """
        self._directory, self._name, self._table, self._before, self._grow = directory, name, table, before, grow

    def categorical(self, column: str, min_count: int) -> int:
        """Writes a categorical column; returns the rows of its embedding table."""
        values = trimmed_strings(self._table.column(column))
        vocabulary = list(self._before.get(f"{self._name}.{column}", ()))
        if not self._before or self._grow:
            known = set(vocabulary)
            vocabulary += [value for value in category_vocabulary(values, min_count) if value not in known]
        return self._write(column, column_ids(values, vocabulary, numeric=False), vocabulary)

    def numeric(self, column: str, buckets: int) -> int:
        """Writes a column of numbers as ids of buckets with equally many items; returns the rows of its table.

        Raises:
            DatasetError: the column has values, but none is a number.
        """
        given = self._table.column(column)
        values = numbers(given)
        if values.null_count == len(values) > given.null_count:
            raise DatasetError(
                f"{self._name}: column {column!r} has no number (found {given.drop_null()[0].as_py()!r}, ...)"
            )
        vocabulary = list(self._before.get(f"{self._name}.{column}", ()))
        if not vocabulary:
            vocabulary = [repr(float(edge)) for edge in bucket_edges(values, buckets)]
        return self._write(column, column_ids(values, vocabulary, numeric=True), vocabulary)

    def _write(self, column: str, ids: np.ndarray, vocabulary: Sequence[str]) -> int:
        np.save(self._directory / self._name / f"{column}.npy", ids)
        path = self._directory / f"vocabularies/{self._name}.{column}.json"
        path.write_text(json.dumps(vocabulary, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        return len(vocabulary) + 2


_FILE, _ROW = " file", " row"


def _checked_ids(ids: pa.Array, file: str, key: str) -> pa.Array:
    """Ids as strings or int64; null where there is none."""
    if pa.types.is_integer(ids.type):
        return ids
    if pa.types.is_string(ids.type):
        return trimmed_strings(ids)
    raise DatasetError(f"{file}: column {key!r} has type {ids.type}; expected strings or integers")
