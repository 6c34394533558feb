"""Exact search among given rows."""

from __future__ import annotations

import tensorflow as tf

from dpsr.ops_cc import library


def best_of_rows(
    vectors: tf.Tensor, heads: tf.Tensor, rows: tf.RaggedTensor, k: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The k best of the rows that each query may find, by the largest inner product with any of its heads.

    Args:
        vectors: float32 or int8 [N, d].
        heads: float32 [B, m, d].
        rows: int32 [B, None], distinct within a query, in any order.
        k: rows wanted.

    Returns:
        rows int32 [B, k], scores float32 [B, k] and heads int32 [B, k], as those of ``merge_heads``.

    Raises:
        tf.errors.InvalidArgumentError: shapes do not fit, or a row is none of the vectors.
    """
    found = library.load().dpsr_best_of_rows(
        vectors=vectors, heads=heads, rows=rows.values, row_splits=tf.cast(rows.row_splits, tf.int64), k=k
    )
    return found.best_rows, found.scores, found.best_heads
