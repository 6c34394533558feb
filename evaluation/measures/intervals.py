"""Uncertainty of a mean, or of the difference of two methods: linearised variance and bootstrap over queries.

Clicks on one query are correlated; queries, not clicks, are the independent draws.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dpsr.baselines.examples import BOOTSTRAP_STREAM

RESAMPLES = 2000
_DRAWS_AT_ONCE = 1 << 22


class Interval(NamedTuple):
    """A mean, the ends of its 95 % interval, and its standard error."""

    mean: float
    low: float
    high: float
    standard_error: float


def half_width(values: np.ndarray, clusters: np.ndarray) -> float:
    """Computes half of the normal 95 % interval of a mean, by the linearised variance of a ratio of cluster sums.

    Args:
        values: float64 [n].
        clusters: the query of every click, integers [n].

    Returns:
        The half width; 1, the whole range of a measure, for fewer than two clusters.
    """
    _, cluster = np.unique(clusters, return_inverse=True)
    count = int(cluster.max()) + 1
    if count < 2:
        return 1.0
    deviations = np.bincount(cluster, values - values.mean(), minlength=count)
    variance = count / (count - 1) * np.square(deviations).sum() / len(values) ** 2
    return float(1.959964 * np.sqrt(variance))


def bootstrap_means(
    values: np.ndarray, clusters: np.ndarray, *, seed: int, resamples: int = RESAMPLES
) -> np.ndarray | None:
    """Computes the means of bootstrap samples of queries, drawn with replacement, each with all its clicks.

    All columns share the draws: the difference of two columns of the outcome is a sample of the difference of their
    means.

    Args:
        values: float64 [n, m].
        clusters: the query of every click, integers [n].
        seed: decides the draws.
        resamples: bootstrap samples.

    Returns:
        float64 [resamples, m]; None for fewer than two clusters, which have no variance between them.
    """
    _, cluster = np.unique(clusters, return_inverse=True)
    count = int(cluster.max()) + 1
    if count < 2:
        return None
    sums = np.stack([np.bincount(cluster, column, minlength=count) for column in values.T], axis=1)
    sizes = np.bincount(cluster, minlength=count).astype(np.float64)
    rng = np.random.default_rng([seed, BOOTSTRAP_STREAM])
    means = []
    at_once = max(1, _DRAWS_AT_ONCE // count)
    for start in range(0, resamples, at_once):
        drawn = rng.integers(0, count, (min(at_once, resamples - start), count))
        row = np.arange(len(drawn))[:, None] * count
        times = np.bincount((row + drawn).ravel(), minlength=drawn.size).reshape(drawn.shape).astype(np.float64)
        means.append(times @ sums / (times @ sizes)[:, None])
    return np.concatenate(means)


def interval(mean: float, samples: np.ndarray | None) -> Interval:
    """Makes the 95 % percentile interval of bootstrap samples, float64 [resamples]; -1 to 1 without samples."""
    if samples is None:
        return Interval(mean, -1.0, 1.0, 1.0)
    low, high = np.quantile(samples, [0.025, 0.975])
    return Interval(mean, float(low), float(high), float(samples.std(ddof=1)))
