"""Ranks against a plain sort, and ties in uniformly random order."""

import numpy as np
import pytest

from dpsr.baselines.ranking import best_first, ranks_of_first, tie_noise, top_k


def keys(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << 64, n, dtype=np.uint64)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [1, 3, 20, 49, 50, 80])
def test_top_k_is_a_sort_by_score_then_noise(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 6, (30, 50)).astype(np.float32)  # many ties, also at the cut
    items, found = top_k(scores, k, keys(30, seed))
    noise = tie_noise(keys(30, seed), np.broadcast_to(np.arange(50), scores.shape))
    for row in range(30):
        expected = sorted(range(50), key=lambda item: (-scores[row, item], noise[row, item]))[:k]
        assert items[row].tolist() == expected
        assert found[row].tolist() == scores[row, expected].tolist()
    assert items.dtype == np.int32
    assert found.dtype == np.float32


@pytest.mark.parametrize("seed", range(5))
def test_rank_of_the_first_column_is_its_place_in_the_sorted_list(seed: int) -> None:
    rng = np.random.default_rng(seed)
    items = np.stack([rng.permutation(200)[:30] for _ in range(60)]).astype(np.int32)
    scores = rng.integers(0, 5, items.shape).astype(np.float32)
    ordered, _ = best_first(items, scores, keys(60, seed))
    places = 1 + np.argmax(ordered == items[:, :1], axis=1)
    assert ranks_of_first(scores, items, keys(60, seed)).tolist() == places.tolist()


def test_the_order_of_the_columns_decides_nothing() -> None:
    rng = np.random.default_rng(1)
    items = np.broadcast_to(np.arange(40, dtype=np.int32), (10, 40))
    scores = rng.integers(0, 3, items.shape).astype(np.float32)
    shuffled = np.stack([rng.permutation(40) for _ in range(10)])
    ordered, _ = best_first(items, scores, keys(10))
    again, _ = best_first(
        np.take_along_axis(items, shuffled, axis=1), np.take_along_axis(scores, shuffled, axis=1), keys(10)
    )
    assert (ordered == again).all()


def test_equal_scores_put_every_item_first_equally_often() -> None:
    n, num_items = 20_000, 10
    items, _ = top_k(np.zeros((n, num_items), dtype=np.float32), 1, keys(n))
    first = np.bincount(items[:, 0], minlength=num_items)
    assert np.abs(first - n / num_items).max() < 5 * np.sqrt(n * 0.1 * 0.9)


def test_missing_items_come_last() -> None:
    items = np.array([[-1, 4, -1, 2]], dtype=np.int32)
    scores = np.array([[-np.inf, 0.5, -np.inf, 0.75]], dtype=np.float32)
    assert best_first(items, scores, keys(1))[0].tolist() == [[2, 4, -1, -1]]
