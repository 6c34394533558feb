"""The text encoder: laws of its arithmetic."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import tensorflow as tf

from dpsr.ops_cc.text_encoder import Activation, BlockWeights, EncoderShape, EncoderWeights, Norm, encode, pool


def draw_weights(shape: EncoderShape, blocks: int, words: int, positions: int, seed: int = 0) -> EncoderWeights:
    random = np.random.default_rng(seed)
    width, intermediate = shape.width, shape.intermediate

    def draw(*size: int, scale: float = 0.0, mean: float = 0.0) -> tf.Tensor:
        return tf.constant(random.normal(mean, scale or size[0] ** -0.5, size), tf.float32)

    def vector(size: int, mean: float = 0.0) -> tf.Tensor:
        return draw(size, scale=0.2, mean=mean)

    return EncoderWeights(
        words=draw(words, width, scale=1.0),
        positions=draw(positions, width, scale=1.0),
        type_embedding=vector(width),
        embedding_scale=vector(width, 1.0),
        embedding_offset=vector(width),
        blocks=tuple(
            BlockWeights(
                qkv_kernel=draw(width, 3 * width),
                qkv_bias=vector(3 * width),
                attention_kernel=draw(width, width),
                attention_bias=vector(width),
                attention_scale=vector(width, 1.0),
                attention_offset=vector(width),
                intermediate_kernel=draw(width, intermediate),
                intermediate_bias=vector(intermediate),
                output_kernel=draw(intermediate, width),
                output_bias=vector(width),
                output_scale=vector(width, 1.0),
                output_offset=vector(width),
            )
            for _ in range(blocks)
        ),
    )


TOKENS = tf.ragged.constant([[3, 1, 4, 1, 5], [], [9], [2, 6, 5], []], dtype=tf.int32)


@pytest.mark.parametrize("norm", get_args(Norm))
@pytest.mark.parametrize("activation", get_args(Activation))
def test_a_sequence_has_the_same_states_alone_and_among_others(norm: Norm, activation: Activation) -> None:
    shape = EncoderShape(12, 3, 20, activation, norm, 1e-5, 2)
    weights = draw_weights(shape, 2, 10, 8)
    together = TOKENS.with_values(encode(TOKENS, weights, shape))
    for row in range(TOKENS.nrows()):
        alone = encode(TOKENS[row : row + 1], weights, shape)
        np.testing.assert_allclose(together[row], alone, atol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_pooled_rows_are_those_of_their_sequences(pooling: str) -> None:
    hidden = tf.constant(np.random.default_rng(0).normal(size=(9, 4)), tf.float32)
    pooled = pool(hidden, TOKENS, pooling)
    for row, states in enumerate(TOKENS.with_values(hidden)):
        expected = np.zeros(4) if not len(states) else states[0] if pooling == "cls" else np.mean(states, 0)
        np.testing.assert_allclose(pooled[row], expected, atol=1e-6)
