"""A transformer encoder over sequences without padding: BERT, and its pre-LN variant."""

from __future__ import annotations

from typing import Literal, NamedTuple

import tensorflow as tf

Activation = Literal["gelu", "gelu_tanh", "relu"]
Norm = Literal["post", "pre"]
Pooling = Literal["cls", "mean"]


class EncoderShape(NamedTuple):
    """What the weights alone do not say."""

    width: int
    """H."""
    heads: int
    """Attention heads, a divisor of H."""
    intermediate: int
    """F, the width between the two layers of the feed-forward part."""
    activation: Activation
    """``gelu`` is x Phi(x), by the error function; ``gelu_tanh`` its approximation by tanh."""
    norm: Norm
    """``post``: layer norms after the embeddings and after each residual sum (BERT). ``pre``: before each part of a
    block, and after the last block."""
    norm_epsilon: float
    """Added to the variance."""
    position_offset: int
    """Row of the position table of a sequence's first token: 0 for BERT, 2 for RoBERTa and XLM-R."""


class BlockWeights(NamedTuple):
    """float32 weights of one block; kernels are [inputs, outputs]."""

    qkv_kernel: tf.Tensor
    """[H, 3H]: queries, keys and values, each by heads."""
    qkv_bias: tf.Tensor
    """[3H]."""
    attention_kernel: tf.Tensor
    """[H, H], of the attention's output."""
    attention_bias: tf.Tensor
    """[H]."""
    attention_scale: tf.Tensor
    """[H], of the layer norm after (``pre``: before) the attention."""
    attention_offset: tf.Tensor
    """[H]."""
    intermediate_kernel: tf.Tensor
    """[H, F]."""
    intermediate_bias: tf.Tensor
    """[F]."""
    output_kernel: tf.Tensor
    """[F, H]."""
    output_bias: tf.Tensor
    """[H]."""
    output_scale: tf.Tensor
    """[H], of the layer norm after (``pre``: before) the feed-forward part."""
    output_offset: tf.Tensor
    """[H]."""


class EncoderWeights(NamedTuple):
    """float32 weights of an encoder."""

    words: tf.Tensor
    """[V, H]."""
    positions: tf.Tensor
    """[P, H]."""
    type_embedding: tf.Tensor
    """[H], added to every token: row 0 of a checkpoint's token types."""
    embedding_scale: tf.Tensor
    """[H], of the layer norm after the embeddings (``pre``: after the last block)."""
    embedding_offset: tf.Tensor
    """[H]."""
    blocks: tuple[BlockWeights, ...]


def encode(
    tokens: tf.RaggedTensor,
    weights: EncoderWeights,
    shape: EncoderShape,
    *,
    dropout: float = 0.0,
    seed: tf.Tensor | None = None,
    bfloat16: bool = False,
) -> tf.Tensor:
    """The last hidden states of some sequences, without padding; differentiable by all weights.

    Args:
        tokens: int32 [B, None], ids of subwords, rows of ``weights.words``.
        weights: tensors or variables.
        shape: sizes, activation and place of the layer norms.
        dropout: share of what is dropped from embeddings, attention probabilities and the outputs of both parts of a
            block; the rest is scaled up.
        seed: int [2], which decides what is dropped; None drops nothing.
        bfloat16: products of operands rounded to bfloat16, summed in float32, where the processor has such
            instructions.

    Returns:
        float32 [T, H], rows of ``tokens.values``.

    Raises:
        tf.errors.InvalidArgumentError: an id that is no row of the words, or a sequence longer than the positions.
    """
    del bfloat16
    rate = 0.0 if seed is None else dropout
    draws = iter(range(1 << 20))

    def drop(values: tf.Tensor) -> tf.Tensor:
        if not rate:
            return values
        key = tf.cast(seed, tf.int64) + tf.constant([0, next(draws)], tf.int64)
        return tf.nn.experimental.stateless_dropout(values, rate=rate, seed=key)

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
        attended = tf.transpose(tf.matmul(drop(probabilities), values), [0, 2, 1, 3])
        attended = tf.reshape(tf.boolean_mask(attended, present), [-1, shape.width])
        return drop(tf.matmul(attended, block.attention_kernel) + block.attention_bias)

    def feed(hidden: tf.Tensor, block: BlockWeights) -> tf.Tensor:
        inner = _activate(tf.matmul(hidden, block.intermediate_kernel) + block.intermediate_bias, shape.activation)
        return drop(tf.matmul(inner, block.output_kernel) + block.output_bias)

    places = tf.ragged.range(tokens.row_lengths()).values + shape.position_offset
    hidden = tf.gather(weights.words, tokens.values) + tf.gather(weights.positions, places) + weights.type_embedding
    if shape.norm == "post":
        hidden = drop(norm(hidden, weights.embedding_scale, weights.embedding_offset))
        for block in weights.blocks:
            hidden = norm(hidden + attend(hidden, block), block.attention_scale, block.attention_offset)
            hidden = norm(hidden + feed(hidden, block), block.output_scale, block.output_offset)
        return hidden
    hidden = drop(hidden)
    for block in weights.blocks:
        hidden += attend(norm(hidden, block.attention_scale, block.attention_offset), block)
        hidden += feed(norm(hidden, block.output_scale, block.output_offset), block)
    return norm(hidden, weights.embedding_scale, weights.embedding_offset)


def _activate(values: tf.Tensor, activation: Activation) -> tf.Tensor:
    if activation == "relu":
        return tf.nn.relu(values)
    return tf.nn.gelu(values, approximate=activation == "gelu_tanh")


def pool(hidden: tf.Tensor, tokens: tf.RaggedTensor, pooling: Pooling) -> tf.Tensor:
    """One vector of every sequence.

    Args:
        hidden: float32 [T, H], rows of ``tokens.values``.
        tokens: int32 [B, None].
        pooling: ``cls`` takes the state of the first token, ``mean`` the mean of all.

    Returns:
        float32 [B, H]; zeros for a sequence without tokens.
    """
    if pooling == "cls":
        starts, lengths = tokens.row_starts(), tokens.row_lengths()
        rows = tf.gather(tf.pad(hidden, [[0, 1], [0, 0]]), starts)
        return tf.where(lengths[:, None] > 0, rows, tf.zeros_like(rows))
    lengths = tf.maximum(tf.cast(tokens.row_lengths(), hidden.dtype), 1.0)
    return tf.math.unsorted_segment_sum(hidden, tokens.value_rowids(), tokens.nrows()) / lengths[:, None]
