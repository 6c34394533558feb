"""Latent semantic analysis (Deerwester et al., JASIS 1990), by scikit-learn.

The unsupervised baseline for synonyms: terms with similar neighbours share a direction, without clicks. Term weights
are (1 + log tf) idf, where the article weighs by log-entropy; queries are folded in as documents (its section
"Technical details").
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from dpsr.baselines.analyzers import Analyzer
from dpsr.baselines.examples import QueryExamples
from dpsr.baselines.vectors import FixedVectorRetriever

DIMENSION = 256


class LSARetriever(FixedVectorRetriever):
    """Cosine in the space of the largest singular vectors of the items' tf-idf matrix."""

    def __init__(self, item_texts: Sequence[str], analyzer: Analyzer, *, seed: int, dimension: int = DIMENSION) -> None:
        """Decomposes the tf-idf matrix of the catalogue.

        Args:
            item_texts: the text of every item; at least one has a term.
            analyzer: splits the texts of items and queries into terms.
            seed: seed of the randomised decomposition.
            dimension: singular vectors kept; min(terms, items) where that is less.
        """
        self._weights = TfidfVectorizer(analyzer=analyzer, sublinear_tf=True, dtype=np.float32)
        matrix = self._weights.fit_transform(item_texts)
        self._space = TruncatedSVD(min(dimension, *matrix.shape), random_state=seed)
        super().__init__(self._space.fit_transform(matrix))

    def embed(self, examples: QueryExamples) -> np.ndarray:
        """As ``VectorRetriever.embed``; a query without a known term has no vector."""
        found: np.ndarray = self._space.transform(self._weights.transform(examples.texts))
        return found
