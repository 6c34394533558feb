"""The dense searcher: items by the inner product of their vectors with the heads of a query (paper, section 4.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from dpsr.data.batches.features import QueryFeatures
from dpsr.indexing.dense.segments import VectorIndex
from dpsr.indexing.filters import Filters, FilterValues
from dpsr.indexing.searcher import DENSE, Found, Queries
from dpsr.ops_cc.head_merge import NO_ROW, merge_heads

_OVERFETCH = 4
"""A filtered search first looks among this many times k items of each head; most filters need no more."""


class DenseSearcher(tf.Module):
    """Searches the index with every head of a query, and merges the heads' lists.

    A filtered search returns the best k matching items among the ``filter_candidates`` nearest of each head.
    """

    name = "dense"
    modes: Mapping[str, int] = {}

    def __init__(
        self,
        index: VectorIndex,
        query_heads: Callable[[QueryFeatures], tf.Tensor],
        filters: Filters,
        *,
        filter_candidates: int,
    ) -> None:
        """Joins an index, a query tower and filters.

        Args:
            index: over the item vectors.
            query_heads: queries -> float32 [B, m, d], unit vectors.
            filters: over the items of the index, row by row.
            filter_candidates: items of each head that a filter looks among, raised to k and limited to the catalogue.
        """
        super().__init__(name=self.name)
        self.index = index
        self.k = index.k
        self.release = index.release
        self._filters = filters
        self._filter_candidates = min(max(filter_candidates, self.k), index.items)
        # A function hides the model from the tracking of attributes, which would save the item tower too.
        self._query_heads: Callable[[QueryFeatures], tf.Tensor] = lambda queries: query_heads(queries)

    def describe(self) -> dict[str, Any]:
        """Parameters and measurements of the index."""
        return self.index.describe()

    def search(self, queries: Queries) -> Found:
        """The k nearest items over all heads."""
        return self.search_heads(self.heads(queries))

    def heads(self, queries: Queries) -> tf.Tensor:
        """The heads of every query, float32 [B, m, d]."""
        return self._query_heads(queries.features)

    def search_heads(self, heads: tf.Tensor) -> Found:
        """``search`` with the heads of ``heads``."""
        return _found(merge_heads(*self._nearest(heads, self.k), self.k))

    def scores_of(self, heads: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        """The scores of given items, whatever the index would have found.

        Args:
            heads: of ``heads``.
            rows: int32 [B, n] item rows; negative where there is no item.

        Returns:
            float32 [B, n], the largest inner product of any head; that of row 0 where there is no item.
        """
        return tf.reduce_max(self.index.scores_of(heads, tf.maximum(rows, 0)), axis=1)

    def search_matching(self, queries: Queries, wanted: FilterValues) -> Found:
        """The k nearest matching items over all heads.

        Every head is first asked for four times k items. Where a head then has fewer than k matching ones, the row is
        searched again among all ``filter_candidates``.
        """
        return self.search_heads_matching(self.heads(queries), wanted)

    def search_heads_matching(self, heads: tf.Tensor, wanted: FilterValues) -> Found:
        """``search_matching`` with the heads of ``heads``."""
        active = self._filters.active(wanted)
        first = min(_OVERFETCH * self.k, self._filter_candidates)
        rows, scores = self._nearest_matching(heads, tf.where(tf.reduce_any(active), first, self.k), wanted)
        found = merge_heads(rows, scores, self.k)
        if first < self._filter_candidates:
            matching = tf.math.count_nonzero(rows >= 0, axis=2, dtype=tf.int32)
            short = active & tf.reduce_any(matching < self.k, axis=1)
            found = tf.cond(
                tf.reduce_any(short), lambda: self._further(heads, wanted, found, short), lambda: list(found)
            )
        return _found(found)

    def _further(
        self, heads: tf.Tensor, wanted: FilterValues, found: Sequence[tf.Tensor], short: tf.Tensor
    ) -> list[tf.Tensor]:
        """``found``, with its short rows searched again among all candidates."""
        places = tf.where(short)
        at = places[:, 0]
        of_short = {name: tf.gather(values, at) for name, values in wanted.items()}
        rows, scores = self._nearest_matching(tf.gather(heads, at), self._filter_candidates, of_short)
        again = merge_heads(rows, scores, self.k)
        return [tf.tensor_scatter_nd_update(old, places, new) for old, new in zip(found, again, strict=True)]

    def _nearest(self, heads: tf.Tensor, count: int | tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Every head's nearest items.

        Args:
            heads: float32 [B, m, d].
            count: items of each head.

        Returns:
            rows int32 and scores float32, [B, m, count] each, best first.
        """
        num_heads, dimension = heads.shape[1:]
        rows, scores = self.index.search_best(tf.reshape(heads, [-1, dimension]), count)
        by_head = [-1, num_heads, count]
        return tf.reshape(rows, by_head), tf.reshape(scores, by_head)

    def _nearest_matching(
        self, heads: tf.Tensor, count: int | tf.Tensor, wanted: FilterValues
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """``_nearest``, with ``NO_ROW`` for the items that do not match."""
        rows, scores = self._nearest(heads, count)
        return tf.where(self._filters.matches(rows, wanted), rows, NO_ROW), scores


def _found(merged: Sequence[tf.Tensor]) -> Found:
    rows, scores, heads = merged
    return Found(rows, scores, heads, tf.where(rows >= 0, DENSE, 0))
