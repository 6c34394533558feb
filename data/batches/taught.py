"""Batches with the scores or the vectors of a teacher beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from dpsr.data.batches.batch import Batch, BatchMaker
from dpsr.data.batches.features import FeatureTables, ItemFeatures, QueryFeatures
from dpsr.data.batches.query_pool import QueryPool


class TaughtBatch(NamedTuple):
    """One step of distillation: B queries, N items, and what a teacher says of their pairs."""

    queries: QueryFeatures
    """B rows."""
    items: ItemFeatures
    """N rows."""
    query_rows: tf.Tensor
    """int32 [B]; -1 - item row for a synthetic query."""
    item_rows: tf.Tensor
    """int32 [N]."""
    scores: tf.Tensor
    """float32 [B, N], a teacher's scores of all pairs; or float32 [B], of each query with the item of its row."""


class VectorsBatch(NamedTuple):
    """One step of distillation: B queries, N items, and a teacher's unit vectors of both."""

    queries: QueryFeatures
    items: ItemFeatures
    query_rows: tf.Tensor
    """int32 [B], as ``TaughtBatch``."""
    item_rows: tf.Tensor
    """int32 [N]."""
    of_queries: tf.Tensor
    """float32 [B, d], in the space that the student learns."""
    of_items: tf.Tensor
    """float32 [N, d]."""


class TeacherVectors(NamedTuple):
    """A teacher's vectors, as ``graph_array`` holds them."""

    items: Any
    """float32 [items, w]."""
    queries: Any
    """float32 [queries, w], of the dataset."""
    synthetic: Any
    """float32 [P, w], of the pool; None without one."""


@dataclass(frozen=True)
class TaughtMaker:
    """Puts what a teacher knows beside the batches of a ``BatchMaker``, whose synthetic queries are those of a pool."""

    maker: BatchMaker
    vectors: TeacherVectors
    pool: QueryPool | None
    axes: np.ndarray | None = None
    """float32 [w, d], the space that the student learns; None where it learns scores alone."""

    @property
    def batch_size(self) -> int:
        """B, queries of a step."""
        return self.maker.batch_size

    @property
    def batch_records(self) -> int:
        """Records of a step of the log."""
        return self.maker.batch_records

    def of_records(self, records: tf.Tensor, seed: tf.Tensor) -> TaughtBatch | VectorsBatch:
        """As ``BatchMaker.of_records``."""
        return self._taught(self.maker.of_records(records, seed), self.maker.batch_records, seed)

    def of_items(self, item_rows: tf.Tensor, seed: tf.Tensor) -> TaughtBatch | VectorsBatch:
        """As ``BatchMaker.of_items``."""
        return self._taught(self.maker.of_items(item_rows, seed), 0, seed)

    def _taught(self, batch: Batch, logged: int, seed: tf.Tensor) -> TaughtBatch | VectorsBatch:
        """What the teacher says; the first ``logged`` queries are of the dataset, the others of the pool."""
        parts = []
        if logged:
            parts.append(tf.gather(self.vectors.queries, batch.query_rows[:logged]))
        if logged < self.batch_size:
            assert self.pool is not None
            parts.append(tf.gather(self.vectors.synthetic, self.pool.rows(-1 - batch.query_rows[logged:], seed)))
        items = tf.gather(self.vectors.items, batch.item_rows)
        queries = tf.concat(parts, axis=0)
        features = batch.queries, batch.items, batch.query_rows, batch.item_rows
        if self.axes is None:
            return TaughtBatch(*features, tf.linalg.matmul(queries, items, transpose_b=True))
        of_queries, of_items = (tf.math.l2_normalize(vectors @ self.axes, axis=1) for vectors in (queries, items))
        return VectorsBatch(*features, of_queries, of_items)


@dataclass(frozen=True)
class ScoredMaker:
    """Makes batches of pairs of a file, whose scores are known."""

    tables: FeatureTables
    texts: Any
    """``QueryPool`` of one query a pair: reads the query of a pair."""
    item_rows: Any
    """int32 [pairs], as ``graph_array`` holds them."""
    scores: Any
    """float32 [pairs]."""
    batch_size: int

    def of_items(self, pairs: tf.Tensor, seed: tf.Tensor) -> TaughtBatch:
        """The batch of some pairs, int32 [B]."""
        pairs = tf.ensure_shape(pairs, [self.batch_size])
        unknown = tf.fill([self.batch_size], -1)
        queries = self.tables.with_user_context(self.texts.queries(pairs, seed), unknown, tf.zeros_like(pairs))
        item_rows = tf.gather(self.item_rows, pairs)
        scores = tf.gather(self.scores, pairs)
        return TaughtBatch(queries, self.tables.items(item_rows), -1 - item_rows, item_rows, scores)
