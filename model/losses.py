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
    logits = positive / temperature
    others = tf.where(mask, negatives / temperature, negatives.dtype.min)
    # Beside each other only after the sums: to concatenate [B, N] would copy it, and its gradient again.
    both = tf.stack([logits, tf.reduce_logsumexp(others, axis=1)], axis=1)
    return tf.reduce_mean(tf.reduce_logsumexp(both, axis=1) - logits)


def three_part_hinge_loss(
    positive: tf.Tensor,
    hard: tf.Tensor,
    hard_mask: tf.Tensor,
    others: tf.Tensor,
    mask: tf.Tensor,
    thresholds: tuple[float, float, float],
) -> tf.Tensor:
    """Wants positives above one threshold, hard negatives below a second, all other items below a third.

    An item that was shown and passed over is still a likely answer, so it may score higher than a random one (Nigam et
    al., Semantic Product Search, KDD 2019, section 3.2). A row's parts are means over what counts in them.

    Args:
        positive: float32 [B], scores.
        hard: float32 [B, H], scores of hard negatives.
        hard_mask: bool [B, H], True where one counts.
        others: float32 [B, N], scores of batch and random negatives.
        mask: bool [B, N], True where one counts.
        thresholds: for the three parts, falling.

    Returns:
        float32 [], the mean over rows of the three parts' sum.
    """
    least, most_hard, most = thresholds
    total = tf.nn.relu(least - positive)
    for scores, counts, allowed in ((hard, hard_mask, most_hard), (others, mask, most)):
        excess = tf.where(counts, tf.nn.relu(scores - allowed), 0.0)
        total += tf.math.divide_no_nan(tf.reduce_sum(excess, 1), tf.reduce_sum(tf.cast(counts, excess.dtype), 1))
    return tf.reduce_mean(total)
