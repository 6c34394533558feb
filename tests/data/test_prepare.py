"""The dataset directory against a plain-Python oracle of joins, splits and histories."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpsr.data.dataset import spill
from dpsr.data.dataset.schema import EVENTS
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare import streamed, token_files
from dpsr.data.prepare.job import prepare
from dpsr.tokenizer_cc import Tokenizer

from .conftest import Raw, random_raw


class Oracle:
    """What a dataset must say, computed row by row."""

    def __init__(self, raw: Raw, valid_share: float, test_share: float) -> None:
        rows = [row | {"place": place} for place, row in enumerate(raw.interactions)]
        ordered = sorted(
            (row for row in rows if row["event"] != "skip"), key=lambda row: (row["timestamp"], row["place"])
        )
        num_test, num_valid = round(len(ordered) * test_share), round(len(ordered) * valid_share)
        test_from = ordered[len(ordered) - num_test]["timestamp"]
        valid_from = ordered[len(ordered) - num_test - num_valid]["timestamp"]
        self.splits: dict[str, list[Any]] = {"train": [], "valid": [], "test": [], "skips": []}
        self.histories = defaultdict(list)
        for row in ordered:
            if row["user_id"] is not None:
                self.histories[row["user_id"]].append(row)
        for row in sorted(rows, key=lambda row: (row["timestamp"], row["place"])):
            time = row["timestamp"]
            name = "test" if time >= test_from else "valid" if time >= valid_from else "train"
            if row["event"] == "skip":
                name = "skips" if name == "train" else "lost"
            self.splits.setdefault(name, []).append(self.record(row))

    def record(self, row: dict[str, Any]) -> tuple[Any, ...]:
        history = self.histories[row["user_id"]] if row["user_id"] is not None else []
        past = tuple(event["item_id"] for event in history if event["timestamp"] < row["timestamp"])
        return row["query"], row["user_id"], row["item_id"], row["event"], past


def readable(dataset: Dataset, records: np.ndarray) -> list[tuple[Any, ...]]:
    """Records with everything that they point to, in the words of the raw inputs."""
    queries, users = dataset.query_texts().to_pylist(), dataset.user_ids().to_pylist()
    events = {code: name for name, code in EVENTS.items()}
    result = []
    for query, user, item, event, history_end in records.tolist():
        past = tuple(dataset.item_ids[dataset.history[user][:history_end]]) if user >= 0 else ()
        result.append((queries[query], users[user] if user >= 0 else None, dataset.item_ids[item], events[event], past))
    return result


def check_against_oracle(raw: Raw, dataset: Dataset, valid_share: float = 0.05, test_share: float = 0.1) -> None:
    oracle = Oracle(raw, valid_share, test_share)
    for split in ("valid", "test"):
        assert readable(dataset, dataset.interactions(split)) == oracle.splits[split]
    assert Counter(readable(dataset, dataset.interactions("train"))) == Counter(oracle.splits["train"])
    clicks = Counter(record[2] for record in oracle.splits["train"])
    assert dataset.clicks_per_item("train").tolist() == [clicks[item] for item in dataset.item_ids]
    assert readable(dataset, dataset.skips()) == oracle.splits["skips"]
    for row, user in enumerate(dataset.user_ids().to_pylist()):
        assert list(dataset.item_ids[dataset.history[row]]) == [event["item_id"] for event in oracle.histories[user]]


@pytest.mark.parametrize("with_users", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_dataset_equals_the_oracle(tmp_path: Path, seed: int, with_users: bool) -> None:
    raw = random_raw(tmp_path, seed=seed, with_users=with_users)
    raw.write()
    check_against_oracle(raw, Dataset.load(prepare(raw.config(), progress=False)))


@pytest.mark.parametrize("with_users", [True, False])
def test_a_log_larger_than_the_buckets_equals_the_oracle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_users: bool
) -> None:
    monkeypatch.setattr(spill, "BUCKET_RECORDS", 100)
    raw = random_raw(tmp_path, with_users=with_users)
    raw.write()
    check_against_oracle(raw, Dataset.load(prepare(raw.config(), progress=False)))


def test_splits_are_disjoint_and_in_the_order_of_time(raw: Raw) -> None:
    manifest = Dataset.load(prepare(raw.config(), progress=False)).manifest
    ranges = [manifest["time"][split] for split in ("train", "valid", "test")]
    assert ranges[0][1] < ranges[1][0] <= ranges[1][1] < ranges[2][0]
    counts = manifest["counts"]
    assert (
        counts["train"] + counts["valid"] + counts["test"] == counts["events"]["click"] + counts["events"]["purchase"]
    )


def test_train_is_shuffled(raw: Raw) -> None:
    dataset = Dataset.load(prepare(raw.config(), progress=False))
    train = readable(dataset, dataset.interactions("train"))
    ordered = Oracle(raw, 0.05, 0.1).splits["train"]
    in_place = sum(a == b for a, b in zip(train, ordered, strict=True))
    assert in_place < len(train) / 50


def test_the_same_input_gives_the_same_bytes(raw: Raw) -> None:
    def digests(work_dir: str) -> dict[str, str]:
        root = prepare(raw.config(work_dir), progress=False)
        files = [path for path in root.rglob("*") if path.is_file()]
        return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    first, second = digests("one"), digests("two")
    assert first == second
    manifest = Dataset.load(raw.directory / "one" / "dataset").manifest
    assert {name: entry["sha256"] for name, entry in manifest["files"].items()} | {
        "manifest.json": first["manifest.json"]
    } == first


def test_the_size_of_the_buckets_changes_no_byte(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare(raw.config("one"), progress=False)
    monkeypatch.setattr(spill, "BUCKET_RECORDS", 70)
    second = prepare(raw.config("two"), progress=False)
    for path in first.rglob("*"):
        assert path.is_dir() or path.read_bytes() == (second / path.relative_to(first)).read_bytes(), path


def test_token_bags_are_the_tokenizers(raw: Raw) -> None:
    raw.items[3]["title"] = None
    raw.write()
    dataset = Dataset.load(prepare(raw.config(), progress=False))
    tokenizer = Tokenizer.load(dataset.tokenizer_path)
    assert dataset.schema.token_rows == tokenizer.num_ids
    assert dataset.schema.tokenizer_fingerprint == tokenizer.fingerprint
    for bags, texts in (
        (dataset.item_tokens, [item["title"] or "" for item in raw.items]),
        (dataset.query_tokens, dataset.query_texts().to_pylist()),
    ):
        values, row_splits = tokenizer.encode_batch(texts)
        np.testing.assert_array_equal(bags.values, values)
        np.testing.assert_array_equal(bags.row_splits, row_splits)
    assert len(dataset.item_tokens[3]) == 0


def test_the_vocabulary_never_sees_queries_of_later_periods(raw: Raw) -> None:
    latest = max(row["timestamp"] for row in raw.interactions)
    raw.interactions.append(raw.interactions[0] | {"query": "zyzzyva", "timestamp": latest, "event": "click"})
    raw.interactions.append(raw.interactions[0] | {"query": "quokka", "timestamp": raw.interactions[0]["timestamp"]})
    raw.interactions[-1]["timestamp"] = min(row["timestamp"] for row in raw.interactions)
    raw.write()
    tokenizer = Tokenizer.load(Dataset.load(prepare(raw.config(), progress=False)).tokenizer_path)

    def word_id(text: str) -> int:
        return next(token.id for token in tokenizer.tokens(text) if token.kind == "word")

    assert word_id("zyzzyva") > tokenizer.vocabulary_size
    assert word_id("quokka") <= tokenizer.vocabulary_size


def test_categories_have_ids_by_count_and_rare_ones_share_one(raw: Raw) -> None:
    brands = ["b"] * 20 + ["a"] * 20 + ["c"] * 7 + [None, "", "rare"]
    for item, brand in zip(raw.items, brands, strict=True):
        item["brand"] = brand
    raw.write()
    dataset = Dataset.load(prepare(raw.config(min_category_count=2), progress=False))
    assert dataset.vocabularies["items.brand"] == ["a", "b", "c"]
    assert dataset.schema.categorical == {"brand": 5}
    assert dataset.item_categorical["brand"].tolist() == [2] * 20 + [1] * 20 + [3] * 7 + [0, 0, 4]
    assert dataset.vocabularies["users.gender"] == ["f", "m"]
    assert dataset.user_profile["gender"].tolist() == [1, 2, 0] * 10


def test_several_text_columns_make_one_bag(raw: Raw) -> None:
    for number, item in enumerate(raw.items):
        item["name2"] = f"extra{number % 5}" if number % 3 else None
    raw.write()
    dataset = Dataset.load(prepare(raw.config(items={"text": ["title", "name2"]}), progress=False))
    tokenizer = Tokenizer.load(dataset.tokenizer_path)
    for row, item in enumerate(raw.items):
        text = " ".join(part for part in (item["title"], item["name2"]) if part)
        np.testing.assert_array_equal(dataset.item_tokens[row], tokenizer.encode(text))
    assert dataset.item_table().column_names == ["item_id", "title", "name2", "brand"]


def test_integer_item_ids_stay_integers(raw: Raw) -> None:
    for row in (*raw.items, *raw.interactions):
        row["item_id"] = int(row["item_id"][1:])
    raw.write()
    dataset = Dataset.load(prepare(raw.config(), progress=False))
    assert dataset.schema.item_id_type == "int64"
    assert dataset.item_ids.dtype == np.int64
    assert dataset.item_ids.tolist() == list(range(50))
    check_against_oracle(raw, dataset)


def test_without_times_and_events_the_order_of_the_log_is_the_time(raw: Raw) -> None:
    for row in raw.interactions:
        del row["timestamp"], row["event"], row["user_id"]
    raw.write()
    dataset = Dataset.load(prepare(raw.config(), progress=False))
    assert dataset.manifest["time"] == {"unit": "row", "train": [0, 2549], "valid": [2550, 2699], "test": [2700, 2999]}
    test = readable(dataset, dataset.interactions("test"))
    assert test == [(row["query"], None, row["item_id"], "click", ()) for row in raw.interactions[2700:]]
    assert len(dataset.history.values) == 0


def test_users_that_the_table_does_not_have_are_anonymous_and_counted(raw: Raw) -> None:
    for row in raw.interactions[:7]:
        row["user_id"] = "stranger"
    raw.write()
    dataset = Dataset.load(prepare(raw.config(), progress=False))
    assert dataset.manifest["counts"]["unknown_users"] == 7
    assert dataset.schema.num_users == 30
    assert dataset.manifest["inputs"]["interactions"]["rejected"] == {}


def test_an_interrupted_prepare_leaves_nothing_and_keeps_the_dataset_before(
    raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = prepare(raw.config(), progress=False)
    manifest = (before / "manifest.json").read_bytes()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(token_files, "build_tokenizer", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare(raw.config(), progress=False)
    with pytest.raises(KeyboardInterrupt):
        prepare(raw.config("fresh"), progress=False)
    assert [path.name for path in before.parent.iterdir()] == ["dataset"]
    assert (before / "manifest.json").read_bytes() == manifest
    assert list((raw.directory / "fresh").iterdir()) == []


def test_prepare_replaces_the_dataset_before(raw: Raw) -> None:
    prepare(raw.config(), progress=False)
    raw.items.append({"item_id": "new", "title": "new item", "brand": "acme"})
    raw.write()
    root = prepare(raw.config(), progress=False)
    assert Dataset.load(root).schema.num_items == 51
    assert [path.name for path in root.parent.iterdir()] == ["dataset"]


def test_real_clicks(dpsr_data: Path, tmp_path: Path) -> None:
    raw = Raw(tmp_path, [], [])
    folder = dpsr_data / "bestbuy_xbox"
    config = raw.config(
        items={"path": str(folder / "items.parquet"), "categorical": []},
        interactions={
            "path": str(folder / "clicks.parquet"),
            "columns": {"user_id": "user", "timestamp": "query_time"},
        },
    )
    dataset = Dataset.load(prepare(config, progress=False))
    counts = dataset.manifest["counts"]
    assert (counts["items"], counts["train"] + counts["valid"] + counts["test"]) == (458, 38128)
    assert counts["test"] == 3813
    assert len(dataset.history.values) == 38128


@pytest.mark.parametrize("distinct", [3, 1 << 40])
def test_the_shuffle_breaks_ties_of_its_keys_by_row(distinct: int) -> None:
    rng = np.random.default_rng(1)
    keys, rows = rng.integers(distinct, size=1000), rng.permutation(1000)
    order = streamed._order_of_keys(keys, rows)
    assert order.tolist() == sorted(range(1000), key=lambda place: (keys[place], rows[place]))
