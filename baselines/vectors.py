"""Retrieval by vectors: every item has one vector, made before any query; the score is the cosine."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property

import numpy as np

from dpsr.baselines.examples import QueryExamples
from dpsr.baselines.exhaustive import ExhaustiveRetriever


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Scales rows to length 1, float [n, d] -> float32; rows of zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)


class VectorRetriever(ExhaustiveRetriever):
    """Cosine of the vectors of query and item.

    A vector of zeros is none: an item without one is not retrieved, and a query without one retrieves nothing.
    """

    @abstractmethod
    def embed(self, examples: QueryExamples) -> np.ndarray:
        """Embeds n queries, float [n, d], of any length."""

    @abstractmethod
    def embed_items(self) -> np.ndarray:
        """Embeds the catalogue, float [items, d], of any length; called once, before the first query."""

    @property
    def index(self) -> str:
        """As ``ExhaustiveRetriever.index``."""
        return f"exact: {self.num_items:,} inner products of {len(self._columns)}"

    @property
    def index_bytes(self) -> int:
        """As ``ExhaustiveRetriever.index_bytes``: the item vectors."""
        return self._columns.nbytes

    def weights_changed(self) -> None:
        """Drops the vectors of the items, and the last scores."""
        self._last = None
        for held in ("_columns", "_without"):
            self.__dict__.pop(held, None)

    def score_all(self, examples: QueryExamples) -> np.ndarray:
        """As ``ExhaustiveRetriever.score_all``; minus infinity for a pair without a cosine."""
        queries = unit_rows(self.embed(examples))
        scores: np.ndarray = queries @ self._columns
        scores[:, self._without] = -np.inf
        scores[~queries.any(axis=1)] = -np.inf
        return scores

    @cached_property
    def _columns(self) -> np.ndarray:
        """Unit vectors of the items, float32 [d, items]."""
        return np.ascontiguousarray(unit_rows(self.embed_items()).T)

    @cached_property
    def _without(self) -> np.ndarray:
        return np.flatnonzero(~self._columns.any(axis=0))


class FixedVectorRetriever(VectorRetriever):
    """A retriever whose item vectors are there when it is made."""

    def __init__(self, item_vectors: np.ndarray) -> None:
        """Takes the vectors of the items, float [items, d], of any length."""
        super().__init__(len(item_vectors))
        self._item_vectors = item_vectors

    def embed_items(self) -> np.ndarray:
        """As ``VectorRetriever.embed_items``."""
        return self._item_vectors
