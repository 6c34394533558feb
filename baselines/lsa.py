"""Latent semantic analysis: the baseline that finds related words without clicks (scikit-learn)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from dpsr.baselines.baselines import Words
from dpsr.baselines.examples import Examples
from dpsr.baselines.retrievers import CatalogueRetriever

DIMENSION = 256


class LSARetriever(CatalogueRetriever):
    """Cosine in the space of the largest singular vectors of the items' tf-idf matrix."""

    def __init__(self, item_texts: Sequence[str], words: Words, *, seed: int, dimension: int = DIMENSION) -> None:
        """Decomposes the catalogue.

        Args:
            item_texts: the text of every item; at least one has a word.
            words: splits a text, of an item or a query, into its terms.
            seed: of the randomised decomposition.
            dimension: singular vectors that are kept, fewer where there are not so many words or items.
        """
        super().__init__(len(item_texts))
        self._weights = TfidfVectorizer(analyzer=words, sublinear_tf=True, dtype=np.float32)
        matrix = self._weights.fit_transform(item_texts)
        self._space = TruncatedSVD(min(dimension, *matrix.shape), random_state=seed)
        self.index = f"exact: {len(item_texts):,} inner products of {self._space.n_components}"
        self._columns = np.ascontiguousarray(normalize(self._space.fit_transform(matrix)).T, dtype=np.float32)

    def score_all(self, examples: Examples) -> np.ndarray:
        """As ``CatalogueRetriever.score_all``; a query without a known word gives 0 to all."""
        queries = normalize(self._space.transform(self._weights.transform(examples.texts)))
        return queries.astype(np.float32) @ self._columns
