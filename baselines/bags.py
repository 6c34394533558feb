"""Bags of ids as TensorFlow looks them up in embedding tables."""

from __future__ import annotations

import tensorflow as tf

from dpsr.data.dataset.tables import Bags


def ragged(bags: Bags) -> tf.RaggedTensor:
    """The same bags, int32 [n, None]."""
    return tf.RaggedTensor.from_row_splits(tf.constant(bags.values), tf.constant(bags.row_splits), validate=False)


def single_bags(ids: tf.Tensor) -> tf.RaggedTensor:
    """A bag for each id, int32 [n] -> [n, 1]."""
    return tf.RaggedTensor.from_row_splits(ids, tf.range(tf.size(ids, tf.int64) + 1), validate=False)
