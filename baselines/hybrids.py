"""Mixtures of two retrievers: weighted sum, and reciprocal rank fusion.

Each has one weight, chosen on the valid split by ``tuning.choose_weight``.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from dpsr.baselines.examples import QueryExamples
from dpsr.baselines.exhaustive import ExhaustiveRetriever
from dpsr.baselines.interfaces import index_bytes_of

FUSION_CONSTANT = 60
"""k of reciprocal rank fusion, as Cormack, Clarke and Buettcher (SIGIR 2009) set it."""
FUSION_DEPTH = 1000
"""Items of each list that are fused."""


class _Mixture(ExhaustiveRetriever):
    """A lexical and a dense retriever, and the weight of the dense one."""

    def __init__(self, lexical: ExhaustiveRetriever, dense: ExhaustiveRetriever, weight: float) -> None:
        super().__init__(lexical.num_items)
        self._lexical = lexical
        self._dense = dense
        self._weight = np.float32(weight)
        self.index = f"{lexical.index}; {dense.index}"
        self.index_bytes = index_bytes_of(lexical, dense)


class WeightedSumRetriever(_Mixture):
    """``BM25 / (its best score for the query) + weight * cosine``.

    The lexical side scores at least 0, the dense side cosines.
    """

    def score_all(self, examples: QueryExamples) -> np.ndarray:
        """As ``ExhaustiveRetriever.score_all``."""
        lexical = self._lexical.scores(examples)
        best = lexical.max(axis=1, keepdims=True)
        return lexical / np.where(best > 0, best, np.float32(1)) + self._weight * self._dense.scores(examples)


class ReciprocalRankFusionRetriever(_Mixture):
    """``1 / (60 + lexical rank) + weight / (60 + dense rank)``; a list without the item contributes 0.

    Differs from the article by the weight, which is 1 there. Both sides are ``ReciprocalRanks``.
    """

    def score_all(self, examples: QueryExamples) -> np.ndarray:
        """As ``ExhaustiveRetriever.score_all``."""
        return self._lexical.scores(examples) + self._weight * self._dense.scores(examples)


class ReciprocalRanks(ExhaustiveRetriever):
    """The list of another retriever as ``1 / (60 + rank)`` for each item, 0 beyond the fusion depth."""

    def __init__(self, ranked: ExhaustiveRetriever, *, above: float = -np.inf) -> None:
        """Ranks the items whose score is more than ``above``."""
        super().__init__(ranked.num_items)
        self._ranked = ranked
        self._above = above
        self.index = ranked.index
        self.index_bytes = index_bytes_of(ranked)

    def score_all(self, examples: QueryExamples) -> np.ndarray:
        """As ``ExhaustiveRetriever.score_all``."""
        return reciprocal_ranks(self._ranked.scores(examples), above=self._above)


def reciprocal_ranks(scores: np.ndarray, *, above: float = -np.inf) -> np.ndarray:
    """``1 / (60 + rank)`` of the best items of every row, 0 for the others; equal scores share their mean rank.

    Args:
        scores: float32 [n, items].
        above: items with a score of at most this have no rank.

    Returns:
        float32 [n, items].
    """
    found = np.zeros(scores.shape, dtype=np.float32)
    depth = min(FUSION_DEPTH, scores.shape[1])
    for row, target in zip(scores, found, strict=True):
        cut = np.partition(row, -depth)[-depth]
        items = np.flatnonzero((row >= cut) & (row > above))
        target[items] = 1.0 / (FUSION_CONSTANT + rankdata(-row[items]))
    return found
