"""Retrieval by vectors: every item has one vector, made before any query; the score is the cosine."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from dpsr.baselines.examples import QueryExamples
from dpsr.baselines.exhaustive import ExhaustiveRetriever

WITHOUT_VECTOR = np.float32(-2.0)
"""Score of a pair that has no cosine, below every cosine."""


class VectorRetriever(ExhaustiveRetriever):
    """Cosine of the vectors of query and item.

    A vector of zeros is none: an item without one is not retrieved, and a query without one retrieves nothing.
    """

    def __init__(self, item_vectors: np.ndarray) -> None:
        """Takes the vectors of the items, float32 [items, d], rows of length 1 or zero."""
        items, dimension = item_vectors.shape
        super().__init__(items)
        self._columns = np.ascontiguousarray(item_vectors.T, dtype=np.float32)
        self._without = np.flatnonzero(~item_vectors.any(axis=1))
        self.index = f"exact: {items:,} inner products of {dimension}"
        self.index_bytes = self._columns.nbytes

    @abstractmethod
    def embed(self, examples: QueryExamples) -> np.ndarray:
        """Embeds n queries, float32 [n, d], rows of length 1 or zero."""

    def score_all(self, examples: QueryExamples) -> np.ndarray:
        """As ``ExhaustiveRetriever.score_all``; pairs without a cosine score ``WITHOUT_VECTOR``."""
        queries = self.embed(examples)
        scores: np.ndarray = queries @ self._columns
        scores[:, self._without] = WITHOUT_VECTOR
        scores[~queries.any(axis=1)] = WITHOUT_VECTOR
        return scores

    def retrieve(self, examples: QueryExamples, k: int) -> tuple[np.ndarray, np.ndarray]:
        """As ``Retriever.retrieve``."""
        items, scores = super().retrieve(examples, k)
        found = scores > WITHOUT_VECTOR
        return np.where(found, items, -1).astype(np.int32), np.where(found, scores, -np.inf).astype(np.float32)


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Scales rows to length 1, float [n, d] -> float32; rows of zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
