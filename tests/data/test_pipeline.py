"""Training batches: order, continuation, draws, and the join against NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import chisquare

from dpsr.data.batches import blocks
from dpsr.data.batches.features import TITLE_TOKENS, FeatureTables
from dpsr.data.batches.pipeline import Batch, BatchMaker, training_batches
from dpsr.data.dataset.records import Layout, write_records
from dpsr.data.dataset.schema import INTERACTION, DatasetError, split_file
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.job import prepare

from .conftest import random_raw

HISTORY = 5


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    raw = random_raw(tmp_path_factory.mktemp("raw"))
    raw.write()
    return Dataset.load(prepare(raw.config(), progress=False))


@pytest.fixture(scope="module")
def tables(dataset: Dataset) -> FeatureTables:
    return FeatureTables(dataset, HISTORY)


@pytest.fixture(autouse=True)
def _many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_BLOCK_RECORDS", 64)
    monkeypatch.setattr(blocks, "_WINDOW_BLOCKS", 4)


def numbered_records(directory: Path, *sizes: int) -> list[Path]:
    """Files of records whose query is their number."""
    files, start = [], 0
    for place, size in enumerate(sizes):
        records = np.zeros(size, dtype=INTERACTION)
        records["query"], records["user"], records["event"] = np.arange(start, start + size), -1, 1
        files.append(directory / f"part-{place}.bin")
        write_records(files[-1], Layout((20, 1, 11, 13)), [records])
        start += size
    return files


class NumbersOnly:
    """Stands where the tables are, for records that point nowhere."""

    def queries(self, interactions: tf.Tensor) -> tf.Tensor:
        return interactions

    def items(self, item_rows: tf.Tensor) -> tf.Tensor:
        return item_rows


def epoch_of(
    files: list[Path],
    *,
    epoch: int = 0,
    seed: int = 1,
    skip_steps: int = 0,
    batch_size: int = 32,
    worker: int = 0,
    num_workers: int = 1,
) -> np.ndarray:
    """The numbers of the records of an epoch and its negatives, [steps, batch + 8]."""
    batches = training_batches(
        BatchMaker(NumbersOnly(), batch_size=batch_size, random_negatives=8, num_items=1000),
        files,
        seed=seed,
        epoch=epoch,
        skip_steps=skip_steps,
        worker=worker,
        num_workers=num_workers,
    )
    rows = [np.concatenate([batch.query_rows, batch.item_rows[batch_size:]]) for batch in batches.as_numpy_iterator()]
    return np.array(rows).reshape(-1, batch_size + 8)


def test_an_epoch_has_every_record_once(tmp_path: Path) -> None:
    files = numbered_records(tmp_path, 1000, 1, 599)
    for epoch in range(3):
        assert sorted(epoch_of(files, epoch=epoch)[:, :32].ravel()) == list(range(1600))


def test_the_last_batch_is_filled_up_from_the_start_of_the_epoch(tmp_path: Path) -> None:
    files = numbered_records(tmp_path, 1001)
    order = epoch_of(files)[:, :32].ravel()
    assert len(order) == 1024
    assert sorted(order[:1001]) == list(range(1001))
    np.testing.assert_array_equal(order[1001:], order[:23])
    assert sorted(epoch_of(numbered_records(tmp_path, 3), batch_size=8)[0, :3]) == [0, 1, 2]


def test_seed_and_epoch_decide_everything(tmp_path: Path) -> None:
    files = numbered_records(tmp_path, 1600)
    first = epoch_of(files)
    np.testing.assert_array_equal(first, epoch_of(files))
    for other in (epoch_of(files, epoch=1), epoch_of(files, seed=2), epoch_of(files, seed=-1)):
        assert (first[:, :32] == other[:, :32]).mean() < 0.02
        assert (first[:, 32:] == other[:, 32:]).mean() < 0.02


def test_the_order_mixes_the_whole_epoch(tmp_path: Path) -> None:
    order = epoch_of(numbered_records(tmp_path, 6400))[:, :32].ravel()
    assert abs(np.corrcoef(order, np.arange(6400))[0, 1]) < 0.3
    assert (np.abs(np.diff(order)) == 1).mean() < 0.05


@pytest.mark.parametrize("records", [1600, 1001])
def test_skipped_steps_leave_exactly_the_tail(tmp_path: Path, records: int) -> None:
    files = numbered_records(tmp_path, records)
    whole = epoch_of(files)
    for skip_steps in (0, 1, 8, 13, len(whole) - 1, len(whole)):
        np.testing.assert_array_equal(epoch_of(files, skip_steps=skip_steps), whole[skip_steps:])
    with pytest.raises(ValueError, match=f"an epoch has {len(whole)} steps"):
        epoch_of(files, skip_steps=len(whole) + 1)


@pytest.mark.parametrize(("sizes", "workers"), [((1000, 1, 599), 3), ((64, 7), 2), ((5,), 5)])
def test_workers_have_disjoint_shares_that_are_complete(tmp_path: Path, sizes: tuple[int, ...], workers: int) -> None:
    files, total = numbered_records(tmp_path, *sizes), sum(sizes)
    shares, steps, negatives = [], set(), []
    for worker in range(workers):
        batches = epoch_of(files, worker=worker, num_workers=workers)
        order = batches[:, :32].ravel()
        share = len(np.unique(order))
        np.testing.assert_array_equal(order[share:], np.resize(order[:share], len(order))[share:])
        np.testing.assert_array_equal(epoch_of(files, worker=worker, num_workers=workers, skip_steps=1), batches[1:])
        shares.append(order[:share])
        steps.add(len(batches))
        negatives.append(batches[0, 32:])
    assert sorted(np.concatenate(shares)) == list(range(total))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert steps == {-(-max(map(len, shares)) // 32)}
    assert len(np.unique(negatives, axis=0)) == workers
    with pytest.raises(DatasetError, match=f"holds {total} records, too few for {total + 1} workers"):
        epoch_of(files, num_workers=total + 1)


def test_random_negatives_are_uniform_and_independent_of_the_step(tmp_path: Path) -> None:
    negatives = epoch_of(numbered_records(tmp_path, 32 * 2000))[:, 32:]
    assert chisquare(np.bincount(negatives.ravel(), minlength=1000)).pvalue > 0.001
    assert len(np.unique(negatives, axis=0)) == len(negatives)


def test_files_without_records_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"part-0.bin: holds no record to train on"):
        epoch_of(numbered_records(tmp_path, 0))
    (tmp_path / "odd.bin").write_bytes(numbered_records(tmp_path, 3)[0].read_bytes() + b"x")
    with pytest.raises(DatasetError, match=r"odd.bin: 19 bytes are no whole number of 6-byte records"):
        epoch_of([tmp_path / "odd.bin"])
    (tmp_path / "text.bin").write_bytes(b"x" * 40)
    with pytest.raises(DatasetError, match=r"text.bin: not a file of interactions"):
        epoch_of([tmp_path / "text.bin"])


def test_the_join_equals_numpy(dataset: Dataset, tables: FeatureTables) -> None:
    records = np.concatenate([dataset.interactions(split) for split in ("train", "valid", "test")])
    assert (records["user"] < 0).any()
    assert (records["history_end"] > HISTORY).any()
    fields = tf.constant(np.stack([records[name] for name in INTERACTION.names or ()], axis=1))
    queries = tf.function(tables.queries)(fields)
    assert queries.tokens.to_list() == [dataset.query_tokens[row].tolist() for row in records["query"]]
    genders = [dataset.user_profile["gender"][user] if user >= 0 else 0 for user in records["user"]]
    assert queries.profile["gender"].numpy().tolist() == genders
    histories = [
        dataset.history[user][:end][-HISTORY:].tolist() if user >= 0 else []
        for user, end in zip(records["user"], records["history_end"], strict=True)
    ]
    assert queries.history.to_list() == histories
    items = tf.function(tables.items)(tf.constant(records["item"].copy()))
    assert items.tokens.to_list() == [dataset.item_tokens[row].tolist() for row in records["item"]]
    np.testing.assert_array_equal(items.categorical["brand"], dataset.item_categorical["brand"][records["item"]])
    for ragged in (queries.tokens, queries.history, items.tokens):
        assert ragged.dtype == tf.int32


def test_batches_are_joined_records_with_shared_negatives(dataset: Dataset, tables: FeatureTables) -> None:
    files = [dataset.directory / split_file("train")]
    maker = BatchMaker(tables, batch_size=32, random_negatives=16, num_items=dataset.schema.num_items)
    batches = training_batches(maker, files, seed=1, epoch=0)
    batch: Batch = next(iter(batches))
    assert batch.query_rows.shape == (32,)
    assert batch.item_rows.shape == (48,)
    assert batch.items.tokens.to_list() == [dataset.item_tokens[row].tolist() for row in batch.item_rows.numpy()]
    assert batch.queries.tokens.to_list() == [dataset.query_tokens[row].tolist() for row in batch.query_rows.numpy()]
    pairs = {(record["query"], record["item"]) for record in dataset.interactions("train")}
    assert set(zip(batch.query_rows.numpy(), batch.item_rows.numpy(), strict=False)) <= pairs
    assert batches.element_spec.query_rows.shape == (32,)  # the graph knows B
    assert batches.element_spec.item_rows.shape == (48,)


def test_titles_of_the_last_items_of_the_history(dataset: Dataset) -> None:
    records = dataset.interactions("test")
    fields = tf.constant(np.stack([records[name] for name in INTERACTION.names or ()], axis=1))
    found = FeatureTables(dataset, HISTORY, 2).queries(fields).history_titles
    assert found is not None
    expected = []
    for record in records:
        past = dataset.history[record["user"]][: record["history_end"]] if record["user"] >= 0 else []
        expected.append([token for item in past[-2:] for token in dataset.item_tokens[item].tolist()[:TITLE_TOKENS]])
    assert found.to_list() == expected
    assert max(map(len, expected)) == 2 * TITLE_TOKENS
    assert FeatureTables(dataset, HISTORY).queries(fields).history_titles is None


def test_no_history_where_its_length_is_zero(dataset: Dataset) -> None:
    records = dataset.interactions("test")
    fields = tf.constant(np.stack([records[name] for name in INTERACTION.names or ()], axis=1))
    history = FeatureTables(dataset, 0).queries(fields).history
    assert history.shape[0] == len(records)
    assert history.flat_values.shape == (0,)
