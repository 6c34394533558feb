"""Retrievers that embed queries and items in one space, and rank by cosine."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from sklearn.preprocessing import normalize

from dpsr.baselines.examples import QueryExamples
from dpsr.baselines.exhaustive import ExhaustiveRetriever


class VectorRetriever(ExhaustiveRetriever):
    """Scores every item by the inner product of unit vectors; a query or an item without a vector scores 0."""

    _columns: np.ndarray | None = None

    @abstractmethod
    def embed_queries(self, examples: QueryExamples) -> np.ndarray:
        """Embeds n queries, float32 [n, d], of any length; zeros for a query of which nothing is known."""

    @abstractmethod
    def embed_items(self) -> np.ndarray:
        """Embeds the catalogue, float32 [items, d], of any length; called once, when the first query is asked."""

    def score_all(self, examples: QueryExamples) -> np.ndarray:
        """As ``ExhaustiveRetriever.score_all``."""
        if self._columns is None:
            vectors = np.asarray(self.embed_items(), np.float32)
            self._columns = np.ascontiguousarray(normalize(vectors, copy=False).T)
            self.index = f"exact: {self.num_items:,} inner products of {len(self._columns)}"
        queries: np.ndarray = normalize(np.asarray(self.embed_queries(examples), np.float32))
        return queries @ self._columns

    def forget_vectors(self) -> None:
        """To be called when the weights change."""
        self._columns = self._last = None
