"""Whatever a file holds: its rows are read or rejected, each of them, or an error names the file."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpsr.config import SourceConfig, parse_config
from dpsr.data.dataset.tables import Dataset
from dpsr.data.dataset.verify import verify
from dpsr.data.prepare.job import prepare
from dpsr.data.raw import line_blocks, parquet_files
from dpsr.data.raw.readers import Source
from dpsr.data.raw.rejected import RejectedRows
from dpsr.data.raw.values import Kind
from dpsr.errors import DpsrError

PAIR = {"query": Kind.TEXT, "item_id": Kind.ID}
OPTIONAL = {"user_id": Kind.ID, "timestamp": Kind.TIME, "event": Kind.EVENT, "label": Kind.LABEL}
ITEMS = 20
ENDINGS = ["parquet", "csv", "jsonl", "csv.gz", "jsonl.gz", "csv.zst", "jsonl.zst", "json"]
BYTES = [b'"', b"\n", b"\r", b"\r\n", b",", b"\x00", b"\xff", b"\xe9", b"\xed\xa0\xbd", b"\\ud83d", b"{", b"}", b"["]
VALUES: list[Any] = [
    *(None, "", " ", "nan", "NaN", "null", "red \ud83d", "café", "a\nb", 'a "b" c', '"', "a,b", "x" * 5000, "\x00"),
    *(True, False, 0, -1, 7, 7.0, 7.5, 2**53 + 1, 2**63, -(2**63), 10**20, 10**400, 1e300, -0.0, 1.7e12),
    *(1234567890123456.0, float("nan"), float("inf"), float("-inf"), "1e400", "10000-01-01", "0000-01-01"),
    *("2024-02-30", "2024-01-01", "2024-01-01 00:00:00 UTC", "2024-01-01T00:00:00.123456789Z", "1700000000.5"),
    *("9" * 30, [], [1], {}, {"a": [1]}, [[]], "\u3000", "\\"),
]
REPLACED = [(b'"', b""), (b"\n", b"\r"), (b"\n", b"\r\n"), (b",", b";"), (b"i", b"\xff")]
COLUMNS: list[Callable[[int], pa.Array]] = [
    lambda n: pa.array([["a"]] * n),
    lambda n: pa.array([{"a": 1}] * n),
    lambda n: pa.array([[("a", 1)]] * n, pa.map_(pa.string(), pa.int64())),
    lambda n: pa.array([None if i % 3 else float(i) for i in range(n)]),
    lambda n: pa.array([float("nan") if i % 2 else 1e300 for i in range(n)]),
    lambda n: pa.array([10**14 + i for i in range(n)]).cast(pa.timestamp("s")),
    lambda n: pa.array(range(n)).cast(pa.timestamp("ns", "Asia/Tokyo")),
    lambda n: pa.array(range(n), pa.int32()).cast(pa.date32()),
    lambda n: pa.array([2**64 - 1 - i for i in range(n)], pa.uint64()),
    lambda n: pa.array([i % 2 == 0 for i in range(n)]),
    lambda n: pa.array([str(i) for i in range(n)]).cast(pa.decimal128(20, 2)),
    lambda n: pa.array([b"caf\xe9" if i % 5 == 0 else b"i%d" % (i % ITEMS) for i in range(n)], pa.binary()),
    lambda n: pa.array([f"i{i % ITEMS}" for i in range(n)]).dictionary_encode(),
    lambda n: pa.array([f"i{i % ITEMS}" for i in range(n)], pa.large_string()),
    lambda n: pa.array([f"i{i % ITEMS}" for i in range(n)], pa.string_view()),
    lambda n: pa.array([bytes(16)] * n, pa.binary(16)),
    lambda n: pa.array(list(range(n)), pa.time64("us")),
    lambda n: pa.array(list(range(n)), pa.duration("s")),
    lambda n: pa.array(list(range(n))).cast(pa.float16()),
    lambda n: pa.nulls(n),
]


class Damage:
    """Good rows, and one way after another to spoil them; the same seed spoils them in the same way."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.ending = ENDINGS[seed % len(ENDINGS)]
        size = self.random.choice([1, 2, 30, 100])
        self.rows: list[dict[str, Any]] = [
            {"query": f"red shoe {n % 7}", "item_id": f"i{n % ITEMS}", "user_id": f"u{n % 5}", "timestamp": n}
            | {"event": "skip" if n % 9 == 4 else "click", "label": n % 3}
            for n in range(size)
        ]

    def write(self, path: Path) -> int | None:
        """Writes a spoilt file; returns how many rows are in it where this is certain."""
        for _ in range(self.random.choice([0, 1, 1, 3])):
            self._spoil_row()
        data = self._parquet() if self.ending == "parquet" else self._text()
        rows: int | None = len(self.rows)
        if self.random.random() < 0.6:
            for _ in range(self.random.choice([1, 1, 2, 5])):
                data = self._spoil_bytes(data)
            rows = None
        if self.ending.endswith(".gz"):
            data = gzip.compress(data)
        elif self.ending.endswith(".zst"):
            data = pa.compress(data, "zstd", asbytes=True)
        if self.ending[-3:] in (".gz", "zst") and self.random.random() < 0.3:
            data, rows = self._spoil_bytes(data), None
        path.write_bytes(data)
        return rows if self.ending in ("parquet", "json") or self.ending.startswith("jsonl") else self._csv_rows(rows)

    def _csv_rows(self, rows: int | None) -> int | None:
        """None where a value has a line end: the lines of a malformed row count one by one."""
        texts = (str(value) for row in self.rows for value in row.values())
        return None if any("\n" in text or "\r" in text for text in texts) else rows

    def _spoil_row(self) -> None:
        row = self.random.choice(self.rows)
        column = self.random.choice(list(row) or ["query"])
        action = self.random.random()
        if action < 0.6:
            row[column] = self.random.choice(VALUES)
        elif action < 0.75:
            row.pop(column, None)
        elif action < 0.9:
            for other in self.rows:
                other[column] = self.random.choice(VALUES)
        else:
            for other in self.rows:
                other.pop(column, None)

    def _parquet(self) -> bytes:
        names = list(dict.fromkeys(name for row in self.rows for name in row)) or ["query"]
        arrays = []
        for name in names:
            values = [row.get(name) for row in self.rows]
            try:
                array = pa.array(values)
                pq.write_table(pa.table({name: array}), io.BytesIO())
            except (pa.ArrowException, OverflowError, UnicodeEncodeError):  # of several types, or of no type of Parquet
                texts = (None if value is None else str(value) for value in values)
                array = pa.array([text and text.encode("utf-8", "surrogatepass") for text in texts], pa.binary())
            arrays.append(array)
        if self.random.random() < 0.5:
            arrays[self.random.randrange(len(names))] = self.random.choice(COLUMNS)(len(self.rows))
        if self.random.random() < 0.1:
            names[self.random.randrange(len(names))] = self.random.choice(names)
        sink = io.BytesIO()
        pq.write_table(pa.table(arrays, names=names), sink, row_group_size=self.random.choice([7, 1000]))
        return sink.getvalue()

    def _text(self) -> bytes:
        sink = io.StringIO(newline="")
        if self.ending.startswith("json"):
            sink.writelines(json.dumps(row, ensure_ascii=self.random.random() < 0.5) + "\n" for row in self.rows)
        else:
            names = list(dict.fromkeys(name for row in self.rows for name in row)) or ["query"]
            end = self.random.choice(["\n", "\r\n"])
            writer = csv.DictWriter(sink, names, lineterminator=end, quoting=self.random.choice([csv.QUOTE_ALL, 0]))
            writer.writeheader()
            writer.writerows(self.rows)
        return sink.getvalue().encode("utf-8", "surrogatepass")

    def _spoil_bytes(self, data: bytes) -> bytes:
        place = self.random.randrange(len(data) + 1)
        action = self.random.randrange(7)
        if action == 0:
            return data[:place]
        if action == 1:
            return data[:place] + self.random.choice(BYTES) + data[place:]
        if action == 2:
            return data[:place] + bytes([self.random.randrange(256)]) + data[place + 1 :]
        if action == 3:
            end = place + self.random.randrange(50)
            return data[:place] + data[end:]
        if action == 4:
            lines = data.split(b"\n")
            lines[self.random.randrange(len(lines))] = self.random.choice(BYTES) * self.random.randrange(4)
            return b"\n".join(lines)
        if action == 5:
            return self.random.choice([b"\xef\xbb\xbf", b"\xff\xfe", b"\n\n", b"PAR1", b"["]) + data
        return data.replace(*self.random.choice(REPLACED))


def check_reading(folder: Path, seed: int) -> None:
    """Reads a spoilt file; every row of it is read or rejected, or the error names the file."""
    damage = Damage(seed)
    path = folder / f"log-{seed}.{damage.ending}"
    rows = damage.write(path)
    message = ""
    try:
        source = Source("interactions", SourceConfig(path=str(path)), PAIR, OPTIONAL)
        with RejectedRows(folder / str(seed), "interactions") as rejected:
            numbers = [number for chunk in source.chunks(rejected) for number in chunk.rows.tolist()]
    except DpsrError as error:
        message = str(error)
    if message:
        assert path.name in message, (seed, message)
        return
    assert numbers == sorted(set(numbers)), seed
    listed = [json.loads(line) for line in rejected.path.read_text().splitlines()] if rejected.count else []
    assert not {entry["row"] for entry in listed} & set(numbers), seed
    if rows is not None:
        assert len(numbers) + rejected.count == rows, (seed, len(numbers), rejected.count, rows)
    if damage.ending.startswith(("csv", "json")):
        lines = line_count(path)
        assert all(1 <= entry["line"] <= lines for entry in listed), seed


def line_count(path: Path) -> int:
    with line_blocks.open_bytes(str(path)) as file:
        data = file.read()
    return data.count(b"\n") + data.count(b"\r") + 1


def check_preparing(folder: Path, seed: int) -> None:
    """Prepares a dataset from a spoilt log, and a spoilt catalogue and labels; it is sound, or there is an error."""
    damage = Damage(seed)
    spoilt = f"spoilt.{damage.ending}"
    damage.rows *= 5
    damage.write(folder / spoilt)
    ids = [f"i{n}" for n in range(ITEMS)]
    items = pa.table({"item_id": ids, "title": ["red shoe"] * ITEMS, "price": range(ITEMS)})
    pq.write_table(items, folder / "items.parquet")
    log = pa.table({"query": ["red shoe"] * 100, "item_id": ids * 5, "timestamp": range(100)})
    pq.write_table(log, folder / "log.parquet")
    data: dict[str, Any] = {
        "items": {"path": str(folder / "items.parquet"), "numeric": ["price"]},
        "interactions": {"path": str(folder / "log.parquet")},
        "max_rejected_share": 0.5,
    }
    role = ("interactions", "items", "users", "supervision")[seed % 4]
    if role == "items":
        columns = {"title": "query", "price": "timestamp"}
        data["items"] |= {"path": str(folder / spoilt), "columns": columns, "categorical": ["label"]}
    elif role == "users":
        data["users"] = {"path": str(folder / spoilt), "profile": ["event"]}
    else:
        data[role] = {"path": str(folder / spoilt)}
    tree = {"name": "t", "work_dir": str(folder / "work"), "data": data, "tokenizer": {"min_count": 1}}
    try:
        root = prepare(parse_config(tree, "test"), progress=False)
    except DpsrError:
        return
    assert verify(root) == [], seed
    counts, inputs = Dataset.load(root).manifest["counts"], Dataset.load(root).manifest["inputs"]
    for name, read in (("interactions", sum(counts["events"].values())), ("items", counts["items"])):
        assert read + sum(inputs[name]["rejected"].values()) == inputs[name]["rows"], (seed, name)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_blocks, "_BLOCK_BYTES", 700)
    monkeypatch.setattr(parquet_files, "BATCH_ROWS", 20)


@pytest.mark.parametrize("first", range(0, 240, 40))
def test_damaged_files_are_read_or_refused(tmp_path: Path, first: int) -> None:
    for seed in range(first, first + 40):
        check_reading(tmp_path, seed)


@pytest.mark.usefixtures("small_blocks")
def test_damage_at_the_ends_of_blocks_is_the_same(tmp_path: Path) -> None:
    for seed in range(1000, 1080):
        check_reading(tmp_path, seed)


@pytest.mark.parametrize("first", range(0, 32, 8))
def test_damaged_inputs_make_a_sound_dataset_or_none(tmp_path: Path, first: int) -> None:
    for seed in range(first, first + 8):
        folder = tmp_path / str(seed)
        folder.mkdir()
        check_preparing(folder, seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(10_000, 12_000, 200))
def test_two_thousand_damaged_files_are_read_or_refused(tmp_path: Path, first: int) -> None:
    for seed in range(first, first + 200):
        check_reading(tmp_path, seed)
        if seed % 4 == 0:
            folder = tmp_path / f"prepared-{seed}"
            folder.mkdir()
            check_preparing(folder, seed // 4)
