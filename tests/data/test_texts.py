"""Columns of text come out the same in any chunks, and beyond 2 GiB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpsr.config import parse_config
from dpsr.data.batches.augmentation import ItemTexts
from dpsr.data.dataset import texts
from dpsr.data.dataset.tables import Dataset
from dpsr.data.dataset.texts import joined_texts, spaced_texts, take_rows, with_small_strings
from dpsr.data.dataset.verify import verify
from dpsr.data.prepare.job import prepare
from dpsr.data.prepare.vocabulary import category_vocabulary, column_ids
from dpsr.data.raw.values import trimmed_strings

ROWS = st.lists(st.tuples(st.none() | st.text(max_size=5), st.none() | st.text(max_size=5)), max_size=40)


def chunked(rows: list[tuple[str | None, str | None]], sizes: list[int]) -> pa.Table:
    """A table whose columns are cut at different places."""
    columns = {}
    for number, name in enumerate("ab"):
        values, chunks = [row[number] for row in rows], []
        for size in sizes[number:]:
            chunks.append(pa.array(values[:size], pa.string()))
            values = values[size:]
        columns[name] = pa.chunked_array([*chunks, pa.array(values, pa.string())])
    return pa.table(columns)


@given(ROWS, st.lists(st.integers(0, 9), max_size=5), st.integers(1, 7), st.data())
def test_chunks_and_batches_change_nothing(
    rows: list[tuple[str | None, str | None]], sizes: list[int], at_once: int, data: st.DataObject
) -> None:
    table = chunked(rows, sizes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(texts, "ROWS_AT_ONCE", at_once)
        patch.setattr(texts, "_CHUNK_BYTES", 8)
        patch.setattr(texts, "_SLICE_BYTES", 64)
        batches = [batch.to_pylist() for batch in joined_texts(table, ["b", "a"])]
        assert all(len(batch) <= at_once for batch in batches)
        joined = [f"{b or ''} {a or ''}" for a, b in rows]
        assert [text for batch in batches for text in batch] == joined
        assert spaced_texts(table, ["b", "a"]).to_pylist() == spaced_texts(pa.table({"c": joined}), ["c"]).to_pylist()
        chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=50)) if rows else []
        taken = take_rows(table, np.array(chosen, dtype=np.int64))
        assert taken.to_pylist() == [{"a": rows[row][0], "b": rows[row][1]} for row in chosen]
        gaps = take_rows(table, np.array([-1, *chosen, -1], dtype=np.int64)).to_pylist()
        assert gaps == [{"a": None, "b": None}, *taken.to_pylist(), {"a": None, "b": None}]
        small = with_small_strings(taken)
        assert small.schema.types == [pa.string(), pa.string()]
        assert small.to_pylist() == taken.to_pylist()


@pytest.mark.parametrize(
    ("first", "second"),
    [(["a ", " b", None], ["a", "", ""]), ([1.5, None], [float("nan"), 2.0]), ([1, 2], [3, None]), ([True], [False])],
)
def test_a_column_in_chunks_has_the_ids_of_one_array(first: list[Any], second: list[Any]) -> None:
    whole = pa.array(first + second)
    chunks = pa.chunked_array([pa.array(first, whole.type), pa.array(second, whole.type)])
    vocabulary = category_vocabulary(trimmed_strings(whole), 1)
    assert category_vocabulary(trimmed_strings(chunks), 1) == vocabulary
    for numeric, values in ((False, vocabulary), (True, ["-inf", "1.7"])):
        np.testing.assert_array_equal(
            column_ids(chunks, values, numeric=numeric), column_ids(whole, values, numeric=numeric)
        )


@pytest.mark.slow
def test_a_catalogue_with_more_text_than_two_gibibytes(tmp_path: Path) -> None:
    """Few rows with titles of 30 MB, nearly all of it blanks, through prepare, append, verify, load and texts."""
    blanks = " " * 30_000_000
    for part in range(3):
        titles = [f"{part}a{row}{blanks}word{row}" for row in range(26)]
        ids = [f"i{part}-{row}" for row in range(26)]
        pq.write_table(
            pa.table({"item_id": ids, "title": titles}), tmp_path / f"items-{part}.parquet", row_group_size=1
        )
    data = {"items": {"path": str(tmp_path / "items-*.parquet"), "text": ["title"]}}
    tree = {
        "name": "long",
        "work_dir": str(tmp_path / "work"),
        "data": data,
        "tokenizer": {"min_count": 1},
        "training": {"epochs": 0},
        "pretraining": {"epochs": 1},
    }
    dataset = Dataset.load(prepare(parse_config(tree, "test"), progress=False))
    assert verify(dataset.directory) == []
    table = dataset.item_table()
    assert table.column("title").nbytes > 2**31
    assert table.column("title").type == pa.string()
    assert len(dataset.item_tokens) == 78
    found = take_rows(table, np.array([77, 0, 40])).column("title").to_pylist()
    assert [text.split() for text in found] == [["2a25", "word25"], ["0a0", "word0"], ["1a14", "word14"]]
    item_texts = ItemTexts(dataset, columns=None, words=(2, 2), typo_share=0.0)
    made = item_texts.query_texts(np.array([77, 0], np.int32), np.array([1, 2], np.int64)).numpy().tolist()
    assert made == [b"2a25 word25", b"0a0 word0"]
