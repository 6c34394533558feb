"""Ranges by time hold about equally many records, whatever the distribution of the times."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpsr.data.dataset import spill
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.job import prepare
from dpsr.data.prepare.log import TIMED
from dpsr.data.prepare.time_ranges import TimeRanges

from .conftest import START, random_raw
from .test_prepare import check_against_oracle

ROWS = 60_000

DISTRIBUTIONS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "uniform": lambda random: random.integers(0, 10**12, ROWS),
    "one of 1970": lambda random: np.append(random.integers(10**15, 10**15 + 1000, ROWS - 1), 0),
    "all the same": lambda random: np.full(ROWS, 10**15),
    "exponential": lambda random: (2.0 ** random.uniform(-62, 62, ROWS)).astype(np.int64),
    "ascending": lambda random: np.arange(ROWS),
    "three values": lambda random: random.choice([-(10**15), 0, 7], ROWS, p=[0.01, 0.9, 0.09]),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_no_range_is_much_larger_than_a_bucket(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill, "BUCKET_RECORDS", 4096)
    records = np.zeros(ROWS, TIMED)
    records["time"], records["row"] = DISTRIBUTIONS[name](np.random.default_rng(1)), np.arange(ROWS)
    ranges = TimeRanges()
    blocks = np.split(records, range(5000, ROWS, 5000))
    for block in blocks:
        ranges.add(block)
    ranges.cut(ROWS)
    found = ranges.of(records)
    step = 4096 // 1024
    assert np.bincount(found, minlength=len(ranges)).max() <= 4096 + step * len(blocks)
    assert len(ranges) <= ROWS // 4096 + 1
    order = np.lexsort((records["row"], records["time"]))
    assert (np.diff(found[order]) >= 0).all()


@given(st.lists(st.integers(-3, 3), max_size=60), st.integers(1, 9))
def test_ranges_ascend_with_time_and_place(times: list[int], bucket: int) -> None:
    records = np.zeros(len(times), TIMED)
    records["time"], records["row"] = times, np.arange(len(times))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spill, "BUCKET_RECORDS", bucket)
        ranges = TimeRanges()
        for start in range(0, len(times), 7):
            ranges.add(records[start : start + 7])
        ranges.cut(len(times))
    found = ranges.of(records)[np.lexsort((records["row"], records["time"]))]
    assert (np.diff(found) >= 0).all()
    assert np.bincount(found, minlength=1).max() <= bucket  # every record is a sample of so small a bucket


def one_of_1970(random: np.random.Generator, rows: int) -> list[datetime]:
    return [
        datetime(1970, 1, 1),
        *(START + timedelta(minutes=int(each)) for each in random.integers(900, size=rows - 1)),
    ]


def nearly_all_the_same(random: np.random.Generator, rows: int) -> list[datetime]:
    return [START + timedelta(minutes=min(place, 20)) for place in random.permutation(rows).tolist()]


def heavy_skew(random: np.random.Generator, rows: int) -> list[datetime]:
    first = START - timedelta(seconds=2**28)
    return [first + timedelta(seconds=float(2.0**each)) for each in random.uniform(0, 28, rows).round(1)]


@pytest.mark.parametrize("times", [one_of_1970, nearly_all_the_same, heavy_skew])
def test_a_log_of_any_times_is_sorted_in_small_buckets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: Callable[[np.random.Generator, int], list[datetime]]
) -> None:
    raw = random_raw(tmp_path)
    for row, time in zip(raw.interactions, times(np.random.default_rng(2), len(raw.interactions)), strict=True):
        row["timestamp"] = time
    raw.write()
    largest: dict[str, int] = {}
    read = spill.Buckets.read

    def measured(buckets: spill.Buckets) -> Iterator[np.ndarray]:
        for records in read(buckets):
            largest[buckets.name] = max(largest.get(buckets.name, 0), len(records))
            yield records

    monkeypatch.setattr(spill, "BUCKET_RECORDS", 100)
    monkeypatch.setattr(spill.Buckets, "read", measured)
    check_against_oracle(raw, Dataset.load(prepare(raw.config(), progress=False)))
    assert max(largest[name] for name in ("valid", "test", "skips")) <= 100
