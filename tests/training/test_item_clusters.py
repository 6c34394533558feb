"""Clusters of the items, and the meanings of queries that they stand for."""

import numpy as np
import pytest

from dpsr.data.dataset.pairs import KeyCounts, count_keys
from dpsr.data.dataset.schema import INTERACTION
from dpsr.data.dataset.tables import Bags
from dpsr.training.head_assignment import HeadAssignment
from dpsr.training.item_clusters import ItemClusters, cluster_items

_ITEMS, _KINDS, _QUERIES = 240, 12, 40
_DEPARTMENT = np.arange(_KINDS) // 6
"""Two departments of six kinds each."""


def _shop(seed: int) -> tuple[Bags, KeyCounts, np.ndarray]:
    """Token bags and clicks of items, and their kinds. Kinds have words of their own, departments share brands."""
    random = np.random.default_rng(seed)
    kind = np.arange(_ITEMS) % _KINDS
    own = 1 + 4 * kind[:, None] + random.integers(0, 4, (_ITEMS, 3))
    brand = 60 + 10 * _DEPARTMENT[kind][:, None] + random.integers(0, 10, (_ITEMS, 2))
    tokens = np.hstack([own, brand]).astype(np.int32)
    bags = Bags(tokens.ravel(), np.arange(_ITEMS + 1, dtype=np.int64) * tokens.shape[1])
    item = random.integers(0, _ITEMS, 3000)
    query = 1 + kind[item] * 3 + random.integers(0, 3, len(item))
    return bags, count_keys([item * _QUERIES + query]), kind


def _clusters(seed: int) -> tuple[ItemClusters, np.ndarray]:
    bags, clicks, kind = _shop(seed)
    return cluster_items(bags, 100, clicks, _QUERIES, 20, seed=seed), kind


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_coarsest_cut_parts_the_departments(seed: int) -> None:
    found, kind = _clusters(seed)
    assert found.clusters.shape == (_ITEMS,)
    assert found.cuts.shape[1] == found.clusters.max() + 1 <= 20
    assert [len(np.unique(cut)) for cut in found.cuts] == list(range(2, len(found.cuts) + 2))
    groups = found.cuts[0][found.clusters]
    for department in (0, 1):
        assert len(set(groups[_DEPARTMENT[kind] == department])) == 1
    assert set(groups) == {0, 1}


def test_the_same_seed_gives_the_same_clusters() -> None:
    first, second = _clusters(1)[0], _clusters(1)[0]
    np.testing.assert_array_equal(first.clusters, second.clusters)
    np.testing.assert_array_equal(first.cuts, second.cuts)


def test_a_catalogue_of_one_item_is_one_cluster() -> None:
    bags = Bags(np.array([3], np.int32), np.array([0, 1]))
    found = cluster_items(bags, 5, KeyCounts(np.array([0]), np.array([2])), 1, 8, seed=1)
    assert found.clusters.tolist() == [0]
    assert found.cuts.tolist() == [[0]]


def test_a_query_is_read_at_the_coarsest_cut_that_parts_its_clicks() -> None:
    # Clusters 0 and 1 are one thing, 2 and 3 another: query 0 leads to both things, query 1 to two kinds of one.
    cuts = np.array([[0, 0, 1, 1], [0, 1, 2, 3]])
    values = np.arange(4, dtype=np.int32)
    records = np.zeros(100, INTERACTION)
    records["query"] = np.repeat([0, 1], 50)
    records["item"] = np.concatenate([np.repeat([0, 1, 2, 3], [20, 18, 10, 2]), np.repeat([2, 3], [10, 40])])
    choice = HeadAssignment([records], values, 2, cuts)
    nearest = np.zeros((4, 2, 3), np.float32)
    nearest[:, 1] = 1.0
    vectors = np.ones((4, 3), np.float32)
    items = np.arange(4, dtype=np.int32)
    assert choice(nearest, vectors, np.full(4, 0, np.int32), items).numpy().tolist() == [0, 0, 1, 1]
    # Items of clusters 0 and 1 were never clicked for query 1: the nearest head.
    assert choice(nearest, vectors, np.full(4, 1, np.int32), items).numpy().tolist() == [1, 1, 1, 0]
