"""BM25 and the model together, and how the weight between two retrievers is chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import rankdata

from dpsr.baselines.examples import Examples
from dpsr.baselines.retrievers import CatalogueRetriever, queries_at_once

HYBRID_WEIGHTS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 5.0, 7.0, 10.0, 20.0, 50.0, 100.0)
"""At either end one of the two only orders what the other leaves tied, or nearly so."""
FUSION_CONSTANT = 60
"""Of reciprocal rank fusion, as Cormack, Clarke and Buettcher (SIGIR 2009) set it."""
FUSION_DEPTH = 1000
"""Items of each list that are fused."""


class WeightedSumRetriever(CatalogueRetriever):
    """``BM25 / (its best score for the query) + weight * cosine``."""

    def __init__(self, lexical: CatalogueRetriever, dense: CatalogueRetriever, weight: float) -> None:
        """Mixes a retriever whose scores are at least 0 with one whose scores are cosines."""
        super().__init__(lexical.num_items)
        self._lexical = lexical
        self._dense = dense
        self._weight = np.float32(weight)
        self.index = f"{lexical.index}; {dense.index}"

    def score_all(self, examples: Examples) -> np.ndarray:
        """As ``CatalogueRetriever.score_all``."""
        lexical = self._lexical.scores(examples)
        best = lexical.max(axis=1, keepdims=True)
        return lexical / np.where(best > 0, best, np.float32(1)) + self._weight * self._dense.scores(examples)


class ReciprocalRanks(CatalogueRetriever):
    """The items of another retriever by ``1 / (60 + rank)``, and no others: one side of a fusion."""

    def __init__(self, ranked: CatalogueRetriever, *, above: float = -np.inf) -> None:
        """Ranks the items whose score is more than ``above``."""
        super().__init__(ranked.num_items)
        self._ranked = ranked
        self._above = above
        self.index = ranked.index

    def score_all(self, examples: Examples) -> np.ndarray:
        """As ``CatalogueRetriever.score_all``."""
        return reciprocal_ranks(self._ranked.scores(examples), above=self._above)


class ReciprocalRankFusionRetriever(CatalogueRetriever):
    """``1 / (60 + rank in BM25) + weight / (60 + rank in the model)``; an item that is not in a list gets nothing."""

    def __init__(self, lexical: ReciprocalRanks, dense: ReciprocalRanks, weight: float) -> None:
        """Fuses two lists."""
        super().__init__(lexical.num_items)
        self._lexical = lexical
        self._dense = dense
        self._weight = np.float32(weight)
        self.index = f"{lexical.index}; {dense.index}"

    def score_all(self, examples: Examples) -> np.ndarray:
        """As ``CatalogueRetriever.score_all``."""
        return self._lexical.scores(examples) + self._weight * self._dense.scores(examples)


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


def choose_weight(mix: Callable[[float], CatalogueRetriever], weights: Sequence[float], examples: Examples) -> float:
    """The weight with the best mean reciprocal rank of the clicked item on examples outside the test split.

    Args:
        mix: makes the retriever of a weight.
        weights: what to choose from; the first of the best is taken.
        examples: clicks, in the order of their queries.
    """
    mixes = [mix(weight) for weight in weights]
    reciprocal = np.zeros(len(weights))
    for chunk in examples.chunks(queries_at_once(mixes[0].num_items)):
        # Chunk by chunk, so that all mixes share what the two sides say of it.
        reciprocal += [_reciprocal_ranks_of_clicks(each, chunk).sum() for each in mixes]
    return weights[int(np.argmax(reciprocal))]


def mean_reciprocal_rank(retriever: CatalogueRetriever, examples: Examples) -> float:
    """Of the clicked item in the whole catalogue."""
    chunks = examples.chunks(queries_at_once(retriever.num_items))
    return float(np.concatenate([_reciprocal_ranks_of_clicks(retriever, chunk) for chunk in chunks]).mean())


def _reciprocal_ranks_of_clicks(retriever: CatalogueRetriever, chunk: Examples) -> np.ndarray:
    """1 / rank of the clicked item, float64 [n].

    A tie counts half: on average that many of the tied items come before the clicked one.
    """
    scores = retriever.scores(chunk)
    clicked = scores[np.arange(len(chunk)), chunk.item_rows][:, None]
    ranks: np.ndarray = 0.5 + (scores > clicked).sum(axis=1) + 0.5 * (scores == clicked).sum(axis=1)
    return 1.0 / ranks
