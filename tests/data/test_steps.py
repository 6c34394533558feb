"""Steps of an epoch by themselves are the steps of the epoch."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from dpsr.data.batches import blocks
from dpsr.data.batches.augmentation import ItemTexts, QueryTexts
from dpsr.data.batches.features import FeatureTables, ToTensor
from dpsr.data.batches.mapped import ArrayFiles
from dpsr.data.batches.pipeline import Batch, BatchMaker, pretraining_batches, training_batches
from dpsr.data.batches.steps import CatalogueSteps, LogSteps, Steps
from dpsr.data.dataset.schema import split_file
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.job import prepare

from .conftest import random_raw


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    raw = random_raw(tmp_path_factory.mktemp("raw"), rows=1500)
    raw.write()
    return Dataset.load(prepare(raw.config(), progress=False))


def flat(batch: Batch) -> list[np.ndarray]:
    return [np.asarray(part) for part in tf.nest.flatten(batch, expand_composites=True)]


def assert_same_batches(of_kind: Steps, seed: int, epoch: int, expected: list[Batch], sizes: Iterable[int]) -> None:
    """The steps of an epoch, in pieces of some sizes, are the expected batches, bit for bit."""
    batch_of = tf.function(lambda plan, position: of_kind.batches(plan)(position)).get_concrete_function(
        of_kind.spec, tf.TensorSpec([], tf.int64)
    )
    assert not batch_of.captured_inputs, "everything is in files"
    plan, first = of_kind.epoch(seed, epoch), 0
    for size in sizes:
        size = min(size, len(expected) - first)
        if size:
            part = tf.nest.map_structure(tf.constant, plan.steps(first, size))
            for position in range(size):
                got = batch_of(part, tf.constant(position, tf.int64))
                for ours, theirs in zip(flat(got), flat(expected[first + position]), strict=True):
                    np.testing.assert_array_equal(ours, theirs)
        first += size
    assert first == len(expected)


@pytest.mark.parametrize(("batch_size", "block"), [(32, 40), (64, 8192), (48, 7)])
def test_any_worker_makes_the_batches_of_the_epoch(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int, block: int
) -> None:
    """Whatever pieces the epoch is cut into, also across windows and over its end; from files alone."""
    monkeypatch.setattr(blocks, "_BLOCK_RECORDS", block)
    file, files = dataset.directory / split_file("train"), ArrayFiles(tmp_path / "arrays")
    common = {"batch_size": batch_size, "random_negatives": 5, "num_items": 50, "mixed_rows": 3}

    def maker(tensor: ToTensor) -> BatchMaker:
        return BatchMaker(
            FeatureTables(dataset, 3, 2, tensor=tensor),
            query_texts=QueryTexts(dataset, 0.3, tensor=tensor),
            item_texts=ItemTexts(dataset, columns=None, words=(1, 3), typo_share=0.3, tensor=tensor),
            **common,
        )

    expected = list(training_batches(maker(tf.constant), [file], seed=4, epoch=2))
    of_log = LogSteps(maker(files), file, tensor=files)
    assert_same_batches(of_log, 4, 2, expected, [1, 3, 2, 5, 100])


def test_any_worker_makes_the_batches_of_pretraining(dataset: Dataset, tmp_path: Path) -> None:
    items, files = dataset.schema.num_items, ArrayFiles(tmp_path / "arrays")

    def maker(tensor: ToTensor) -> BatchMaker:
        texts = ItemTexts(dataset, columns=None, words=(1, 3), typo_share=0.3, tensor=tensor)
        tables = FeatureTables(dataset, 3, tensor=tensor)
        return BatchMaker(tables, batch_size=16, random_negatives=5, num_items=items, item_texts=texts)

    expected = list(pretraining_batches(maker(tf.constant), seed=4, epoch=2))
    assert len(expected) * 16 > items, "the last step goes on with the first items"
    assert_same_batches(CatalogueSteps(maker(files)), 4, 2, expected, [1, 2, 100])


def test_a_graph_with_mapped_arrays_carries_none(dataset: Dataset, tmp_path: Path) -> None:
    tables = FeatureTables(dataset, 3, tensor=ArrayFiles(tmp_path / "arrays"))
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
