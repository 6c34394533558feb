"""How sure a difference between two retrievers is: a paired bootstrap over queries."""

from __future__ import annotations

import numpy as np

from dpsr.evaluation.examples import BOOTSTRAP_STREAM

RESAMPLES = 2000
_DRAWS_AT_ONCE = 1 << 22


def paired_intervals(
    differences: np.ndarray, clusters: np.ndarray, *, seed: int, resamples: int = RESAMPLES
) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % percentile intervals of mean differences over clicks that come in clusters.

    Queries are drawn with repetition, each with all its clicks, and all columns see the same draws.

    Args:
        differences: float64 [n, m]; one retriever's value minus the other's on the same click, for m comparisons.
        clusters: integers [n], the query of every click.
        seed: decides the draws.
        resamples: bootstrap samples.

    Returns:
        Lower and upper ends, float64 [m] each; -1 and 1, the whole range, for fewer than two clusters.
    """
    _, cluster = np.unique(clusters, return_inverse=True)
    count = int(cluster.max()) + 1
    if count < 2:
        return np.full(differences.shape[1], -1.0), np.full(differences.shape[1], 1.0)
    sums = np.stack([np.bincount(cluster, column, minlength=count) for column in differences.T], axis=1)
    sizes = np.bincount(cluster, minlength=count).astype(np.float64)
    rng = np.random.default_rng([seed, BOOTSTRAP_STREAM])
    means = []
    at_once = max(1, _DRAWS_AT_ONCE // count)
    for start in range(0, resamples, at_once):
        drawn = rng.integers(0, count, (min(at_once, resamples - start), count))
        row = np.arange(len(drawn))[:, None] * count
        times = np.bincount((row + drawn).ravel(), minlength=drawn.size).reshape(drawn.shape).astype(np.float64)
        means.append(times @ sums / (times @ sizes)[:, None])
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975], axis=0)
    return low, high
