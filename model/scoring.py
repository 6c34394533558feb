"""The score of an item for a query with several heads."""

from __future__ import annotations

import tensorflow as tf


def soft_dot_product(heads: tf.Tensor, items: tf.Tensor, temperature: float) -> tf.Tensor:
    """Weighs the heads by how well they fit each item (paper, equation 3).

    ``G = sum_i w_i (e_i . g)`` with ``w = softmax_i(e_i . g / beta)``: the smaller the temperature, the closer to the
    best head alone.

    Args:
        heads: float32 [..., B, m, d].
        items: float32 [..., N, d].
        temperature: beta.

    Returns:
        float32 [..., B, N].
    """
    shape = tf.shape(heads)
    # One matrix product for all heads: [..., B * m, d] x [..., d, N].
    flat = tf.reshape(heads, tf.concat([shape[:-3], [shape[-3] * shape[-2], shape[-1]]], axis=0))
    products = tf.linalg.matmul(flat, items, transpose_b=True)
    if heads.shape[-2] == 1:
        return products
    products = tf.reshape(products, tf.concat([shape[:-1], [tf.shape(items)[-2]]], axis=0))
    weights = tf.nn.softmax(products / temperature, axis=-2)
    return tf.reduce_sum(weights * products, axis=-2)
