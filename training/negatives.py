"""Which items count against a query: batch negatives, random negatives and their mixture (paper, section 4.4)."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from dpsr.data.batches.features import FeatureTables, ItemFeatures, ToTensor
from dpsr.data.dataset.tables import Dataset


def count_random_negatives(mixing_ratio: float, group_size: int) -> int:
    """Number of random negatives that make up a share ``mixing_ratio`` of every query's negative set.

    Args:
        mixing_ratio: alpha; 0 is batch negatives only, 1 is random negatives only.
        group_size: b; a query has ``b - 1`` batch negatives.

    Returns:
        ``round(alpha / (1 - alpha) * (b - 1))``; ``b - 1`` for alpha = 1, where there are no batch negatives.
    """
    if mixing_ratio == 1.0:
        return group_size - 1
    return round(mixing_ratio / (1.0 - mixing_ratio) * (group_size - 1))


def expected_occurrences(clicks: np.ndarray, mixing_ratio: float, group_size: int) -> np.ndarray:
    """How often an item is to be expected in a query's negative set.

    Args:
        clicks: [items], how often an item is the positive of an example.
        mixing_ratio: alpha.
        group_size: b.

    Returns:
        float32 [items], above 0 also for items without a click.
    """
    batch_negatives = group_size - 1 if mixing_ratio < 1.0 else 0
    share = (clicks + 1.0) / (clicks.sum() + len(clicks))
    random_negatives = count_random_negatives(mixing_ratio, group_size)
    return (batch_negatives * share + random_negatives / len(clicks)).astype(np.float32)


class KnownPositives(tf.Module):
    """The items that each query led to anywhere in the training log: false negatives when they are drawn as one."""

    def __init__(self, records: np.ndarray, num_queries: int, num_items: int, *, tensor: ToTensor = tf.constant):
        """Collects the pairs of the training records, INTERACTION [n]; ``tensor`` is how they get into the graph."""
        super().__init__()
        pairs = np.unique(records["query"].astype(np.int64) * num_items + records["item"])
        # One row more than there are queries, an empty one, stands for those that nobody typed.
        splits = np.searchsorted(pairs, np.arange(num_queries + 2, dtype=np.int64) * num_items)
        self._num_queries = num_queries
        self._items = tensor((pairs % num_items).astype(np.int32)), tensor(splits.astype(np.int64))

    def mask(self, query_rows: tf.Tensor, item_rows: tf.Tensor) -> tf.Tensor:
        """Marks the items that the query of a row led to.

        Costs one binary search among the step's items for every item that its queries led to, not one for every pair
        of a query and an item.

        Args:
            query_rows: int32 [B]; below 0 for a query that nobody typed.
            item_rows: int32 [N], N > 0.

        Returns:
            bool [B, N].
        """
        items, column = tf.unique(item_rows)
        order = tf.argsort(items)
        ordered = tf.gather(items, order)
        query_rows = tf.where(query_rows < 0, self._num_queries, query_rows)
        clicked = tf.gather(tf.RaggedTensor.from_row_splits(*self._items, validate=False), query_rows)
        position = tf.minimum(tf.searchsorted(ordered, clicked.values), tf.size(items) - 1)
        here = tf.gather(ordered, position) == clicked.values
        rows = tf.boolean_mask(tf.cast(clicked.value_rowids(), tf.int32), here)
        columns = tf.gather(order, tf.boolean_mask(position, here))
        shape = tf.stack([tf.size(query_rows), tf.size(items)])
        hits = tf.scatter_nd(tf.stack([rows, columns], axis=1), tf.ones_like(rows), shape)
        return tf.gather(hits > 0, column, axis=1)


def hardest_items(
    records: np.ndarray, skips: np.ndarray, labels: np.ndarray, *, num_items: int, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """The hard negatives of every query: what people labelled as wrong, then what was skipped most often.

    Args:
        records: INTERACTION [n], training clicks; what a query led to is no hard negative of it.
        skips: INTERACTION [s], shown and passed over.
        labels: LABEL [l]; 0 or less is wrong, more is right.
        num_items: size of the catalogue.
        most: negatives of one query.

    Returns:
        int64 queries and items, [h] each, by query, the hardest first; ties by lower item.
    """

    def keys(rows: np.ndarray) -> np.ndarray:
        return rows["query"].astype(np.int64) * num_items + rows["item"]

    wrong, right = keys(labels[labels["label"] <= 0]), keys(labels[labels["label"] > 0])
    skipped, times = np.unique(keys(skips), return_counts=True)
    pairs = np.unique(np.concatenate([wrong, skipped]))
    weight = np.zeros(len(pairs), np.int64)
    weight[np.searchsorted(pairs, skipped)] = times
    by_hand = np.isin(pairs, wrong)
    weight[by_hand] = np.iinfo(np.int64).max
    kept = by_hand | ~np.isin(pairs, keys(records))
    kept &= ~np.isin(pairs, right) | by_hand
    pairs, weight = pairs[kept], weight[kept]
    order = np.lexsort((pairs, -weight, pairs // num_items))
    queries = pairs[order] // num_items
    rank = np.arange(len(queries)) - np.searchsorted(queries, queries)
    chosen = order[rank < most]
    return pairs[chosen] // num_items, pairs[chosen] % num_items


class HardNegatives(tf.Module):
    """Negatives of single queries, which count against these alone (paper, section 4.4, human supervision)."""

    def __init__(
        self,
        queries: np.ndarray,
        items: np.ndarray,
        num_queries: int,
        tables: FeatureTables,
        *,
        tensor: ToTensor = tf.constant,
    ):
        """Takes pairs in the order of their queries, as ``hardest_items`` gives them; see ``FeatureTables``."""
        super().__init__()
        # One row more than there are queries, an empty one, stands for those that nobody typed.
        splits = np.searchsorted(queries, np.arange(num_queries + 2))
        self._num_queries = num_queries
        self._tables = tables
        self._items = tensor(items.astype(np.int32)), tensor(splits.astype(np.int64))

    @classmethod
    def of_dataset(
        cls, dataset: Dataset, most: int, tables: FeatureTables, *, tensor: ToTensor = tf.constant
    ) -> HardNegatives:
        """Takes the hardest items of every query, at most ``most``, from what people labelled and passed over."""
        schema = dataset.schema
        queries, items = hardest_items(
            dataset.interactions("train"), dataset.skips(), dataset.labels(), num_items=schema.num_items, most=most
        )
        return cls(queries, items, schema.num_queries, tables, tensor=tensor)

    def of_queries(self, query_rows: tf.Tensor) -> tuple[tf.RaggedTensor, ItemFeatures]:
        """The hard negatives of some queries.

        Args:
            query_rows: int32 [B]; below 0 for a query that nobody typed.

        Returns:
            Item rows, int32 [B, None], and the features of its values.
        """
        query_rows = tf.where(query_rows < 0, self._num_queries, query_rows)
        rows = tf.gather(tf.RaggedTensor.from_row_splits(*self._items, validate=False), query_rows)
        return rows, self._tables.items(rows.values)
