"""Columns of numbers, labelled pairs, skipped items, and hashed user ids."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpsr.data.dataset.schema import DatasetError
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.job import prepare
from dpsr.data.prepare.vocabulary import bucket_edges, bucket_ids, column_ids
from dpsr.data.raw.values import numbers

from .conftest import Raw, random_raw


@pytest.mark.parametrize("as_text", [False, True])
def test_numbers_become_buckets_with_equally_many_items(raw: Raw, as_text: bool) -> None:
    prices = np.random.default_rng(3).permutation(np.arange(50) * 1.5 + 0.25).tolist()
    values: list[Any] = [None, *prices[1:]]
    for item, price in zip(raw.items, values, strict=True):
        item["price"] = (None if price is None else f" {price} ") if as_text else price
    raw.write()
    dataset = Dataset.load(prepare(raw.config(items={"numeric": ["price"], "numeric_buckets": 7}), progress=False))
    edges = [float(edge) for edge in dataset.vocabularies["items.price"]]
    assert edges[0] == -np.inf
    assert edges == sorted(edges)
    assert dataset.schema.categorical == {"brand": 5, "price": 9}
    expected = [0 if price is None else sum(edge <= price for edge in edges) for price in values]
    assert dataset.item_categorical["price"].tolist() == expected
    assert dataset.schema.numeric == ("price",)
    vocabulary = dataset.vocabularies["items.price"]
    later = column_ids(pa.array(["-7", "1e9", "x"]), vocabulary, numeric=True)
    assert later.tolist() == [1, 7, 0]  # an item that comes later falls into the same buckets
    assert column_ids(pa.array([None, " acme ", ""]), ["acme"], numeric=False).tolist() == [0, 1, 0]
    sizes = Counter(expected[1:])
    assert max(sizes.values()) - min(sizes.values()) <= 1
    assert "price" in dataset.item_table().column_names


def test_few_different_numbers_make_few_buckets_and_what_is_no_number_is_missing() -> None:
    column = pa.array(["3", "3.0", "+3e0", "5", "nan", "", None, "5 EUR", "-.5"])
    values = numbers(column)
    assert values.to_pylist() == [3.0, 3.0, 3.0, 5.0, None, None, None, None, -0.5]
    edges = bucket_edges(values, 10)
    assert edges.tolist() == [-np.inf, 3.0, 5.0]
    assert bucket_ids(values, edges).tolist() == [2, 2, 2, 3, 0, 0, 0, 0, 1]
    assert bucket_edges(pa.nulls(3, pa.float64()), 10).tolist() == [-np.inf]


def test_a_numeric_column_without_any_number_is_an_error(raw: Raw) -> None:
    with pytest.raises(DatasetError, match=r"items: column 'brand' has no number \(found '"):
        prepare(raw.config(items={"categorical": [], "numeric": ["brand"]}), progress=False)


def test_labelled_pairs_are_kept_in_their_order(raw: Raw) -> None:
    rows = [
        {"query": "red phone", "item_id": "i3", "label": "1"},
        {"query": "  never clicked ", "item_id": "i4", "label": "-0.5"},
        {"query": "", "item_id": "i4", "label": "1"},
        {"query": "x", "item_id": "i99", "label": "1"},
        {"query": "x", "item_id": "i1", "label": "good"},
        {"query": "red phone", "item_id": "i5", "label": "0"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), raw.directory / "labels.parquet")
    supervision = {"path": str(raw.directory / "labels.parquet")}
    dataset = Dataset.load(prepare(raw.config(supervision=supervision, max_rejected_share=0.5), progress=False))
    queries = dataset.query_texts().to_pylist()
    found = [(queries[query], dataset.item_ids[item], label) for query, item, label in dataset.labels().tolist()]
    assert found == [("red phone", "i3", 1.0), ("never clicked", "i4", -0.5), ("red phone", "i5", 0.0)]
    reasons = {"empty query": 1, "unknown item_id": 1, "unreadable label": 1}
    assert dataset.manifest["inputs"]["supervision"]["rejected"] == reasons
    assert len(dataset.query_tokens[queries.index("never clicked")]) > 0
    plain = Dataset.load(prepare(raw.config("plain"), progress=False))
    assert len(plain.labels()) == 0
    np.testing.assert_array_equal(plain.interactions("test"), dataset.interactions("test"))


def test_user_ids_are_hashed_with_the_key_of_the_environment(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Dataset.load(prepare(raw.config("plain"), progress=False))
    with pytest.raises(DatasetError, match="environment variable DPSR_KEY is not set"):
        prepare(raw.config(user_id_key_variable="DPSR_KEY"), progress=False)
    monkeypatch.setenv("DPSR_KEY", "secret")
    dataset = Dataset.load(prepare(raw.config(user_id_key_variable="DPSR_KEY"), progress=False))
    expected = [hmac.digest(b"secret", user["user_id"].encode(), hashlib.sha256)[:16].hex() for user in raw.users or ()]
    assert dataset.user_ids().to_pylist() == expected
    for split in ("train", "valid", "test"):
        np.testing.assert_array_equal(dataset.interactions(split), plain.interactions(split))
    monkeypatch.setenv("DPSR_KEY", "other")
    other = Dataset.load(prepare(raw.config("other", user_id_key_variable="DPSR_KEY"), progress=False))
    assert not set(other.user_ids().to_pylist()) & set(expected)


def test_no_user_id_is_left_in_a_dataset_with_hashed_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPSR_KEY", "secret")
    raw = random_raw(tmp_path, with_users=False)
    raw.write()
    users = [f"customer-{number}@shop" for number in range(3)]
    lines = ["query,item_id,user_id"]
    lines += [f"red phone,i{number % 50},{users[number % 3]}" for number in range(900)]
    lines += [f"broken,line,{users[0]},more"]
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n")
    config = raw.config(interactions={"path": str(tmp_path / "log.csv")}, user_id_key_variable="DPSR_KEY")
    root = prepare(config, progress=False)
    assert Dataset.load(root).schema.num_users == 3
    rejected = json.loads((root / "rejected/interactions.jsonl").read_text())
    assert rejected == {"file": str(tmp_path / "log.csv"), "row": 901, "line": 902, "reason": rejected["reason"]}
    for path in root.rglob("*.*"):
        assert b"customer-" not in path.read_bytes(), path
