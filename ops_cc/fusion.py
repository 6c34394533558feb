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


def fuse(lists: Sequence[tuple[tf.Tensor, tf.Tensor]], k: int, *, combine: Combine) -> FusedLists:
    """The k best rows of all lists together.

    Args:
        lists: rows int32 [B, n] and scores float32 [B, n] of each searcher, at most 31; rows are distinct within a
            list, and negative ones are passed over.
        k: rows wanted.
        combine: the score of a row in several lists is the sum, or that of the first of them.

    Raises:
        tf.errors.InvalidArgumentError: shapes do not fit, or a score is NaN.
    """
    rows, scores = zip(*lists, strict=True)
    fused = library.load().dpsr_fuse(rows=rows, scores=scores, k=k, combine=combine)
    return FusedLists(fused.fused_rows, fused.fused_scores, fused.lists, fused.places)
