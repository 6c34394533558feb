"""The text encoder in TensorFlow's own operations, on padded sequences."""

from __future__ import annotations

import tensorflow as tf

from dpsr.ops_cc.text_encoder import Activation, BlockWeights, EncoderShape, EncoderWeights


def stock_encode(tokens: tf.RaggedTensor, weights: EncoderWeights, shape: EncoderShape) -> tf.Tensor:
    """As ``dpsr.ops_cc.text_encoder.encode``, without dropout."""

    def norm(values: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
        mean, variance = tf.nn.moments(values, [1], keepdims=True)
        return tf.nn.batch_normalization(values, mean, variance, offset, scale, shape.norm_epsilon)

    def attend(hidden: tf.Tensor, block: BlockWeights) -> tf.Tensor:
        qkv = tf.matmul(hidden, block.qkv_kernel) + block.qkv_bias
        padded = tokens.with_values(qkv).to_tensor()
        heads = tf.reshape(padded, [tf.shape(padded)[0], tf.shape(padded)[1], 3, shape.heads, -1])
        queries, keys, values = tf.unstack(tf.transpose(heads, [2, 0, 3, 1, 4]))
        scores = tf.matmul(queries, keys, transpose_b=True) * (shape.width // shape.heads) ** -0.5
        present = tf.sequence_mask(tokens.row_lengths(), tf.shape(padded)[1])
        probabilities = tf.nn.softmax(tf.where(present[:, None, None, :], scores, scores.dtype.min))
        attended = tf.transpose(tf.matmul(probabilities, values), [0, 2, 1, 3])
        attended = tf.reshape(tf.boolean_mask(attended, present), [-1, shape.width])
        return tf.matmul(attended, block.attention_kernel) + block.attention_bias

    def feed(hidden: tf.Tensor, block: BlockWeights) -> tf.Tensor:
        inner = _activate(tf.matmul(hidden, block.intermediate_kernel) + block.intermediate_bias, shape.activation)
        return tf.matmul(inner, block.output_kernel) + block.output_bias

    places = tf.ragged.range(tokens.row_lengths()).values + shape.position_offset
    hidden = tf.gather(weights.words, tokens.values) + tf.gather(weights.positions, places) + weights.type_embedding
    if shape.norm == "post":
        hidden = norm(hidden, weights.embedding_scale, weights.embedding_offset)
        for block in weights.blocks:
            hidden = norm(hidden + attend(hidden, block), block.attention_scale, block.attention_offset)
            hidden = norm(hidden + feed(hidden, block), block.output_scale, block.output_offset)
        return hidden
    for block in weights.blocks:
        hidden += attend(norm(hidden, block.attention_scale, block.attention_offset), block)
        hidden += feed(norm(hidden, block.output_scale, block.output_offset), block)
    return norm(hidden, weights.embedding_scale, weights.embedding_offset)


def _activate(values: tf.Tensor, activation: Activation) -> tf.Tensor:
    if activation == "relu":
        return tf.nn.relu(values)
    return tf.nn.gelu(values, approximate=activation == "gelu_tanh")
