"""The table of types in docs/data.md, cell by cell."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpsr.config import SourceConfig
from dpsr.data.dataset.schema import EVENTS, DatasetError
from dpsr.data.prepare.log import event_codes
from dpsr.data.prepare.supervision import labels_of
from dpsr.data.raw.readers import Source
from dpsr.data.raw.rejected import CollectedRows
from dpsr.data.raw.timestamps import Clock
from dpsr.data.raw.values import Kind, id_strings, numbers, trimmed_strings

PAGE = (Path(__file__).resolve().parents[2] / "docs/data.md").read_text(encoding="utf-8")
PARQUET: dict[str, pa.Array] = {
    "integer": pa.array([7]),
    "integer beyond 64 bits": pa.array([Decimal(10**20)], pa.decimal128(38, 0)),
    "whole number as float": pa.array([1234567890123456.0]),
    "seconds with a fraction": pa.array([1700000000.5]),
    "decimal": pa.array([Decimal("7.50")]),
    "huge number": pa.array([1e300]),
    "NaN": pa.array([float("nan")]),
    "null, or no such column": pa.nulls(1),
    "truth value": pa.array([True]),
    "date": pa.array([date(2024, 1, 1)]),
    "timestamp with a zone": pa.array([datetime(2024, 1, 1, tzinfo=UTC)], pa.timestamp("ms", "UTC")),
    "time as text": pa.array(["2024-01-01 00:00:00 UTC"]),
    "time beyond the year 9999": pa.array(["10000-01-01"]),
    "text": pa.array([" Purchase "]).dictionary_encode(),
    "number as text": pa.array([" +7e2 "], pa.large_string()),
    "bytes that are not UTF-8": pa.array([b"caf\xe9"]),
    "list, struct, map": pa.array([["a"]]),
}


def table() -> list[dict[str, str]]:
    lines = PAGE[PAGE.index("| value | Parquet |") :].split("\n\n")[0].splitlines()
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [dict(zip(header, row, strict=True)) for row in rows]


def write(path: Path, row: dict[str, str]) -> None:
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"given": PARQUET[row["value"]]}), path)
        return
    written = row["CSV" if path.suffix == ".csv" else "JSON Lines"]
    text = re.fullmatch("`(.*)`", written)
    value = (text[1] if text else "").encode().replace(rb"\xe9", b"\xe9")
    path.write_bytes(b"given,other\n" + value + b",x\n" if path.suffix == ".csv" else b'{"given": ' + value + b"}\n")


def read(path: Path, kind: Kind) -> str:
    """What becomes of the value, as the table says it."""
    rejected = CollectedRows()
    try:
        source = Source("items", SourceConfig(path=str(path)), {"given": kind})
    except DatasetError as error:
        sound = re.search(rf"{path}: column 'given' has type .*; expected .*; ", str(error))
        return "error" if sound else str(error)
    (chunk,) = source.chunks(rejected)
    column = chunk.columns["given"]
    found: Any
    if kind is Kind.TIME:
        clock = Clock()
        times, known = clock.read(column)
        return str(clock.text(int(times[0]))) if known[0] else "rejected"
    if kind is Kind.EVENT:
        (code,) = event_codes(column).tolist()
        return next((name for name, known_code in EVENTS.items() if known_code == code), "rejected")
    if kind in (Kind.NUMBER, Kind.LABEL):
        found = (numbers if kind is Kind.NUMBER else labels_of)(column)[0].as_py()
        return ("missing" if kind is Kind.NUMBER else "rejected") if found is None else repr(found)
    found = (id_strings if kind is Kind.ID else trimmed_strings)(column)[0].as_py()
    return "missing" if found is None else found


def expected(cell: str, kind: Kind, suffix: str) -> str:
    usual, _, csv = cell.partition("; CSV: ")
    cell = csv if csv and suffix == "csv" else usual
    text = re.fullmatch("`(.*)`", cell)
    if not text:
        return cell
    return repr(float(text[1])) if kind in (Kind.NUMBER, Kind.LABEL) else text[1]


FORMATS = {"parquet": "Parquet", "csv": "CSV", "jsonl": "JSON Lines"}
CASES = [(row, suffix) for row in table() for suffix, name in FORMATS.items() if row[name] != "-"]


@pytest.mark.parametrize(("row", "suffix"), CASES, ids=[f"{row['value']}, {suffix}" for row, suffix in CASES])
def test_every_type_is_read_as_the_table_says(tmp_path: Path, row: dict[str, str], suffix: str) -> None:
    write(tmp_path / f"a.{suffix}", row)
    for kind in Kind:
        cell = next(cell for name, cell in row.items() if kind.value in name.split(", "))
        assert read(tmp_path / f"a.{suffix}", kind) == expected(cell, kind, suffix), (row["value"], kind)


def test_the_table_has_every_value_and_kind() -> None:
    rows = table()
    assert {row["value"] for row in rows if row["Parquet"] != "-"} == set(PARQUET)
    assert {kind.value for kind in Kind} <= {name for column in rows[0] for name in column.split(", ")}


def test_a_value_is_the_same_alone_and_among_others(tmp_path: Path) -> None:
    given = [7, "8", 9.0, 7.5, 10**20, True, None, float("nan"), "caf\ud83d"]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"given": value}) + "\n" for value in given))
    (chunk,) = Source("items", SourceConfig(path=str(tmp_path / "a.jsonl")), {"given": Kind.CATEGORY}).chunks(
        CollectedRows()
    )
    found = trimmed_strings(chunk.columns["given"]).to_pylist()
    assert found == ["7", "8", "9", "7.5", str(10**20), "true", None, None, "caf\ufffd"]
