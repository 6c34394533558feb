"""A transformer encoder over sequences without padding: BERT, and its pre-LN variant."""

from __future__ import annotations

from typing import Literal, NamedTuple

import tensorflow as tf

from dpsr.ops_cc import library

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
    differentiable: bool = True,
) -> tf.Tensor:
    """The last hidden states of some sequences, without padding, in one operation; differentiable by all weights.

    The same bits for any number of threads, and what is dropped is a function of the seed and of places in the batch.
    The gradient by the words is dense.

    Args:
        tokens: int32 [B, None], ids of subwords, rows of ``weights.words``.
        weights: tensors or variables.
        shape: sizes, activation and place of the layer norms.
        dropout: share of what is dropped from embeddings, attention probabilities and the outputs of both parts of a
            block; the rest is scaled up.
        seed: int [2], which decides what is dropped; None drops nothing.
        bfloat16: products of operands rounded to bfloat16, summed in float32, where the processor has such
            instructions.
        differentiable: keeps 6 H + F numbers of a token and block for the gradient; without it, memory does not grow
            with T and the blocks.

    Returns:
        float32 [T, H], rows of ``tokens.values``.

    Raises:
        tf.errors.InvalidArgumentError: shapes do not fit each other, an id is no row of the words, or a sequence is
            longer than the positions.
    """
    drops = seed is not None and dropout > 0.0
    return (
        library.load()
        .dpsr_text_encoder(
            tokens=tokens.values,
            row_splits=tf.cast(tokens.row_splits, tf.int64),
            seed=tf.cast(seed, tf.int64) if drops else tf.zeros([2], tf.int64),
            weights=tf.nest.flatten(weights),
            heads=shape.heads,
            activation=shape.activation,
            norm=shape.norm,
            norm_epsilon=shape.norm_epsilon,
            position_offset=shape.position_offset,
            dropout=dropout if drops else 0.0,
            round_operands=bfloat16,
            differentiable=differentiable,
        )
        .hidden
    )


@tf.RegisterGradient("DpsrTextEncoder")
def _text_encoder_gradient(operation: tf.Operation, gradient: tf.Tensor, *_: tf.Tensor) -> list[tf.Tensor | None]:
    if not operation.get_attr("differentiable"):
        raise ValueError("encode(..., differentiable=False) keeps nothing for a gradient; leave the argument out")
    tokens, row_splits, seed, *weights = operation.inputs
    names = ("heads", "activation", "norm", "norm_epsilon", "position_offset", "dropout", "round_operands")
    settings = {name: operation.get_attr(name) for name in names}
    for name in ("activation", "norm"):
        settings[name] = tf.compat.as_str(settings[name])
    by_weights = library.load().dpsr_text_encoder_gradient(
        tokens=tokens,
        row_splits=row_splits,
        seed=seed,
        weights=weights,
        activations=operation.outputs[1],
        gradient=gradient,
        **settings,
    )
    return [None, None, None, *by_weights]


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
