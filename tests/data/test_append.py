"""A day's increment: dense ids stay, histories grow, and nothing of the past changes."""

from __future__ import annotations

import shutil
from collections import Counter
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpsr.data.dataset import spill
from dpsr.data.dataset.schema import DatasetError
from dpsr.data.dataset.tables import Dataset
from dpsr.data.dataset.verify import verify
from dpsr.data.prepare.job import prepare
from dpsr.tokenizer_cc import Tokenizer

from .conftest import START, Raw, random_raw
from .test_prepare import Oracle, readable

DAY = timedelta(days=1)


def two_days(tmp_path: Path, with_users: bool = True) -> tuple[Raw, Raw, Raw]:
    """The first day, the second with new items, users and queries, and both as one log."""
    first = random_raw(tmp_path, rows=2000, with_users=with_users)
    second = random_raw(tmp_path, rows=1000, seed=5, with_users=with_users)
    for number, row in enumerate(second.interactions):
        row["timestamp"] += DAY
        if number % 5 == 0:
            row |= {"item_id": f"n{number % 4}", "query": f"brandnew thing {number % 7}"}
        if number % 11 == 0:
            row["user_id"] = f"new{number % 3}"
    second.items = [{"item_id": f"n{number}", "title": f"brandnew {number}", "brand": "fresh"} for number in range(4)]
    second.items.append({"item_id": "i7", "title": "another title", "brand": "bolt"})
    if with_users:
        second.users = [{"user_id": f"new{number}", "gender": "f"} for number in range(3)]
    both = Raw(tmp_path, [], first.interactions + second.interactions)
    return first, second, both


def run_both_days(first: Raw, second: Raw, **options: bool) -> tuple[Dataset, Dataset]:
    first.write()
    root = prepare(first.config(), progress=False)
    kept = root.with_name("yesterday")
    root.rename(kept)
    yesterday = Dataset.load(kept)
    shutil.copytree(kept, root)
    second.write()
    return yesterday, Dataset.load(prepare(second.config(), append=True, progress=False, **options))


@pytest.mark.parametrize("with_users", [True, False])
@pytest.mark.parametrize("bucket", [100, 1 << 20])
def test_an_increment_equals_the_oracle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_users: bool, bucket: int
) -> None:
    monkeypatch.setattr(spill, "BUCKET_RECORDS", bucket)
    first, second, both = two_days(tmp_path, with_users)
    yesterday, today = run_both_days(first, second)
    whole, new = Oracle(both, 0.05, 0.1), Oracle(second, 0.05, 0.1)
    seen = {(row["query"], row["item_id"]) for row in second.interactions}
    assert seen
    for split in ("valid", "test"):
        records = readable(today, today.interactions(split))
        assert [record[:4] for record in records] == [record[:4] for record in new.splits[split]]
    old = [
        record for split in ("train", "valid", "test") for record in readable(yesterday, yesterday.interactions(split))
    ]
    everything = Counter(whole.record(row) for row in both.interactions if row["event"] != "skip")
    found = Counter(
        record for split in ("train", "valid", "test") for record in readable(today, today.interactions(split))
    )
    assert found == everything  # with all histories, across both days
    assert not Counter(old) - Counter(readable(today, today.interactions("train")))
    assert readable(today, today.skips())[: len(yesterday.skips())] == readable(yesterday, yesterday.skips())
    assert len(today.skips()) == len(yesterday.skips()) + len(new.splits["skips"])
    for row, user in enumerate(today.user_ids().to_pylist()):
        assert list(today.item_ids[today.history[row]]) == [event["item_id"] for event in whole.histories[user]]
    manifest = today.manifest
    assert manifest["appended"] == 1
    assert manifest["time"]["train"][0] == yesterday.manifest["time"]["train"][0]
    assert manifest["time"]["train"][1] < manifest["time"]["valid"][0]
    assert sum(manifest["counts"]["events"].values()) == 3000


def test_dense_ids_and_vocabularies_stay(tmp_path: Path) -> None:
    yesterday, today = run_both_days(*two_days(tmp_path)[:2])
    assert today.item_ids[:50].tolist() == yesterday.item_ids.tolist()
    assert today.item_ids[50:].tolist() == ["n0", "n1", "n2", "n3"]
    assert today.user_ids().to_pylist()[:30] == yesterday.user_ids().to_pylist()
    assert today.query_texts().to_pylist()[: len(yesterday.query_tokens)] == yesterday.query_texts().to_pylist()
    assert today.vocabularies == yesterday.vocabularies
    assert today.schema.tokenizer_fingerprint == yesterday.schema.tokenizer_fingerprint
    assert (today.schema.categorical, today.schema.token_rows) == (
        yesterday.schema.categorical,
        yesterday.schema.token_rows,
    )
    unknown = today.schema.categorical["brand"] - 1
    assert today.item_categorical["brand"][50:].tolist() == [unknown] * 4
    assert today.item_table().column("title").to_pylist()[7] == "another title"
    unchanged = [row for row in range(50) if row != 7]
    for row in unchanged:
        np.testing.assert_array_equal(today.item_tokens[row], yesterday.item_tokens[row])


def test_labelled_pairs_stay(tmp_path: Path) -> None:
    first, second, _ = two_days(tmp_path)
    for number, raw in enumerate((first, second)):
        path = tmp_path / f"labels-{number}.parquet"
        pq.write_table(pa.table({"query": [f"red {number}"], "item_id": ["i3"], "label": [number]}), path)
        raw.settings = {"supervision": {"path": str(path)}}
    yesterday, today = run_both_days(first, second)
    assert today.labels()[:1].tolist() == yesterday.labels().tolist()
    assert today.labels()["label"].tolist() == [0.0, 1.0]
    third = random_raw(tmp_path, rows=500, seed=6)
    for row in third.interactions:
        row["timestamp"] += 3 * DAY
    third.write()
    last = Dataset.load(prepare(third.config(), append=True, progress=False))
    assert last.manifest["appended"] == 2
    np.testing.assert_array_equal(last.labels(), today.labels())
    assert verify(last.directory) == []


def test_vocabularies_grow_when_asked(tmp_path: Path) -> None:
    yesterday, today = run_both_days(*two_days(tmp_path)[:2], grow_vocabulary=True)
    old = yesterday.vocabularies["items.brand"]
    assert today.vocabularies["items.brand"] == [*old, "fresh"]
    assert today.item_categorical["brand"][50:].tolist() == [len(old) + 1] * 4
    word = next(token for token in Tokenizer.load(today.tokenizer_path).tokens("brandnew") if token.kind == "word")
    assert word.document_frequency > 4


def test_an_increment_has_to_be_later_and_to_have_the_same_columns(tmp_path: Path) -> None:
    first, second, _ = two_days(tmp_path)
    with pytest.raises(DatasetError, match=r"run `dpsr prepare` first"):
        prepare(first.config(), append=True, progress=False)
    first.write()
    root = prepare(first.config(), progress=False)
    manifest = (root / "manifest.json").read_bytes()
    with pytest.raises(DatasetError, match=r"the log begins at .*, but the dataset goes to"):
        prepare(first.config(), append=True, progress=False)
    for row in second.interactions:
        row["timestamp"] = int((row["timestamp"] - START).total_seconds())
    second.write()
    with pytest.raises(DatasetError, match="of unit integer, those of the dataset of timestamp"):
        prepare(second.config(), append=True, progress=False)
    with pytest.raises(DatasetError, match=r"data.items.categorical and numeric = \['brand'\], found \[\]"):
        prepare(second.config(items={"categorical": []}), append=True, progress=False)
    assert (root / "manifest.json").read_bytes() == manifest
    assert [path.name for path in root.parent.iterdir()] == ["dataset"]
