"""Protocols of methods under evaluation: retrievers search the catalogue, scorers score given pairs."""

from __future__ import annotations

from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np

from dpsr.baselines.examples import QueryExamples


@runtime_checkable
class Retriever(Protocol):
    """A method that finds items of the catalogue for a query.

    Ranked-list measures (MAP, nDCG, Recall) are computed for retrievers.
    """

    def retrieve(self, examples: QueryExamples, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Retrieves the best items of the catalogue.

        Args:
            examples: n queries.
            k: items wanted for each query, at least 1.

        Returns:
            Item rows int32 [n, w] and scores float32 [n, w], best first, w <= k. A row with fewer than w items ends in
            item -1 and score -inf. The choice among items of equal scores at the cut is random (``ranking.top_k``).
        """
        ...


@runtime_checkable
class Scorer(Protocol):
    """A method that scores given pairs of query and item.

    Top-k among candidates and the area under the curve of judged pairs are computed for scorers.
    """

    def score(self, examples: QueryExamples, candidates: np.ndarray) -> np.ndarray:
        """Scores given items, the higher the better.

        Args:
            examples: n queries.
            candidates: item rows of each query, int32 [n, c].

        Returns:
            float32 [n, c], without NaN.
        """
        ...


Method: TypeAlias = Retriever | Scorer
"""A method under evaluation; most are both, a reranker only retrieves, an interaction model only scores."""


def index_of(method: object) -> str:
    """Search structure of a method in words, from its ``index`` attribute; the class name without one."""
    return str(getattr(method, "index", type(method).__name__))


def index_bytes_of(*methods: object) -> int | None:
    """Bytes of what methods hold of the items, from their ``index_bytes``; None where one does not say."""
    sizes = [getattr(method, "index_bytes", None) for method in methods]
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None
