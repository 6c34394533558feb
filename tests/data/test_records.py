"""Packed records: any records of a layout's sizes come back as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from dpsr.data.batches.blocks import unpack
from dpsr.data.dataset.records import (
    HEADER_BYTES,
    Layout,
    num_records,
    read_records,
    records_at,
    write_records,
)
from dpsr.data.dataset.schema import INTERACTION

SIZES = st.integers(1, 2**31 - 2)


def some_records(
    random: np.random.Generator, rows: int, queries: int, users: int, items: int, longest: int
) -> np.ndarray:
    records = np.zeros(rows, INTERACTION)
    records["query"] = random.integers(0, queries, rows)
    records["user"] = random.integers(-1, users, rows)
    records["item"] = random.integers(0, items, rows)
    records["event"] = random.integers(1, 4, rows)
    records["history_end"] = random.integers(0, longest + 1, rows)
    for field, largest in (("query", queries - 1), ("user", users - 1), ("item", items - 1), ("history_end", longest)):
        records[field][0] = largest
    return records


@given(queries=SIZES, users=SIZES, items=SIZES, longest=st.integers(0, 2**29 - 1), seed=st.integers(0, 1000))
def test_packing_is_lossless_in_numpy_and_in_the_graph(
    queries: int, users: int, items: int, longest: int, seed: int
) -> None:
    records = some_records(np.random.default_rng(seed), 20, queries, users, items, longest)
    layout = Layout.of(queries=queries, users=users, items=items, longest_history=longest)
    packed = layout.pack(records)
    assert packed.shape == (20, layout.record_bytes)
    np.testing.assert_array_equal(layout.unpack(packed), records)
    fields = np.stack([records[name] for name in INTERACTION.names or ()], axis=1)
    np.testing.assert_array_equal(unpack(tf.constant(packed), layout), fields)


def test_files_are_a_header_and_the_narrowest_records(tmp_path: Path) -> None:
    layout = Layout.of(queries=60_000, users=200_000, items=100_000, longest_history=4000)
    assert layout.bits == (16, 18, 17, 14)
    records = some_records(np.random.default_rng(1), 5000, 60_000, 200_000, 100_000, 4000)
    assert write_records(tmp_path / "a", layout, [records[:3000], records[3000:]]) == 5000
    assert (tmp_path / "a").stat().st_size == HEADER_BYTES + 9 * 5000
    assert num_records(tmp_path / "a") == 5000
    np.testing.assert_array_equal(read_records(tmp_path / "a"), records)
    places = np.array([4999, 0, 17, 17])
    np.testing.assert_array_equal(records_at(tmp_path / "a", places), records[places])
    with pytest.raises(IndexError, match=r"record 0\.\.5000 of 5000"):
        records_at(tmp_path / "a", np.array([0, 5000]))
    write_records(tmp_path / "none", layout, [])
    assert len(records_at(tmp_path / "none", np.empty(0, np.int64))) == 0
    assert len(read_records(tmp_path / "none")) == 0
