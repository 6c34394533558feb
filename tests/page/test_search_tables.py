"""Files of ids and texts that are mapped into memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dpsr.page.search.catalogue import web_address
from dpsr.page.search.id_index import IdIndex
from dpsr.page.search.row_table import RowTable, cut_texts

TEXTS = ["a", "", "A", " a", "é", "e\u0301", "0", "00", "x" * 5_000, "\x00", "nul\x00", "\U0001f469"]


def text_index(folder: Path, ids: list[str]) -> IdIndex:
    halves = [pa.array(ids[: len(ids) // 2], pa.string()), pa.array(ids[len(ids) // 2 :], pa.string())]
    IdIndex.write(folder, halves, len(ids))
    return IdIndex(folder, whole_numbers=False)


def test_every_id_is_found_and_no_other(tmp_path: Path) -> None:
    index = text_index(tmp_path, TEXTS)
    assert index.rows_of(TEXTS).tolist() == list(range(len(TEXTS)))
    assert index.rows_of([text.encode() for text in TEXTS]).tolist() == list(range(len(TEXTS)))
    assert index.rows_of(np.array([text.encode() for text in TEXTS], object)).tolist() == list(range(len(TEXTS)))
    assert index.rows_of(["b", "a ", "x" * 4_999, "\ud800", "a"]).tolist() == [-1, -1, -1, -1, 0]
    assert index.rows_of([]).tolist() == []


def test_many_ids_are_found(tmp_path: Path) -> None:
    ids = [f"item {number}" for number in np.random.default_rng(1).permutation(20_000)]
    assert text_index(tmp_path, ids).rows_of(ids[::-7]).tolist() == list(range(20_000))[::-7]


def test_whole_numbers_are_found_as_numbers_and_as_text(tmp_path: Path) -> None:
    ids = [5, -3, 0, 2**63 - 1, -(2**63), 77]
    IdIndex.write(tmp_path, [pa.array(ids, pa.int64())], len(ids))
    index = IdIndex(tmp_path, whole_numbers=True)
    assert index.rows_of(np.array(ids)).tolist() == list(range(6))
    assert index.rows_of([str(each) for each in ids]).tolist() == list(range(6))
    assert index.rows_of(["6", "", "five", str(2**63), "1e3", "7_7", "0", "٥", "9" * 9_999]).tolist() == [
        *[-1] * 6,
        2,
        -1,
        -1,
    ]


def test_an_empty_table_has_no_row(tmp_path: Path) -> None:
    assert text_index(tmp_path, []).rows_of(["a", "b"]).tolist() == [-1, -1]


def test_cells_are_read_in_any_order(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    texts = [None if random.random() < 0.1 else f"text {number}" for number in range(70_000)]
    parts = [texts[:3], texts[3:69_000], texts[69_000:]]
    columns = ({"a": pa.array(part), "b": pa.array(part[::-1])} for part in parts)
    assert RowTable.write(tmp_path / "table.arrow", columns, ["a", "b"]) == len(texts)
    table = RowTable(tmp_path / "table.arrow")
    rows = random.permutation(len(texts))[:500]
    assert table.cells("a", rows) == [texts[row] for row in rows]
    assert table.cells("b", np.array([2, 0])) == [texts[0], texts[2]]
    assert table.cells("a", np.array([], np.int64)) == []
    assert len(table) == len(texts)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array(["ab", None, "abcdef", "手机苹果"]), ["ab", None, "abc", "手机苹"]),
        (pa.array([19.5, 7.0, None, float("nan")]), ["19.", "7", None, None]),
        (pa.array([b"\xff\xfeab"]), ["\ufffd\ufffda"]),
        (pa.array([True, False]), ["tru", "fal"]),
        (pa.array(["x", "y"]).dictionary_encode(), ["x", "y"]),
    ],
)
def test_values_of_any_type_are_cut_texts(values: pa.Array, expected: list[str | None]) -> None:
    assert cut_texts(values, 3).to_pylist() == expected


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("https://shop.test/a.png?x=1&y=ü", "https://shop.test/a.png?x=1&y=ü"),
        ("  HTTP://shop.test/a.png\n", "HTTP://shop.test/a.png"),
        *((text, None) for text in (None, "", "javascript:alert(1)", "data:image/png;base64,AA", "//shop.test/a.png")),
        *((text, None) for text in ("/etc/passwd", "https://", "https://a b", 'https://a"onload=x', "ftp://a/b")),
        ("https://shop.test/" + "a" * 2_000, None),
    ],
)
def test_only_web_addresses_are_images(text: str | None, address: str | None) -> None:
    assert web_address(text) == address
