"""The negatives of a query: batch negatives, random negatives, their mixture, hard ones (paper, section 4.4)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from dpsr.data.batches.arrays import graph_array
from dpsr.data.batches.features import FeatureTables, ItemFeatures
from dpsr.data.dataset.directory import scratch_directory
from dpsr.data.dataset.pairs import KeyCounts, clicked_items, pair_keys, pairs_by_query
from dpsr.data.dataset.tables import Bags, Dataset
from dpsr.training.mined_negatives import MinedNegatives


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
    """Expected number of occurrences of every item in a query's negative set.

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
    """The items that each query led to anywhere in the training log: false negatives if a step samples them."""

    def __init__(self, items: Bags):
        """Takes the distinct items of every query, [queries] bags."""
        super().__init__()
        # The row after those of the queries is empty and stands for synthetic queries.
        self._num_queries = len(items)
        self._items = graph_array(items.values), graph_array(np.append(items.row_splits, items.row_splits[-1]))

    @classmethod
    def of_dataset(cls, dataset: Dataset, folder: Path) -> KnownPositives:
        """Takes the pairs of the train split, whose arrays are files in ``folder``."""
        return cls(clicked_items(dataset, folder))

    def mask(self, query_rows: tf.Tensor, item_rows: tf.Tensor) -> tf.Tensor:
        """Marks the items that the query of a row led to.

        Costs one binary search among the step's items for every item that its queries led to, not one for every pair
        of a query and an item.

        Args:
            query_rows: int32 [B]; below 0 for a synthetic query.
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
    clicked: np.ndarray, skipped: KeyCounts, labels: np.ndarray, *, num_items: int, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """The hard negatives of every query: items labelled as wrong, then the items skipped most often.

    Args:
        clicked: pairs of the training clicks, keys int64 [n] (``pairs.pair_keys``); none of them is a hard negative.
        skipped: pairs shown and skipped, and how often.
        labels: LABEL [l]; a label of 0 or less is wrong, above 0 right.
        num_items: size of the catalogue.
        most: most negatives of one query.

    Returns:
        int64 queries and items, [h] each, by query, the hardest first; ties by lower item.
    """

    wrong, right = (pair_keys(labels[chosen], num_items) for chosen in (labels["label"] <= 0, labels["label"] > 0))
    pairs = np.unique(np.concatenate([wrong, skipped.keys]))
    weight = np.zeros(len(pairs), np.int64)
    weight[np.searchsorted(pairs, skipped.keys)] = skipped.counts
    by_hand = np.isin(pairs, wrong)
    weight[by_hand] = np.iinfo(np.int64).max
    kept = by_hand | ~np.isin(pairs, clicked)
    kept &= ~np.isin(pairs, right) | by_hand
    pairs, weight = pairs[kept], weight[kept]
    order = np.lexsort((pairs, -weight, pairs // num_items))
    queries = pairs[order] // num_items
    rank = np.arange(len(queries)) - np.searchsorted(queries, queries)
    chosen = order[rank < most]
    return pairs[chosen] // num_items, pairs[chosen] % num_items


class HardNegatives(tf.Module):
    """Negatives of single queries, which count against that query alone (paper, section 4.4, human supervision)."""

    def __init__(
        self,
        queries: np.ndarray,
        items: np.ndarray,
        num_queries: int,
        tables: FeatureTables,
        mined: MinedNegatives | None = None,
    ):
        """Takes pairs of a query and an item.

        Args:
            queries: int64 [h], ascending.
            items: int64 [h], as ``hardest_items`` gives them.
            num_queries: of the dataset.
            tables: features of the items.
            mined: gives further negatives.
        """
        super().__init__()
        # The row after those of the queries is empty and stands for synthetic queries.
        splits = np.searchsorted(queries, np.arange(num_queries + 2))
        self._num_queries = num_queries
        self._tables = tables
        self._mined = mined
        self._items = graph_array(items.astype(np.int32)), graph_array(splits.astype(np.int64))

    @classmethod
    def of_dataset(
        cls,
        dataset: Dataset,
        most: int,
        tables: FeatureTables,
        folder: Path,
        mined: MinedNegatives | None = None,
    ) -> HardNegatives:
        """Takes the hardest items of every query, at most ``most``, from labels and skips.

        Args:
            dataset: an opened dataset.
            most: negatives of one query.
            tables: features of the items.
            folder: directory for temporary files, 8 bytes for each click and skip.
            mined: gives further negatives.
        """
        num_queries, num_items = dataset.schema.num_queries, dataset.schema.num_items
        labels = dataset.labels()
        labels = labels[np.argsort(labels["query"], kind="stable")]
        sources = (lambda: dataset.interaction_blocks("train"), dataset.skip_blocks)
        found, first = [(np.empty(0, np.int64),) * 2], 0
        if not most:
            return cls(*found[0], num_queries, tables, mined)
        with scratch_directory(folder) as scratch:
            for behind, (clicked, skipped) in pairs_by_query(sources, num_queries, num_items, scratch):
                start, end = np.searchsorted(labels["query"], [first, behind])
                found.append(hardest_items(clicked.keys, skipped, labels[start:end], num_items=num_items, most=most))
                first = behind
        queries, items = map(np.concatenate, zip(*found, strict=True))
        return cls(queries, items, num_queries, tables, mined)

    def of_queries(self, query_rows: tf.Tensor) -> tuple[tf.RaggedTensor, ItemFeatures]:
        """The hard negatives of the queries of a batch.

        Args:
            query_rows: int32 [B]; below 0 for a synthetic query.

        Returns:
            Item rows, int32 [B, None], and the features of its values.
        """
        query_rows = tf.where(query_rows < 0, self._num_queries, query_rows)
        rows = tf.gather(tf.RaggedTensor.from_row_splits(*self._items, validate=False), query_rows)
        if self._mined is not None:
            rows = tf.concat([rows, self._mined.rows(query_rows)], axis=1)
        return rows, self._tables.items(rows.values)
