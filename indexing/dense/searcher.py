"""The dense searcher: items by the inner product of their vectors with the heads of a query (paper, section 4.2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from dpsr.indexing.dense.segments import VectorIndex
from dpsr.indexing.filters import Filters, FilterValues
from dpsr.indexing.searcher import Found, Queries, traced_once
from dpsr.indexing.signature import DENSE
from dpsr.ops_cc.head_merge import merge_heads

_LISTED_PER_ROOT = 5.0
"""See ``most_listed``; measured by ``benchmarks/filters.py``."""
_LISTED_AT_ONCE = 1 << 25
"""Matching items that are listed at a time, of as many queries, at 4 bytes each."""
_DEVIATIONS = 3.0
"""Standard deviations by which the matching ones of the nearest items may be fewer than expected."""


def most_listed(k: int, items: int) -> int:
    """Where at most this many of the items match the filters of a query, all of them are scored.

    Scoring n matching items takes time in proportion to n, and asking the index for k of them in proportion to
    k * items / n: both take equally long where n is in proportion to the root of k * items.
    """
    return math.ceil(_LISTED_PER_ROOT * math.sqrt(k * items))


class DenseSearcher(tf.Module):
    """Searches the index with every head of a query, and merges the heads' lists.

    A filtered search returns k items whenever k match. Where few match, all of them are scored, exactly; where many do,
    the index is asked for more than k items, and those that match are kept.
    """

    name = "dense"
    modes: Mapping[str, int] = {}

    def __init__(
        self,
        index: VectorIndex,
        query_heads: Callable[[Any], tf.Tensor],
        filters: Filters,
    ) -> None:
        """Joins an index, a query tower and filters.

        Args:
            index: over the item vectors.
            query_heads: ``Queries.features`` -> float32 [B, m, d].
            filters: over the items of the index, row by row.
        """
        super().__init__(name=self.name)
        self.index = index
        self.k = index.k
        self.release = index.release
        self._filters = filters
        self._most_listed = most_listed(self.k, index.items)
        # Of the nearest items that should hold k matching ones, about a Poisson number matches.
        self._margin = 1.0 + _DEVIATIONS / math.sqrt(self.k)
        # A function hides the model from the tracking of attributes, which would save the item tower too.
        self._query_heads: Callable[[Any], tf.Tensor] = lambda queries: query_heads(queries)
        self._search_heads = traced_once(self._best_of_heads)
        self._search_heads_matching = traced_once(self._best_of_heads_matching)

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
        return self._search_heads(heads)

    def _best_of_heads(self, heads: tf.Tensor) -> Found:
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

    def search_and_score(
        self, queries: Queries, rows: tf.Tensor, wanted: FilterValues | None = None
    ) -> tuple[Found, tf.Tensor]:
        """As ``ScoringSearcher.search_and_score``."""
        heads = self.heads(queries)
        found = self.search_heads(heads) if wanted is None else self.search_heads_matching(heads, wanted)
        return found, self.scores_of(heads, rows)

    def search_matching(self, queries: Queries, wanted: FilterValues) -> Found:
        """The k nearest matching items over all heads."""
        return self.search_heads_matching(self.heads(queries), wanted)

    def search_heads_matching(self, heads: tf.Tensor, wanted: FilterValues) -> Found:
        """``search_matching`` with the heads of ``heads``."""
        return self._search_heads_matching(heads, wanted)

    def _best_of_heads_matching(self, heads: tf.Tensor, wanted: FilterValues) -> Found:
        request, active = self._filters.request(wanted), self._filters.active(wanted)
        rows, matching = request.matching_rows(self._most_listed)
        found = self.index.best_of_rows(heads, rows, self.k)
        wide = ~active | (matching > self._most_listed)
        return _found(
            tf.cond(
                tf.reduce_any(wide),
                lambda: self._with_wide(found, heads, wanted, matching, wide),
                lambda: list(found),
            )
        )

    def _with_wide(
        self, found: Sequence[tf.Tensor], heads: tf.Tensor, wanted: FilterValues, matching: tf.Tensor, wide: tf.Tensor
    ) -> list[tf.Tensor]:
        """``found``, with the lists of the queries that too many items match to score all of them."""
        places = tf.where(wide)
        at = places[:, 0]
        heads, matching = tf.gather(heads, at), tf.gather(matching, at)
        wanted = {name: tf.gather(values, at) for name, values in wanted.items()}
        lists = self._over_fetched(heads, wanted, matching)
        return [tf.tensor_scatter_nd_update(old, places, new) for old, new in zip(found, lists, strict=True)]

    def _over_fetched(self, heads: tf.Tensor, wanted: FilterValues, matching: tf.Tensor) -> Sequence[tf.Tensor]:
        """The matching ones of the nearest items, so many that k should match.

        Where a head's list ends above the last item found, the best of all that match take their place.

        Args:
            heads: float32 [B, m, d].
            wanted: of ``Filters.requested``.
            matching: int64 [B], how many items match, more than k.
        """
        active = self._filters.active(wanted)
        share = tf.cast(matching, tf.float32) / self.index.items
        count = tf.where(active, self._margin * self.k / share, float(self.k))
        count = tf.cast(tf.math.ceil(tf.minimum(tf.reduce_max(count), float(self.index.items))), tf.int32)
        rows, scores = self._nearest(heads, count)
        # A head's list goes down to this score; what is below may match too.
        lowest = tf.reduce_min(tf.where(rows >= 0, scores, scores.dtype.max), axis=2)
        found = merge_heads(self._filters.request(wanted).keep_matching(rows), scores, self.k)
        short = active & tf.reduce_any(lowest > found[1][:, -1:], axis=1)
        return tf.cond(
            tf.reduce_any(short), lambda: self._all_matching(found, heads, wanted, short), lambda: list(found)
        )

    def _all_matching(
        self, found: Sequence[tf.Tensor], heads: tf.Tensor, wanted: FilterValues, short: tf.Tensor
    ) -> list[tf.Tensor]:
        """``found``, with its short lists made of all matching items."""
        short_rows = tf.where(short)[:, 0]
        at_once = max(1, _LISTED_AT_ONCE // self.index.items)

        def search_some(start: tf.Tensor, lists: Sequence[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
            at = short_rows[start : start + at_once]
            request = self._filters.request({name: tf.gather(values, at) for name, values in wanted.items()})
            rows, _ = request.matching_rows(self.index.items)
            best = self.index.best_of_rows(tf.gather(heads, at), rows, self.k)
            places = at[:, tf.newaxis]
            return start + at_once, [
                tf.tensor_scatter_nd_update(old, places, new) for old, new in zip(lists, best, strict=True)
            ]

        _, lists = tf.while_loop(
            lambda start, _: start < tf.size(short_rows), search_some, (0, list(found)), parallel_iterations=1
        )
        return list(lists)

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


def _found(merged: Sequence[tf.Tensor]) -> Found:
    rows, scores, heads = merged
    return Found(rows, scores, heads, tf.where(rows >= 0, DENSE, 0))
