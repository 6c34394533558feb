"""Clicked items and hard negatives against sets and counters."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from dpsr.config import Config
from dpsr.data.batches.features import FeatureTables
from dpsr.data.dataset import spill
from dpsr.data.dataset.pairs import count_keys, pair_keys
from dpsr.data.dataset.schema import INTERACTION, LABEL
from dpsr.data.dataset.tables import Bags, Dataset
from dpsr.model.trained import load_trained
from dpsr.training.negatives import HardNegatives, KnownPositives, hardest_items
from dpsr.training.trainer import train

QUERIES, ITEMS = 12, 15


def interactions(random: np.random.Generator, count: int) -> np.ndarray:
    rows = np.zeros(count, INTERACTION)
    rows["query"], rows["item"] = random.integers(0, QUERIES, count), random.integers(0, ITEMS, count)
    return rows


def pairs(rows: np.ndarray) -> list[tuple[int, int]]:
    return list(zip(rows["query"].tolist(), rows["item"].tolist(), strict=True))


@pytest.mark.parametrize("count", [0, 1, 60])
def test_clicked_items_are_those_of_the_log(count: int) -> None:
    random = np.random.default_rng(count)
    records = interactions(random, count)
    keys = np.unique(pair_keys(records, ITEMS))
    splits = np.searchsorted(keys, np.arange(QUERIES + 1) * ITEMS).astype(np.int64)
    clicked = KnownPositives(Bags((keys % ITEMS).astype(np.int32), splits))
    for _ in range(5):
        queries, items = random.integers(0, QUERIES, 9), random.integers(0, ITEMS, 30)
        expected = [[(query, item) in set(pairs(records)) for item in items] for query in queries]
        found = clicked.mask(tf.constant(queries, tf.int32), tf.constant(items, tf.int32))
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("most", [1, 3, 100])
@pytest.mark.parametrize("seed", range(4))
def test_hardest_items_are_the_wrong_and_then_the_most_skipped(seed: int, most: int) -> None:
    random = np.random.default_rng(seed)
    records, skips = interactions(random, 30), interactions(random, 200)
    labels = np.zeros(25, LABEL)
    labels["query"], labels["item"] = random.integers(0, QUERIES, 25), random.integers(0, ITEMS, 25)
    labels["label"] = random.integers(-1, 3, 25)
    clicked, skipped = set(pairs(records)), Counter(pairs(skips))
    wrong, right = set(pairs(labels[labels["label"] <= 0])), set(pairs(labels[labels["label"] > 0]))
    expected = defaultdict(list)
    for pair in sorted(wrong | skipped.keys(), key=lambda pair: (pair not in wrong, -skipped[pair], pair)):
        if pair in wrong or (pair not in clicked and pair not in right):
            expected[pair[0]].append(pair[1])
    keys = pair_keys(records, ITEMS)
    queries, items = hardest_items(keys, count_keys([pair_keys(skips, ITEMS)]), labels, num_items=ITEMS, most=most)
    for query in range(QUERIES):
        found = items[queries == query].tolist()
        assert len(found) == min(most, len(expected[query]))
        by_hand = [item for item in found if (query, item) in wrong]
        assert found[: len(by_hand)] == by_hand
        assert (
            found[len(by_hand) :]
            == [item for item in expected[query] if (query, item) not in wrong][: len(found) - len(by_hand)]
        )
    assert queries.tolist() == sorted(queries.tolist())


def test_hard_negatives_come_with_their_features(make_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    tables = FeatureTables(make_dataset(tmp_path), 0)
    hard = HardNegatives(np.array([1, 1, 4]), np.array([7, 3, 5]), QUERIES, tables)
    rows, features = hard.of_queries(tf.constant([4, 0, 1, 1]))
    assert rows.to_list() == [[5], [], [7, 3], [7, 3]]
    expected = tables.items(tf.constant([5, 7, 3, 7, 3]))
    assert features.tokens.to_list() == expected.tokens.to_list()
    assert np.array_equal(features.categorical["brand"], expected.categorical["brand"])


@pytest.mark.parametrize("bucket", [7, 1 << 20])
def test_pairs_of_a_dataset_are_the_same_in_any_buckets(
    make_dataset: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket: int
) -> None:
    dataset = make_dataset(tmp_path)
    num_items = dataset.schema.num_items
    random = np.random.default_rng(1)
    skips = np.zeros(3000, INTERACTION)
    skips["query"] = random.integers(0, dataset.schema.num_queries, len(skips)) // 2
    skips["item"] = random.integers(0, num_items, len(skips)) // 3
    labels = np.zeros(50, LABEL)
    labels["query"] = random.integers(0, dataset.schema.num_queries, len(labels))
    labels["item"] = random.integers(0, num_items, len(labels))
    monkeypatch.setattr(Dataset, "skip_blocks", lambda dataset: iter(np.split(skips, [100, 2000])))
    monkeypatch.setattr(Dataset, "labels", lambda dataset: labels)
    monkeypatch.setattr(spill, "BUCKET_RECORDS", bucket)
    records = dataset.interactions("train")
    tables = FeatureTables(dataset, 0)
    (tmp_path / "arrays").mkdir()
    (tmp_path / "arrays" / "clicked_items.0123456789abcdef.values.npy").touch()  # of a train split that is gone
    clicked = KnownPositives.of_dataset(dataset, tmp_path / "arrays")
    hard = HardNegatives.of_dataset(dataset, 5, tables, tmp_path / "arrays")
    queries = np.arange(-1, dataset.schema.num_queries)
    mask = clicked.mask(tf.constant(queries, tf.int32), tf.range(num_items)).numpy()
    assert set(zip(queries[np.nonzero(mask)[0]].tolist(), np.nonzero(mask)[1].tolist(), strict=True)) == set(
        pairs(records)
    )
    counts = count_keys([pair_keys(skips, num_items)])
    expected = hardest_items(pair_keys(records, num_items), counts, labels, num_items=num_items, most=5)
    rows = hard.of_queries(tf.constant(queries, tf.int32))[0]
    assert list(zip(queries[rows.value_rowids()].tolist(), rows.values.numpy().tolist(), strict=True)) == list(
        zip(*(each.tolist() for each in expected), strict=True)
    )
    assert sorted(path.suffix for path in (tmp_path / "arrays").iterdir()) == [".npy", ".npy"]


@pytest.mark.parametrize("kind", ["hinge", "softmax", "three_part"])
def test_training_pushes_hard_negatives_away(
    make_config: Callable[..., Config],
    make_dataset: Callable[..., Dataset],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    dataset = make_dataset(tmp_path)
    skips = np.zeros(40, INTERACTION)
    skips["query"], skips["item"] = np.arange(40), (np.arange(40) * 7) % 60
    monkeypatch.setattr(Dataset, "skip_blocks", lambda dataset: iter([skips]))
    scores = []
    for hard in (0, 2):
        loss = {"kind": kind, "group_size": 8, "hard_negatives": hard, "thresholds": [0.9, -0.3, -0.3]}
        config = make_config(tmp_path / f"{hard}", loss=loss, model={"heads": 1, "profile": False, "history_length": 0})
        train(config, dataset, progress=False)
        model, tables = load_trained(config.checkpoint_dir), FeatureTables(dataset, 0)
        records = tf.constant([[query, -1, 0, 1, 0] for query in range(40)])
        heads = model.query_heads(tables.queries(records))[:, 0]
        scores.append(np.mean(np.sum(heads * model.item_vectors(tables.items(tf.constant(skips["item"]))), axis=1)))
    assert scores[1] < scores[0]
