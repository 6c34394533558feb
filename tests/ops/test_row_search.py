from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from dpsr.ops_cc.head_merge import NO_ROW, NO_SCORE
from dpsr.ops_cc.row_search import best_of_rows


def drawn(rng: np.random.Generator, dtype: type, width: int, heads: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors, heads of 4 queries, and row lengths; whole numbers, so that sums are exact and there are ties."""
    vectors = rng.integers(-3, 4, (int(rng.integers(1, 3000)), width)).astype(dtype)
    lengths = rng.integers(0, len(vectors) + 1, 4)
    lengths[rng.integers(4)] = 0
    return vectors, rng.integers(-3, 4, (4, heads, width)).astype(np.float32), lengths


@pytest.mark.parametrize("dtype", [np.float32, np.int8])
@pytest.mark.parametrize("seed", range(8))
def test_the_best_rows_are_those_of_stock_operations(seed: int, dtype: type) -> None:
    rng = np.random.default_rng(seed)
    k = int(rng.integers(1, 1500))
    vectors, heads, lengths = drawn(rng, dtype, int(rng.integers(1, 70)), int(rng.integers(1, 5)))
    lists = [rng.permutation(len(vectors))[:length].astype(np.int32) for length in lengths]
    found = best_of_rows(tf.constant(vectors), tf.constant(heads), tf.ragged.constant(lists, tf.int32), k)
    for query, rows in enumerate(lists):
        rows = np.sort(rows)
        products = tf.linalg.matmul(heads[query], tf.cast(tf.gather(vectors, rows), tf.float32), transpose_b=True)
        scores, best = tf.reduce_max(products, axis=0), tf.argmax(products, axis=0)
        order = tf.argsort(-scores, stable=True)[:k]
        missing = k - len(order)
        expected = [tf.gather(each, order).numpy().tolist() for each in (rows, scores, best)]
        for mine, theirs, none in zip(found, expected, (NO_ROW, float(NO_SCORE), NO_ROW), strict=True):
            assert mine[query].numpy().tolist() == theirs + [none] * missing


@pytest.mark.parametrize(
    ("rows", "heads", "message"),
    [
        ([[0], [3]], np.zeros((2, 1, 5)), "row 3; expected 0 to 2"),
        ([[0], [-1]], np.zeros((2, 1, 5)), "row -1; expected 0 to 2"),
        ([[0]], np.zeros((2, 1, 5)), "row_splits have shape"),
        ([[0]], np.zeros((1, 1, 4)), "expected .N, d. and .B, m, d."),
    ],
)
def test_unusable_input_is_named(rows: list[list[int]], heads: np.ndarray, message: str) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        best_of_rows(tf.zeros([3, 5]), tf.constant(heads, tf.float32), tf.ragged.constant(rows, tf.int32), 2)


def test_shapes_are_known_in_a_graph() -> None:
    @tf.function(input_signature=[tf.TensorSpec([None, 2, 7]), tf.RaggedTensorSpec([None, None], tf.int32)])
    def best(heads: tf.Tensor, rows: tf.RaggedTensor) -> tf.Tensor:
        found = best_of_rows(tf.zeros([9, 7]), heads, rows, 5)
        assert [tensor.shape.as_list() for tensor in found] == [[None, 5]] * 3
        return found[0]

    assert best(tf.zeros([0, 2, 7]), tf.RaggedTensor.from_row_splits(tf.zeros([0], tf.int32), [0])).shape == (0, 5)
