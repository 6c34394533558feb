"""Negatives: pools of what was skipped or found, never what was clicked."""

import numpy as np
import pytest

from dpsr.baselines.fitting.negatives import NegativePools, random_negatives
from dpsr.data.dataset.schema import CLICK, INTERACTION


def log(clicks: list[tuple[int, int]]) -> np.ndarray:
    records = np.zeros(len(clicks), dtype=INTERACTION)
    records["query"], records["item"] = np.array(clicks).reshape(-1, 2).T
    records["event"] = CLICK
    return records


@pytest.mark.parametrize("seed", range(3))
def test_negatives_are_items_skipped_and_never_clicked_for_the_query(seed: int) -> None:
    rng = np.random.default_rng(seed)
    num_items = 30
    clicks = log([(int(rng.integers(8)), int(rng.integers(num_items))) for _ in range(60)])
    skips = log([(int(rng.integers(4)), int(rng.integers(num_items))) for _ in range(40)])
    blocks = np.array_split(clicks, 3)
    negatives = NegativePools(clicks["query"], np.array_split(skips, 2), blocks, num_items)
    clicked = set(zip(clicks["query"].tolist(), clicks["item"].tolist(), strict=True))
    pools = {
        query: {item for q, item in zip(skips["query"].tolist(), skips["item"].tolist(), strict=True) if q == query}
        - {item for q, item in clicked if q == query}
        for query in range(8)
    }
    drawn_of: dict[int, set[int]] = {query: set() for query in range(8)}
    for _ in range(60):
        drawn = negatives.draw(clicks, 4, rng)
        assert drawn.shape == (len(clicks), 4)
        assert (drawn != clicks["item"][:, None]).all()
        for record, row in zip(clicks, drawn.tolist(), strict=True):
            drawn_of[int(record["query"])] |= set(row)
    for query in set(clicks["query"].tolist()):
        assert drawn_of[query] == pools[query] or not pools[query]
        if not pools[query]:
            assert len(drawn_of[query]) > num_items / 2  # from the whole catalogue
        assert negatives.has(np.array([query]))[0] == bool(pools[query])


def test_an_item_is_drawn_as_often_as_it_was_skipped() -> None:
    clicks, skips = log([(0, 9)] * 2000), log([(0, 1)] * 3 + [(0, 2)])
    drawn = NegativePools(clicks["query"], [skips], [clicks], 10).draw(clicks, 4, np.random.default_rng(1))
    assert np.mean(drawn == 1) == pytest.approx(0.75, abs=0.02)


def test_random_negatives_are_uniform_over_all_but_the_clicked_item() -> None:
    clicks = log([(0, 3)] * 4000)
    drawn = random_negatives(clicks, 2, 6, np.random.default_rng(1))
    shares = np.bincount(drawn.ravel(), minlength=6) / drawn.size
    assert shares[3] == 0
    np.testing.assert_allclose(np.delete(shares, 3), 0.2, atol=0.02)
