"""Joining the lists of several searchers into one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import tensorflow as tf

from dpsr.ops_cc import library

Combine = Literal["sum", "first"]


class FusedLists(NamedTuple):
    """The best rows of every query, best first, ties by lower row."""

    rows: tf.Tensor
    """int32 [B, k]; ``head_merge.NO_ROW`` where a query has fewer rows."""
    scores: tf.Tensor
    """float32 [B, k]; ``head_merge.NO_SCORE`` there."""
    lists: tf.Tensor
    """int32 [B, k], which lists hold the row: bit l for the list l."""
    places: tf.Tensor
    """int32 [B, k], where the row stands in the first list that holds it; -1 where a query has fewer rows."""


class ClickPrior(NamedTuple):
    """Decayed clicks of each query, which the joined scores are the prior of."""

    rows: tf.Tensor
    """int32 [B, c]; negative ones are passed over."""
    counts: tf.Tensor
    """float32 [B, c], not negative."""
    weight: float
    """Clicks that the prior stands for."""
    temperature: float
    """Of the prior's softmax over the rows of all lists."""


def fuse(
    lists: Sequence[tuple[tf.Tensor, tf.Tensor]], k: int, *, combine: Combine, clicks: ClickPrior | None = None
) -> FusedLists:
    """The k best rows of all lists together.

    Args:
        lists: rows int32 [B, n] and scores float32 [B, n] of each searcher, at most 31; rows are distinct within a
            list, and negative ones are passed over.
        k: rows wanted.
        combine: the score of a row in several lists is the sum, or that of the first of them.
        clicks: with clicks c of the query, the score becomes ``log(c + weight * softmax(score / temperature))``.

    Raises:
        tf.errors.InvalidArgumentError: shapes do not fit, a score is NaN, or weight or temperature are not above 0.
    """
    rows, scores = zip(*lists, strict=True)
    batch = tf.shape(rows[0])[0]
    if clicks is None:
        clicks = ClickPrior(tf.zeros([batch, 0], tf.int32), tf.zeros([batch, 0]), 1.0, 1.0)
    fused = library.load().dpsr_fuse(
        rows=rows,
        scores=scores,
        clicked_rows=clicks.rows,
        clicks=clicks.counts,
        prior_weight=clicks.weight,
        temperature=clicks.temperature,
        k=k,
        combine=combine,
    )
    return FusedLists(fused.fused_rows, fused.fused_scores, fused.lists, fused.places)
