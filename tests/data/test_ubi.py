"""User Behavior Insights logs as they are written, imported and prepared."""

from __future__ import annotations

import json
from collections import Counter
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
