"""The merge of ``dpsr.ops_cc.head_merge`` by stock TensorFlow ops."""

from __future__ import annotations

import tensorflow as tf

from dpsr.ops_cc.head_merge import NO_ROW, NO_SCORE


def stock_merge_heads(rows: tf.Tensor, scores: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Two sorts instead of a merge; the lists may be in any order.

    Sorting by row puts the duplicates side by side, at most one for each head, so that m - 1 shifted comparisons find
    the best of each; a second sort ranks what is left.
    """
    num_heads, per_head = tf.shape(rows)[1], tf.shape(rows)[2]
    total = num_heads * per_head
    flat_rows = tf.reshape(rows, [-1, total])
    flat_scores = tf.reshape(scores, [-1, total])

    order = tf.math.top_k(-flat_rows, total).indices  # ties of top_k keep their order: heads ascend among equal rows
    by_row = tf.gather(flat_rows, order, batch_dims=1)
    by_row_scores = tf.gather(flat_scores, order, batch_dims=1)
    keep = by_row >= 0
    for shift in range(1, int(rows.shape[1])):
        same = tf.equal(by_row[:, shift:], by_row[:, :-shift])
        earlier_wins = by_row_scores[:, :-shift] >= by_row_scores[:, shift:]
        keep &= ~tf.pad(same & earlier_wins, [[0, 0], [shift, 0]])
        keep &= ~tf.pad(same & ~earlier_wins, [[0, 0], [0, shift]])

    # Short input is padded before the last sort, so that top_k always has k columns to choose from.
    missing = tf.maximum(k - total, 0)
    candidates = tf.pad(tf.where(keep, by_row_scores, NO_SCORE), [[0, 0], [0, missing]], constant_values=NO_SCORE)
    best = tf.math.top_k(candidates, k)
    positions = tf.pad(order, [[0, 0], [0, missing]])
    kept = tf.gather(tf.pad(keep, [[0, 0], [0, missing]]), best.indices, batch_dims=1)
    source = tf.gather(positions, best.indices, batch_dims=1)
    merged = tf.where(kept, tf.gather(flat_rows, source, batch_dims=1), NO_ROW)
    heads = tf.where(kept, source // tf.maximum(per_head, 1), NO_ROW)
    return merged, best.values, heads
