"""The text encoder and its gradient against stock operations, and themselves under dropout, rounding and threads."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import tensorflow as tf

from dpsr.ops_cc.text_encoder import Activation, EncoderShape, EncoderWeights, Norm, encode, pool

from .encoder_weights import draw_weights
from .stock_text_encoder import stock_encode
from .threads import outputs_by_threads

TOKENS = tf.ragged.constant([[3, 1, 4, 1, 5], [], [9], [2, 6, 5], []], dtype=tf.int32)


def batch(lengths: list[int], words: int) -> tf.RaggedTensor:
    values = np.random.default_rng(1).integers(0, words, sum(lengths))
    return tf.RaggedTensor.from_row_lengths(tf.constant(values, tf.int32), lengths)


LENGTHS = {
    "none": [],
    "empty": [0, 0],
    "short": [5, 0, 1, 3, 0],
    "long": [70, 3, 150, 1, 64],
    "chunks": [17] * 140,  # more rows than the gradient takes at once
}


@pytest.mark.parametrize("norm", get_args(Norm))
@pytest.mark.parametrize(
    ("activation", "lengths", "blocks", "width", "heads", "intermediate"),
    [
        ("gelu", "short", 2, 12, 3, 20),
        ("gelu_tanh", "long", 1, 48, 2, 101),
        ("relu", "short", 1, 7, 1, 1),
        ("gelu", "chunks", 2, 64, 4, 256),
        ("gelu", "empty", 1, 8, 2, 16),
        ("gelu", "none", 1, 8, 2, 16),
        ("gelu", "long", 0, 20, 2, 16),
    ],
)
def test_states_and_gradients_equal_the_stock_operations(
    norm: Norm, activation: Activation, lengths: str, blocks: int, width: int, heads: int, intermediate: int
) -> None:
    shape = EncoderShape(width, heads, intermediate, activation, norm, 1e-5, 2)
    weights, tokens = draw_weights(shape, blocks, 50, 153), batch(LENGTHS[lengths], 50)
    direction = tf.constant(np.random.default_rng(2).normal(size=(tokens.values.shape[0], width)), tf.float32)
    found = []
    for run in (encode, stock_encode):
        with tf.GradientTape() as tape:
            tape.watch(weights)
            hidden = run(tokens, weights, shape)
        gradients = tape.gradient(hidden, weights, output_gradients=direction)
        found.append([hidden, *map(tf.convert_to_tensor, tf.nest.flatten(gradients))])
    for ours, stock in zip(*found, strict=True):
        scale = max(1e-3, float(np.abs(stock).max(initial=0.0)))
        np.testing.assert_allclose(ours, stock, rtol=1e-4, atol=1e-4 * scale)
    without = encode(tokens, weights, shape, differentiable=False)
    np.testing.assert_array_equal(without, found[0][0])


@pytest.mark.parametrize("norm", get_args(Norm))
def test_a_sequence_has_the_same_states_alone_and_among_others(norm: Norm) -> None:
    shape = EncoderShape(12, 3, 20, "gelu", norm, 1e-5, 2)
    weights = draw_weights(shape, 2, 10, 8)
    together = TOKENS.with_values(encode(TOKENS, weights, shape))
    for row in range(TOKENS.nrows()):
        np.testing.assert_allclose(together[row], encode(TOKENS[row : row + 1], weights, shape), atol=1e-5)


@pytest.mark.parametrize("norm", get_args(Norm))
def test_dropout_is_that_of_its_seed_and_its_gradient_drops_the_same(norm: Norm) -> None:
    shape = EncoderShape(16, 2, 24, "gelu", norm, 1e-5, 0)
    weights, tokens = draw_weights(shape, 2, 50, 70), batch([30, 2, 64], 50)
    direction = tf.constant(np.random.default_rng(2).normal(size=(96, 16)), tf.float32)

    def run(weights: EncoderWeights, seed: int, dropout: float = 0.2) -> tf.Tensor:
        return encode(tokens, weights, shape, dropout=dropout, seed=tf.constant([seed, 3]))

    with tf.GradientTape() as tape:
        tape.watch(weights)
        hidden = run(weights, 1)
    np.testing.assert_array_equal(hidden, run(weights, 1))
    assert np.abs(hidden - run(weights, 2)).max() > 0.1
    np.testing.assert_array_equal(run(weights, 1, 0.0), encode(tokens, weights, shape))
    gradients = tape.gradient(hidden, weights, output_gradients=direction)
    random = np.random.default_rng(3)
    places = len(tf.nest.flatten(weights))
    for place in range(places):
        # Along a direction of one weight, in float32: a step of 2e-3 of its size leaves three digits.
        flat = tf.nest.flatten(weights)
        step = tf.constant(random.normal(size=flat[place].shape), tf.float32) * 2e-3
        sums = []
        for sign in (1.0, -1.0):
            moved = [weight + sign * step if i == place else weight for i, weight in enumerate(flat)]
            hidden = run(tf.nest.pack_sequence_as(weights, moved), 1)
            sums.append(float(np.sum(np.float64(hidden) * np.float64(direction))))
        expected = float(tf.reduce_sum(tf.nest.flatten(gradients)[place] * step))
        np.testing.assert_allclose((sums[0] - sums[1]) / 2, expected, rtol=0.02, atol=2e-3)


def test_bfloat16_rounds_the_operands_of_the_products() -> None:
    shape = EncoderShape(64, 4, 128, "gelu", "post", 1e-5, 0)
    weights, tokens = draw_weights(shape, 2, 50, 20), batch([17, 3, 20, 8], 50)
    direction = tf.constant(np.random.default_rng(2).normal(size=(48, 64)), tf.float32)
    found = []
    for bfloat16 in (False, True):
        with tf.GradientTape() as tape:
            tape.watch(weights)
            hidden = encode(tokens, weights, shape, bfloat16=bfloat16)
        found.append([hidden, *tf.nest.flatten(tape.gradient(hidden, weights, output_gradients=direction))])
    for exact, rounded in zip(*found, strict=True):
        # Eight bits of an operand, over two blocks and back.
        assert np.linalg.norm(exact - rounded) <= 0.02 * np.linalg.norm(exact)


def test_bad_input_is_refused_with_what_to_do() -> None:
    shape = EncoderShape(12, 3, 20, "gelu", "post", 1e-5, 2)
    weights = draw_weights(shape, 1, 10, 8)
    errors = tf.errors.InvalidArgumentError
    with pytest.raises(errors, match=r"sequence 1 has 7 tokens; expected at most 6"):
        encode(batch([2, 7], 10), weights, shape)
    with pytest.raises(errors, match="token 1 is 10; expected a row of the 10 words"):
        encode(tf.ragged.constant([[1, 10]], dtype=tf.int32), weights, shape)
    with pytest.raises(errors, match="heads = 5; expected a divisor of 12"):
        encode(TOKENS, weights, shape._replace(heads=5))
    misfit = weights.blocks[0]._replace(qkv_bias=weights.blocks[0].attention_bias)
    with pytest.raises(errors, match=r"weight 6 has shape \[12\]; expected \[36\]"):
        encode(TOKENS, weights._replace(blocks=(misfit,)), shape)
    with tf.GradientTape() as tape:
        tape.watch(weights)
        hidden = encode(TOKENS, weights, shape, differentiable=False)
    with pytest.raises(ValueError, match="keeps nothing for a gradient"):
        tape.gradient(hidden, weights)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_pooled_rows_are_those_of_their_sequences(pooling: str) -> None:
    hidden = tf.constant(np.random.default_rng(0).normal(size=(9, 4)), tf.float32)
    pooled = pool(hidden, TOKENS, pooling)
    for row, states in enumerate(TOKENS.with_values(hidden)):
        expected = np.zeros(4) if not len(states) else states[0] if pooling == "cls" else np.mean(states, 0)
        np.testing.assert_allclose(pooled[row], expected, atol=1e-6)


_DIGEST = """
import hashlib, sys
import numpy as np
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(int(sys.argv[1]))
from dpsr.ops_cc.text_encoder import BlockWeights, EncoderShape, EncoderWeights, encode
random = np.random.default_rng(1)
draw = lambda *size: tf.constant(random.normal(size=size).astype(np.float32))
H, F = 48, 80
block = lambda: BlockWeights(draw(H, 3 * H), draw(3 * H), draw(H, H), draw(H), draw(H), draw(H),
                             draw(H, F), draw(F), draw(F, H), draw(H), draw(H), draw(H))
weights = EncoderWeights(draw(3000, H), draw(64, H), draw(H), draw(H), draw(H), (block(), block()))
lengths = random.integers(0, 50, 100)
tokens = tf.RaggedTensor.from_row_lengths(random.integers(0, 3000, lengths.sum()).astype(np.int32), lengths)
digest = hashlib.sha256()
for norm, bfloat16 in (("post", False), ("pre", True)):
    shape = EncoderShape(H, 4, F, "gelu", norm, 1e-5, 0)
    with tf.GradientTape() as tape:
        tape.watch(weights)
        hidden = encode(tokens, weights, shape, dropout=0.1, seed=tf.constant([1, 2]), bfloat16=bfloat16)
    digest.update(hidden.numpy().tobytes())
    for gradient in tf.nest.flatten(tape.gradient(hidden, weights)):
        digest.update(gradient.numpy().tobytes())
print(digest.hexdigest())
"""


def test_the_number_of_threads_does_not_change_a_bit(tmp_path: Path) -> None:
    assert len(outputs_by_threads(_DIGEST, tmp_path)) == 1
