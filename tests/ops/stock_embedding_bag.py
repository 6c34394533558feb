"""The embedding bag in TensorFlow's own operations, which can be differentiated."""

import tensorflow as tf


def stock_embedding_bag(
    table: tf.Variable, bags: tf.RaggedTensor, *, combiner: str, weights: tf.Tensor | None = None
) -> tf.Tensor:
    """As ``dpsr.ops_cc.embedding_bag.embedding_bag``."""
    weights = tf.ones_like(bags.values, tf.float32) if weights is None else tf.convert_to_tensor(weights)
    bag, count = bags.value_rowids(), bags.nrows()
    sums = tf.math.unsorted_segment_sum(weights[:, tf.newaxis] * tf.gather(table, bags.values), bag, count)
    if combiner == "sum":
        return sums
    total = tf.math.unsorted_segment_sum(weights if combiner == "mean" else weights**2, bag, count)
    total = tf.where(total == 0.0, 1.0, total if combiner == "mean" else tf.sqrt(total))
    return sums / total[:, tf.newaxis]


def stock_apply_adagrad(
    table: tf.Variable,
    accumulator: tf.Variable,
    bags: tf.RaggedTensor,
    gradient: tf.Tensor,
    *,
    learning_rate: float,
    combiner: str,
    weights: tf.Tensor | None = None,
) -> None:
    """As ``dpsr.ops_cc.embedding_bag.apply_adagrad``, by automatic differentiation and TensorFlow's sparse AdaGrad."""
    with tf.GradientTape() as tape:
        combined = stock_embedding_bag(table, bags, combiner=combiner, weights=weights)
    slices = tape.gradient(combined, table, output_gradients=gradient)
    rows, number = tf.unique(slices.indices)
    tf.raw_ops.ResourceSparseApplyAdagradV2(
        var=table.handle,
        accum=accumulator.handle,
        lr=learning_rate,
        epsilon=0.0,
        grad=tf.math.unsorted_segment_sum(slices.values, number, tf.size(rows)),
        indices=rows,
    )
