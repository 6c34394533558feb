"""Mixtures of two retrievers: weighted sums, and reciprocal rank fusion.

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
    """Two retrievers, and the weight of the second one."""

    def __init__(self, first: ExhaustiveRetriever, second: ExhaustiveRetriever, weight: float) -> None:
        super().__init__(first.num_items)
        self._first = first
        self._second = second
        self._weight = np.float32(weight)

    @property
    def index(self) -> str:
        """As ``ExhaustiveRetriever.index``."""
        return f"{self._first.index}; {self._second.index}"

    @property
    def index_bytes(self) -> int | None:
        """As ``ExhaustiveRetriever.index_bytes``: of both sides."""
        return index_bytes_of(self._first, self._second)

    def score_all(self, examples: QueryExamples) -> np.ndarray:
        """As ``ExhaustiveRetriever.score_all``."""
        return self._first.scores(examples) + self._weight * self._second.scores(examples)


class WeightedSumRetriever(_Mixture):
    """``BM25 / (its best score for the query) + weight * cosine``, as a servable joins them.

    The first side, BM25, scores at least 0, the second cosines.
    """

    def score_all(self, examples: QueryExamples) -> np.ndarray:
        """As ``ExhaustiveRetriever.score_all``."""
        lexical = self._first.scores(examples)
        best = lexical.max(axis=1, keepdims=True)
        return lexical / np.where(best > 0, best, np.float32(1)) + self._weight * self._second.scores(examples)


class ReciprocalRankFusionRetriever(_Mixture):
    """``1 / (60 + first rank) + weight / (60 + second rank)``; a list without the item contributes 0.

    Differs from the article by the weight, which is 1 there. Both sides are ``ReciprocalRanks``.
    """


class ListSumRetriever(_Mixture):
    """``first score + weight * second score`` of two ``ListScores``: any two methods, whatever their scale."""


class _OtherScores(ExhaustiveRetriever):
    """The lists of another retriever, with other scores."""

    def __init__(self, ranked: ExhaustiveRetriever) -> None:
        """Takes the retriever."""
        super().__init__(ranked.num_items)
        self._ranked = ranked

    @property
    def index(self) -> str:
        """As ``ExhaustiveRetriever.index``."""
        return self._ranked.index

    @property
    def index_bytes(self) -> int | None:
        """As ``ExhaustiveRetriever.index_bytes``."""
        return self._ranked.index_bytes


class ListScores(_OtherScores):
    """The 1,000 best items of another retriever with scores from 0 to 1 for each query, 0 for the others."""

    def score_all(self, examples: QueryExamples) -> np.ndarray:
        """As ``ExhaustiveRetriever.score_all``."""
        scores = self._ranked.scores(examples)
        depth = min(FUSION_DEPTH, scores.shape[1])
        lowest = np.partition(scores, -depth, axis=1)[:, -depth, None]
        return unit_range(np.where(scores >= lowest, scores, -np.inf))


def unit_range(scores: np.ndarray) -> np.ndarray:
    """Scales the scores of each list from its lowest, 0, to its best, 1; a list of equal scores is all 0.

    Args:
        scores: float32 [n, c]; -inf for no item, which stays 0.
    """
    listed = np.isfinite(scores)
    best = np.where(listed, scores, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    lowest = np.where(listed, scores, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    width = best - lowest
    found = np.where(listed, scores - np.where(width > 0, lowest, 0), 0) / np.where(width > 0, width, 1)
    return np.where(width > 0, found, 0).astype(np.float32)


class ReciprocalRanks(_OtherScores):
    """The list of another retriever as ``1 / (60 + rank)`` for each item, 0 beyond the fusion depth."""

    def score_all(self, examples: QueryExamples) -> np.ndarray:
        """As ``ExhaustiveRetriever.score_all``."""
        return reciprocal_ranks(self._ranked.scores(examples))


def reciprocal_ranks(scores: np.ndarray) -> np.ndarray:
    """``1 / (60 + rank)`` of the best items of every row, 0 for the others; equal scores share their mean rank.

    Items with the lowest score of a row have no rank: to BM25 they are those without a term of the query.

    Args:
        scores: float32 [n, items].

    Returns:
        float32 [n, items].
    """
    found = np.zeros(scores.shape, dtype=np.float32)
    depth = min(FUSION_DEPTH, scores.shape[1])
    for row, target in zip(scores, found, strict=True):
        cut = np.partition(row, -depth)[-depth]
        items = np.flatnonzero((row >= cut) & (row > row.min()))
        target[items] = 1.0 / (FUSION_CONSTANT + rankdata(-row[items]))
    return found
