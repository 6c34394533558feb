"""A table in shards is the table: in lookups, in updates, and in a checkpoint."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from dpsr.data.batches.arrays import MappedArray, arrays_in_files, graph_array
from dpsr.model.embeddings import EmbeddingTable, apply_gradients_together, drawn_rows, lookup_together
from dpsr.model.shards import Placement, Shard, shard_variables

ROWS, DIMENSION = 50, 8
CUTS = {"whole": [0, 50], "two": [0, 20, 50], "four": [0, 4, 8, 44, 50]}


def placement(cuts: list[int], wire: tf.DType = tf.float32) -> Placement:
    shards = [Shard("CPU:0", first, last - first) for first, last in itertools.pairwise(cuts)]
    return Placement(tuple(shards), wire)


def table(
    place: Placement | None, combiner: str = "sqrtn", decay: float = 1.0, kinds: tf.Tensor | MappedArray | None = None
) -> EmbeddingTable:
    made = EmbeddingTable(
        ROWS, DIMENSION, scale=0.3, seed=(3, 1), combiner=combiner, decay=decay, placement=place, kinds=kinds
    )
    made.start_training(0.1)
    return made


def whole(made: EmbeddingTable) -> tuple[np.ndarray, np.ndarray]:
    embeddings, accumulator = (
        np.concatenate([part.numpy() for part in shard_variables(matrix)])
        for matrix in (made.embeddings, made.accumulator)
    )
    return embeddings, accumulator


def bags(kind: str, seed: int) -> tf.RaggedTensor:
    random = np.random.default_rng(seed)
    if kind == "one":
        return tf.RaggedTensor.from_uniform_row_length(tf.constant(random.integers(0, ROWS, 30), tf.int32), 1)
    lengths = random.integers(0, 9, 30)
    return tf.RaggedTensor.from_row_lengths(tf.constant(random.integers(0, ROWS, lengths.sum()), tf.int32), lengths)


@pytest.mark.parametrize("cuts", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("kind", ["one", "many"])
@pytest.mark.parametrize(
    ("combiner", "decay"), [("sum", 1.0), ("mean", 1.0), ("sqrtn", 1.0), ("sqrtn", 0.7), ("mean", 0.7)]
)
def test_any_shards_give_the_same_sums_and_the_same_rows(
    cuts: list[int], kind: str, combiner: str, decay: float
) -> None:
    assert_alike(table(None, combiner, decay), table(placement(cuts), combiner, decay), kind)


@pytest.mark.parametrize("cuts", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("kind", ["one", "many"])
def test_ids_of_a_kind_are_weighed_by_the_whole_bag(cuts: list[int], kind: str, tmp_path: Path) -> None:
    """The kinds are in a file that both ends map; a bag's ids of one kind are on several shards."""
    kinds = np.random.default_rng(7).integers(0, 4, ROWS).astype(np.uint8)
    with arrays_in_files(tmp_path):
        sharded = table(placement(cuts), "sum", kinds=graph_array(kinds))
    assert_alike(table(None, "sum", kinds=tf.Variable(kinds)), sharded, kind)
    graph = tf.function(sharded.lookup).get_concrete_function(tf.RaggedTensorSpec([None, None], tf.int32))
    assert all(each.dtype == tf.resource for each in graph.captured_inputs), "no array goes with the graph"


@pytest.mark.parametrize("columns", [1, 3, 8])
def test_some_rows_of_a_matrix_are_drawn_alone(columns: int) -> None:
    whole_matrix = tf.random.stateless_normal([1001, columns], (3, 9)).numpy()
    for first, rows in [(0, 1001), (0, 1), (1, 1), (3, 0), (20, 333), (999, 2), (1001, 0)]:
        np.testing.assert_array_equal(drawn_rows(first, rows, columns, (3, 9)), whole_matrix[first : first + rows])


@pytest.mark.parametrize("cuts", CUTS.values(), ids=CUTS)
def test_rows_are_scaled_when_they_are_drawn(cuts: list[int]) -> None:
    scales = np.random.default_rng(5).uniform(0.5, 2.0, ROWS).astype(np.float32)

    def drawn(place: Placement | None, row_scales: np.ndarray | None) -> np.ndarray:
        made = EmbeddingTable(ROWS, DIMENSION, scale=0.3, seed=(3, 1), placement=place, row_scales=row_scales)
        return np.concatenate([part.numpy() for part in shard_variables(made.embeddings)])

    np.testing.assert_array_equal(drawn(None, scales), drawn(None, None) * scales[:, np.newaxis])
    np.testing.assert_array_equal(drawn(placement(cuts), scales), drawn(None, scales))


def test_all_bags_of_a_table_are_looked_up_and_updated_as_one_list() -> None:
    """The same table for two inputs, another one between them."""
    step_bags = [bags("many", seed) for seed in range(3)]
    found = []
    for place in (None, placement(CUTS["four"])):
        shared, other = table(place), table(place, "mean")
        tables = [shared, other, shared]
        values = lookup_together(tables, step_bags)
        apply_gradients_together(tables, step_bags, values, 0.2)
        found.append([*map(np.asarray, values), *whole(shared), *whole(other)])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def assert_alike(one: EmbeddingTable, sharded: EmbeddingTable, kind: str) -> None:
    """Lookups and updates of some steps are the same in both."""

    @tf.function
    def step(made: EmbeddingTable, step_bags: tf.RaggedTensor, direction: tf.Tensor) -> tf.Tensor:
        sums = made.lookup(step_bags)
        made.apply_gradient(step_bags, sums * direction, 0.2)
        return sums

    np.testing.assert_array_equal(whole(one)[0], whole(sharded)[0])
    for seed in range(3):
        step_bags = bags(kind, seed)
        direction = tf.constant(np.random.default_rng(seed).normal(size=[30, 1]), tf.float32)
        expected = step(one, step_bags, direction)
        np.testing.assert_allclose(step(sharded, step_bags, direction), expected, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(whole(sharded), whole(one), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_bfloat16_rounds_what_travels_and_nothing_else() -> None:
    exact, rounded = table(placement(CUTS["two"])), table(placement(CUTS["two"], tf.bfloat16))
    step_bags = bags("many", 1)
    expected = exact.lookup(step_bags).numpy()
    np.testing.assert_allclose(rounded.lookup(step_bags), expected, rtol=0.02, atol=0.01)
    np.testing.assert_array_equal(whole(rounded)[0], whole(exact)[0])


@pytest.mark.parametrize("before", [None, *CUTS.values()], ids=["one machine", *CUTS])
@pytest.mark.parametrize("after", [None, *CUTS.values()], ids=["one machine", *CUTS])
def test_a_checkpoint_fits_any_other_shards(before: list[int] | None, after: list[int] | None, tmp_path: Path) -> None:
    saved, restored = (table(cuts and placement(cuts)) for cuts in (before, after))
    saved.apply_gradient(bags("many", 1), tf.ones([30, DIMENSION]), 0.5)
    path = tf.train.Checkpoint(table=saved).write(str(tmp_path / "checkpoint"))
    tf.train.Checkpoint(table=restored).read(path).assert_consumed()
    for found, expected in zip(whole(restored), whole(saved), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert whole(restored)[1].sum() > 0.1 * ROWS * DIMENSION, "the accumulators have grown, and stay so"


def test_a_checkpoint_names_a_whole_table_whatever_its_shards(tmp_path: Path) -> None:
    names = []
    for number, cuts in enumerate([None, CUTS["whole"], CUTS["four"]]):
        path = tf.train.Checkpoint(table=table(cuts and placement(cuts))).write(str(tmp_path / str(number)))
        names.append(dict(tf.train.list_variables(path)))
    assert names[0] == names[1] == names[2]
    assert names[0]["table/embeddings/.ATTRIBUTES/VARIABLE_VALUE"] == [ROWS, DIMENSION]
