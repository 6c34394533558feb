"""Formats, column names, rejected rows, and every error of an input that cannot be used."""

from __future__ import annotations

import csv
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpsr.config import SourceConfig, parse_config
from dpsr.data.dataset.schema import DatasetError
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.job import prepare
from dpsr.data.raw import line_blocks, parquet_files
from dpsr.data.raw.readers import Chunk, Source
from dpsr.data.raw.rejected import CollectedRows, RejectedRows, RejectsRows
from dpsr.data.raw.values import Kind

from .conftest import Raw

ITEM = {"item_id": Kind.ID, "title": Kind.TEXT}

ROWS: list[dict[str, Any]] = [
    {"item_id": f"id{number}", "title": f'naïve "手机", {number}\nline' if number % 7 == 0 else f"title {number}"}
    for number in range(500)
]


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    if path.suffix in (".gz", ".zst"):
        plain = path.with_suffix("")
        write(plain, rows)
        with pa.output_stream(str(path), compression="gzip" if path.suffix == ".gz" else "zstd") as stream:
            stream.write(plain.read_bytes())
        plain.unlink()
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=64)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)


def read(path: Path, tmp_path: Path, columns: dict[str, str] | None = None) -> tuple[list[Any], list[dict[str, Any]]]:
    """All rows as (file name, row number, item_id, title), and the rejected ones."""
    source = Source("items", SourceConfig(path=str(path), columns=columns or {}), ITEM)
    with RejectedRows(tmp_path / "rejected", "items") as rejected:
        found = [
            (Path(chunk.file).name, int(row), item, title)
            for chunk in source.chunks(rejected)
            for row, item, title in zip(
                chunk.rows, chunk.columns["item_id"].to_pylist(), chunk.columns["title"].to_pylist(), strict=True
            )
        ]
    listed = rejected.path.read_text(encoding="utf-8").splitlines() if rejected.path.exists() else []
    assert len(listed) == rejected.count
    return found, [json.loads(line) for line in listed]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_blocks, "_BLOCK_BYTES", 1000)
    monkeypatch.setattr(parquet_files, "BATCH_ROWS", 50)


def test_the_splits_of_a_log_are_its_rows(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    pq.write_table(table.slice(0, 300), tmp_path / "a.parquet", row_group_size=70)
    pq.write_table(table.slice(300, 0), tmp_path / "b.parquet")
    pq.write_table(table.slice(300), tmp_path / "c.parquet")
    source = Source("items", SourceConfig(path=str(tmp_path / "*.parquet")), ITEM)
    rejected = CollectedRows()
    splits = [list(source.read_split(split, rejected)) for split in source.splits()]
    assert [sum(len(chunk.rows) for chunk in split) for split in splits] == [70, 70, 70, 70, 20, 0, len(ROWS) - 300]

    def rows(chunks: list[Chunk]) -> list[Any]:
        return [
            (chunk.file, *row)
            for chunk in chunks
            for row in zip(chunk.rows.tolist(), *(column.to_pylist() for column in chunk.columns.values()), strict=True)
        ]

    assert rows([chunk for split in splits for chunk in split]) == rows(list(source.chunks(rejected)))
    assert rejected.take() == []


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl", "csv.gz", "csv.zst", "jsonl.gz", "jsonl.zst"])
def test_every_format_gives_every_row_with_its_number(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"a.{suffix}", ROWS[:300])
    write(tmp_path / f"b.{suffix}", ROWS[300:])
    found, rejected = read(tmp_path / f"*.{suffix}", tmp_path)
    expected = [(f"a.{suffix}", place + 1, row["item_id"], row["title"]) for place, row in enumerate(ROWS[:300])]
    expected += [(f"b.{suffix}", place + 1, row["item_id"], row["title"]) for place, row in enumerate(ROWS[300:])]
    assert found == expected
    assert rejected == []


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_unreadable_lines_are_rejected_and_the_numbers_of_others_stay_right(tmp_path: Path, suffix: str) -> None:
    rows = [{"item_id": f"id{number}", "title": f"title {number}"} for number in range(300)]
    path = tmp_path / f"a.{suffix}"
    write(path, rows)
    lines = path.read_text().splitlines()
    bad = [3, 4, 150, 299]
    header = 1 if suffix == "csv" else 0
    for number in bad:
        lines[number + header] = "a,b,c,d" if suffix == "csv" else '{"item_id": "x", '
    path.write_text("\n".join(lines) + "\n")
    found, rejected = read(path, tmp_path)
    assert found == [(path.name, n + 1, f"id{n}", f"title {n}") for n in range(300) if n not in bad]
    assert [(Path(row["file"]).name, row["row"]) for row in rejected] == [(path.name, n + 1) for n in bad]
    assert all(row["reason"].startswith("malformed") for row in rejected)
    assert all(row["value"] == lines[n + header] for row, n in zip(rejected, bad, strict=True))


def test_ids_of_a_csv_keep_their_zeros(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("item_id,title\n007,x\n,y\n")
    assert read(tmp_path / "a.csv", tmp_path)[0] == [("a.csv", 1, "007", "x"), ("a.csv", 2, None, "y")]


def test_json_integers_stay_integers_and_other_values_are_rejected(tmp_path: Path) -> None:
    lines = [{"item_id": 7, "title": "x"}, {"item_id": "8", "title": "y"}, {"title": 5, "item_id": 9}]
    write(tmp_path / "a.jsonl", lines)
    found, rejected = read(tmp_path / "a.jsonl", tmp_path)
    assert [row[1:] for row in found] == [(1, "7", "x"), (2, "8", "y"), (3, "9", "5")]  # mixed: all become strings
    assert rejected == []
    write(tmp_path / "b.jsonl", [{"item_id": 7, "title": "x"}] * 1000 + [{"item_id": "8", "title": "y"}])
    found, rejected = read(tmp_path / "b.jsonl", tmp_path)
    assert [(found[0][2], found[1000][2]), len(found), rejected] == [("7", "8"), 1001, []]


def test_columns_are_mapped(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [{"sku": "1", "name": "x"}])
    found, _ = read(tmp_path / "a.parquet", tmp_path, {"item_id": "sku", "title": "name"})
    assert found == [("a.parquet", 1, "1", "x")]


def test_dictionary_and_large_strings_read_as_strings(tmp_path: Path) -> None:
    table = pa.table(
        {"item_id": pa.array(["a", "b"]).dictionary_encode(), "title": pa.array(["x", None], pa.large_string())}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert [row[2:] for row in read(tmp_path / "a.parquet", tmp_path)[0]] == [("a", "x"), ("b", None)]


def log_of(path: Path, rejected: RejectsRows | None = None) -> list[tuple[Any, ...]]:
    """The rows of a log as (file name, query, item_id, user_id, event)."""
    optional = {"user_id": Kind.ID, "event": Kind.EVENT, "day": Kind.TEXT}
    pair = {"query": Kind.TEXT, "item_id": Kind.ID}
    found = []
    for chunk in Source("interactions", SourceConfig(path=str(path)), pair, optional).chunks(
        rejected or CollectedRows()
    ):
        size = len(chunk.rows)
        columns = (chunk.columns.get(name, pa.nulls(size)).to_pylist() for name in (*pair, *optional))
        found += [(Path(chunk.file).name, *row) for row in zip(*columns, strict=True)]
    return found


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl", "jsonl.gz"])
def test_a_column_of_a_later_file_is_null_before(tmp_path: Path, suffix: str) -> None:
    rows: list[dict[str, Any]] = [{"query": "x", "item_id": "1"}]
    write(tmp_path / f"1.{suffix}", rows)
    write(tmp_path / f"2.{suffix}", [{"event": "skip", "user_id": "u"} | rows[0]])
    write(tmp_path / f"3.{suffix}", [{"item_id": "1"}])
    assert log_of(tmp_path / f"*.{suffix}") == [
        (f"1.{suffix}", "x", "1", None, None, None),
        (f"2.{suffix}", "x", "1", "u", "skip", None),
        (f"3.{suffix}", None, "1", None, None, None),
    ]


@pytest.mark.parametrize("blocks", [1000, 1 << 24])
def test_a_key_of_the_last_line_is_a_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks: int) -> None:
    monkeypatch.setattr(line_blocks, "_BLOCK_BYTES", blocks)
    rows: list[dict[str, Any]] = [{"query": 'the "event": x', "item_id": n} for n in range(1500)]
    write(tmp_path / "a.jsonl", [*rows, rows[0] | {"event": "skip", "user_id": 7}])
    found = log_of(tmp_path / "a.jsonl")
    assert len(found) == 1501
    assert {row[3:] for row in found[:1500]} == {(None, None, None)}
    assert [str(value) for value in found[1500][3:5]] == ["7", "skip"]
    write(tmp_path / "b.jsonl", rows)  # the name is in a value only
    source = Source("items", SourceConfig(path=str(tmp_path / "b.jsonl")), {"item_id": Kind.ID}, {"event": Kind.EVENT})
    assert source.columns == ("item_id",)


def test_the_error_for_a_missing_column_looks_at_all_files(tmp_path: Path) -> None:
    write(tmp_path / "1.csv", [{"query": "x"}])
    write(tmp_path / "2.csv", [{"query": "x", "sku": "1"}])
    with pytest.raises(
        DatasetError, match=r"2 files of data.interactions.path: column 'item_id' is missing \(found: query, sku\)"
    ):
        log_of(tmp_path / "*.csv")


def csv_lines(*changes: tuple[int, str]) -> list[str]:
    lines = ["query,item_id,user_id,event", *(f"red {n},i{n},u{n},click" for n in range(2, 301))]
    for line, text in changes:
        lines[line - 1] = text
    return lines


@pytest.mark.parametrize("blocks", [200, 1 << 24])
@pytest.mark.parametrize(
    "changes",
    [
        [(50, '"5 inch,i1,u1,click')],
        [(300, '"5 inch,i1,u1,click')],
        [(50, '"5 inch,i1,u1,click'), (90, '"red, 90",i90,u90,click')],
        [(50, '"5 inch,i1,u1,click'), (90, 'the 7" tv,i90,u90,click')],
        [(50, '"5 inch,i1,u1,click'), (90, 'red,i90,u90,"click"')],
        [(50, 'red,"i1,u1,click'), (51, 'red,"i1,u1,click'), (90, '"red",i90,u90,click')],
        [(50, '"5 inch,i1,u1,click'), (90, 'foo",i90,u90,click')],
    ],
)
def test_an_open_quote_costs_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks: int, changes: list[tuple[int, str]]
) -> None:
    monkeypatch.setattr(line_blocks, "_BLOCK_BYTES", blocks)
    (tmp_path / "a.csv").write_text("\n".join(csv_lines(*changes)) + "\n")
    rejected = CollectedRows()
    found = log_of(tmp_path / "a.csv", rejected)
    bad = rejected.take()
    lost = [line for line, text in changes if text.count('"') % 2 and text[:3] != "the" and text[:3] != "foo"]
    assert [(row.line, row.lines) for row in bad] == [(line, 1) for line in lost]
    assert [row.value for row in bad] == [text for line, text in changes if line in lost]
    assert len(found) == 299 - len(lost)
    assert found[-1][2] == f"i{300 if lost[-1] != 300 else 299}"


@pytest.mark.parametrize("blocks", [300, 1 << 24])
def test_a_quoted_value_keeps_its_line_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks: int) -> None:
    monkeypatch.setattr(line_blocks, "_BLOCK_BYTES", blocks)
    values = ['first, "quoted"\n\nthird, with, commas\r\nlast', 'plain "inch" 7"', "\n", "a,b\n" * 3 + "c", ""]
    rows = [{"item_id": f"id{n}", "title": values[n % len(values)], "more": ""} for n in range(200)]
    write(tmp_path / "a.csv", rows)
    found, rejected = read(tmp_path / "a.csv", tmp_path)
    assert rejected == []
    assert [(row[2], row[3] or "") for row in found] == [(row["item_id"], row["title"]) for row in rows]


def test_a_malformed_row_of_several_lines_counts_as_these(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('item_id,title\n1,x\n2,"a\nb\nc",d\n3,y\n')
    found, rejected = read_counted(tmp_path / "a.csv", tmp_path)
    assert (found, rejected) == ([1, 3], 3)


def read_counted(path: Path, tmp_path: Path) -> tuple[list[int], int]:
    with RejectedRows(tmp_path / "counted", "items") as rejected:
        rows = [
            int(row)
            for chunk in Source("items", SourceConfig(path=str(path)), ITEM).chunks(rejected)
            for row in chunk.rows
        ]
    return rows, rejected.count


def test_paths_that_exist_are_no_patterns(tmp_path: Path) -> None:
    folder = tmp_path / "logs [2026]"
    folder.mkdir()
    row = {"query": "x", "item_id": "1"}
    write(folder / "a [b]?.csv", [row])
    write(folder / "a b1.csv", [row, row])
    assert len(log_of(folder / "a [b]?.csv")) == 1
    assert len(log_of(folder)) == 3


def test_a_directory_is_its_parts(tmp_path: Path) -> None:
    row = {"query": "x", "item_id": "1"}
    for name in (
        "log/day=2024-01-01/part-0.parquet",
        "log/day=a%20b/000000_0",
        "log/day=__HIVE_DEFAULT_PARTITION__/B.PARQUET",
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        write(tmp_path / "x.parquet", [row])
        (tmp_path / "x.parquet").rename(tmp_path / name)
    (tmp_path / "log/_SUCCESS").touch()
    (tmp_path / "log/.part-0.parquet.crc").write_text("x")
    (tmp_path / "log/day=2024-01-01/part-1.parquet").touch()
    expected = [
        ("part-0.parquet", "x", "1", None, None, "2024-01-01"),
        ("B.PARQUET", "x", "1", None, None, None),
        ("000000_0", "x", "1", None, None, "a b"),
    ]
    assert log_of(tmp_path / "log") == expected
    assert log_of(tmp_path / "log/*/*") == expected
    assert log_of(tmp_path / "l*") == expected
    (tmp_path / "log/_delta_log").mkdir()
    with pytest.raises(DatasetError, match="log: is a Delta Lake table"):
        log_of(tmp_path / "log")
    (tmp_path / "_a").mkdir()
    write(tmp_path / "_a/_b1.csv", [row])
    assert [len(log_of(tmp_path / path)) for path in ("_a/_b1.csv", "_a/_b*.csv", "_*/_b1.csv")] == [1, 1, 1]
    (tmp_path / "broken.csv").symlink_to(tmp_path / "nowhere.csv")
    with pytest.raises(DatasetError, match=r"broken\.csv: is a link to a file that does not exist"):
        log_of(tmp_path / "*.csv")
    (tmp_path / "none").mkdir()
    with pytest.raises(DatasetError, match="none: the directory holds no file of data"):
        log_of(tmp_path / "none")


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "csv.gz", "jsonl.zst", "parquet"])
def test_parts_without_rows_have_none(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"1.{suffix}", [{"query": "x", "item_id": "1"}])
    (tmp_path / f"0.{suffix}").touch()
    (tmp_path / "2.csv").write_text("query,item_id")
    assert [row[1:3] for row in log_of(tmp_path / f"[0-9].{suffix}")] == [("x", "1")]


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffquery,item_id\nx,1\ny,2\n",
        "query,item_id\r\nx,1\r\n\r\ny,2",
        "query,item_id\rx,1\ry,2\r",
        '\n"query" , "item_id"\nx,1\ny,2\n'.replace(' , "', ',"'),
    ],
)
def test_marks_and_line_ends_are_no_part_of_values(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.CSV").write_bytes(text.encode())
    assert [row[1:3] for row in log_of(tmp_path / "a.CSV")] == [("x", "1"), ("y", "2")]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.json", b'[{"query": 1}]', "is one JSON array; expected an object on each line: jq"),
        ("a.csv", "query,item_id\n".encode("utf-16"), "is UTF-16; convert it to UTF-8"),
        ("a.csv", b"query;item_id\nx;1\n", "its columns are separated by ';'; expected commas"),
        ("a.csv", b"query,item_id,query\n", "has two columns named 'query'; rename or remove one of them"),
        (
            "a.jsonl",
            b'{"query": "x", "item_id": [1]}\n',
            "column 'item_id' has type list<.*>; expected one value a row",
        ),
        (
            "a.jsonl",
            b'{"query": {"a": 1}, "item_id": 1}\n',
            "column 'query' has type struct<>; expected one value a row",
        ),
        ("a.csv", b'"query,item_id\nx,1\n', "line 1 is not a CSV header: a quoted name is not closed"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DatasetError, match=f"{name}: .*(?:{message})"):
        log_of(tmp_path / name)


def test_a_column_twice_is_an_error_only_where_it_is_read(tmp_path: Path) -> None:
    arrays = [pa.array(["x"]), pa.array(["1"]), pa.array(["a"]), pa.array([["b"]])]
    pq.write_table(pa.table(arrays, names=["query", "item_id", "more", "more"]), tmp_path / "a.parquet")
    assert log_of(tmp_path / "a.parquet") == [("a.parquet", "x", "1", None, None, None)]
    pq.write_table(pa.table(arrays[:3], names=["query", "item_id", "query"]), tmp_path / "a.parquet")
    with pytest.raises(DatasetError, match=r"a.parquet: has two columns named 'query'"):
        log_of(tmp_path / "a.parquet")


def test_times_of_two_types_are_an_error_before_any_work(raw: Raw) -> None:
    table = pa.Table.from_pylist(raw.interactions)
    pq.write_table(table, raw.directory / "log-1.parquet")
    pq.write_table(table.set_column(3, "timestamp", pa.array(range(len(table)))), raw.directory / "log-2.parquet")
    message = failure(raw, interactions={"path": str(raw.directory / "log-*.parquet")})
    assert "log-2.parquet: column 'timestamp' has type int64, but timestamp[us] in " in message
    assert "log-1.parquet; use one type for times" in message


def test_files_of_other_types_make_one_catalogue(raw: Raw) -> None:
    for place, item in enumerate(raw.items):
        item |= {"item_id": place, "size": float(place % 3)}
    table = pa.Table.from_pylist(raw.items)
    ids, sizes = pa.array([float(n) for n in range(25)]), pa.array([str(n % 3) for n in range(25)])
    pq.write_table(
        table.slice(0, 25).set_column(0, "item_id", ids).drop_columns("size").append_column("size", sizes),
        raw.directory / "items-1.parquet",
    )
    pq.write_table(table.slice(25), raw.directory / "items-2.parquet")
    for row in raw.interactions:
        row["item_id"] = float(row["item_id"][1:])
    raw.write()
    dataset = Dataset.load(
        prepare(raw.config(items={"path": str(raw.directory / "items-*"), "categorical": ["size"]}), progress=False)
    )
    assert dataset.item_ids.tolist() == list(range(50))
    assert sorted(dataset.vocabularies["items.size"]) == ["0", "1", "2"]
    assert sum(dataset.manifest["counts"]["events"].values()) == 3000


def test_items_whose_ids_are_not_utf8_are_rejected_one_by_one(raw: Raw) -> None:
    ids = [b"caf\xe9" if n == 3 else b"caf\xe8" if n == 4 else b"i%d" % n for n in range(50)]
    table = pa.Table.from_pylist(raw.items).set_column(0, "item_id", pa.array(ids))
    pq.write_table(table, raw.directory / "items.parquet")
    dataset = Dataset.load(prepare(raw.config(max_rejected_share=0.1), progress=False))
    assert dataset.schema.num_items == 48
    assert dataset.manifest["inputs"]["items"]["rejected"] == {"unreadable item_id": 2}


def failure(raw: Raw, **data: Any) -> str:
    """The message of the error that prepare ends with; nothing but the rejected rows may be left."""
    with pytest.raises(DatasetError) as error:
        prepare(raw.config(**data), progress=False)
    assert not (raw.directory / "work" / "dataset").exists()
    assert not (raw.directory / "work" / "dataset.partial").exists()
    return str(error.value)


def test_a_missing_column_is_named_with_what_was_found_and_what_to_do(raw: Raw) -> None:
    raw.items = [{"item_id": "1", "name": "x", "brand": "b"}]
    raw.write()
    assert failure(raw) == (
        "items.parquet: column 'title' is missing (found: item_id, name, brand); "
        'map it with data.items.columns.title = "name"'
    )


def test_a_column_mapped_in_vain_is_an_error(raw: Raw) -> None:
    assert failure(raw, interactions={"columns": {"timestamp": "when"}}) == (
        "interactions.parquet: column 'when', named by data.interactions.columns.timestamp, is missing "
        "(found: query, item_id, user_id, timestamp, event)"
    )


def test_an_unknown_contract_column_is_an_error(raw: Raw) -> None:
    assert "data.items.columns.titel: the items have no such column (known: item_id, title, brand)" in failure(
        raw, items={"columns": {"titel": "title"}}
    )


def test_a_missing_file_is_an_error(raw: Raw) -> None:
    message = failure(raw, items={"path": str(raw.directory / "nowhere*.parquet")})
    assert "nowhere*.parquet: no such file" in message
    assert "set data.items.path" in message


def test_an_unknown_format_is_an_error(raw: Raw) -> None:
    (raw.directory / "items.xlsx").touch()
    message = failure(raw, items={"path": str(raw.directory / "items.xlsx")})
    assert "items.xlsx: unknown format; data.items.path must name .parquet, .csv, .csv.gz, .csv.zst, .jsonl" in message


@pytest.mark.parametrize("name", ["broken.parquet", "broken.csv", "broken.jsonl"])
def test_a_damaged_file_is_an_error(raw: Raw, name: str) -> None:
    (raw.directory / name).write_bytes(b"\xff\xfe\x00PAR")
    assert name in failure(raw, items={"path": str(raw.directory / name)})


@pytest.mark.parametrize("name", ["items.csv.gz", "items.jsonl.zst"])
def test_a_compressed_file_that_is_cut_off_is_an_error(raw: Raw, name: str) -> None:
    write(raw.directory / name, [item | {"title": str(np.random.default_rng(1).random(20))} for item in raw.items] * 50)
    whole = (raw.directory / name).read_bytes()
    (raw.directory / name).write_bytes(whole[: len(whole) // 2])
    assert name in failure(raw, items={"path": str(raw.directory / name)})


@pytest.mark.parametrize("name", ["empty.csv", "empty.jsonl"])
def test_an_empty_file_is_an_error(raw: Raw, name: str) -> None:
    (raw.directory / name).touch()
    assert name in failure(raw, items={"path": str(raw.directory / name)})


def test_a_file_without_rows_is_an_error(raw: Raw) -> None:
    table = pa.table({"query": pa.array([], pa.string()), "item_id": pa.array([], pa.string())})
    pq.write_table(table, raw.directory / "interactions.parquet")
    assert "interactions.parquet: has no rows" in failure(raw)


def test_duplicate_item_ids_are_an_error_that_lists_some(raw: Raw) -> None:
    raw.items += raw.items[:7]
    raw.write()
    message = failure(raw)
    assert "7 values of item_id occur more than once (i0, i1, i2, i3, i4, ...)" in message


def test_item_ids_of_a_strange_type_are_an_error(raw: Raw) -> None:
    for number, item in enumerate(raw.items):
        item["item_id"] = number / 2
    raw.write()
    message = failure(raw)
    assert "25 of 50 rows (50.0%) cannot be used" in message
    assert "unreadable item_id (25); the first is" in message
    for item in raw.items:
        item["item_id"] = bool(item["item_id"])
    raw.write()
    assert "column 'item_id' has type bool; expected strings or integers; convert the ids to strings" in failure(raw)


def test_nothing_to_train_on_is_an_error(raw: Raw) -> None:
    for row in raw.interactions:
        row["event"] = "skip"
    raw.write()
    assert "no click and no purchase among 3,000 rows" in failure(raw)
    for row in raw.interactions:
        row |= {"event": "click", "timestamp": raw.interactions[0]["timestamp"]}
    raw.write()
    assert "use finer timestamps or lower data.valid_share and data.test_share" in failure(raw)


BAD: list[tuple[str, dict[str, Any], Any]] = [
    ("empty query", {"query": "  "}, "  "),
    ("empty query", {"query": None}, None),
    ("unknown item_id", {"item_id": "nope"}, "nope"),
    ("unknown item_id", {"item_id": None}, None),
    ("unknown event", {"event": "wink"}, "wink"),
    ("unreadable timestamp", {"timestamp": None}, None),
]


def test_unusable_rows_are_listed_and_counted_and_change_nothing_else(raw: Raw) -> None:
    clean = Dataset.load(prepare(raw.config("clean"), progress=False))
    places = list(range(100, 100 + 50 * len(BAD), 50))
    for place, (_, change, _) in zip(places, BAD, strict=True):
        raw.interactions.insert(place, raw.interactions[place] | change)
    raw.write()
    dataset = Dataset.load(prepare(raw.config(), progress=False))
    listed = [json.loads(line) for line in (dataset.directory / "rejected/interactions.jsonl").read_text().splitlines()]
    file = str(raw.directory / "interactions.parquet")
    expected = [
        {"file": file, "row": place + 1, "reason": reason} | ({} if value is None else {"value": value})
        for place, (reason, _, value) in zip(places, BAD, strict=True)
    ]
    assert listed == expected
    assert dataset.manifest["inputs"]["interactions"] == {
        "files": [file],
        "rows": 3000 + len(BAD),
        "rejected": {"empty query": 2, "unknown event": 1, "unknown item_id": 2, "unreadable timestamp": 1},
    }
    for split in ("train", "valid", "test"):
        np.testing.assert_array_equal(dataset.interactions(split), clean.interactions(split))


def test_too_many_unusable_rows_end_the_job_and_stay_readable(raw: Raw) -> None:
    for row in raw.interactions[:60]:
        row["item_id"] = "nope"
    for row in raw.interactions[60:80]:
        row["query"] = ""
    raw.write()
    message = failure(raw)
    kept = raw.directory / "work/dataset.rejected/interactions.jsonl"
    assert message == (
        "interactions: 80 of 3,000 rows (2.7%) cannot be used, more than data.max_rejected_share = 1.0% allows: "
        f"unknown item_id (60), empty query (20); the first is {raw.directory}/interactions.parquet, row 1; "
        f"they are listed in {kept}; "
        "mend the input or raise data.max_rejected_share"
    )
    assert len(kept.read_text().splitlines()) == 80
    prepare(raw.config(max_rejected_share=0.05), progress=False)
    assert not kept.exists()


def test_items_without_an_id_are_rejected(raw: Raw) -> None:
    raw.items.insert(2, {"item_id": " ", "title": "x", "brand": "b"})
    raw.write()
    dataset = Dataset.load(prepare(raw.config(max_rejected_share=0.1), progress=False))
    assert dataset.schema.num_items == 50
    assert dataset.manifest["inputs"]["items"]["rejected"] == {"empty item_id": 1}
    listed = json.loads((dataset.directory / "rejected/items.jsonl").read_text())
    assert (listed["row"], listed["reason"]) == (3, "empty item_id")


def test_the_labelled_set_of_the_docs_is_prepared(
    dpsr_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DPSR_DATA", str(dpsr_data))
    page = (Path(__file__).resolve().parents[2] / "docs/data.md").read_text(encoding="utf-8")
    block = next(text for text in re.findall(r"```toml\n(.*?)```", page, re.DOTALL) if "esci_samples" in text)
    tree = {"name": "esci", "work_dir": str(tmp_path)} | tomllib.loads(block)
    dataset = Dataset.load(prepare(parse_config(tree, "docs/data.md"), progress=False))
    counts = dataset.manifest["counts"]
    assert (counts["items"], sum(counts[split] for split in ("train", "valid", "test"))) == (3349, 3352)
    assert "locale" in dataset.schema.categorical
    texts = dataset.query_texts().to_pylist()
    pairs = pq.read_table(dpsr_data / "esci_samples/labels.parquet", columns=["query", "item_id"]).to_pylist()
    test = [(texts[row["query"]], dataset.item_ids[row["item"]]) for row in dataset.interactions("test")]
    assert test == [(pair["query"].strip(), pair["item_id"]) for pair in pairs[-len(test) :]]
