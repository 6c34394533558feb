"""BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009, section 3.4), by bm25s.

The variant is Lucene's: the inverse document frequency is log(1 + (N - df + 0.5) / (df + 0.5)), never negative, and the
constant factor k1 + 1 is left out, which changes no order. One document is the concatenation of an item's text columns.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import bm25s
import numpy as np

from dpsr.baselines.analyzers import Analyzer
from dpsr.baselines.examples import QueryExamples
from dpsr.baselines.exhaustive import ExhaustiveRetriever

K1, B = 1.2, 0.75

# bm25s sets its logger to DEBUG on import, whose records reach stderr through the root handler of TensorFlow's logging.
logging.getLogger("bm25s").setLevel(logging.WARNING)


class BM25Retriever(ExhaustiveRetriever):
    """BM25 over the items' texts; an item without a term of the query scores 0."""

    index = "exact: inverted lists (bm25s)"

    def __init__(self, item_texts: Sequence[str], analyzer: Analyzer) -> None:
        """Indexes the catalogue.

        Args:
            item_texts: the text of every item; where none has a term, every score is 0.
            analyzer: splits the texts of items and queries into terms.
        """
        super().__init__(len(item_texts))
        self._analyzer = analyzer
        self._index: bm25s.BM25 | None = None
        documents = [analyzer(text) for text in item_texts]
        if any(documents):
            self._index = bm25s.BM25(k1=K1, b=B, method="lucene")
            self._index.index(documents, show_progress=False)

    def score_all(self, examples: QueryExamples) -> np.ndarray:
        """As ``ExhaustiveRetriever.score_all``."""
        texts, position = np.unique(examples.texts, return_inverse=True)
        return np.stack([self._score_text(text) for text in texts])[position]

    def _score_text(self, text: str) -> np.ndarray:
        known = {} if self._index is None else self._index.vocab_dict
        terms = [term for term in self._analyzer(text) if term in known]
        if self._index is None or not terms:
            return np.zeros(self.num_items, dtype=np.float32)
        return self._index.get_scores(terms)
