"""Merging the lists that a query's heads retrieved into one (paper, section 4.2)."""

from __future__ import annotations

import tensorflow as tf

from dpsr.ops_cc import library

NO_ROW = -1
"""The row (and the head) of a place for which nothing was found."""
NO_SCORE = tf.float32.min
"""Its score: below every inner product, and unlike an infinity it has a spelling in JSON."""


def merge_heads(rows: tf.Tensor, scores: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The best k rows over all heads, each once, by one pass over the sorted lists.

    Args:
        rows: int32 [B, m, n] rows that every head found, distinct within a head; negative ones, wherever they stand,
            are passed over.
        scores: float32 [B, m, n] their inner products, best first and not NaN, but for the negative rows.
        k: rows wanted.

    Returns:
        rows int32 [B, k], scores float32 [B, k] and heads int32 [B, k], best first, ties by lower row. ``heads`` is the
        head of the largest inner product, the first of equal ones. Where fewer than k distinct rows came in, the rest
        is ``NO_ROW``, ``NO_SCORE`` and head ``NO_ROW``.

    Raises:
        tf.errors.InvalidArgumentError: a list is not sorted, or its scores are NaN.
    """
    merged = library.load().dpsr_merge_heads(rows=rows, scores=scores, k=k)
    return merged.merged_rows, merged.merged_scores, merged.heads
