"""Two-stage retrieval: a scorer reorders the best items of a first stage (Matveeva et al., SIGIR 2006)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dpsr.baselines.examples import QueryExamples
from dpsr.baselines.hybrids import unit_range
from dpsr.baselines.interfaces import Retriever, Scorer, index_bytes_of, index_of
from dpsr.baselines.ranking import best_first, ranks_of_first
from dpsr.indexing.valid_clicks import gain


class Reranker:
    """The ``depth`` best items of the first stage, by the scorer; items beyond the depth are not retrieved.

    A ``Retriever`` only: an item outside the first stage's list has no place, so given pairs have no score.
    """

    def __init__(
        self, first_stage: Retriever, scorer: Scorer, depth: int, *, scorer_weight: float | None = None
    ) -> None:
        """Joins two stages.

        Args:
            first_stage: retrieves candidates from the whole catalogue.
            scorer: orders them.
            depth: candidates of each query, at least 1.
            scorer_weight: weight of the scorer's scores beside those of the first stage, both scaled from 0 to 1 within
                the list; None discards the scores and the order of the first stage.
        """
        self._first_stage = first_stage
        self._scorer = scorer
        self._depth = depth
        self._scorer_weight = scorer_weight
        self.index = f"{depth:,} of [{index_of(first_stage)}], each pair scored by [{index_of(scorer)}]"
        self.index_bytes = index_bytes_of(first_stage, scorer)

    def retrieve(self, examples: QueryExamples, k: int) -> tuple[np.ndarray, np.ndarray]:
        """As ``Retriever.retrieve``; at most ``depth`` items for each query."""
        items, first = self._first_stage.retrieve(examples, self._depth)
        scores = self._scorer.score(examples, np.maximum(items, 0))
        if self._scorer_weight is not None:
            scores = joined(first, scores, items, self._scorer_weight)
        items, scores = best_first(items, np.where(items < 0, -np.inf, scores), examples.tie_keys)
        return items[:, :k], scores[:, :k].astype(np.float32)


def joined(first: np.ndarray, second: np.ndarray, items: np.ndarray, weight: float) -> np.ndarray:
    """Adds the scores of two stages, each scaled from 0 to 1 within its list.

    Args:
        first: scores of the first stage, float32 [n, c].
        second: scores of the scorer, float32 [n, c].
        items: item rows int32 [n, c]; -1 for no item.
        weight: of the scorer.
    """
    listed = items >= 0
    one, other = (unit_range(np.where(listed, scores, -np.inf)) for scores in (first, second))
    return one + np.float32(weight) * other


def choose_scorer_weight(
    first_stage: Retriever, scorer: Scorer, depth: int, weights: Sequence[float], examples: QueryExamples
) -> float:
    """Returns the weight with the best mean nDCG of the clicked item (``valid_clicks.gain``); the first of equals.

    Args:
        first_stage: as in ``Reranker``.
        scorer: as in ``Reranker``.
        depth: as in ``Reranker``.
        weights: the grid.
        examples: clicks outside the test split; those whose item the first stage misses choose nothing.
    """
    items, first = first_stage.retrieve(examples, depth)
    second = scorer.score(examples, np.maximum(items, 0))
    clicked = items == examples.item_rows[:, None]
    found = np.flatnonzero(clicked.any(axis=1))
    order = np.argsort(~clicked[found], axis=1, kind="stable")  # the clicked item first, as ranks_of_first reads it
    listed = np.take_along_axis(items[found], order, axis=1)

    def quality(weight: float) -> float:
        scores = joined(first[found], second[found], items[found], weight)
        scores = np.where(listed < 0, -np.inf, np.take_along_axis(scores, order, axis=1))
        return float(gain(ranks_of_first(scores, listed, examples.tie_keys[found])).sum())

    return weights[int(np.argmax([quality(weight) for weight in weights]))]
