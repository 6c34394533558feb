"""The head that a click trains, where an item column distinguishes the meanings of a query."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from dpsr.data.batches.arrays import graph_array
from dpsr.data.dataset.pairs import count_keys
from dpsr.data.dataset.schema import DatasetError
from dpsr.data.dataset.tables import Dataset

_LEAST_SHARE = 0.05
"""Share of a query's clicks below which a value counts as an error of users, not as a meaning of the query."""


class HeadAssignment(tf.Module):
    """Assigns the most frequent values of an item column among a query's clicks to a head each.

    The soft dot product assigns a click by scores, and no term separates the heads: one vector between two meanings is
    near enough to both. Here head i of a query learns from the clicks on its i-th most frequent value, the last head
    from those on all further values, and items of another head's meaning are negatives like any other.
    """

    def __init__(self, blocks: Iterable[np.ndarray], values: np.ndarray, heads: int):
        """Ranks the values of every query by its clicks; memory grows with distinct pairs of query and value.

        Args:
            blocks: the training clicks, INTERACTION [n] each.
            values: int32 [items], the ids of the column's values.
            heads: number of heads m.
        """
        super().__init__()
        self._width = int(values.max(initial=0)) + 1
        pairs, counts = count_keys(
            records["query"].astype(np.int64) * self._width + values[records["item"]] for records in blocks
        )
        _, query = np.unique(pairs // self._width, return_inverse=True)
        order = np.lexsort((pairs, -counts, query))
        rank = np.empty(len(pairs), dtype=np.int64)
        rank[order] = np.arange(len(pairs)) - np.searchsorted(query, query[order])
        kept = counts >= _LEAST_SHARE * np.bincount(query, weights=counts)[query]
        # The last entry is above every pair, so that every search finds an entry.
        self._pairs = graph_array(np.append(pairs[kept], np.iinfo(np.int64).max))
        self._heads = graph_array(np.append(np.minimum(rank, heads - 1)[kept], 0).astype(np.int32))
        self._values = graph_array(values.astype(np.int32))

    @classmethod
    def of_dataset(cls, dataset: Dataset, column: str, heads: int) -> HeadAssignment:
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
