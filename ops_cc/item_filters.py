"""Items that match the filters of a query, by columns in tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from dpsr.ops_cc import library


class CategoryColumn(NamedTuple):
    """A column filtered by equality; NumPy arrays, tensors, or variables of a servable. N items, V values."""

    ids: Any
    """int32 [N], the value of each item, 1..V; others for none."""
    splits: Any
    """int32 [V + 1]; the items of value v are ``rows[splits[v - 1]:splits[v]]``."""
    rows: Any
    """int32, the items that have a value, ascending within a value."""

    @classmethod
    def of_ids(cls, ids: npt.NDArray[np.int32], values: int) -> CategoryColumn:
        """Lists the items of each of ``values`` values."""
        known = np.flatnonzero(ids > 0).astype(np.int32)
        counts = np.bincount(ids[known], minlength=values + 1)
        return cls(ids, np.cumsum(counts, dtype=np.int32), known[np.argsort(ids[known], kind="stable")])

    def map(self, function: Callable[[Any], Any]) -> CategoryColumn:
        """The same with a function of every array."""
        return CategoryColumn(*map(function, self))


class NumberColumn(NamedTuple):
    """A column filtered by a range, as ``CategoryColumn``."""

    values: Any
    """float32 [N], NaN for none."""
    ascending: Any
    """float32 [M], the values that there are."""
    rows: Any
    """int32 [M], their items."""

    @classmethod
    def of_values(cls, values: npt.NDArray[np.float32]) -> NumberColumn:
        """Sorts the values."""
        known = np.flatnonzero(~np.isnan(values)).astype(np.int32)
        rows = known[np.argsort(values[known], kind="stable")]
        return cls(values, values[rows], rows)

    def map(self, function: Callable[[Any], Any]) -> NumberColumn:
        """The same with a function of every array."""
        return NumberColumn(*map(function, self))


class FilterRequest(NamedTuple):
    """Columns, at least one, and what B queries ask of them: items have to match all of it."""

    categories: Sequence[CategoryColumn]
    numbers: Sequence[NumberColumn]
    wanted: Sequence[tf.Tensor]
    """int32 [B] for each of ``categories``: a value, 0 for any; others than 1..V match nothing."""
    low: Sequence[tf.Tensor]
    """float32 [B] for each of ``numbers``, the least value."""
    high: Sequence[tf.Tensor]
    """float32 [B], the greatest one; no limit where both are infinite."""

    def _inputs(self) -> dict[str, list[Any]]:
        return {
            "ids": [column.ids for column in self.categories],
            "id_splits": [column.splits for column in self.categories],
            "id_rows": [column.rows for column in self.categories],
            "numbers": [column.values for column in self.numbers],
            "sorted_numbers": [column.ascending for column in self.numbers],
            "number_rows": [column.rows for column in self.numbers],
            "wanted_ids": [*self.wanted],
            "low": [*self.low],
            "high": [*self.high],
        }

    def matching_rows(self, most: int | tf.Tensor) -> tuple[tf.RaggedTensor, tf.Tensor]:
        """Lists the matching items of the queries that few items match.

        Args:
            most: int64 scalar; a query that more items match has an empty list, as has one that asks for nothing.

        Returns:
            int32 [B, None], item rows, ascending; and int64 [B], how many items match, an estimate above ``most``.

        Raises:
            tf.errors.InvalidArgumentError: shapes do not fit, or there is no column.
        """
        found = library.load().dpsr_matching_rows(**self._inputs(), most=tf.cast(most, tf.int64))
        return tf.RaggedTensor.from_row_splits(found.rows, found.row_splits, validate=False), found.matching

    def matching_bits(self) -> tf.Tensor:
        """A bitmap of the matching items of each query, uint8 [B, ceil(N / 8)], as ``search_bm25`` takes it."""
        return library.load().dpsr_matching_bits(**self._inputs())

    def keep_matching(self, rows: tf.Tensor) -> tf.Tensor:
        """Items, int32 [B, ...], with -1 in place of those that do not match, and of negative ones."""
        return library.load().dpsr_keep_matching(**self._inputs(), rows=rows)
