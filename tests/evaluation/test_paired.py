"""Paired intervals: they cover the truth as often as they say, and pairing makes them narrow."""

import numpy as np
import pytest

from dpsr.evaluation.metrics import half_width
from dpsr.evaluation.paired import paired_intervals


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(4)
    covered = []
    for trial in range(200):
        clusters = np.repeat(np.arange(60), rng.integers(1, 9, 60))
        effects = rng.normal(0.1, 0.3, 60)[clusters] + rng.normal(0, 0.05, len(clusters))
        low, high = paired_intervals(effects[:, None], clusters, seed=trial, resamples=400)
        covered.append(low[0] <= 0.1 <= high[0])
    assert 0.89 <= np.mean(covered) <= 0.99


@pytest.mark.parametrize("seed", range(3))
def test_intervals_are_as_wide_as_the_linearised_ones(seed: int) -> None:
    rng = np.random.default_rng(seed)
    clusters = rng.integers(0, 500, 3000)
    differences = (rng.normal(size=500)[clusters] + rng.normal(size=3000))[:, None]
    low, high = paired_intervals(differences, clusters, seed=seed)
    assert (high - low)[0] / 2 == pytest.approx(half_width(differences[:, 0], clusters), rel=0.1)


def test_pairing_takes_out_what_the_queries_share() -> None:
    rng = np.random.default_rng(5)
    clusters = rng.integers(0, 300, 1000)
    easy = rng.random(300)[clusters]
    first, second = easy + 0.02 + rng.normal(0, 0.01, 1000), easy + rng.normal(0, 0.01, 1000)
    low, high = paired_intervals((first - second)[:, None], clusters, seed=1)
    assert 0 < low[0] < 0.02 < high[0]
    assert (high - low)[0] < half_width(first, clusters) / 5


def test_columns_see_the_same_draws_and_the_seed_decides_them() -> None:
    rng = np.random.default_rng(6)
    column, clusters = rng.normal(size=200), rng.integers(0, 40, 200)
    low, high = paired_intervals(np.stack([column, column, -column], axis=1), clusters, seed=3)
    assert low[0] == low[1]
    assert low[2] == pytest.approx(-high[0])
    assert paired_intervals(column[:, None], clusters, seed=3)[0] == low[0]
    assert paired_intervals(column[:, None], clusters, seed=4)[0] != low[0]


def test_one_query_proves_nothing() -> None:
    low, high = paired_intervals(np.full((9, 2), 0.3), np.zeros(9, dtype=int), seed=1)
    assert (low.tolist(), high.tolist()) == ([-1, -1], [1, 1])
