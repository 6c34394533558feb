"""Steps on copies of the dense weights: the same training, with the changes added to the variables."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from dpsr.config import LossConfig, ModelConfig, TrainingConfig
from dpsr.data.batches.batch import Batch, BatchMaker
from dpsr.data.batches.features import FeatureTables
from dpsr.data.batches.steps import LogBatches, epoch_batches
from dpsr.data.dataset.schema import split_file
from dpsr.data.dataset.tables import Dataset
from dpsr.model.two_tower import TwoTower
from dpsr.training.optimizers import Copies
from dpsr.training.run_optimizers import adagrad
from dpsr.training.step import MatchingStep


@pytest.fixture(scope="module")
def batches(
    make_dataset: Callable[..., Dataset], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Dataset, list[Batch]]:
    dataset = make_dataset(tmp_path_factory.mktemp("dataset"))
    maker = BatchMaker(
        FeatureTables(dataset, 4), batch_size=16, random_negatives=15, num_items=dataset.schema.num_items
    )
    source = LogBatches(maker, dataset.directory / split_file("train"))
    return dataset, list(itertools.islice(epoch_batches(source, seed=1, epoch=0), 12))


def new_step(
    dataset: Dataset, wire: tf.DType = tf.float32, head_tables: bool = False, token_dropout: float = 0.0
) -> MatchingStep:
    sizes = ModelConfig(dimension=8, hidden=[12], heads=2, history_length=4, head_tables=head_tables)
    model = TwoTower(sizes, dataset.schema, seed=3)
    optimizer = adagrad(model, TrainingConfig(batch_size=16, learning_rate=0.1, table_learning_rate=0.1))
    optimizer.wire = wire
    return MatchingStep(model, LossConfig(group_size=16), optimizer, token_dropout=token_dropout)


def on_copies(step: MatchingStep, batches: list[Batch], every: int) -> float:
    def take(position: tf.Tensor, copies: Copies | None) -> tuple[tf.Tensor, Copies | None]:
        return step.take(batches[int(position)], copies)

    return float(step.optimizer.take_steps(tf.constant(len(batches), tf.int64), every, take))


def everything(step: MatchingStep) -> list[np.ndarray]:
    tables = [part for table in step._model.tables.values() for part in (table.embeddings, table.accumulator)]
    return [each.numpy() for each in [*step.optimizer.variables, *step.optimizer.state.variables, *tables]]


@pytest.mark.parametrize(
    ("steps", "every", "head_tables"), [(3, 1, False), (4, 2, False), (5, 3, False), (5, 3, True), (6, 100, False)]
)
def test_one_worker_trains_as_without_copies(
    batches: tuple[Dataset, list[Batch]], steps: int, every: int, head_tables: bool
) -> None:
    dataset, drawn = batches
    plain, copying = new_step(dataset, head_tables=head_tables), new_step(dataset, head_tables=head_tables)
    losses = [float(plain(batch)) for batch in drawn[:steps]]
    total = on_copies(copying, drawn[:steps], every)
    assert total == pytest.approx(sum(losses), rel=1e-5)
    for expected, found in zip(everything(plain), everything(copying), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)
    assert int(copying.optimizer.iterations()) == steps


def test_what_others_change_meanwhile_stays(batches: tuple[Dataset, list[Batch]]) -> None:
    """Two workers read before either adds: the variables end at their start plus both changes."""
    dataset, drawn = batches
    step = new_step(dataset)
    start = [variable.numpy() for variable in step.optimizer.variables]
    changes = []
    for batch in drawn[:2]:
        alone = new_step(dataset)
        before = alone.optimizer.read()
        _, after = alone.take(batch, before)
        assert after is not None
        changes.append((before, after))
    for before, after in changes:
        step.optimizer.add(before, after)
    for position, variable in enumerate(step.optimizer.variables):
        moved = sum(after.weights[position].numpy() - before.weights[position].numpy() for before, after in changes)
        np.testing.assert_allclose(variable.numpy(), start[position] + moved, rtol=1e-5, atol=1e-6)
    assert int(step.optimizer.iterations()) == 2


def test_copies_are_rounded_on_the_wire_and_the_layers_are_not(batches: tuple[Dataset, list[Batch]]) -> None:
    dataset, _ = batches
    dense = new_step(dataset, tf.bfloat16).optimizer
    start = [variable.numpy() for variable in dense.variables]
    before = dense.read()
    for copy, exact in zip(before.weights, start, strict=True):
        np.testing.assert_allclose(copy.numpy(), exact, rtol=2**-8)
    assert any((copy.numpy() != exact).any() for copy, exact in zip(before.weights, start, strict=True))
    random = np.random.default_rng(1)
    changes = [random.normal(0, 0.01, exact.shape) * (random.random(exact.shape) < 0.5) for exact in start]
    after = before._replace(
        weights=tuple(weight + change for weight, change in zip(before.weights, changes, strict=True))
    )
    dense.add(before, after)
    for variable, exact, change in zip(dense.variables, start, changes, strict=True):
        np.testing.assert_array_equal(variable.numpy()[change == 0], exact[change == 0])
        np.testing.assert_allclose(variable.numpy() - exact, change, rtol=2**-7, atol=1e-6)


def test_every_step_on_copies_drops_other_tokens(batches: tuple[Dataset, list[Batch]]) -> None:
    dataset, drawn = batches
    plain, copying = new_step(dataset, token_dropout=0.5), new_step(dataset, token_dropout=0.5)
    losses = [float(plain(batch)) for batch in 4 * drawn[:1]]
    total = on_copies(copying, 4 * drawn[:1], 4)
    assert total == pytest.approx(sum(losses), rel=1e-5)


def test_the_variables_are_read_again_afterwards(batches: tuple[Dataset, list[Batch]]) -> None:
    dataset, drawn = batches
    step = new_step(dataset)
    on_copies(step, drawn[:2], 2)
    batch = drawn[3]
    before = float(step.loss(batch))
    for variable in step.optimizer.variables:
        variable.assign(tf.zeros_like(variable) + 0.01)
    assert float(step.loss(batch)) != before
