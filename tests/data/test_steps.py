"""Steps of an epoch by themselves are the steps of the epoch."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from dpsr.data import pipeline
from dpsr.data.mapped import ArrayFiles
from dpsr.data.pipeline import Batch, EpochPlan, JoinedTables, StepReader, training_batches
from dpsr.data.prepare import prepare
from dpsr.data.schema import split_file
from dpsr.data.tables import Dataset

from .conftest import random_raw


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    raw = random_raw(tmp_path_factory.mktemp("raw"), rows=1500)
    raw.write()
    return Dataset.load(prepare(raw.config(), progress=False))


def flat(batch: Batch) -> list[np.ndarray]:
    return [np.asarray(part) for part in tf.nest.flatten(batch, expand_composites=True)]


@pytest.mark.parametrize(("batch_size", "block"), [(32, 40), (64, 8192), (48, 7)])
def test_any_worker_makes_the_batches_of_the_epoch(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int, block: int
) -> None:
    """Whatever pieces the epoch is cut into, also across windows and over its end; from files alone."""
    monkeypatch.setattr(pipeline, "_BLOCK_RECORDS", block)
    file, files = dataset.directory / split_file("train"), ArrayFiles(tmp_path / "arrays")
    common = {"batch_size": batch_size, "random_negatives": 5, "num_items": 50}
    expected = list(training_batches(JoinedTables(dataset, 3), [file], **common, seed=4, epoch=2))
    reader = StepReader(JoinedTables(dataset, 3, tensor=files), file, **common, tensor=files)
    plan = EpochPlan(file, batch_size=batch_size, seed=4, epoch=2)

    @tf.function(reduce_retracing=True)
    def batches_of(steps: pipeline.StepPlan, position: tf.Tensor) -> Batch:
        return reader.batch(steps, reader.records(steps), position)

    first = 0
    for size in [1, 3, 2, 5, 100]:
        size = min(size, len(expected) - first)
        if size:
            part = pipeline.StepPlan(*map(tf.constant, plan.steps(first, size)))
            for position in range(size):
                got = batches_of(part, tf.constant(position, tf.int64))
                for ours, theirs in zip(flat(got), flat(expected[first + position]), strict=True):
                    np.testing.assert_array_equal(ours, theirs)
        first += size
    assert first == len(expected)


def test_a_graph_with_mapped_arrays_carries_none(dataset: Dataset, tmp_path: Path) -> None:
    tables = JoinedTables(dataset, 3, tensor=ArrayFiles(tmp_path / "arrays"))
    graph = tf.function(tables.items).get_concrete_function(tf.TensorSpec([None], tf.int32))
    assert not graph.captured_inputs


def test_a_missing_or_short_file_is_named(tmp_path: Path) -> None:
    array = ArrayFiles(tmp_path)(np.arange(40, dtype=np.int32))
    with open(array.path, "r+b") as file:
        file.truncate(100)
    with pytest.raises(tf.errors.FailedPreconditionError, match="100 bytes, expected at least 160"):
        tf.identity(array)
    Path(array.path).unlink()
    with pytest.raises(tf.errors.NotFoundError, match="cannot be opened"):
        tf.identity(array)
