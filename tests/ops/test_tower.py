"""The tower kernel and its gradient against stock operations, and themselves on other numbers of threads."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from dpsr.ops_cc.tower import tower

from .stock_tower import stock_tower
from .threads import outputs_by_threads

Layers = tuple[list[tf.Tensor], list[tf.Tensor], list[tf.Tensor]]


def draw(random: np.random.Generator, rows: int, parts: int, dimension: int, hidden: list[int], outputs: int) -> Layers:
    widths = [parts * dimension, *hidden, outputs * dimension]
    sizes = list(itertools.pairwise(widths))
    return (
        [tf.constant(random.normal(size=(rows, dimension)), tf.float32) for _ in range(parts)],
        [tf.constant(random.normal(size=size) / np.sqrt(size[0]), tf.float32) for size in sizes],
        [tf.constant(random.normal(size=size[1]), tf.float32) for size in sizes],
    )


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("hidden", [[], [24], [33, 100, 8]], ids=str)
@pytest.mark.parametrize(("rows", "parts", "dimension"), [(1, 1, 1), (7, 2, 5), (64, 4, 16), (300, 3, 70), (0, 2, 8)])
def test_vectors_and_gradients_equal_the_stock_operations(
    rows: int, parts: int, dimension: int, hidden: list[int], outputs: int, residual: bool
) -> None:
    random = np.random.default_rng(rows)
    layers = draw(random, rows, parts, dimension, hidden, outputs)
    direction = tf.constant(random.normal(size=(rows, outputs, dimension)), tf.float32)
    found = []
    for run in (tower, stock_tower):
        with tf.GradientTape() as tape:
            tape.watch(layers)
            vectors = run(*layers, outputs=outputs, residual=residual)
        found.append([vectors, *tf.nest.flatten(tape.gradient(vectors, layers, output_gradients=direction))])
    for ours, stock in zip(*found, strict=True):
        np.testing.assert_allclose(ours, stock, rtol=1e-3, atol=1e-4)


def test_gradients_are_finite_differences() -> None:
    random = np.random.default_rng(0)
    layers = draw(random, 5, 2, 4, [6], 2)
    direction = tf.constant(random.normal(size=(5, 2, 4)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(layers)
        vectors = tower(*layers, outputs=2, residual=True)
    gradients = tape.gradient(vectors, layers, output_gradients=direction)
    for group, of_group in enumerate(gradients):
        for place, gradient in enumerate(of_group):
            for entry in np.argwhere(np.ones(gradient.shape))[::3]:
                sums = []
                for step in (-2e-3, 2e-3):
                    moved = [list(each) for each in layers]
                    moved[group][place] = tf.tensor_scatter_nd_add(moved[group][place], [entry], [step])
                    sums.append(float(tf.reduce_sum(tower(*moved, outputs=2, residual=True) * direction)))
                assert float(gradient[tuple(entry)]) == pytest.approx((sums[1] - sums[0]) / 4e-3, rel=0.03, abs=5e-3)


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    parts, kernels, biases = draw(np.random.default_rng(0), 130, 3, 16, [24], 2)
    whole = tower(parts, kernels, biases, outputs=2, residual=True).numpy()
    for start, count in [(0, 1), (3, 70), (129, 1)]:
        some = tower([part[start : start + count] for part in parts], kernels, biases, outputs=2, residual=True)
        assert np.array_equal(some, whole[start : start + count])


def test_a_vector_of_zeros_stays_one() -> None:
    parts, kernels, biases = [tf.zeros([2, 4])], [tf.ones([4, 4])], [tf.zeros([4])]
    with tf.GradientTape() as tape:
        tape.watch(parts)
        vectors = tower(parts, kernels, biases, outputs=1, residual=True)
    assert np.array_equal(vectors, np.zeros((2, 1, 4)))
    assert np.isfinite(tape.gradient(vectors, parts)[0]).all()


def test_no_number_stays_no_number() -> None:
    parts, kernels, biases = draw(np.random.default_rng(0), 4, 2, 16, [24], 1)
    parts[1] = tf.tensor_scatter_nd_update(parts[1], [[2, 3]], [np.nan])
    vectors = tower(parts, kernels, biases, outputs=1, residual=False).numpy()
    assert np.isnan(vectors[2]).all()
    assert np.isfinite(vectors[[0, 1, 3]]).all()


def test_shapes_that_do_not_fit_are_refused() -> None:
    parts, kernels, biases = draw(np.random.default_rng(0), 4, 2, 3, [5], 1)
    errors = (ValueError, tf.errors.InvalidArgumentError)
    with pytest.raises(errors, match=r"parts have shapes \[4,3\] and \[4,2\]; expected \[B, d\] of all"):
        tower([parts[0], parts[1][:, :2]], kernels, biases, outputs=1, residual=False)
    with pytest.raises(errors, match=r"kernel of layer 0 has shape \[6,5\]; expected \[3, width\]"):
        tower(parts[:1], kernels, biases, outputs=1, residual=False)
    with pytest.raises(errors, match="with a width of 6 in the last layer"):
        tower(parts, kernels, biases, outputs=2, residual=False)
    with pytest.raises(errors, match=r"bias of layer 1 has shape \[5\]; expected \[3\]"):
        tower(parts, kernels, [biases[0], biases[0]], outputs=1, residual=False)


def test_the_shape_is_known_before_it_runs() -> None:
    @tf.function
    def embed(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
        vectors = tower([first, second], kernels, biases, outputs=2, residual=True)
        assert vectors.shape.as_list() == [4, 2, 3]
        return vectors

    parts, kernels, biases = draw(np.random.default_rng(0), 4, 2, 3, [5], 2)
    assert embed(*parts).shape == (4, 2, 3)


_DIGEST = """
import hashlib, sys
import numpy as np
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(int(sys.argv[1]))
from dpsr.ops_cc.tower import tower
random = np.random.default_rng(1)
draw = lambda *size: tf.Variable(random.normal(size=size).astype(np.float32))
parts, kernels, biases = [draw(2000, 64) for _ in range(3)], [draw(192, 128), draw(128, 128)], [draw(128), draw(128)]
with tf.GradientTape() as tape:
    vectors = tower(parts, kernels, biases, outputs=2, residual=True)
digest = hashlib.sha256(vectors.numpy().tobytes())
for gradient in tape.gradient(vectors, [*parts, *kernels, *biases], output_gradients=draw(2000, 2, 64)):
    digest.update(gradient.numpy().tobytes())
print(digest.hexdigest())
"""


def test_the_number_of_threads_does_not_change_a_bit(tmp_path: Path) -> None:
    assert len(outputs_by_threads(_DIGEST, tmp_path)) == 1
