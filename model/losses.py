"""Losses of one positive against a masked set of negatives (paper, section 4.3)."""

from __future__ import annotations

import tensorflow as tf


def hinge_loss(positive: tf.Tensor, negatives: tf.Tensor, mask: tf.Tensor, margin: float) -> tf.Tensor:
    """Sums ``max(0, margin - positive + negative)`` over the negatives of a row; the mean of that over rows.

    Args:
        positive: float32 [B], scores.
        negatives: float32 [B, N], scores.
        mask: bool [B, N], True where a negative counts.
        margin: delta, in units of the score.

    Returns:
        float32 [].
    """
    violations = tf.nn.relu(margin - positive[:, tf.newaxis] + negatives)
    return tf.reduce_mean(tf.reduce_sum(tf.where(mask, violations, 0.0), axis=1))


def sampled_softmax_loss(positive: tf.Tensor, negatives: tf.Tensor, mask: tf.Tensor, temperature: float) -> tf.Tensor:
    """Cross-entropy of the positive among itself and its negatives; the mean over rows.

    Args:
        positive: float32 [B], scores.
        negatives: float32 [B, N], scores.
        mask: bool [B, N], True where a negative counts.
        temperature: divides the scores.

    Returns:
        float32 [].
    """
    others = tf.where(mask, negatives / temperature, negatives.dtype.min)
    logits = tf.concat([positive[:, tf.newaxis] / temperature, others], axis=1)
    return tf.reduce_mean(tf.reduce_logsumexp(logits, axis=1) - logits[:, 0])
