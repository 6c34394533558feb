"""BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009, section 3.4), as a servable has it.

Terms, corrections of misspelt words, postings and the scores are those of ``indexing.lexical``, to the last bit.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from dpsr.baselines.examples import QueryExamples
from dpsr.baselines.exhaustive import ExhaustiveRetriever
from dpsr.config import LexicalConfig
from dpsr.indexing.lexical.build import ItemTerms
from dpsr.ops_cc.bm25 import search_bm25


class BM25Retriever(ExhaustiveRetriever):
    """BM25 over the items' texts; an item without a term of the query scores 0, and is not retrieved."""

    def __init__(self, terms: ItemTerms, config: LexicalConfig, clicks: np.ndarray | None = None) -> None:
        """Indexes the catalogue.

        Args:
            terms: of the items; where none has a term, every score is 0.
            config: BM25's parameters, weights of columns and of popularity.
            clicks: int64 [items], which are read where ``config.popularity`` is above 0.
        """
        super().__init__(len(terms.items))
        self._tokenizer = terms.tokenizer
        self._postings, self._bytes = None, 0
        if terms.tokenizer.num_terms:
            postings = terms.postings(config, clicks)
            self._postings = postings.map(tf.constant)
            self._bytes = sum(np.asarray(array).nbytes for array in postings)

    @property
    def index(self) -> str:
        """As ``ExhaustiveRetriever.index``."""
        return "exact: postings, the lists of all items"

    @property
    def index_bytes(self) -> int:
        """As ``ExhaustiveRetriever.index_bytes``: the postings."""
        return self._bytes

    def retrieve(self, examples: QueryExamples, k: int) -> tuple[np.ndarray, np.ndarray]:
        """As ``Retriever.retrieve``."""
        items, scores = super().retrieve(examples, k)
        found = scores > 0
        return np.where(found, items, -1).astype(np.int32), np.where(found, scores, -np.inf).astype(np.float32)

    def score_all(self, examples: QueryExamples) -> np.ndarray:
        """As ``ExhaustiveRetriever.score_all``."""
        texts, position = np.unique(examples.texts, return_inverse=True)
        scores = np.zeros((len(texts), self.num_items), np.float32)
        if self._postings is not None:
            ids, weights, row_splits = self._tokenizer.encode_queries(texts.tolist())
            terms = tf.RaggedTensor.from_row_splits(ids, row_splits, validate=False)
            rows, found = (
                array.numpy() for array in search_bm25(self._postings, terms, self.num_items, weights=weights)
            )
            query, place = np.nonzero(rows >= 0)
            scores[query, rows[query, place]] = found[query, place]
        return scores[position]
