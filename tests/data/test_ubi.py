"""User Behavior Insights logs as they are written, imported and prepared."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from dpsr.cli import main
from dpsr.data.dataset.schema import DatasetError
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.job import prepare
from dpsr.data.raw import ubi
from dpsr.data.raw.ubi import import_ubi

from .conftest import random_raw

START = datetime(2025, 3, 1, tzinfo=UTC)


def event(
    action: str, query_id: str | None, item: str | None, second: int, ordinal: int = 1, **more: Any
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "application": "shop",
        "action_name": action,
        "client_id": "browser-1",
        "timestamp": (START + timedelta(seconds=second)).isoformat().replace("+00:00", "Z"),
        "event_attributes": {"position": {"ordinal": ordinal}},
    }
    if query_id is not None:
        document["query_id"] = query_id
    if item is not None:
        document["event_attributes"]["object"] = {"object_id": item, "object_id_field": "sku"}
    return document | more


def query(query_id: str, text: str, hits: list[str]) -> dict[str, Any]:
    return {"query_id": query_id, "user_query": text, "query_response_hit_ids": hits, "timestamp": START.isoformat()}


def write(path: Path, documents: list[dict[str, Any]]) -> None:
    with pa.output_stream(str(path), compression="gzip" if path.suffix == ".gz" else None) as stream:
        stream.write("".join(json.dumps(document) + "\n" for document in documents).encode())


def log(path: Path) -> list[tuple[Any, ...]]:
    rows = pq.read_table(path).to_pylist()
    return [
        (r["query"], r["item_id"], r["user_id"], int((r["timestamp"] - START).total_seconds()), r["event"])
        for r in rows
    ]


def test_events_find_their_query_and_passed_over_results_are_skips(tmp_path: Path) -> None:
    write(
        tmp_path / "q.jsonl",
        [
            query("1", " red phone ", ["a", "b", "c", "d"]),
            query("2", "case", []),
            {"_index": "ubi_queries", "_source": query("3", "tent", ["x"])},
        ],
    )
    write(
        tmp_path / "e.jsonl.gz",
        [
            event("on_search", "1", None, 0),
            event("click", "1", "c", 5, 3, user_id="ann"),
            event("purchase", "1", "c", 9, 3, user_id="ann"),
            event("impression", "2", "p", 10, 1),
            event("impression", "2", "q", 10, 2),
            event("impression", "2", "r", 10, 3),
            event("click_through", "2", "q", 12, 2, user_id=""),
            event("add_to_cart", "2", "q", 13, 2),
            {"_source": event("impression", "3", "x", 20, 1)},
        ],
    )
    counts = import_ubi(str(tmp_path / "q.jsonl"), str(tmp_path / "e*"), tmp_path / "log.parquet")
    assert log(tmp_path / "log.parquet") == [
        ("red phone", "c", "ann", 5, "click"),
        ("red phone", "c", "ann", 9, "purchase"),
        ("red phone", "a", "ann", 5, "skip"),
        ("red phone", "b", "ann", 5, "skip"),
        ("case", "q", "browser-1", 12, "click"),
        ("case", "p", "browser-1", 12, "skip"),
    ]
    assert counts.events == {"click": 2, "purchase": 1, "skip": 3}
    assert counts.ignored == {"on_search": 1, "add_to_cart": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e.jsonl.gz", "log.parquet", "q.jsonl"]


def test_unusable_events_are_listed_with_their_row(tmp_path: Path) -> None:
    write(tmp_path / "q.jsonl", [query("1", "red", ["a"]), query("2", "", ["a"])])
    bad = [
        ("unknown query_id", event("click", "9", "a", 1)),
        ("empty user_query", event("click", "2", "a", 1)),
        ("event without query_id", event("click", None, "a", 1)),
        ("event without object_id", event("click", "1", None, 1)),
        ("unreadable timestamp", event("click", "1", "a", 1, timestamp="yesterday")),
        ("event without action_name", {"query_id": "1"}),
    ]
    write(tmp_path / "e.jsonl", [event("click", "1", "a", 1), *(document for _, document in bad)])
    with (tmp_path / "e.jsonl").open("a") as file:
        file.write("{broken\n")
    arguments = str(tmp_path / "q.jsonl"), str(tmp_path / "e.jsonl"), tmp_path / "log.parquet"
    with pytest.raises(DatasetError, match="7 of 8 rows"):
        import_ubi(*arguments)
    assert not (tmp_path / "log.parquet").exists()
    import_ubi(*arguments, max_rejected_share=1.0)
    listed = [json.loads(line) for line in (tmp_path / "log.parquet.rejected/events.jsonl").read_text().splitlines()]
    expected = {(reason, row) for row, (reason, _) in enumerate(bad, start=2)} | {("malformed JSON line", 8)}
    assert {(row["reason"], row["row"]) for row in listed} == expected
    assert len(log(tmp_path / "log.parquet")) == 1


@pytest.mark.parametrize(
    "position",
    [
        lambda n: {"ordinal": n},
        lambda n: {"ordinal": str(n)},
        lambda n: {"ordinal": float(n)},
        lambda n: {"ordinal": {"$numberInt": f" {n} "}},
        lambda n: {"ordinal": {"value": n}, "x": 3, "y": 4},
        lambda n: {"ordinal": n, "xy": {"x": 1.5, "y": None}},
        lambda n: n,
        lambda n: str(n),
    ],
)
def test_an_ordinal_is_a_number_a_text_or_within_an_object(tmp_path: Path, position: Callable[[int], Any]) -> None:
    write(tmp_path / "q.jsonl", [query("1", "red", [])])
    shown = [event("impression", "1", item, 1) for item in "abcdefghijkl"]
    for number, document in enumerate(shown, start=1):
        document["event_attributes"]["position"] = position(number)
    click = event("click", "1", "k", 2) | {"event_attributes": shown[10]["event_attributes"]}
    write(tmp_path / "e.jsonl", [*reversed(shown), click])
    import_ubi(str(tmp_path / "q.jsonl"), str(tmp_path / "e.jsonl"), tmp_path / "log.parquet")
    assert [row[1] for row in log(tmp_path / "log.parquet")] == ["k", *"abcdefghij"]


TRIALS: list[tuple[str, Any, str]] = [
    ("query_id", 1, ""),
    ("query_id", 1.0, ""),
    ("query_id", ["1"], "unreadable query_id: expected a text or a number"),
    ("query_id", float("nan"), "event without query_id"),
    ("query_id", "1 \ud83d", "unknown query_id"),
    ("action_name", {"a": 1}, "unreadable action_name: expected a text or a number"),
    ("timestamp", 1_740_787_201_000, ""),
    ("timestamp", 1_740_787_201_000.5, ""),
    ("timestamp", "1740787201000", ""),
    ("timestamp", "2025-03-01 00:00:01 UTC", ""),
    ("timestamp", "2025-03-01T00:00:01.123456789Z", ""),
    ("timestamp", 10**20, "unreadable timestamp"),
    ("timestamp", 1e300, "unreadable timestamp"),
    ("timestamp", float("inf"), "unreadable timestamp"),
    ("timestamp", "10000-01-01", "unreadable timestamp"),
    ("timestamp", "0001-01-01T00:00:00+14:00", "unreadable timestamp"),
    ("timestamp", "2025-03-01 00:00:01 CET", "unreadable timestamp"),
    ("timestamp", True, "unreadable timestamp"),
    ("timestamp", [1], "unreadable timestamp"),
    ("timestamp", None, "unreadable timestamp"),
    ("user_id", 1234567890123456.0, ""),
    ("user_id", {"id": 1}, "unreadable user_id: expected a text or a number"),
    ("event_attributes", "x", "unreadable event_attributes: expected an object"),
    ("event_attributes", {"object": ["a"]}, "unreadable object: expected an object"),
    ("event_attributes", {"object": {"object_id": ["a"]}}, "unreadable object_id: expected a text or a number"),
    ("event_attributes", {"object": {"object_id": "a"}, "position": "first"}, ""),
    ("event_attributes", {"object": {"object_id": "a"}, "position": {"ordinal": [1]}}, ""),
    ("_source", 7, "unreadable _source: expected an object"),
]


@pytest.mark.parametrize(("key", "value", "reason"), TRIALS)
def test_an_event_is_read_or_rejected_with_its_line(tmp_path: Path, key: str, value: Any, reason: str) -> None:
    write(tmp_path / "q.jsonl", [query("1", "red", ["a"])])
    good = event("click", "1", "a", 1)
    write(tmp_path / "e.jsonl", [good, good | {key: value}, good])
    import_ubi(str(tmp_path / "q.jsonl"), str(tmp_path / "e.jsonl"), tmp_path / "log.parquet", max_rejected_share=0.5)
    assert len(log(tmp_path / "log.parquet")) == (2 if reason else 3)
    listed = tmp_path / "log.parquet.rejected/events.jsonl"
    found = [json.loads(line) for line in listed.read_text().splitlines()] if reason else []
    assert [(row["reason"], row["line"]) for row in found] == ([(reason, 2)] if reason else [])


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("query_response_hit_ids", "abc", "unreadable query_response_hit_ids: expected a list"),
        ("query_response_hit_ids", [1, 2.0, None, "x \ud83d"], ""),
        ("query_response_hit_ids", [["a"]], "unreadable query_response_hit_ids: expected a text or a number"),
        ("user_query", {"text": "x"}, "unreadable user_query: expected a text"),
        ("user_query", "half \ud83d", ""),
        ("user_query", 501, ""),
        ("query_id", None, "query without query_id"),
    ],
)
def test_a_query_is_read_or_rejected_with_its_line(tmp_path: Path, key: str, value: Any, reason: str) -> None:
    write(tmp_path / "q.jsonl", [query("1", "red", ["b", "a"]), query("2", "blue", []) | {key: value}])
    write(tmp_path / "e.jsonl", [event("click", "1", "a", 1), event("click", "2", "x", 1)])
    import_ubi(str(tmp_path / "q.jsonl"), str(tmp_path / "e.jsonl"), tmp_path / "log.parquet", max_rejected_share=1.0)
    listed = tmp_path / "log.parquet.rejected/events.jsonl"
    found = [json.loads(line) for line in listed.read_text().splitlines()] if reason else []
    assert [(row["reason"], row["line"]) for row in found] == ([(reason, 2), ("unknown query_id", 2)] if reason else [])
    assert len(log(tmp_path / "log.parquet")) == (2 if reason else 3)


def test_damaged_bytes_of_events_are_read_or_rejected(tmp_path: Path) -> None:
    write(tmp_path / "q.jsonl", [query(str(n), f"red {n}", ["a", "b"]) for n in range(20)])
    events = [event("click", str(n % 20), "b", n) for n in range(100)]
    write(tmp_path / "e.jsonl", events)
    whole = (tmp_path / "e.jsonl").read_bytes()
    random = np.random.default_rng(5)
    for _ in range(150):
        data = bytearray(whole)
        for place in random.integers(len(data), size=5).tolist():
            data[place] = int(random.choice(np.frombuffer(b'\xff\n"{}[],:\\\x00e9', np.uint8)))
        (tmp_path / "e.jsonl").write_bytes(data)
        out = tmp_path / "log.parquet"
        import_ubi(str(tmp_path / "q.jsonl"), str(tmp_path / "e.jsonl"), out, max_rejected_share=1.0)
        clicks = sum(row[4] == "click" for row in log(tmp_path / "log.parquet"))
        assert 85 <= clicks <= 100


def test_a_cut_off_or_unreadable_log_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "q.jsonl", [query("1", "red", ["a"])])
    write(tmp_path / "e.jsonl.gz", [event("click", "1", str(n), n) for n in range(500)])
    whole = (tmp_path / "e.jsonl.gz").read_bytes()
    (tmp_path / "e.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"e\.jsonl\.gz: cannot be read"):
        import_ubi(str(tmp_path / "q.jsonl"), str(tmp_path / "e.jsonl.gz"), tmp_path / "log.parquet")
    assert sorted(path.name for path in tmp_path.iterdir() if "rejected" not in path.name) == ["e.jsonl.gz", "q.jsonl"]


@pytest.mark.parametrize("bucket_bytes", [1 << 27, 20_000])
def test_a_shop_logged_as_ubi_gives_the_same_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket_bytes: int
) -> None:
    monkeypatch.setattr(ubi, "_BUCKET_BYTES", bucket_bytes)
    raw = random_raw(tmp_path, rows=2000)
    random = np.random.default_rng(1)
    queries, events = [], []
    for number, row in enumerate(raw.interactions):
        row["event"] = "purchase" if random.random() < 0.2 else "click"
        row["timestamp"] = row["timestamp"].replace(tzinfo=UTC) + timedelta(microseconds=number)
        row["query"] = row["query"].strip()
        queries.append(query(f"id-{number}", row["query"], [row["item_id"]]))
        time = row["timestamp"].isoformat()
        events.append(event(row["event"], f"id-{number}", row["item_id"], 0, timestamp=time, user_id=row["user_id"]))
        del events[-1]["client_id"]
    raw.write()
    write(tmp_path / "queries.jsonl", queries)
    write(tmp_path / "events.jsonl", events)
    arguments = ["data", "import-ubi", "--queries", str(tmp_path / "queries.jsonl")]
    arguments += ["--events", str(tmp_path / "events.jsonl"), "--out", str(tmp_path / "ubi.parquet")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    found = Dataset.load(
        prepare(raw.config("ubi", interactions={"path": str(tmp_path / "ubi.parquet")}), progress=False)
    )
    expected = Dataset.load(prepare(raw.config("plain"), progress=False))
    assert found.manifest["time"] == expected.manifest["time"]
    for split in ("train", "valid", "test"):
        pairs = []
        for dataset in (found, expected):
            texts = dataset.query_texts().to_pylist()
            pairs.append(Counter((texts[record[0]], *record[1:]) for record in dataset.interactions(split).tolist()))
        assert pairs[0] == pairs[1]
    assert found.history.values.tolist() == expected.history.values.tolist()


def test_wrong_usage_is_told(tmp_path: Path) -> None:
    write(tmp_path / "q.jsonl", [])
    arguments = ["data", "import-ubi", "--queries", str(tmp_path / "q.jsonl"), "--events", str(tmp_path / "no.jsonl")]
    result = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path / "x.parquet")])
    assert (result.exit_code, "no.jsonl: no such file" in result.output) == (1, True)
    result = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path / "x.parquet"), "--action", "watch=like"])
    assert (result.exit_code, "watch=like: the event must be one of click" in result.output) == (2, True)
