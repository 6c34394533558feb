"""The packed encoder against the encoder it was packed from, and itself in other batches and on other threads."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import tensorflow as tf

from dpsr.ops_cc.packed_encoder import PackedEncoder, PackingError, Precision, encode_packed, pack_encoder
from dpsr.ops_cc.text_encoder import Activation, EncoderShape, Norm, Pooling, pool

from .encoder_weights import draw_weights
from .stock_text_encoder import stock_encode
from .threads import outputs_by_threads

WORDS, POSITIONS = 50, 80
SHAPES = {
    "odd": EncoderShape(12, 3, 20, "gelu", "post", 1e-5, 2),
    "one head": EncoderShape(40, 1, 70, "gelu", "post", 1e-12, 0),
    "MiniLM": EncoderShape(384, 12, 1536, "gelu", "post", 1e-12, 0),
}


def draw_texts(lengths: list[int], seed: int = 0) -> tf.RaggedTensor:
    values = np.random.default_rng(seed).integers(0, WORDS, sum(lengths)).astype(np.int32)
    return tf.RaggedTensor.from_row_lengths(values, lengths)


TEXTS = draw_texts([5, 0, 1, 17, 33, 64, 2, 0, 40, 31, 12])


def packed_of(shape: EncoderShape, precision: Precision = "float32", blocks: int = 2) -> PackedEncoder:
    return pack_encoder(draw_weights(shape, blocks, WORDS, POSITIONS), shape, precision=precision)


def cosines(one: tf.Tensor, other: tf.Tensor) -> np.ndarray:
    return np.sum(tf.math.l2_normalize(one, 1) * tf.math.l2_normalize(other, 1), 1)


@pytest.mark.parametrize("pooling", get_args(Pooling))
@pytest.mark.parametrize("norm", get_args(Norm))
@pytest.mark.parametrize("activation", get_args(Activation))
@pytest.mark.parametrize("name", SHAPES)
def test_float32_equals_the_encoder_it_was_packed_from(
    name: str, activation: Activation, norm: Norm, pooling: Pooling
) -> None:
    shape = SHAPES[name]._replace(activation=activation, norm=norm)
    weights = draw_weights(shape, 2, WORDS, POSITIONS)
    expected = pool(stock_encode(TEXTS, weights, shape), TEXTS, pooling)
    found = encode_packed(TEXTS, pack_encoder(weights, shape, precision="float32"), pooling=pooling)
    np.testing.assert_allclose(found, expected, atol=1e-5 if norm == "post" else 2e-5)


@pytest.mark.parametrize("pooling", get_args(Pooling))
@pytest.mark.parametrize("norm", get_args(Norm))
@pytest.mark.parametrize("name", SHAPES)
def test_int8_is_near_float32(name: str, norm: Norm, pooling: Pooling) -> None:
    shape = SHAPES[name]._replace(norm=norm)
    exact = encode_packed(TEXTS, packed_of(shape), pooling=pooling)
    found = encode_packed(TEXTS, packed_of(shape, "int8"), pooling=pooling)
    present = TEXTS.row_lengths() > 0
    assert cosines(exact[present], found[present]).min() > 0.999
    assert not np.any(found[~present])


@pytest.mark.parametrize("pooling", get_args(Pooling))
@pytest.mark.parametrize("precision", get_args(Precision))
@pytest.mark.parametrize("name", SHAPES)
def test_a_text_has_the_same_bits_alone_and_in_any_batch(name: str, precision: Precision, pooling: Pooling) -> None:
    packed = packed_of(SHAPES[name], precision)
    together = encode_packed(TEXTS, packed, pooling=pooling).numpy()
    order = np.random.default_rng(0).permutation(int(TEXTS.nrows()))
    np.testing.assert_array_equal(encode_packed(tf.gather(TEXTS, order), packed, pooling=pooling), together[order])
    for row in range(int(TEXTS.nrows())):
        alone = encode_packed(TEXTS[row : row + 1], packed, pooling=pooling)
        np.testing.assert_array_equal(alone[0], together[row])


PROGRAM = """
import hashlib, sys
import numpy as np
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(int(sys.argv[1]))
from dpsr.ops_cc.packed_encoder import encode_packed, pack_encoder
from dpsr.ops_cc.text_encoder import BlockWeights, EncoderShape, EncoderWeights
random = np.random.default_rng(0)
H, F = 32, 64
draw = lambda *size: random.normal(size=size).astype(np.float32)
block = lambda: BlockWeights(draw(H, 3 * H), draw(3 * H), draw(H, H), draw(H), draw(H), draw(H),
                             draw(H, F), draw(F), draw(F, H), draw(H), draw(H), draw(H))
weights = EncoderWeights(draw(99, H), draw(64, H), draw(H), draw(H), draw(H), (block(), block()))
lengths = random.integers(0, 60, 300)
texts = tf.RaggedTensor.from_row_lengths(random.integers(0, 99, lengths.sum()).astype(np.int32), lengths)
hash = hashlib.sha256()
for precision in ("float32", "int8"):
    packed = pack_encoder(weights, EncoderShape(H, 4, F, "gelu", "post", 1e-12, 0), precision=precision)
    for pooling in ("cls", "mean"):
        hash.update(encode_packed(texts, packed, pooling=pooling).numpy().tobytes())
print(hash.hexdigest())
"""


def test_bits_do_not_depend_on_the_number_of_threads(tmp_path: Path) -> None:
    assert len(outputs_by_threads(PROGRAM, tmp_path)) == 1


class Served(tf.Module):
    """An encoder with its weights in variables, as a servable has it."""

    def __init__(self, packed: PackedEncoder) -> None:
        super().__init__()
        self.packed = packed.map(lambda array: tf.Variable(array, trainable=False))

    @tf.function(input_signature=[tf.RaggedTensorSpec([None, None], tf.int32, ragged_rank=1)])
    def encode(self, tokens: tf.RaggedTensor) -> tf.Tensor:
        return encode_packed(tokens, self.packed, pooling="mean")


@pytest.mark.parametrize("precision", get_args(Precision))
def test_a_saved_encoder_answers_as_before(precision: Precision, tmp_path: Path) -> None:
    packed = packed_of(SHAPES["odd"], precision)
    assert packed.precision == precision
    tf.saved_model.save(Served(packed), str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    np.testing.assert_array_equal(loaded.encode(TEXTS), encode_packed(TEXTS, packed, pooling="mean"))


def test_the_served_shape_is_known_to_the_graph() -> None:
    served = Served(packed_of(SHAPES["odd"]))
    assert served.encode.get_concrete_function().output_shapes == tf.TensorShape([None, 12])


@pytest.mark.parametrize("values", [[3, WORDS], [-1, 3]])
def test_an_id_that_is_no_word_is_named(values: list[int]) -> None:
    tokens = tf.RaggedTensor.from_row_lengths(tf.constant(values, tf.int32), [1, 1])
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"expected an id below {WORDS}"):
        encode_packed(tokens, packed_of(SHAPES["odd"]), pooling="mean")


def test_a_text_longer_than_the_positions_is_named() -> None:
    texts = draw_texts([3, POSITIONS - 1])
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"text 1 has 79 tokens, .* 78; truncate it"):
        encode_packed(texts, packed_of(SHAPES["odd"]), pooling="mean")


@pytest.mark.parametrize("part", ["positions", "embedding_norm", "vectors", "panels"])
def test_weights_of_another_shape_are_refused(part: str) -> None:
    packed = packed_of(SHAPES["odd"])
    packed = packed._replace(**{part: getattr(packed, part)[:, :-1]})
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError), match=part):
        encode_packed(TEXTS, packed, pooling="mean")


def test_a_weight_that_does_not_fit_is_named() -> None:
    shape = SHAPES["odd"]
    weights = draw_weights(shape, 2, WORDS, POSITIONS)
    wrong = weights._replace(blocks=(weights.blocks[0], weights.blocks[1]._replace(output_bias=tf.zeros([7]))))
    with pytest.raises(PackingError, match=r"blocks\[1\].output_bias has shape \[7\]; expected \[12\]"):
        pack_encoder(wrong, shape, precision="int8")
    wrong = weights._replace(words=tf.fill([WORDS, 12], np.nan))
    with pytest.raises(PackingError, match="words has values that are not finite"):
        pack_encoder(wrong, shape, precision="float32")
