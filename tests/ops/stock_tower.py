"""The dense part of a tower in TensorFlow's own operations."""

from collections.abc import Sequence

import tensorflow as tf


def stock_tower(
    parts: Sequence[tf.Tensor],
    kernels: Sequence[tf.Tensor],
    biases: Sequence[tf.Tensor],
    *,
    outputs: int,
    residual: bool,
) -> tf.Tensor:
    """As ``dpsr.ops_cc.tower.tower``."""
    hidden = tf.concat(parts, axis=1)
    for kernel, bias in zip(kernels[:-1], biases[:-1], strict=True):
        hidden = tf.nn.relu(hidden @ kernel + bias)
    vectors = tf.reshape(hidden @ kernels[-1] + biases[-1], [-1, outputs, parts[0].shape[1]])
    if residual:
        vectors += tf.add_n(list(parts))[:, tf.newaxis]
    return tf.math.l2_normalize(vectors, axis=-1)
