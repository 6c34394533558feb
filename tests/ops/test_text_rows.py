"""Rows of texts as strings, against Python."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from dpsr.data.batches.arrays import arrays_in_files
from dpsr.data.batches.texts import Texts
from dpsr.ops_cc.text_rows import text_rows

TEXTS = ["", "steel sink", "東京タワー", "x" * 1000, "\x00 in it", "ß", ""]


@pytest.mark.parametrize("is_mapped", [False, True])
@pytest.mark.parametrize("array", [pa.array(TEXTS), pa.array(["before", *TEXTS, "after"]).slice(1, len(TEXTS))])
def test_rows_are_the_texts(tmp_path: Path, array: pa.Array, is_mapped: bool) -> None:
    with arrays_in_files(tmp_path) if is_mapped else nullcontext():
        texts = Texts(array)
    rows = np.random.default_rng(1).integers(len(TEXTS), size=50).astype(np.int32)
    for take in (texts.take, tf.function(texts.take)):
        assert [text.decode() for text in take(tf.constant(rows)).numpy()] == [TEXTS[row] for row in rows]
        assert take(tf.zeros([0], tf.int32)).shape == [0]


def test_nothing_to_take() -> None:
    assert Texts(pa.array([], pa.string())).take(tf.zeros([0], tf.int32)).shape == [0]
    with pytest.raises(ValueError, match="1 of 2 texts are null"):
        Texts(pa.array(["a", None]))


@pytest.mark.parametrize(
    ("offsets", "rows", "problem"),
    [
        ([0, 1, 3], [0, 2], r"rows\[1\] = 2 is not a row of 2 texts"),
        ([0, 1, 3], [-1], r"rows\[0\] = -1 is not a row"),
        ([0, 4], [0], "text 0 lies from byte 0 to 4 of 3"),
        ([2, 1], [0], "text 0 lies from byte 2 to 1"),
        ([-1, 1], [0], "text 0 lies from byte -1"),
        ([], [0], "offsets are empty"),
    ],
)
def test_what_is_no_text_is_an_error(offsets: list[int], rows: list[int], problem: str) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=problem):
        text_rows(tf.constant([1, 2, 3], tf.uint8), tf.constant(offsets, tf.int64), tf.constant(rows, tf.int32))
