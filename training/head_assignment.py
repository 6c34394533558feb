"""The head that a click trains, where a column or clusters of the items distinguish the meanings of a query."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dpsr.data.batches.arrays import graph_array
from dpsr.data.dataset.pairs import count_keys
from dpsr.data.dataset.schema import DatasetError
from dpsr.data.dataset.tables import Dataset
from dpsr.training.item_clusters import cluster_items

_LEAST_SHARE = 0.05
"""Share of a query's clicks below which a value counts as an error of users, not as a meaning of the query."""


class HeadAssignment(tf.Module):
    """Assigns the meanings of a query that are most frequent among its clicks to a head each.

    The soft dot product assigns a click by scores, and no term separates the heads: one vector between two meanings is
    near enough to both. Here a meaning is a value of an item column or a group of clusters. Head i of a query learns
    from the clicks on its i-th most frequent meaning, the last head from those on all further ones, and items of
    another head's meaning are negatives like any other.
    """

    def __init__(self, blocks: Iterable[np.ndarray], values: np.ndarray, heads: int, cuts: np.ndarray | None = None):
        """Ranks the meanings of every query by its clicks; memory grows with distinct pairs of query and value.

        Args:
            blocks: the training clicks, INTERACTION [n] each.
            values: int32 [items], the value of every item, from 0.
            heads: number of heads m.
            cuts: int32 [L, values], the meaning of every value at each of L levels, from coarse to fine. A query is
                read at the first level where m meanings have a twentieth of its clicks each, else at the first of those
                where most have. Without it every value is a meaning.
        """
        super().__init__()
        self._width = int(values.max(initial=0)) + 1
        pairs, counts = count_keys(
            records["query"].astype(np.int64) * self._width + values[records["item"]] for records in blocks
        )
        _, query = np.unique(pairs // self._width, return_inverse=True)
        if cuts is None:
            cuts = np.arange(self._width)[np.newaxis]
        meanings = _coarsest_parted(query, pairs % self._width, counts, cuts, heads)
        kept, head = meanings.is_frequent[meanings.place], np.minimum(meanings.rank, heads - 1)[meanings.place]
        # The last entry is above every pair, so that every search finds an entry.
        self._pairs = graph_array(np.append(pairs[kept], np.iinfo(np.int64).max))
        self._heads = graph_array(np.append(head[kept], 0).astype(np.int32))
        self._values = graph_array(values.astype(np.int32))

    @classmethod
    def of_column(cls, dataset: Dataset, column: str, heads: int) -> HeadAssignment:
        """Takes the clicks of the training split, and the values of a column of the items.

        Raises:
            DatasetError: the dataset lacks the column.
        """
        columns = dataset.item_categorical
        if column not in columns:
            raise DatasetError(
                f"{dataset.directory}: loss.head_column = {column!r} is none of its categorical item columns "
                f"({', '.join(columns) or 'none'}); name it in data.items.categorical and run `dpsr prepare` again"
            )
        return cls(dataset.interaction_blocks("train"), columns[column], heads)

    @classmethod
    def of_clusters(cls, dataset: Dataset, clusters: int, heads: int, *, seed: int) -> HeadAssignment:
        """Takes the clicks of the training split, and clusters of the items by their words and queries.

        Args:
            dataset: clicks and token bags.
            clusters: their number.
            heads: number of heads m.
            seed: of the clusters.
        """
        schema = dataset.schema
        clicks = count_keys(
            records["item"].astype(np.int64) * schema.num_queries + records["query"]
            for records in dataset.interaction_blocks("train")
        )
        found = cluster_items(dataset.item_tokens, schema.token_rows, clicks, schema.num_queries, clusters, seed=seed)
        return cls(dataset.interaction_blocks("train"), found.clusters, heads, found.cuts)

    def __call__(self, heads: tf.Tensor, vectors: tf.Tensor, query_rows: tf.Tensor, item_rows: tf.Tensor) -> tf.Tensor:
        """The head of every row: that of its item's value, or the nearest where the query lacks that meaning.

        Args:
            heads: float32 [B, m, d].
            vectors: float32 [N, d], the positives of the B rows first.
            query_rows: int32 [B]; below 0 for a synthetic query.
            item_rows: int32 [N], the positives first.

        Returns:
            int32 [B].
        """
        rows = tf.shape(heads)[0]
        values = tf.cast(tf.gather(self._values, item_rows[:rows]), tf.int64)
        pairs = tf.cast(query_rows, tf.int64) * self._width + values
        position = tf.searchsorted(self._pairs, pairs)
        nearest = tf.argmax(tf.einsum("bmd,bd->bm", heads, vectors[:rows]), axis=1, output_type=tf.int32)
        return tf.where(tf.gather(self._pairs, position) == pairs, tf.gather(self._heads, position), nearest)


class _Meanings(NamedTuple):
    """The distinct pairs of query and meaning."""

    query: np.ndarray
    """int64 [n], ascending."""
    clicks: np.ndarray
    """float64 [n]."""
    place: np.ndarray
    """int64 [pairs], of every pair of query and value the pair of query and meaning."""

    @classmethod
    def of_groups(cls, query: np.ndarray, groups: np.ndarray, counts: np.ndarray) -> _Meanings:
        """Takes the group of every pair's value as its meaning; int64 [pairs] each."""
        width = int(groups.max(initial=0)) + 1
        keys, place = np.unique(query * width + groups, return_inverse=True)
        return cls(keys // width, np.bincount(place, weights=counts), place)

    @property
    def is_frequent(self) -> np.ndarray:
        """Whether a meaning is none of the errors of users, bool [n]."""
        return self.clicks >= _LEAST_SHARE * np.bincount(self.query, weights=self.clicks)[self.query]

    @property
    def rank(self) -> np.ndarray:
        """Place of a meaning among those of its query, the most clicked first, int64 [n]."""
        order = np.lexsort((-self.clicks, self.query))
        rank = np.empty(len(self.query), np.int64)
        rank[order] = np.arange(len(self.query)) - np.searchsorted(self.query, self.query)
        return rank


def _coarsest_parted(
    query: np.ndarray, values: np.ndarray, counts: np.ndarray, cuts: np.ndarray, heads: int
) -> _Meanings:
    """The meanings of every query at its level, as ``HeadAssignment`` says; int64 [pairs] each."""
    groups, most = np.zeros_like(values), np.zeros(int(query.max(initial=-1)) + 1, np.int64)
    first_group = 0
    for cut in cuts:
        finer = cut[values] + first_group  # groups of different levels are different meanings
        first_group += int(cut.max(initial=0)) + 1
        meanings = _Meanings.of_groups(query, finer, counts)
        frequent = np.bincount(meanings.query, weights=meanings.is_frequent, minlength=len(most)).astype(np.int64)
        frequent = np.minimum(frequent, heads)
        groups = np.where((frequent > most)[query], finer, groups)
        most = np.maximum(frequent, most)
    return _Meanings.of_groups(query, groups, counts)
