"""Training batches: order, continuation, draws, and the planned steps of any machine."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import chisquare

from dpsr.data.batches import blocks
from dpsr.data.batches.arrays import arrays_in_files, graph_array
from dpsr.data.batches.augmentation import ItemTexts, QueryTexts
from dpsr.data.batches.batch import BatchMaker
from dpsr.data.batches.features import FeatureTables
from dpsr.data.batches.steps import BatchSource, CatalogueBatches, LogBatches, epoch_batches
from dpsr.data.dataset.records import Layout, write_records
from dpsr.data.dataset.schema import INTERACTION, DatasetError, split_file
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.job import prepare

from .conftest import random_raw


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    raw = random_raw(tmp_path_factory.mktemp("raw"), rows=1500)
    raw.write()
    return Dataset.load(prepare(raw.config(), progress=False))


@pytest.fixture
def _many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_BLOCK_RECORDS", 64)
    monkeypatch.setattr(blocks, "_WINDOW_BLOCKS", 4)


def numbered_records(directory: Path, size: int) -> Path:
    """A file of records whose query is their number."""
    records = np.zeros(size, dtype=INTERACTION)
    records["query"], records["user"], records["event"] = np.arange(size), -1, 1
    write_records(directory / "part-0.bin", Layout((20, 1, 11, 13)), [records])
    return directory / "part-0.bin"


class NumbersOnly:
    """Stands where the tables are, for records that point nowhere."""

    def queries(self, interactions: tf.Tensor) -> tf.Tensor:
        return interactions

    def items(self, item_rows: tf.Tensor) -> tf.Tensor:
        return item_rows


def epoch_of(
    file: Path, *, epoch: int = 0, seed: int = 1, first_step: int = 0, batch_size: int = 32, at_once: int = 10
) -> np.ndarray:
    """The numbers of the records of an epoch and its negatives, [steps, batch + 8]; planned some steps at a time."""
    maker = BatchMaker(NumbersOnly(), batch_size=batch_size, random_negatives=8, num_items=1000)
    source = LogBatches(maker, file)
    plan = source.epoch(seed, epoch)

    @tf.function(input_signature=[source.spec, tf.TensorSpec([], tf.int64)])
    def rows_of(planned: object, steps: tf.Tensor) -> tf.Tensor:
        batch_of = source.batches(planned)

        def rows(position: tf.Tensor) -> tf.Tensor:
            batch = batch_of(position)
            return tf.concat([batch.query_rows, batch.item_rows[batch_size:]], axis=0)

        return tf.map_fn(rows, tf.range(steps), fn_output_signature=tf.int32)

    parts = []
    for first in range(first_step, source.steps, at_once):
        steps = min(at_once, source.steps - first)
        parts.append(rows_of(tf.nest.map_structure(tf.constant, plan.steps(first, steps)), steps).numpy())
    return np.concatenate(parts)


@pytest.mark.usefixtures("_many_blocks")
def test_an_epoch_has_every_record_once(tmp_path: Path) -> None:
    file = numbered_records(tmp_path, 1600)
    for epoch in range(3):
        assert sorted(epoch_of(file, epoch=epoch)[:, :32].ravel()) == list(range(1600))


@pytest.mark.usefixtures("_many_blocks")
def test_the_last_batch_is_filled_up_from_the_start_of_the_epoch(tmp_path: Path) -> None:
    order = epoch_of(numbered_records(tmp_path, 1001))[:, :32].ravel()
    assert len(order) == 1024
    assert sorted(order[:1001]) == list(range(1001))
    np.testing.assert_array_equal(order[1001:], order[:23])
    assert sorted(epoch_of(numbered_records(tmp_path, 3), batch_size=8)[0, :3]) == [0, 1, 2]


@pytest.mark.usefixtures("_many_blocks")
def test_seed_and_epoch_decide_everything(tmp_path: Path) -> None:
    file = numbered_records(tmp_path, 1600)
    first = epoch_of(file)
    np.testing.assert_array_equal(first, epoch_of(file))
    for other in (epoch_of(file, epoch=1), epoch_of(file, seed=2), epoch_of(file, seed=-1)):
        assert (first[:, :32] == other[:, :32]).mean() < 0.02
        assert (first[:, 32:] == other[:, 32:]).mean() < 0.02


@pytest.mark.usefixtures("_many_blocks")
def test_the_order_mixes_the_whole_epoch(tmp_path: Path) -> None:
    order = epoch_of(numbered_records(tmp_path, 6400))[:, :32].ravel()
    assert abs(np.corrcoef(order, np.arange(6400))[0, 1]) < 0.3
    assert (np.abs(np.diff(order)) == 1).mean() < 0.05


@pytest.mark.usefixtures("_many_blocks")
@pytest.mark.parametrize("records", [1600, 1001])
def test_an_epoch_that_is_entered_later_has_exactly_the_tail(tmp_path: Path, records: int) -> None:
    file = numbered_records(tmp_path, records)
    whole = epoch_of(file)
    for first_step in (1, 8, 13, len(whole) - 1):
        np.testing.assert_array_equal(epoch_of(file, first_step=first_step, at_once=3), whole[first_step:])


def test_random_negatives_are_uniform_and_independent_of_the_step(tmp_path: Path) -> None:
    negatives = epoch_of(numbered_records(tmp_path, 32 * 2000), at_once=500)[:, 32:]
    assert chisquare(np.bincount(negatives.ravel(), minlength=1000)).pvalue > 0.001
    assert len(np.unique(negatives, axis=0)) == len(negatives)


def test_files_without_records_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"part-0.bin: holds no record to train on"):
        epoch_of(numbered_records(tmp_path, 0))
    (tmp_path / "odd.bin").write_bytes(numbered_records(tmp_path, 3).read_bytes() + b"x")
    with pytest.raises(DatasetError, match=r"odd.bin: 19 bytes of records, which is not a multiple of 6"):
        epoch_of(tmp_path / "odd.bin")
    (tmp_path / "text.bin").write_bytes(b"x" * 40)
    with pytest.raises(DatasetError, match=r"text.bin: not a file of interactions"):
        epoch_of(tmp_path / "text.bin")


def test_a_catalogue_without_items_is_an_error() -> None:
    with pytest.raises(DatasetError, match="holds no item to train on"):
        CatalogueBatches(
            BatchMaker(NumbersOnly(), batch_size=8, random_negatives=1, num_items=0), np.empty(0, np.int32)
        )


def flat(batch: Any) -> list[np.ndarray]:
    return [np.asarray(part) for part in tf.nest.flatten(batch, expand_composites=True)]


def assert_same_batches(source: BatchSource, seed: int, epoch: int, expected: list[Any], sizes: Iterable[int]) -> None:
    """The steps of an epoch, in pieces of some sizes and from files alone, are the expected batches, bit for bit."""
    batch_of = tf.function(lambda plan, position: source.batches(plan)(position)).get_concrete_function(
        source.spec, tf.TensorSpec([], tf.int64)
    )
    assert not batch_of.captured_inputs, "everything is in files"
    plan, first = source.epoch(seed, epoch), 0
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
def test_any_worker_makes_the_batches_of_the_log(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int, block: int
) -> None:
    """Whatever the number of steps of a plan, also across windows and over the end of the order."""
    monkeypatch.setattr(blocks, "_BLOCK_RECORDS", block)

    def source(folder: Path | None) -> LogBatches:
        with nullcontext() if folder is None else arrays_in_files(folder):
            maker = BatchMaker(
                FeatureTables(dataset, 3, 2),
                batch_size=batch_size,
                random_negatives=5,
                num_items=50,
                query_texts=QueryTexts(dataset, 0.3),
                item_texts=ItemTexts(dataset, columns=None, words=(1, 3), typo_share=0.3),
                mixed_rows=3,
            )
            return LogBatches(maker, dataset.directory / split_file("train"))

    expected = list(epoch_batches(source(None), seed=4, epoch=2))
    assert_same_batches(source(tmp_path / "arrays"), 4, 2, expected, [1, 3, 2, 5, 100])


def test_any_worker_makes_the_batches_of_the_catalogue(dataset: Dataset, tmp_path: Path) -> None:
    items = dataset.schema.num_items

    def source(folder: Path | None) -> CatalogueBatches:
        with nullcontext() if folder is None else arrays_in_files(folder):
            texts = ItemTexts(dataset, columns=None, words=(1, 3), typo_share=0.3)
            tables = FeatureTables(dataset, 3)
        return CatalogueBatches(
            BatchMaker(tables, batch_size=16, random_negatives=5, num_items=items, item_texts=texts),
            np.arange(items, dtype=np.int32),
        )

    expected = list(epoch_batches(source(None), seed=4, epoch=2))
    assert len(expected) * 16 > items, "the last step goes on with the first items"
    assert_same_batches(source(tmp_path / "arrays"), 4, 2, expected, [1, 2, 100])


def test_a_graph_carries_no_array_of_a_dataset(dataset: Dataset, tmp_path: Path) -> None:
    def captured() -> list[tf.Tensor]:
        tables = FeatureTables(dataset, 3)
        return tf.function(tables.items).get_concrete_function(tf.TensorSpec([None], tf.int32)).captured_inputs

    with arrays_in_files(tmp_path / "arrays"):
        assert not captured()
    assert len(captured()) == 1, "the columns side by side are in no file of the dataset"


def test_a_missing_or_short_file_is_named(tmp_path: Path) -> None:
    with arrays_in_files(tmp_path):
        array = graph_array(np.arange(40, dtype=np.int32))
    with open(array.path, "r+b") as file:
        file.truncate(100)
    with pytest.raises(tf.errors.FailedPreconditionError, match="100 bytes, expected at least 160"):
        tf.identity(array)
    Path(array.path).unlink()
    with pytest.raises(tf.errors.NotFoundError, match="cannot be opened"):
        tf.identity(array)
