"""The catalogue and the users: whole in memory, one row for each id, their columns as ids of embedding tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpsr.config import ItemsConfig
from dpsr.data.dataset.schema import DatasetError
from dpsr.data.dataset.texts import one_array, take_rows, with_small_strings
from dpsr.data.prepare.vocabulary import bucket_edges, category_vocabulary, column_ids
from dpsr.data.raw.readers import Source
from dpsr.data.raw.rejected import RejectedRows
from dpsr.data.raw.values import REPLACEMENT, Kind, id_strings, numbers, texts, trimmed_strings, whole_ids


def read_features(
    source: Source,
    ids_as: Callable[[pa.Array], pa.Array],
    rejected: RejectedRows,
    advance: Callable[[int], object],
) -> pa.Table:
    """All rows that have an id.

    Args:
        source: the raw input; its first column is the id.
        ids_as: turns ids into those that are stored; null where there is none.
        rejected: takes the rows without an id, and those whose id has been there before.
        advance: takes the number of rows after each chunk.

    Returns:
        The columns of the input; those whose type differs between files or lines, and all texts, as strings.
    """
    key = source.columns[0]
    parts: list[dict[str, pa.Array]] = []
    for chunk in source.chunks(rejected):
        given = chunk.columns[key]
        ids, readable = ids_as(given), _readable_ids(given)
        kept = pc.and_(ids.is_valid(), readable)
        for position in np.flatnonzero(~kept.to_numpy(zero_copy_only=False)).tolist():
            if trimmed_strings(given.slice(position, 1)).null_count:
                chunk.reject(rejected, position, f"empty {key}")
            else:
                chunk.reject(rejected, position, f"unreadable {key}", key if key == "item_id" else None)
        columns = chunk.columns | {key: ids}
        columns |= {name: texts(columns[name]) for name in source.columns if source.kinds[name] is Kind.TEXT}
        columns |= {_FILE: pa.repeat(chunk.file, len(ids)), _ROW: pa.array(chunk.rows)}
        lines = pa.nulls(len(ids), pa.int64()) if chunk.lines is None else pa.array(chunk.lines)
        parts.append({name: column.filter(kept) for name, column in (columns | {_LINE: lines}).items()})
        advance(len(ids))
    if not parts:
        return pa.table({name: pa.array([], pa.string()) for name in (*source.columns, _FILE, _ROW, _LINE)})
    return pa.table({name: _joined([part[name] for part in parts]) for name in parts[0]}).combine_chunks()


def item_kinds(config: ItemsConfig) -> dict[str, Kind]:
    """The columns of the catalogue and what they hold, ``item_id`` first."""
    given = ((config.text, Kind.TEXT), (config.categorical, Kind.CATEGORY), (config.numeric, Kind.NUMBER))
    kinds = {"item_id": Kind.ID}
    for columns, kind in given:
        for column in columns:
            kinds.setdefault(column, kind)
    return kinds


def catalogue_ids(column: pa.Array) -> pa.Array:
    """Item ids as int64 where they are whole numbers of 64 bits, else as strings; null where there is none."""
    if pa.types.is_integer(column.type) or pa.types.is_null(column.type):
        return column
    if pa.types.is_floating(column.type):
        return whole_ids(column)
    if pa.types.is_decimal(column.type) and (whole := whole_ids(column)).null_count == column.null_count:
        return whole
    return id_strings(column)


def _readable_ids(column: pa.Array) -> pa.Array:
    """Whether ids are valid UTF-8, bool [n]: two ids whose other bytes became U+FFFD may differ."""
    if not pa.types.is_string(column.type):
        return pa.array(np.ones(len(column), dtype=bool))
    return pc.fill_null(pc.invert(pc.match_substring(column, REPLACEMENT)), True)


def _joined(arrays: list[pa.Array]) -> pa.ChunkedArray:
    """The arrays one after the other, as text where their types differ."""
    types = {array.type for array in arrays} - {pa.null()}
    if len(types) > 1:
        arrays = [texts(array) for array in arrays]
    elif types:
        arrays = [array.cast(next(iter(types))) for array in arrays]
    return pa.chunked_array(arrays)


def without_duplicates(source: Source, table: pa.Table, rejected: RejectedRows, kept_at: Path | None) -> pa.Table:
    """The table of ``read_features``, proven to have every id once.

    Raises:
        DatasetError: ids occur more than once; every such row is in the list of rejected rows, which the error says
            is at ``kept_at``.
    """
    key = source.columns[0]
    counts = pc.value_counts(table.column(key))
    duplicates = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    if len(duplicates):
        again = table.filter(pc.is_in(table.column(key), value_set=duplicates))
        places = (again.column(name).to_pylist() for name in (_FILE, _ROW, _LINE, key))
        for file, row, line, value in zip(*places, strict=True):
            rejected.add(file, row, f"duplicate {key}", value, line=line)
        some = ", ".join(str(value) for value in duplicates[:5].to_pylist())
        listed = f"all rows are listed in {kept_at / rejected.path.name}; " if kept_at else ""
        raise DatasetError(
            f"{', '.join(source.files)}: {len(duplicates):,} values of {key} occur more than once ({some}"
            f"{', ...' if len(duplicates) > 5 else ''}); {listed}keep one row for each"
        )
    return table.drop_columns([_FILE, _ROW, _LINE])


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


_FILE, _ROW, _LINE = " file", " row", " line"
