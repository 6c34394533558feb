"""The loss of a training step and its gradient, in one pass over its scores (paper, sections 4.2 to 4.4)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import tensorflow as tf

from dpsr.ops_cc import library

LossKind = Literal["hinge", "softmax", "three_part"]


class LossAndGradients(NamedTuple):
    """What ``group_loss`` returns."""

    loss: tf.Tensor
    """float32 [], the mean of the weighted losses over the B rows."""
    heads: tf.Tensor
    """float32 [B, m, d], the gradient by the heads."""
    vectors: tf.Tensor
    """float32 [B + R + H, d], the gradient by the vectors."""


def group_loss(
    heads: tf.Tensor,
    vectors: tf.Tensor,
    query_rows: tf.Tensor,
    item_rows: tf.Tensor,
    *,
    kind: LossKind,
    group_size: int,
    margin: float,
    temperature: float,
    thresholds: tuple[float, float, float],
    attention_temperature: float,
    corrections: tf.Tensor | None = None,
    clicked: tf.Tensor | None = None,
    hard_splits: tf.Tensor | None = None,
    row_weights: tf.Tensor | None = None,
) -> LossAndGradients:
    """The loss of a step over its batch, random and hard negatives; the same bits for any number of threads.

    An item's score for a query is ``G = sum_i w_i (e_i . g)`` with ``w = softmax_i(e_i . g / beta)`` over the heads
    (equation 3). A positive of the same group is a negative of a row if neither its item nor its query is the row's, a
    random item if it is not the row's own.

    Args:
        heads: float32 [B, m, d]; B is a multiple of ``group_size``.
        vectors: float32 [B + R + H, d]; the positives, the random negatives, and the hard ones.
        query_rows: int32 [B].
        item_rows: int32 [B + R].
        kind: ``hinge`` sums ``max(0, margin - positive + negative)`` over the negatives of a row. ``softmax`` is the
            cross-entropy of the positive among itself and its negatives. ``three_part`` penalises positives below one
            threshold, hard negatives above a second and all other items above a third, each averaged over its items
            (Nigam et al., Semantic Product Search, KDD 2019, section 3.2).
        group_size: rows that are each other's batch negatives; 0 for none.
        margin: delta of the hinge, in units of the score.
        temperature: divides the scores of the softmax.
        thresholds: of the three terms, descending.
        attention_temperature: beta of the soft dot product.
        corrections: float32 [B + R], taken off the scores of batch and random items, also as positives.
        clicked: bool [B, B + R], True where an item is not a negative of a row.
        hard_splits: int64 [B + 1], the hard negatives of every row, against itself alone.
        row_weights: float32 [B], factors of the rows' losses.

    Raises:
        tf.errors.InvalidArgumentError: the shapes do not fit each other, or B is not a multiple of ``group_size``.
    """
    found = library.load().dpsr_group_loss(
        heads=heads,
        vectors=vectors,
        query_rows=query_rows,
        item_rows=item_rows,
        corrections=tf.zeros([0]) if corrections is None else corrections,
        clicked=tf.zeros([0, 0], tf.bool) if clicked is None else clicked,
        hard_splits=tf.zeros([0], tf.int64) if hard_splits is None else hard_splits,
        row_weights=tf.zeros([0]) if row_weights is None else row_weights,
        kind=kind,
        group_size=group_size,
        margin=margin,
        temperature=temperature,
        thresholds=thresholds,
        attention_temperature=attention_temperature,
    )
    return LossAndGradients(*found)
