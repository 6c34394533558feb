"""Intervals: bootstrap and linearised ones cover the truth as often as stated, and pairing makes them narrow."""

import math

import numpy as np
import pytest

from dpsr.evaluation.measures.intervals import Interval, bootstrap_means, half_width, interval


def of_column(values: np.ndarray, clusters: np.ndarray, *, seed: int, resamples: int = 2000) -> Interval:
    means = bootstrap_means(values[:, None], clusters, seed=seed, resamples=resamples)
    assert means is not None
    return interval(values.mean(), means[:, 0])


def test_bootstrap_intervals_cover_the_truth_in_about_95_of_100_samples() -> None:
    rng = np.random.default_rng(4)
    covered = []
    for trial in range(200):
        clusters = np.repeat(np.arange(60), rng.integers(1, 9, 60))
        effects = rng.normal(0.1, 0.3, 60)[clusters] + rng.normal(0, 0.05, len(clusters))
        found = of_column(effects, clusters, seed=trial, resamples=400)
        covered.append(found.low <= 0.1 <= found.high)
    assert 0.89 <= np.mean(covered) <= 0.99


@pytest.mark.parametrize("seed", range(3))
def test_intervals_are_as_wide_as_the_linearised_ones(seed: int) -> None:
    rng = np.random.default_rng(seed)
    clusters = rng.integers(0, 500, 3000)
    values = rng.normal(size=500)[clusters] + rng.normal(size=3000)
    found = of_column(values, clusters, seed=seed)
    assert (found.high - found.low) / 2 == pytest.approx(half_width(values, clusters), rel=0.1)
    assert found.standard_error == pytest.approx(half_width(values, clusters) / 1.96, rel=0.1)


def test_pairing_removes_the_variance_that_methods_share() -> None:
    rng = np.random.default_rng(5)
    clusters = rng.integers(0, 300, 1000)
    easy = rng.random(300)[clusters]
    first, second = easy + 0.02 + rng.normal(0, 0.01, 1000), easy + rng.normal(0, 0.01, 1000)
    means = bootstrap_means(np.stack([first, second], axis=1), clusters, seed=1)
    assert means is not None
    found = interval((first - second).mean(), means[:, 0] - means[:, 1])
    assert 0 < found.low < 0.02 < found.high
    assert found.high - found.low < half_width(first, clusters) / 5


def test_the_difference_of_two_columns_is_a_sample_of_their_difference() -> None:
    rng = np.random.default_rng(6)
    first, second = rng.normal(size=(2, 200))
    clusters = rng.integers(0, 40, 200)
    means = bootstrap_means(np.stack([first, second, first - second], axis=1), clusters, seed=3)
    assert means is not None
    np.testing.assert_allclose(means[:, 0] - means[:, 1], means[:, 2], atol=1e-12)


def test_the_seed_decides_the_draws() -> None:
    rng = np.random.default_rng(6)
    column, clusters = rng.normal(size=200), rng.integers(0, 40, 200)
    assert of_column(column, clusters, seed=3) == of_column(column, clusters, seed=3)
    assert of_column(column, clusters, seed=3) != of_column(column, clusters, seed=4)


def test_one_query_has_no_interval() -> None:
    assert bootstrap_means(np.full((9, 2), 0.3), np.zeros(9, dtype=int), seed=1) is None
    assert interval(0.3, None) == (0.3, -1, 1, 1)


def test_interval_of_clusters_covers_the_truth() -> None:
    rng = np.random.default_rng(5)
    covered, covered_by_clicks = 0, 0
    for _ in range(400):
        clusters = np.repeat(np.arange(60), rng.integers(1, 12, 60))
        quality = rng.random(60) < 0.4  # all clicks on a query have one outcome
        values = quality[clusters].astype(float)
        error = abs(values.mean() - 0.4)
        covered += error <= half_width(values, clusters)
        covered_by_clicks += error <= half_width(values, np.arange(len(values)))
    assert 0.90 <= covered / 400 <= 0.98
    assert covered_by_clicks / 400 < 0.80  # intervals that ignore the clusters are too narrow


def test_interval_of_single_clicks_is_the_textbook_one() -> None:
    values = np.random.default_rng(2).random(500)
    expected = 1.959964 * values.std(ddof=1) / math.sqrt(500)
    assert half_width(values, np.arange(500)) == pytest.approx(expected, rel=1e-9)
    assert half_width(values, np.zeros(500, dtype=int)) == 1.0
