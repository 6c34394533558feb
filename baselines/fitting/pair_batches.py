"""Batches of clicks with their negatives, and the measure of a model of pairs on the valid split."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from dpsr.baselines.examples import QueryExamples
from dpsr.baselines.fitting.candidates import CandidateLists, mean_average_precision
from dpsr.baselines.fitting.learner import PairTrainingSet
from dpsr.baselines.fitting.negatives import random_negatives


def pair_batches(
    data: PairTrainingSet, size: int, batch: int, negatives: tuple[int, int], rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Draws clicks without replacement, and anew after the last one.

    Args:
        data: the clicks.
        size: clicks in all.
        batch: clicks of a batch; the last one may have fewer.
        negatives: items of each click, from ``data.similar`` and from the whole catalogue.
        rng: the source of the draw.

    Yields:
        Clicks, INTERACTION [n], and items, int32 [n, 1 + negatives], the clicked one first.
    """
    count = len(data.clicks)
    rows = np.concatenate([rng.permutation(count) for _ in range(-(-size // count))])[:size]
    for start in range(0, size, batch):
        clicks = data.clicks[rows[start : start + batch]]
        similar = data.similar.draw(clicks, negatives[0], rng)
        drawn = random_negatives(clicks, negatives[1], len(data.items), rng)
        yield clicks, np.concatenate([clicks["item"][:, None], similar, drawn], axis=1)


def list_quality(
    lists: CandidateLists | None, score: Callable[[QueryExamples, np.ndarray], np.ndarray]
) -> Callable[[], float] | None:
    """Makes the measure that stops the training of a ``Scorer``; None without lists."""
    if lists is None:
        return None
    return lambda: mean_average_precision(lists, score(lists.queries, np.maximum(lists.items, 0)))
