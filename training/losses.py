"""The loss of a batch: one positive of every row against its negatives (paper, sections 4.2 to 4.4)."""

from __future__ import annotations

import tensorflow as tf

from dpsr.config import LossConfig
from dpsr.ops_cc.group_loss import LossAndGradients, group_loss


def batch_loss(
    heads: tf.Tensor,
    vectors: tf.Tensor,
    query_rows: tf.Tensor,
    item_rows: tf.Tensor,
    config: LossConfig,
    attention_temperature: float,
    occurrences: tf.Tensor | None = None,
    clicked: tf.Tensor | None = None,
    hard: tf.RaggedTensor | None = None,
    row_weights: tf.Tensor | None = None,
) -> LossAndGradients:
    """The loss of a batch over its mixture of batch negatives and random negatives, and over hard negatives.

    Args:
        heads: float32 [B, m, d]; B is a multiple of the group size b.
        vectors: float32 [B + R + H, d]; the positives, the random negatives, and the hard ones.
        query_rows: int32 [B].
        item_rows: int32 [B + R].
        config: the loss.
        attention_temperature: beta of the soft dot product.
        occurrences: float32 [items], for ``popularity_correction``: ``negatives.expected_occurrences``. The softmax
            then takes ``log`` of it off every logit, as sampled softmax must to estimate the one over all items. Hard
            negatives are not sampled, and keep their logits.
        clicked: bool [B, B + R], True where an item is not a negative of a row: ``negatives.KnownPositives``.
        hard: [B, None] with H values, of which only the number counts: the hard negatives of every row, for it alone.
        row_weights: float32 [B], factors of the rows' losses; None for 1.

    Returns:
        The mean of the weighted losses over the B rows, and its gradients.
    """
    corrections = None
    if occurrences is not None:
        corrections = config.temperature * tf.math.log(tf.gather(occurrences, item_rows))
    return group_loss(
        heads,
        vectors,
        query_rows,
        item_rows,
        kind=config.kind,
        group_size=config.group_size if config.mixing_ratio < 1.0 else 0,
        margin=config.margin,
        temperature=config.temperature,
        thresholds=config.thresholds,
        attention_temperature=attention_temperature,
        corrections=corrections,
        clicked=clicked,
        hard_splits=None if hard is None else hard.row_splits,
        row_weights=row_weights,
    )
