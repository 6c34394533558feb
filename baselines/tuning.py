"""Choice of a mixture's weight, and of a training's best round, by the clicks of the valid split."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from dpsr.baselines.examples import QueryExamples
from dpsr.baselines.exhaustive import ExhaustiveRetriever, queries_at_once
from dpsr.indexing.valid_clicks import gain

DEFAULT_POPULARITY_WEIGHT = 0.2
"""Weight of popularity without a valid split."""
HYBRID_WEIGHTS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 5.0, 7.0, 10.0, 20.0, 50.0, 100.0)
"""At either end one of the two sides only orders what the other leaves tied, or nearly so."""
DEFAULT_HYBRID_WEIGHT = 1.0
"""Weight of the dense side without a valid split."""


def choose_weight(
    mixture: Callable[[float], ExhaustiveRetriever], weights: Sequence[float], examples: QueryExamples
) -> float:
    """Returns the weight with the best mean nDCG of the clicked item (``valid_clicks.gain``); the first of equals.

    Args:
        mixture: weight -> retriever.
        weights: the grid.
        examples: clicks outside the test split, in the order of their queries.
    """
    mixtures = [mixture(weight) for weight in weights]
    gains = np.zeros(len(weights))
    # The inner loop is over mixtures, so that all of them share both sides' cached scores of a batch.
    for batch in examples.batches(queries_at_once(mixtures[0].num_items)):
        gains += [gain(_ranks_of_clicks(each, batch)).sum() for each in mixtures]
    return weights[int(np.argmax(gains))]


def mean_reciprocal_rank(retriever: ExhaustiveRetriever, examples: QueryExamples) -> float:
    """Mean reciprocal rank of the clicked item in the whole catalogue."""
    batches = examples.batches(queries_at_once(retriever.num_items))
    return float(np.concatenate([1.0 / _ranks_of_clicks(retriever, batch) for batch in batches]).mean())


def _ranks_of_clicks(retriever: ExhaustiveRetriever, batch: QueryExamples) -> np.ndarray:
    """The rank of the clicked item, float64 [n]; half of the items tied with it count as ranked before it."""
    scores = retriever.scores(batch)
    clicked = scores[np.arange(len(batch)), batch.item_rows][:, None]
    ranks: np.ndarray = 0.5 + (scores > clicked).sum(axis=1) + 0.5 * (scores == clicked).sum(axis=1)
    return ranks
