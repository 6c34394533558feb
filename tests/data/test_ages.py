"""The ages of records: beside the right record in every split, over increments, and in the batches of any order."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from dpsr.data.batches import blocks
from dpsr.data.batches.batch import BatchMaker
from dpsr.data.batches.steps import LogBatches, WeightedLogBatches, epoch_batches
from dpsr.data.dataset.schema import SPLITS, DatasetError, ages_file
from dpsr.data.dataset.tables import Dataset
from dpsr.data.dataset.verify import verify
from dpsr.data.prepare.job import prepare

from .conftest import START, Raw
from .test_steps import NumbersOnly, numbered_records

ITEMS = [{"item_id": f"i{number}", "title": f"thing {number}", "brand": None} for number in range(20)]


def numbered_log(directory: Path, times: list[Any], first: int = 0) -> Raw:
    """A log whose queries are numbers; a skip now and then."""
    rows = [
        {
            "query": str(first + number),
            "item_id": f"i{number % 20}",
            "timestamp": time,
            "event": "skip" if number % 10 == 9 else "click",
        }
        for number, time in enumerate(times)
    ]
    return Raw(directory, ITEMS, rows)


def ages_of(dataset: Dataset) -> dict[int, int]:
    """Number of the query -> age in units of the clock."""
    texts, found = dataset.query_texts().to_pylist(), {}
    for split in SPLITS:
        records, ages = dataset.interactions(split), dataset.ages(split)
        assert ages.dtype == np.uint16
        found |= {int(texts[row]): int(age) for row, age in zip(records["query"], ages, strict=True)}
    step = dataset.manifest["ages"]["step"]
    return {number: age * step for number, age in found.items()}


def drawn_times(seed: int, count: int, first: datetime) -> list[datetime]:
    seconds = np.random.default_rng(seed).integers(0, 30 * 86_400, count)
    return [first + timedelta(seconds=int(each)) for each in seconds]


def test_every_record_has_its_age_and_keeps_it(tmp_path: Path) -> None:
    times = drawn_times(1, 2000, START)
    raw = numbered_log(tmp_path, times)
    raw.write()
    dataset = Dataset.load(prepare(raw.config(), progress=False))
    microsecond = timedelta(microseconds=1)
    expected = {number: (max(times) - time) // microsecond for number, time in enumerate(times) if number % 10 != 9}
    found = ages_of(dataset)
    assert found.keys() == expected.keys()
    half = dataset.manifest["ages"]["step"] / 2
    assert half < 30 * 86_400e6 / 65_535
    assert max(abs(found[number] - expected[number]) for number in found) <= half + 1
    assert verify(dataset.directory) == []

    later = drawn_times(2, 500, START + timedelta(days=31))
    increment = numbered_log(tmp_path, later, first=2000)
    increment.write()
    today = Dataset.load(prepare(increment.config(), append=True, progress=False))
    times += later
    expected = {number: (max(times) - time) // microsecond for number, time in enumerate(times) if number % 10 != 9}
    found = ages_of(today)
    assert found.keys() == expected.keys()
    # Rounded once by each preparation.
    assert (
        max(abs(found[number] - expected[number]) for number in found) <= half + today.manifest["ages"]["step"] / 2 + 1
    )
    assert verify(today.directory) == []


def test_a_row_of_the_future_makes_no_other_one_old(tmp_path: Path) -> None:
    """It is rejected with its place; a clock that is some hours ahead is not."""
    now = datetime.now(UTC).replace(tzinfo=None)
    times = [*drawn_times(3, 500, now - timedelta(days=31)), now + timedelta(hours=20), datetime(2214, 1, 1)]
    raw = numbered_log(tmp_path, times)
    raw.write()
    dataset = Dataset.load(prepare(raw.config(max_rejected_share=0.01), progress=False))
    assert dataset.manifest["inputs"]["interactions"]["rejected"] == {"timestamp in the future": 1}
    rejected = [json.loads(line) for line in (dataset.directory / "rejected/interactions.jsonl").open()]
    assert [row["row"] for row in rejected] == [len(times)]
    assert dataset.manifest["ages"]["last"].startswith((now + timedelta(hours=20)).isoformat(timespec="minutes"))
    assert dataset.manifest["ages"]["step"] < 33 * 86_400e6 / 65_535


def test_integers_have_their_own_unit(tmp_path: Path) -> None:
    raw = numbered_log(tmp_path, list(range(1000, 3000)))
    raw.write()
    dataset = Dataset.load(prepare(raw.config(), progress=False))
    assert dataset.manifest["ages"] == {"last": 2999, "step": 1}
    assert ages_of(dataset) == {number: 1999 - number for number in range(2000) if number % 10 != 9}


def test_a_log_without_times_says_so(tmp_path: Path) -> None:
    raw = numbered_log(tmp_path, list(range(1000)))
    for row in raw.interactions:
        del row["timestamp"]
    raw.write()
    dataset = Dataset.load(prepare(raw.config(), progress=False))
    assert not (dataset.directory / ages_file("train")).exists()
    with pytest.raises(DatasetError, match=r"keeps no times of its clicks \(time unit: row\); map the log's time"):
        dataset.ages("train")


def test_weights_stay_with_their_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the batches without weights, across blocks, windows and the end of the epoch."""
    monkeypatch.setattr(blocks, "_BLOCK_RECORDS", 64)
    monkeypatch.setattr(blocks, "_WINDOW_BLOCKS", 4)
    file = numbered_records(tmp_path, 1001)
    maker = BatchMaker(NumbersOnly(), batch_size=32, random_negatives=8, num_items=1000)
    weights = (np.arange(1001) / 7).astype(np.float32)
    weighted = epoch_batches(WeightedLogBatches(maker, file, weights), seed=1, epoch=2)
    for one, other in zip(weighted, epoch_batches(LogBatches(maker, file), seed=1, epoch=2), strict=True):
        np.testing.assert_array_equal(one.query_rows, other.query_rows)
        np.testing.assert_array_equal(one.item_rows, other.item_rows)
        np.testing.assert_array_equal(one.weights, weights[one.query_rows.numpy()])
        assert other.weights is None


def test_mixed_rows_have_weight_one() -> None:
    class Texts:
        def queries(self, item_rows: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
            return item_rows

    class Tables(NumbersOnly):
        def queries(self, interactions: tf.Tensor) -> tf.Tensor:
            return interactions[:, 0]

        def with_user_context(self, text: tf.Tensor, *context: tf.Tensor) -> tf.Tensor:
            return text

    maker = BatchMaker(Tables(), batch_size=8, random_negatives=2, num_items=9, item_texts=Texts(), mixed_rows=3)
    batch = maker.of_records(tf.zeros([5, 5], tf.int32), tf.constant([1, 2], tf.int64), tf.fill([5], 0.5))
    assert batch.weights.numpy().tolist() == [0.5] * 5 + [1.0] * 3
