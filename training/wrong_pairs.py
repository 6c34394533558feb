"""The loss of pairs that people judged as wrong (paper, section 4.5: bad case reports)."""

from __future__ import annotations

import tensorflow as tf

from dpsr.ops_cc.group_loss import LossAndGradients

_DEPTH = 10
"""Items of a list that have to stand above a wrong one."""
_LOWEST = -1.0
"""Lowest score, a cosine."""


def rivals(step_items: int, num_items: int) -> int:
    """How many items of a step have to stand above a wrong one, so that about ``_DEPTH`` of the catalogue do.

    Args:
        step_items: positives and random negatives of the step.
        num_items: size of the catalogue.
    """
    return min(max(round(_DEPTH * step_items / num_items), 1), _DEPTH, step_items)


def wrong_pair_loss(
    heads: tf.Tensor,
    wrong: tf.Tensor,
    others: tf.Tensor,
    excluded: tf.Tensor,
    *,
    rivals: int,
    temperature: float,
    rows: tf.Tensor,
) -> LossAndGradients:
    """Lowers the score of wrong items until enough other items of the step stand above them.

    The term of a pair is the cross-entropy of the wrong item and the last of its rivals, the best other items of the
    step. It needs no right item of the query. The vectors of the rivals are constants of it: their places are those
    that clicks give them.

    Args:
        heads: float32 [W, m, d], of the queries of the pairs.
        wrong: float32 [W, d], their items.
        others: float32 [N, d], the positives and random negatives of the step.
        excluded: bool [W, N], others that are no rival: items that are wrong for the query too, or come twice.
        rivals: items that have to stand above a wrong one, at most N.
        temperature: divides the scores; the score of an item is that of its best head.
        rows: float32 [], examples of the step, so that a pair weighs as much as one of them.

    Returns:
        The sum of the terms over ``rows``, and its gradients by ``heads`` and by ``wrong``.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch([heads, wrong])
        own = tf.reduce_max(tf.einsum("wmd,wd->wm", heads, wrong), axis=1)
        scores = tf.reduce_max(tf.einsum("wmd,nd->wmn", heads, others), axis=1)
        last_rival = tf.math.top_k(tf.where(excluded, _LOWEST, scores), rivals).values[:, -1]
        loss = tf.reduce_sum(tf.math.softplus((own - last_rival) / temperature)) / rows
    return LossAndGradients(loss, *tape.gradient(loss, [heads, wrong]))
