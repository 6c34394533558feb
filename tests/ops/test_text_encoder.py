"""The text encoder: laws of its arithmetic."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import tensorflow as tf

from dpsr.ops_cc.text_encoder import Activation, EncoderShape, Norm, encode, pool

from .encoder_weights import draw_weights

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
