"""The bag sum and its explicit update, against plain NumPy and against TensorFlow's own gradient and AdaGrad."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from dpsr.model.embeddings import EmbeddingTable

ROWS, DIMENSION = 12, 4


def draw_bags(random: np.random.Generator) -> list[list[int]]:
    """Bags with repeated ids, among them empty ones at the start, inside and at the end."""
    bags = [random.integers(0, ROWS, random.integers(0, 6)).tolist() for _ in range(7)]
    return [[], *bags[:3], [], *bags[3:], [3, 3, 3], []]


def ragged(bags: list[list[int]]) -> tf.RaggedTensor:
    return tf.RaggedTensor.from_row_lengths(
        tf.constant([value for bag in bags for value in bag], tf.int32), [len(bag) for bag in bags]
    )


def make_table(seed: int = 1) -> EmbeddingTable:
    return EmbeddingTable(ROWS, DIMENSION, scale=0.5, seed=(seed, 0), combiner="sum")


@pytest.mark.parametrize("seed", range(5))
def test_lookup_is_the_sum_of_the_rows(seed: int) -> None:
    bags, table = draw_bags(np.random.default_rng(seed)), make_table(seed)
    rows = table.embeddings.numpy()
    expected = [rows[bag].sum(axis=0) if bag else np.zeros(DIMENSION) for bag in bags]
    np.testing.assert_allclose(table.lookup(ragged(bags)), expected, atol=1e-6)


@pytest.mark.parametrize("bags", [[[], []], []])
def test_lookup_of_nothing(bags: list[list[int]]) -> None:
    assert np.array_equal(make_table().lookup(ragged(bags)), np.zeros((len(bags), DIMENSION)))


@pytest.mark.parametrize("seed", range(5))
def test_update_is_adagrad_on_the_summed_gradient_of_each_row(seed: int) -> None:
    random = np.random.default_rng(seed)
    table = make_table(seed)
    table.start_training(0.1)
    rows, accumulator = table.embeddings.numpy(), np.full((ROWS, DIMENSION), 0.1)
    for _ in range(4):
        bags = draw_bags(random)
        bag_gradient = random.normal(size=(len(bags), DIMENSION)).astype(np.float32)
        gradient = np.zeros((ROWS, DIMENSION))
        for bag, row in zip(bags, bag_gradient, strict=True):
            for value in bag:
                gradient[value] += row
        accumulator += gradient**2
        rows = rows - 0.3 * gradient / np.sqrt(accumulator)
        table.apply_gradient(ragged(bags), tf.constant(bag_gradient), 0.3)
        np.testing.assert_allclose(table.embeddings, rows, atol=1e-5)
        np.testing.assert_allclose(table.accumulator, accumulator, rtol=1e-5)


def test_update_equals_automatic_differentiation_and_keras_adagrad() -> None:
    random = np.random.default_rng(3)
    table, stock = make_table(), tf.Variable(make_table().embeddings)
    table.start_training(0.1)
    optimizer = tf_keras.optimizers.Adagrad(0.2, initial_accumulator_value=0.1, epsilon=1e-30, jit_compile=False)
    weights = tf.constant(random.normal(size=(DIMENSION,)), tf.float32)
    for _ in range(5):
        bags = ragged(draw_bags(random))
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.tanh(tf.reduce_sum(tf.gather(stock, bags), axis=1) * weights))
        # Dense, so that untouched rows are part of the comparison.
        gradient = tf.convert_to_tensor(tape.gradient(loss, stock))
        optimizer.apply_gradients([(gradient, stock)])
        sums = table.lookup(bags)
        with tf.GradientTape() as tape:
            tape.watch(sums)
            loss = tf.reduce_sum(tf.tanh(sums * weights))
        table.apply_gradient(bags, tape.gradient(loss, sums), 0.2)
        np.testing.assert_allclose(table.embeddings, stock, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_earlier_ids_decay_in_the_lookup_and_in_the_update(seed: int) -> None:
    random = np.random.default_rng(seed)
    table = EmbeddingTable(ROWS, DIMENSION, scale=0.5, seed=(seed, 0), combiner="sum", decay=0.6)
    table.start_training(0.1)
    bags, rows = draw_bags(random), table.embeddings.numpy()
    weights = [[0.6 ** (len(bag) - 1 - position) for position in range(len(bag))] for bag in bags]
    sums = [
        sum((weight * rows[value] for value, weight in zip(bag, of_bag, strict=True)), np.zeros(DIMENSION))
        for bag, of_bag in zip(bags, weights, strict=True)
    ]
    np.testing.assert_allclose(table.lookup(ragged(bags)), sums, atol=1e-5)
    bag_gradient = random.normal(size=(len(bags), DIMENSION)).astype(np.float32)
    gradient = np.zeros((ROWS, DIMENSION))
    for bag, of_bag, row in zip(bags, weights, bag_gradient, strict=True):
        for value, weight in zip(bag, of_bag, strict=True):
            gradient[value] += weight * row
    table.apply_gradient(ragged(bags), tf.constant(bag_gradient), 0.3)
    np.testing.assert_allclose(table.embeddings, rows - 0.3 * gradient / np.sqrt(0.1 + gradient**2), atol=1e-5)


def test_rows_that_do_not_occur_keep_their_bits() -> None:
    table = make_table()
    table.start_training(0.1)
    before = table.embeddings.numpy()
    table.apply_gradient(ragged([[1, 2], [2]]), tf.ones([2, DIMENSION]), 0.5)
    changed = np.flatnonzero((table.embeddings.numpy() != before).any(axis=1))
    assert changed.tolist() == [1, 2]


def test_update_needs_accumulators() -> None:
    with pytest.raises(RuntimeError, match="start_training"):
        make_table().apply_gradient(ragged([[1]]), tf.ones([1, DIMENSION]), 0.1)


def test_the_seed_decides_the_table() -> None:
    assert np.array_equal(make_table(4).embeddings, make_table(4).embeddings)
    assert not np.array_equal(make_table(4).embeddings, make_table(5).embeddings)
