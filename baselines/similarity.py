"""The matrix of similarities of a query's and an item's words, which models of interaction read."""

from __future__ import annotations

import tensorflow as tf


def words_of(ids: tf.Tensor) -> tf.Tensor:
    """1 where a text has a word and 0 where it is filled, int32 [B, n] -> float32 [B, n]."""
    return tf.cast(tf.not_equal(ids, 0), tf.float32)


def exact_matches(query: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
    """Whether two words are the same one: ids int32 [B, q] and [B, n] -> bool [B, q, n]."""
    return tf.logical_and(tf.equal(query[:, :, None], item[:, None, :]), tf.not_equal(query, 0)[:, :, None])


def cosines(query: tf.Tensor, item: tf.Tensor, query_vectors: tf.Tensor, item_vectors: tf.Tensor) -> tf.Tensor:
    """Cosine of every pair of words; exactly 1 for a word and itself, whatever rounding gives.

    Args:
        query: ids int32 [B, q].
        item: ids int32 [B, n].
        query_vectors: float32 [B, q, d].
        item_vectors: float32 [B, n, d].

    Returns:
        float32 [B, q, n], from -1 to 1; filled places have numbers without a meaning.
    """
    unit_query, unit_item = (tf.math.l2_normalize(vectors, axis=2) for vectors in (query_vectors, item_vectors))
    found = tf.clip_by_value(tf.matmul(unit_query, unit_item, transpose_b=True), -1.0, 1.0)
    return tf.where(exact_matches(query, item), 1.0, found)
