"""Steps on copies of the dense layers: the same training, with what changed added to the variables."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from dpsr.config import LossConfig, ModelConfig, TrainingConfig
from dpsr.data.batches.features import FeatureTables
from dpsr.data.batches.pipeline import BatchMaker, training_batches
from dpsr.data.dataset.schema import split_file
from dpsr.data.dataset.tables import Dataset
from dpsr.model.two_tower import TwoTower
from dpsr.training.step import TrainingStep


@pytest.fixture(scope="module")
def batches(
    make_dataset: Callable[..., Dataset], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Dataset, tf.data.Dataset]:
    dataset = make_dataset(tmp_path_factory.mktemp("dataset"))
    maker = BatchMaker(
        FeatureTables(dataset, 4), batch_size=16, random_negatives=15, num_items=dataset.schema.num_items
    )
    found = training_batches(maker, [dataset.directory / split_file("train")], seed=1, epoch=0)
    return dataset, found.take(12).apply(tf.data.experimental.assert_cardinality(12))


def new_step(
    dataset: Dataset, wire: tf.DType = tf.float32, head_tables: bool = False, **training: float
) -> TrainingStep:
    sizes = ModelConfig(dimension=8, hidden=[12], heads=2, history_length=4, head_tables=head_tables)
    model = TwoTower(sizes, dataset.schema, seed=3)
    config = TrainingConfig(batch_size=16, learning_rate=0.1, table_learning_rate=0.1, **training)
    step = TrainingStep(model, LossConfig(group_size=16), config, np.ones(dataset.schema.num_items))
    step.dense.wire = wire
    return step


def on_copies(step: TrainingStep, batches: tf.data.Dataset, every: int) -> float:
    steps = len(batches)

    @tf.function
    def run(iterator: tf.data.Iterator) -> tf.Tensor:
        return step.dense.take_steps(tf.constant(steps, tf.int64), every, lambda _: step(next(iterator)))

    return float(run(iter(batches)))


def everything(step: TrainingStep) -> list[np.ndarray]:
    tables = [part for table in step._model.tables.values() for part in (table.embeddings, table.accumulator)]
    return [each.numpy() for each in [*step.dense.variables, *step.optimizer.variables, *tables]]


@pytest.mark.parametrize(
    ("steps", "every", "head_tables"), [(3, 1, False), (4, 2, False), (5, 3, False), (5, 3, True), (6, 100, False)]
)
def test_one_worker_trains_as_without_copies(
    batches: tuple[Dataset, tf.data.Dataset], steps: int, every: int, head_tables: bool
) -> None:
    dataset, drawn = batches
    plain, copying = new_step(dataset, head_tables=head_tables), new_step(dataset, head_tables=head_tables)
    losses = [float(plain(batch)) for batch in drawn.take(steps)]
    total = on_copies(copying, drawn.take(steps), every)
    assert total == pytest.approx(sum(losses), rel=1e-5)
    for expected, found in zip(everything(plain), everything(copying), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)
    assert int(copying.optimizer.iterations) == steps


def test_what_others_change_meanwhile_stays(batches: tuple[Dataset, tf.data.Dataset]) -> None:
    """Two workers read before either adds: the variables end at their start plus both changes."""
    dataset, drawn = batches
    step = new_step(dataset)
    start = [variable.numpy() for variable in step.dense.variables]
    changes = []
    for batch in drawn.take(2):
        alone = new_step(dataset)
        before = alone.dense._read()
        alone.dense._use(before)
        alone(batch)
        after = alone.dense._copies
        alone.dense._use(None)
        changes.append((before, after))
    for before, after in changes:
        step.dense._add(before, after)
    for position, variable in enumerate(step.dense.variables):
        moved = sum(after.layers[position].numpy() - before.layers[position].numpy() for before, after in changes)
        np.testing.assert_allclose(variable.numpy(), start[position] + moved, rtol=1e-5, atol=1e-6)
    assert int(step.optimizer.iterations) == 2


def test_copies_are_rounded_on_the_wire_and_the_layers_are_not(batches: tuple[Dataset, tf.data.Dataset]) -> None:
    dataset, _ = batches
    dense = new_step(dataset, tf.bfloat16).dense
    start = [variable.numpy() for variable in dense.variables]
    before = dense._read()
    for copy, exact in zip(before.layers, start, strict=True):
        np.testing.assert_allclose(copy.numpy(), exact, rtol=2**-8)
    assert any((copy.numpy() != exact).any() for copy, exact in zip(before.layers, start, strict=True))
    random = np.random.default_rng(1)
    changes = [random.normal(0, 0.01, exact.shape) * (random.random(exact.shape) < 0.5) for exact in start]
    after = before._replace(layers=tuple(layer + change for layer, change in zip(before.layers, changes, strict=True)))
    dense._add(before, after)
    for variable, exact, change in zip(dense.variables, start, changes, strict=True):
        np.testing.assert_array_equal(variable.numpy()[change == 0], exact[change == 0])
        np.testing.assert_allclose(variable.numpy() - exact, change, rtol=2**-7, atol=1e-6)


def test_every_step_on_copies_drops_other_tokens(batches: tuple[Dataset, tf.data.Dataset]) -> None:
    dataset, drawn = batches
    plain, copying = new_step(dataset, token_dropout=0.5), new_step(dataset, token_dropout=0.5)
    losses = [float(plain(batch)) for batch in drawn.take(1).repeat(4)]
    total = on_copies(copying, drawn.take(1).repeat(4), 4)
    assert total == pytest.approx(sum(losses), rel=1e-5)


def test_the_variables_are_read_again_afterwards(batches: tuple[Dataset, tf.data.Dataset]) -> None:
    dataset, drawn = batches
    step = new_step(dataset)
    on_copies(step, drawn.take(2), 2)
    (batch,) = drawn.skip(3).take(1)
    before = float(step.loss(batch))
    for variable in step.dense.variables:
        variable.assign(tf.zeros_like(variable) + 0.01)
    assert float(step.loss(batch)) != before
