"""Filters of a request inside the graph: items of one category, or with a number inside a range."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from dpsr.data.raw.values import numbers, trimmed_strings
from dpsr.data.raw.white_space import AT_ENDS
from dpsr.indexing.catalogue import ItemRows
from dpsr.indexing.errors import ExportError
from dpsr.indexing.signature import filter_input

_ANY, _UNKNOWN, _MISSING = 0, -1, -2
"""Ids beside those of values: a request for any item, a request for a value of no item, an item without a value."""
FilterValues = dict[str, tf.Tensor]
"""By input name: what each row of a request asks for, [B] each (``Filters.requested``)."""


class Filters(tf.Module):
    """The filterable columns of a catalogue, by item row, and the inputs that filter by them.

    A categorical column ``brand`` gives the input ``filter_brand``, string [B]: the value that items must have, or ""
    for any. A numeric column ``price`` gives ``filter_min_price`` and ``filter_max_price``, float32 [B], inclusive:
    minus and plus infinity (and NaN) are no limit. An item without a value matches no filter of that column. An input
    of length 1 holds for all rows of a request, as the defaults do.
    """

    def __init__(self, catalogue: ItemRows, categories: Iterable[str], ranges: Sequence[str]) -> None:
        """Reads the columns.

        Args:
            catalogue: holds the columns as given.
            categories: columns filtered by equality, unless ``ranges`` has them.
            ranges: columns filtered by a range.

        Raises:
            ExportError: a column of ``ranges`` is missing or holds no numbers, or two inputs would have one name.
        """
        super().__init__(name="filters")
        self._ids: dict[str, tf.Variable] = {}
        self._tables: dict[str, tf.lookup.StaticHashTable] = {}
        self._texts: dict[str, list[str]] = {}
        self._numbers: dict[str, tf.Variable] = {}
        self.specs: dict[str, tf.TensorSpec] = {}
        self.defaults: FilterValues = {}
        for column in categories:
            if column not in ranges:
                self._add_category(column, catalogue.table.column(column))
        for column in ranges:
            self._add_range(column, numeric_column(catalogue.table, column))
        self._example = self._values_of_an_item(len(catalogue))

    def __bool__(self) -> bool:
        """Whether the catalogue has a column to filter by."""
        return bool(self.specs)

    def example(self) -> dict[str, str | float]:
        """A value for every input, such that at least one item matches."""
        return dict(self._example)

    def without(self) -> dict[str, str | float]:
        """The value of every input that all items match."""
        values = {name: default.numpy()[0] for name, default in self.defaults.items()}
        return {name: value.decode() if isinstance(value, bytes) else float(value) for name, value in values.items()}

    def requested(self, inputs: FilterValues, rows: tf.Tensor) -> FilterValues:
        """What each row of a request asks for.

        Args:
            inputs: by input name, [1] or [B] each.
            rows: B.

        Returns:
            By input name, [B] each: int32 ids of values, float32 limits.
        """
        wanted = {}
        for name, values in inputs.items():
            if name in self._tables:
                values = self._tables[name].lookup(stripped(values))
            else:
                values = tf.where(tf.math.is_nan(values), self.defaults[name], values)
            wanted[name] = tf.broadcast_to(values, [rows])
        return wanted

    def active(self, wanted: FilterValues) -> tf.Tensor:
        """The rows of a request that have a filter; bool [B]."""
        asked = [values != (_ANY if name in self._tables else self.defaults[name]) for name, values in wanted.items()]
        return tf.reduce_any(tf.stack(asked), axis=0)

    def matches(self, rows: tf.Tensor, wanted: FilterValues) -> tf.Tensor:
        """Whether items match the filters of their row of the request.

        Args:
            rows: int32 [B, m, n] item rows, negative where there is no item.
            wanted: of ``requested``.

        Returns:
            bool [B, m, n]; False where there is no item.
        """
        allowed, at = rows >= 0, tf.maximum(rows, 0)
        wanted = {name: values[:, tf.newaxis, tf.newaxis] for name, values in wanted.items()}
        for name, ids in self._ids.items():
            allowed &= (wanted[name] == _ANY) | (tf.gather(ids, at) == wanted[name])
        for column, found in self._numbers.items():
            low, high = wanted[filter_input("min_" + column)], wanted[filter_input("max_" + column)]
            values = tf.gather(found, at)
            unlimited = tf.math.is_inf(low) & (low < 0) & tf.math.is_inf(high) & (high > 0)
            allowed &= unlimited | ((values >= low) & (values <= high))  # never of NaN
        return allowed

    def matching_rows(self, values: dict[str, str | float], items: int) -> np.ndarray:
        """The item rows, of ``items`` in the catalogue, that match the filters of one request; int32 [n]."""
        if not self:
            return np.arange(items, dtype=np.int32)
        inputs = {name: tf.constant([value], self.specs[name].dtype) for name, value in values.items()}
        rows = tf.range(items)[tf.newaxis, tf.newaxis]
        return np.flatnonzero(self.matches(rows, self.requested(inputs, 1))).astype(np.int32)

    def _values_of_an_item(self, items: int) -> dict[str, str | float]:
        """Filters that the item with the fewest missing values matches: its categories, its numbers as lower limits."""
        known = np.zeros(items, np.int32)
        for ids in self._ids.values():
            known += ids.numpy() > 0
        for found in self._numbers.values():
            known += ~np.isnan(found.numpy())
        item = int(known.argmax())
        values = self.without()
        for name, ids in self._ids.items():
            values[name] = self._texts[name][max(int(ids.numpy()[item]), 0)]
        for column, found in self._numbers.items():
            if not np.isnan(found.numpy()[item]):
                values[filter_input("min_" + column)] = float(found.numpy()[item])
        return values

    def _add_category(self, column: str, values: pa.ChunkedArray) -> None:
        found, ids = category_ids(values)
        name = self._declare(column, tf.string, "")
        self._texts[name] = ["", *found]
        self._ids[name] = tf.Variable(ids, trainable=False, name=name)
        texts = tf.constant(self._texts[name], tf.string)
        entries = tf.lookup.KeyValueTensorInitializer(texts, tf.range(len(self._texts[name])))
        self._tables[name] = tf.lookup.StaticHashTable(entries, _UNKNOWN)

    def _add_range(self, column: str, numbers: np.ndarray) -> None:
        self._declare("min_" + column, tf.float32, -np.inf)
        self._declare("max_" + column, tf.float32, np.inf)
        self._numbers[column] = tf.Variable(numbers, trainable=False, name=filter_input(column))

    def _declare(self, column: str, dtype: tf.DType, default: str | float) -> str:
        name = filter_input(column)
        if name in self.specs:
            raise ExportError(f"column {column!r} would be input {name!r} twice; rename the column")
        self.specs[name] = tf.TensorSpec([None], dtype, name)
        self.defaults[name] = tf.constant([default], dtype)
        return name


def stripped(values: tf.Tensor) -> tf.Tensor:
    """Values as the dataset has them: without white space at the ends (``data.raw.white_space``); string, any shape."""
    return tf.strings.regex_replace(values, AT_ENDS, "")


def category_ids(values: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """Distinct values of a column without white space at the ends, and for each item the place of its value, from 1.

    The chunks are encoded one by one, as together they may hold more than the 2 GiB of text that one array allows.

    Returns:
        The values in the order of their first items, and int32 [items]; -2 where a value is missing.
    """
    chunks = [trimmed_strings(chunk).dictionary_encode() for chunk in values.chunks]
    encoded = pa.chunked_array(chunks, pa.dictionary(pa.int32(), pa.string())).unify_dictionaries().combine_chunks()
    ids = pc.fill_null(pc.add(encoded.indices, 1), _MISSING).to_numpy(zero_copy_only=False)
    return encoded.dictionary.to_pylist(), ids.astype(np.int32)


def numeric_column(table: pa.Table, column: str) -> np.ndarray:
    """A column of numbers, or of strings that are numbers, as float32 [items]; NaN where a value is missing.

    Raises:
        ExportError: the column is missing or holds no numbers.
    """
    if column not in table.column_names:
        raise ExportError(
            f"index.filter_range names column {column!r}, which the items do not have "
            f"(found: {', '.join(table.column_names)}); take it into the dataset, or leave it out"
        )
    given = table.column(column)
    found = pa.chunked_array([numbers(chunk) for chunk in given.chunks], pa.float64())
    if found.null_count == len(found) > given.null_count:
        raise ExportError(f"index.filter_range: column {column!r} holds no numbers (found {given.drop_null()[0]}, ...)")
    return pc.fill_null(found, np.nan).to_numpy().astype(np.float32)
