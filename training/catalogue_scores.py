"""Scores of queries against the whole catalogue, block by block: for recall, and to mine hard negatives."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from dpsr.data.batches.blocks import FIELDS
from dpsr.data.batches.features import FeatureTables
from dpsr.model.interface import Model

_ITEMS_AT_ONCE = 1024
_SCORES_AT_ONCE = 1 << 24
_MOST_QUERIES = 512


class CatalogueScores:
    """Scores every item of the catalogue for queries, each by its best head."""

    def __init__(self, model: Model, tables: FeatureTables, num_items: int) -> None:
        """Takes the towers and their features."""
        self._num_items = num_items
        self._queries_at_once = max(1, min(_MOST_QUERIES, _SCORES_AT_ONCE // (num_items * model.config.heads or 1)))
        self._embed = tf.function(
            lambda rows: model.item_vectors(tables.items(rows)), input_signature=[tf.TensorSpec([None], tf.int32)]
        )
        self._score = tf.function(
            lambda records, vectors: tf.reduce_max(
                tf.einsum("bmd,nd->bmn", model.query_heads(tables.queries(records)), vectors), axis=1
            ),
            input_signature=[tf.TensorSpec([None, FIELDS], tf.int32), tf.TensorSpec([None, None], tf.float32)],
        )

    def of_records(self, records: np.ndarray) -> Iterator[tuple[np.ndarray, tf.Tensor]]:
        """Scores with the model as it is now.

        Args:
            records: int32 [n, 5], the fields of INTERACTION.

        Yields:
            The records of a block, int32 [b, 5], and their scores, float32 [b, items].
        """
        rows = np.arange(self._num_items, dtype=np.int32)
        blocks = [self._embed(rows[start : start + _ITEMS_AT_ONCE]) for start in range(0, len(rows), _ITEMS_AT_ONCE)]
        vectors = tf.concat(blocks, axis=0)
        for start in range(0, len(records), self._queries_at_once):
            block = records[start : start + self._queries_at_once]
            yield block, self._score(block, vectors)

    def recall(self, records: np.ndarray, k: int) -> float:
        """The share of records whose item is among the k best of the catalogue; ties count for it."""
        found = 0
        for block, scores in self.of_records(records):
            own = tf.gather(scores, block[:, 2:3], batch_dims=1)
            ahead = tf.math.count_nonzero(scores > own, axis=1)
            found += int(tf.math.count_nonzero(ahead < k))
        return found / len(records)
