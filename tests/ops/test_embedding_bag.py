"""Lookup and update of bags against stock operations, plain NumPy, and themselves on other numbers of threads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from dpsr.ops_cc.embedding_bag import (
    apply_adagrad,
    apply_adagrad_to_bags,
    apply_dense_adagrad,
    embedding_bag,
    embedding_bags,
    kind_weights,
)

from .stock_embedding_bag import stock_apply_adagrad, stock_embedding_bag
from .threads import outputs_by_threads

COMBINERS = ["sum", "mean", "sqrtn"]


def draw_bags(random: np.random.Generator, bags: int, rows: int, longest: int) -> tf.RaggedTensor:
    """Bags with repeated ids, a third of them empty."""
    lengths = random.integers(0, longest + 1, bags) * (random.random(bags) < 0.7)
    ids = np.minimum(random.geometric(min(4.0 / rows, 0.5), lengths.sum()), rows) - 1
    return tf.RaggedTensor.from_row_lengths(tf.constant(ids, tf.int32), lengths)


def draw_weights(random: np.random.Generator, bags: tf.RaggedTensor, weighted: bool) -> tf.Tensor | None:
    return tf.constant(random.uniform(0.1, 2.0, bags.values.shape[0]), tf.float32) if weighted else None


def variable(random: np.random.Generator, rows: int, dimension: int) -> tf.Variable:
    return tf.Variable(random.normal(size=(rows, dimension)).astype(np.float32))


@pytest.mark.parametrize("combiner", COMBINERS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("bags", "rows", "dimension", "longest"), [(11, 6, 5, 4), (300, 1000, 64, 30), (40, 3, 1, 50)])
def test_lookup_equals_the_stock_operations(
    bags: int, rows: int, dimension: int, longest: int, weighted: bool, combiner: str
) -> None:
    random = np.random.default_rng(bags)
    table, drawn = variable(random, rows, dimension), draw_bags(random, bags, rows, longest)
    weights = draw_weights(random, drawn, weighted)
    expected = stock_embedding_bag(table, drawn, combiner=combiner, weights=weights)
    np.testing.assert_allclose(
        embedding_bag(table, drawn, combiner=combiner, weights=weights), expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("combiner", COMBINERS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("bags", "rows", "dimension", "longest"), [(11, 6, 5, 4), (300, 1000, 64, 30), (40, 3, 1, 50)])
def test_update_equals_automatic_differentiation_and_stock_adagrad(
    bags: int, rows: int, dimension: int, longest: int, weighted: bool, combiner: str
) -> None:
    random = np.random.default_rng(bags)
    ours = variable(random, rows, dimension), tf.Variable(tf.fill([rows, dimension], 0.1))
    stock = tf.Variable(ours[0]), tf.Variable(ours[1])
    for _ in range(3):
        drawn = draw_bags(random, bags, rows, longest)
        weights = draw_weights(random, drawn, weighted)
        gradient = tf.constant(random.normal(size=(bags, dimension)), tf.float32)
        for update, variables in [(apply_adagrad, ours), (stock_apply_adagrad, stock)]:
            update(*variables, drawn, gradient, learning_rate=0.3, combiner=combiner, weights=weights)
        for one, other in zip(ours, stock, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_update_is_adagrad_on_the_summed_gradient_of_each_row(seed: int) -> None:
    random = np.random.default_rng(seed)
    table, accumulator = variable(random, 12, 4), tf.Variable(tf.fill([12, 4], 0.1))
    rows, squares = table.numpy().astype(np.float64), np.full((12, 4), 0.1)
    for _ in range(4):
        bags = draw_bags(random, 9, 12, 6)
        bag_gradient = random.normal(size=(9, 4))
        gradient = np.zeros((12, 4))
        for bag, row in zip(bags.to_list(), bag_gradient, strict=True):
            for value in bag:
                gradient[value] += row / np.sqrt(len(bag))
        squares += gradient**2
        rows -= 0.3 * gradient / np.sqrt(squares)
        apply_adagrad(table, accumulator, bags, bag_gradient.astype(np.float32), learning_rate=0.3, combiner="sqrtn")
        np.testing.assert_allclose(table, rows, atol=1e-5)
        np.testing.assert_allclose(accumulator, squares, rtol=1e-5)


def test_rows_that_do_not_occur_keep_their_bits() -> None:
    random = np.random.default_rng(0)
    table, accumulator = variable(random, 500, 16), tf.Variable(tf.fill([500, 16], 0.1))
    before, bags = (table.numpy(), accumulator.numpy()), draw_bags(random, 20, 500, 8)
    apply_adagrad(table, accumulator, bags, tf.ones([20, 16]), learning_rate=0.3, combiner="mean")
    for now, then in zip((table, accumulator), before, strict=True):
        changed = np.flatnonzero((now.numpy() != then).any(axis=1))
        assert changed.tolist() == np.unique(bags.values).tolist()


@pytest.mark.parametrize("combiner", COMBINERS)
@pytest.mark.parametrize("bags", [0, 3])
def test_nothing_but_empty_bags(bags: int, combiner: str) -> None:
    table, accumulator = tf.Variable(tf.ones([4, 2])), tf.Variable(tf.ones([4, 2]))
    empty = tf.RaggedTensor.from_row_lengths(tf.zeros([0], tf.int32), [0] * bags)
    assert np.array_equal(embedding_bag(table, empty, combiner=combiner), np.zeros((bags, 2)))
    apply_adagrad(table, accumulator, empty, tf.ones([bags, 2]), learning_rate=1.0, combiner=combiner)
    assert np.array_equal(table, np.ones((4, 2)))


def test_what_was_read_before_an_update_stays_as_it_was() -> None:
    table, accumulator = tf.Variable(tf.ones([4, 2])), tf.Variable(tf.ones([4, 2]))
    bags = tf.ragged.constant([[1, 2]], tf.int32)
    for _ in range(2):
        read, seen = (table.read_value(), accumulator.read_value()), (table.numpy(), accumulator.numpy())
        apply_adagrad(table, accumulator, bags, tf.ones([1, 2]), learning_rate=1.0, combiner="sum")
        for tensor, values in zip(read, seen, strict=True):
            assert np.array_equal(tensor, values)
        assert not np.array_equal(table, seen[0])


@pytest.mark.parametrize(
    ("values", "splits", "weights", "message"),
    [
        ([0, 4], [0, 2], [], r"values\[1\] = 4 is not a row of a table of 4 rows"),
        ([-1], [0, 1], [], r"values\[0\] = -1 is not a row"),
        ([0, 1], [0, 1], [], "row_splits go from 0 to 1; expected 0 to 2"),
        ([0, 1], [0, 2, 1, 2], [], "row_splits decrease at bag 1"),
        ([0, 1], [0, 2], [1.0], "1 weights for 2 values"),
    ],
)
def test_bags_that_are_none_are_refused(values: list, splits: list, weights: list, message: str) -> None:
    table, accumulator = tf.Variable(tf.ones([4, 2])), tf.Variable(tf.ones([4, 2]))
    bags = tf.RaggedTensor.from_row_splits(tf.constant(values, tf.int32), tf.constant(splits, tf.int64), validate=False)
    given = tf.constant(weights, tf.float32)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        embedding_bag(table, bags, combiner="mean", weights=given)
    gradient = tf.ones([len(splits) - 1, 2])
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        apply_adagrad(table, accumulator, bags, gradient, learning_rate=1.0, combiner="mean", weights=given)
    assert np.array_equal(table, np.ones((4, 2)))


def test_shapes_that_do_not_fit_are_refused() -> None:
    table, bags = tf.Variable(tf.ones([4, 2])), tf.ragged.constant([[1, 2]], tf.int32)
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=r"gradient has shape \[1,3\]; expected"):
        apply_adagrad(table, tf.Variable(tf.ones([4, 2])), bags, tf.ones([1, 3]), learning_rate=1.0, combiner="sum")
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=r"accumulator has shape \[5,2\]"):
        apply_adagrad(table, tf.Variable(tf.ones([5, 2])), bags, tf.ones([1, 2]), learning_rate=1.0, combiner="sum")


def test_the_shape_is_known_before_it_runs() -> None:
    table = tf.Variable(tf.ones([4, 2]))

    @tf.function
    def lookup(bags: tf.RaggedTensor) -> tf.Tensor:
        combined = embedding_bag(table, bags, combiner="sum")
        assert combined.shape.as_list() == [2, 2]
        return combined

    assert lookup(tf.ragged.constant([[1, 2], []], tf.int32)).shape == (2, 2)


def test_bags_of_several_tables_are_those_of_each_table() -> None:
    """Two lists of the second table count as one, as if they had been joined."""
    random = np.random.default_rng(0)
    rows, dimension = [300, 70_000, 9], 20
    tables = [variable(random, count, dimension) for count in rows]
    accumulators = [tf.Variable(tf.fill([count, dimension], 0.1)) for count in rows]
    alone = [tf.Variable(table) for table in tables], [tf.Variable(each) for each in accumulators]
    places, combiners = [1, 0, 1, 2], ["sqrtn", "mean", "sqrtn", "sum"]
    for _ in range(3):
        bags = [draw_bags(random, 40, rows[place], 12) for place in places]
        weights = [draw_weights(random, each, weighted) for each, weighted in zip(bags, [1, 0, 1, 0], strict=True)]
        gradients = [tf.constant(random.normal(size=(40, dimension)), tf.float32) for _ in bags]
        found = embedding_bags([tables[place] for place in places], bags, combiners=combiners, weights=weights)
        for place, each, combiner, weight, combined in zip(places, bags, combiners, weights, found, strict=True):
            expected = embedding_bag(alone[0][place], each, combiner=combiner, weights=weight)
            assert np.array_equal(combined, expected)
        apply_adagrad_to_bags(
            tables, accumulators, places, bags, gradients, learning_rate=0.3, combiners=combiners, weights=weights
        )
        joined = tf.concat([bags[0], bags[2]], 0), tf.concat([gradients[0], gradients[2]], 0)
        joined_weights = tf.concat([weights[0], weights[2]], 0)
        apply_adagrad(alone[0][0], alone[1][0], bags[1], gradients[1], learning_rate=0.3, combiner="mean")
        apply_adagrad(alone[0][1], alone[1][1], *joined, learning_rate=0.3, combiner="sqrtn", weights=joined_weights)
        apply_adagrad(alone[0][2], alone[1][2], bags[3], gradients[3], learning_rate=0.3, combiner="sum")
        for one, other in zip([*tables, *accumulators], [*alone[0], *alone[1]], strict=True):
            assert np.array_equal(one, other)


def test_every_list_of_bags_has_a_table() -> None:
    table, accumulator, bags = tf.Variable(tf.ones([4, 2])), tf.Variable(tf.ones([4, 2])), tf.ragged.constant([[1, 2]])
    bags = tf.cast(bags, tf.int32)
    settings = {"learning_rate": 1.0, "combiners": ["sum"], "weights": [None]}
    with pytest.raises(tf.errors.InvalidArgumentError, match="bags of table 1 of 1"):
        apply_adagrad_to_bags([table], [accumulator], [1], [bags], [tf.ones([1, 2])], **settings)
    with pytest.raises(tf.errors.InvalidArgumentError, match="1 combiners and 2 tables_of_bags"):
        apply_adagrad_to_bags([table], [accumulator], [0, 0], [bags], [tf.ones([1, 2])], **settings)
    with pytest.raises(tf.errors.InvalidArgumentError, match="0 combiners for 1 lists of bags"):
        embedding_bags([table], [bags], combiners=[], weights=[None])


def test_dense_adagrad_is_that_of_keras() -> None:
    random = np.random.default_rng(0)
    ours = [variable(random, *shape) for shape in [(40, 33), (1, 5), (64, 16)]]
    stock = [tf.Variable(each) for each in ours]
    accumulators = [tf.Variable(tf.fill(each.shape, 0.1)) for each in ours]
    optimizer = tf_keras.optimizers.Adagrad(0.3, initial_accumulator_value=0.1, jit_compile=False)
    for _ in range(4):
        gradients = [tf.constant(random.normal(size=each.shape), tf.float32) for each in ours]
        read = [each.read_value() for each in ours]
        before = [each.numpy() for each in read]
        apply_dense_adagrad(ours, accumulators, gradients, learning_rate=0.3, epsilon=optimizer.epsilon)
        optimizer.apply_gradients(zip(gradients, stock, strict=True))
        for one, other, then, values in zip(ours, stock, read, before, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
            assert np.array_equal(then, values)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"gradient 1 has shape \[2,5\]; expected \[1,5\]"):
        apply_dense_adagrad(
            ours[:2], accumulators[:2], [tf.ones([40, 33]), tf.ones([2, 5])], learning_rate=0.3, epsilon=0.0
        )


_DIGEST = """
import hashlib, sys
import numpy as np
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(int(sys.argv[1]))
from dpsr.ops_cc.embedding_bag import apply_adagrad, embedding_bag, kind_weights
random = np.random.default_rng(1)
table = tf.Variable(random.normal(size=(3000, 64)).astype(np.float32))
accumulator = tf.Variable(tf.fill([3000, 64], 0.1))
digest = hashlib.sha256()
for _ in range(5):
    lengths = random.integers(0, 60, 700)
    ids = np.minimum(random.geometric(0.002, lengths.sum()), 3000) - 1
    bags = tf.RaggedTensor.from_row_lengths(tf.constant(ids, tf.int32), lengths)
    combined = embedding_bag(table, bags, combiner="sqrtn")
    apply_adagrad(table, accumulator, bags, tf.tanh(combined), learning_rate=0.3, combiner="sqrtn")
    for values in (combined, table, accumulator):
        digest.update(values.numpy().tobytes())
print(digest.hexdigest())
"""


def test_the_number_of_threads_does_not_change_a_bit(tmp_path: Path) -> None:
    assert len(outputs_by_threads(_DIGEST, tmp_path)) == 1


def test_kinds_count_alike() -> None:
    random = np.random.default_rng(5)
    bags, kinds = draw_bags(random, 50, 40, 20), random.integers(0, 4, 40).astype(np.uint8)
    expected = [
        1.0 / np.sqrt(sum(kinds[other] == kinds[each] for other in bag)) for bag in bags.to_list() for each in bag
    ]
    np.testing.assert_allclose(kind_weights(tf.constant(kinds), bags), expected, rtol=1e-6)


def test_kinds_of_bags_that_are_none() -> None:
    def weigh(values: list[int], splits: list[int]) -> None:
        bags = tf.RaggedTensor.from_row_splits(
            tf.constant(values, tf.int32), tf.constant(splits, tf.int64), validate=False
        )
        kind_weights(tf.zeros([3], tf.uint8), bags)

    with pytest.raises(tf.errors.InvalidArgumentError, match=r"values\[1\] = 3 has no kind: there are 3 ids"):
        weigh([0, 3], [0, 2])
    with pytest.raises(tf.errors.InvalidArgumentError, match="has no kind"):
        weigh([-1], [0, 1])
    with pytest.raises(tf.errors.InvalidArgumentError, match="row_splits decrease"):
        weigh([0, 1], [0, 2, 1, 2])
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected 0 to 2"):
        weigh([0, 1], [0, 1])
