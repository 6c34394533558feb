"""How sure a mean, or the difference between two retrievers, is: a bootstrap over queries."""

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


def bootstrap_means(
    values: np.ndarray, clusters: np.ndarray, *, seed: int, resamples: int = RESAMPLES
) -> np.ndarray | None:
    """Means over samples of clicks that come in clusters.

    Queries are drawn with repetition, each with all its clicks. All columns see the same draws: the difference of two
    columns of the outcome is a sample of the difference of their means.

    Args:
        values: float64 [n, m].
        clusters: integers [n], the query of every click.
        seed: decides the draws.
        resamples: bootstrap samples.

    Returns:
        float64 [resamples, m]; None for fewer than two clusters, which say nothing of how far the mean carries.
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
    """The 95 % percentile interval of bootstrap samples, float64 [resamples]; -1 to 1 where there are none."""
    if samples is None:
        return Interval(mean, -1.0, 1.0, 1.0)
    low, high = np.quantile(samples, [0.025, 0.975])
    return Interval(mean, float(low), float(high), float(samples.std(ddof=1)))
