"""Both runners of ``prepare`` write the same bytes."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from dpsr.config import Config
from dpsr.data.dataset import spill
from dpsr.data.dataset.schema import DatasetError
from dpsr.data.prepare.job import prepare
from dpsr.data.prepare.spark import spark_session

from .conftest import Raw, random_raw


@pytest.mark.parametrize(
    ("missing", "message"), [("pyspark", r"pip install 'dpsr\[spark\]'"), ("Java", "Spark needs Java 17")]
)
def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, missing: str, message: str) -> None:
    if missing == "pyspark":
        monkeypatch.setitem(sys.modules, "pyspark.sql", None)
    else:
        pytest.importorskip("pyspark")
        monkeypatch.delenv("JAVA_HOME", raising=False)
        monkeypatch.setenv("PATH", "")
    with pytest.raises(DatasetError, match=message), spark_session("local[2]"):
        pass


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    pytest.importorskip("pyspark")
    if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
        pytest.skip("Spark needs Java")
    with spark_session("local[2]") as session:
        session.conf.set("spark.sql.shuffle.partitions", 3)
        session.sparkContext.setLogLevel("ERROR")
        yield session


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def check_same_bytes(config: Config, spark: Any) -> dict[str, bytes]:
    expected = contents(prepare(config, progress=False))
    found = contents(prepare(config, progress=False, spark=spark))
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    return found


def spoil(raw: Raw) -> None:
    """Rows of every kind that cannot be used, and users that the table does not have."""
    for place, change in {
        5: {"query": " "},
        6: {"item_id": "nowhere"},
        700: {"event": "look"},
        701: {"query": None},
        1503: {"timestamp": None},
    }.items():
        raw.interactions[place] |= change
    for place in (10, 900):
        raw.interactions[place]["user_id"] = "stranger"


@pytest.mark.slow
@pytest.mark.parametrize("with_users", [True, False])
def test_parquet_in_row_groups(tmp_path: Path, spark: Any, monkeypatch: pytest.MonkeyPatch, with_users: bool) -> None:
    monkeypatch.setattr(spill, "BUCKET_RECORDS", 400)  # many buckets here, and many parts there
    raw = random_raw(tmp_path, with_users=with_users)
    spoil(raw)
    raw.write()
    table = pa.Table.from_pylist(raw.interactions)
    pq.write_table(table.slice(0, 2000), tmp_path / "log-1.parquet", row_group_size=450)
    pq.write_table(table.slice(2000), tmp_path / "log-2.parquet")
    found = check_same_bytes(raw.config(interactions={"path": str(tmp_path / "log-*.parquet")}), spark)
    assert found["rejected/interactions.jsonl"].count(b"\n") == 5
    assert len(found["interactions/train/part-00000.bin"]) > len(found["interactions/test/part-00000.bin"]) > 16


@pytest.mark.slow
@pytest.mark.parametrize("times", [True, False])
def test_csv_with_malformed_rows_and_hashed_users(
    tmp_path: Path, spark: Any, monkeypatch: pytest.MonkeyPatch, times: bool
) -> None:
    monkeypatch.setenv("SHOP_KEY", "secret")
    raw = random_raw(tmp_path, with_users=False)
    for number, rows in enumerate((raw.interactions[:1800], raw.interactions[1800:])):
        table = pa.Table.from_pylist(rows)
        if not times:
            table = table.drop_columns("timestamp")
        path = tmp_path / f"log-{number}.csv"
        pa.csv.write_csv(table, path)
        lines = path.read_text(encoding="utf-8").splitlines()
        lines.insert(100, "one,two")
        lines[200] = lines[200].replace('"click"', '"look"').replace('"skip"', '"look"').replace('"purchase"', '"look"')
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    raw.write()
    config = raw.config(interactions={"path": str(tmp_path / "log-*.csv")}, user_id_key_variable="SHOP_KEY")
    found = check_same_bytes(config, spark)
    assert found["rejected/interactions.jsonl"].count(b"\n") == 4


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_damaged_lines_and_columns_of_later_files(tmp_path: Path, spark: Any, suffix: str) -> None:
    raw = random_raw(tmp_path, with_users=False)
    raw.write()
    (tmp_path / "log").mkdir()
    header = ["query,item_id,time", "query,item_id,time,user_id,event"] if suffix == "csv" else []
    for number in range(2):
        lines = header[number : number + 1]
        for place in range(1000):
            time, item = f"{1_700_000_000 + 1000 * number + place}.25", f"i{place % 50}"
            event = "skip" if place % 3 else "click"
            more = {"user_id": place % 7 if place % 2 else float("nan"), "event": event} if number else {}
            row = {"query": "red phone", "item_id": item, "time": float(time)} | more
            cells = ("red phone", item, time, *(str(value) for value in more.values()))
            lines.append(",".join(cells) if suffix == "csv" else json.dumps(row))
        lines[100] = (
            '"5 inch,i1,1,u1,click' if suffix == "csv" else '{"query": "\\ud83d", "item_id": "i1", "time": 1.5}'
        )
        lines[200] = "one" if suffix == "csv" else '{"query": ["a"], "item_id": "i1"}'
        lines[300] = lines[300].replace("red", "r\xe9d")
        lines[400] = lines[400].replace(".25", "0000000000000")
        (tmp_path / f"log/part-{number}.{suffix}").write_bytes("\n".join(lines).encode("latin-1"))
    (tmp_path / f"log/part-2.{suffix}").touch()
    found = check_same_bytes(
        raw.config(interactions={"path": str(tmp_path / "log"), "columns": {"timestamp": "time"}}), spark
    )
    assert found["rejected/interactions.jsonl"].count(b'"line"') == (6 if suffix == "csv" else 4)


@pytest.mark.slow
@pytest.mark.parametrize("spoilt", ["type", "list", "share"])
def test_errors_are_the_same(raw: Raw, spark: Any, spoilt: str) -> None:
    table = pa.Table.from_pylist(raw.interactions)
    other = table.slice(10)
    if spoilt == "share":
        other = other.set_column(1, "item_id", pa.array(["nowhere"] * len(other)))
    else:
        times = pa.array(range(len(other)))
        other = other.set_column(3, "timestamp", times if spoilt == "type" else pa.array([[1]] * len(other)))
    pq.write_table(table.slice(0, 10), raw.directory / "log-1.parquet")
    pq.write_table(other, raw.directory / "log-2.parquet")
    config = raw.config(interactions={"path": str(raw.directory / "log-*.parquet")})
    messages = []
    for session in (None, spark):
        with pytest.raises(DatasetError) as error:
            prepare(config, progress=False, spark=session)
        messages.append(str(error.value))
        assert not config.dataset_dir.exists()
    assert messages[0] == messages[1]
    expected = {"type": "use one type for times", "list": "has type list<", "share": "unknown item_id (2,990)"}
    assert expected[spoilt] in messages[0]


@pytest.mark.slow
def test_an_increment_is_prepared_by_this_process(raw: Raw, spark: Any) -> None:
    with pytest.raises(ValueError, match="append"):
        prepare(raw.config(), append=True, spark=spark)
