"""Which items count against a query: batch negatives, random negatives and their mixture (paper, section 4.4)."""

from __future__ import annotations

import numpy as np
import tensorflow as tf


def count_random_negatives(mixing_ratio: float, group_size: int) -> int:
    """Number of random negatives that make up a share ``mixing_ratio`` of every query's negative set.

    Args:
        mixing_ratio: alpha; 0 is batch negatives only, 1 is random negatives only.
        group_size: b; a query has ``b - 1`` batch negatives.

    Returns:
        ``round(alpha / (1 - alpha) * (b - 1))``; ``b - 1`` for alpha = 1, where there are no batch negatives.
    """
    if mixing_ratio == 1.0:
        return group_size - 1
    return round(mixing_ratio / (1.0 - mixing_ratio) * (group_size - 1))


def expected_occurrences(clicks: np.ndarray, mixing_ratio: float, group_size: int) -> np.ndarray:
    """How often an item is to be expected in a query's negative set.

    Args:
        clicks: [items], how often an item is the positive of an example.
        mixing_ratio: alpha.
        group_size: b.

    Returns:
        float32 [items], above 0 also for items without a click.
    """
    batch_negatives = group_size - 1 if mixing_ratio < 1.0 else 0
    share = (clicks + 1.0) / (clicks.sum() + len(clicks))
    random_negatives = count_random_negatives(mixing_ratio, group_size)
    return (batch_negatives * share + random_negatives / len(clicks)).astype(np.float32)


def split_into_groups(values: tf.Tensor, group_size: int) -> tf.Tensor:
    """Reshapes [B, ...] to the groups of a step, [B / b, b, ...]; B is a multiple of b."""
    return tf.reshape(values, tf.concat([[-1, group_size], tf.shape(values)[1:]], axis=0))


def batch_negative_mask(query_rows: tf.Tensor, item_rows: tf.Tensor) -> tf.Tensor:
    """Marks which positives of a group are negatives of its other rows.

    A positive is no negative of a row with the same item, nor of a row with the same query: somebody clicked it there.

    Args:
        query_rows: int32 [..., b].
        item_rows: int32 [..., b], the positives.

    Returns:
        bool [..., b, b]; entry (i, j) says whether j's positive is a negative of i. False on the diagonal.
    """
    same_item = item_rows[..., :, tf.newaxis] == item_rows[..., tf.newaxis, :]
    same_query = query_rows[..., :, tf.newaxis] == query_rows[..., tf.newaxis, :]
    return ~(same_item | same_query)


def random_negative_mask(item_rows: tf.Tensor, random_rows: tf.Tensor) -> tf.Tensor:
    """Marks which random items are negatives of a row: all but its own positive.

    Args:
        item_rows: int32 [B], the positives.
        random_rows: int32 [R].

    Returns:
        bool [B, R].
    """
    return item_rows[:, tf.newaxis] != random_rows[tf.newaxis, :]
