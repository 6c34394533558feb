"""The lexical searcher in the graph of a servable."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from dpsr.indexing.filters import Filters, FilterValues
from dpsr.indexing.searcher import Found
from dpsr.indexing.signature import LEXICAL
from dpsr.ops_cc.bm25 import Bm25Index, score_bm25, search_bm25
from dpsr.ops_cc.head_merge import NO_ROW, NO_SCORE
from dpsr.tokenizer_cc.term_op import TermLayer


class QueryTerms(NamedTuple):
    """The terms of B queries."""

    ids: tf.RaggedTensor
    """int32 [B, None]."""
    weights: tf.Tensor
    """float32 [nnz] of ``ids.values``: 1, or less for a term that stands for a misspelt word."""


class LexicalSearcher(tf.Module):
    """Searches an inverted index exactly; an item without a word of the query is not found.

    ``HybridSearcher`` asks it; there is no servable of words alone.
    """

    name = "lexical"

    def __init__(self, index: Bm25Index, terms: Path, filters: Filters, *, k: int) -> None:
        """Joins an index, its term tokenizer and filters.

        Args:
            index: over the terms of the items.
            terms: the model file of the tokenizer that made them.
            filters: over the items of the index, row by row.
            k: items of an answer, at most those of the catalogue.
        """
        super().__init__(name=self.name)
        self.k = k
        self._items = len(index.rows)
        # As variables: constants of a graph are limited to 2 GB.
        self._index = index.map(lambda array: tf.Variable(array, trainable=False))
        self._term_layer = TermLayer(str(terms))
        self._filters = filters

    def describe(self) -> dict[str, Any]:
        """The kind of the index, for the manifest."""
        return {"kind": "bm25", "precision": "exact", "k": self.k}

    def terms(self, texts: tf.Tensor) -> QueryTerms:
        """The terms of queries, string [B]."""
        ids, weights, row_splits = self._term_layer.encode_queries(texts)
        return QueryTerms(tf.RaggedTensor.from_row_splits(ids, row_splits, validate=False), weights)

    def search_terms(self, terms: QueryTerms) -> Found:
        """The k best items of every query."""
        return self._found(*search_bm25(self._index, terms.ids, self.k, weights=terms.weights))

    def search_terms_matching(self, terms: QueryTerms, wanted: FilterValues) -> Found:
        """The k best items of every query among those that match its filters; see ``Searcher.search_matching``."""
        return tf.cond(
            tf.reduce_any(self._filters.active(wanted)),
            lambda: self._found(
                *search_bm25(self._index, terms.ids, self.k, weights=terms.weights, allowed=self._allowed(wanted))
            ),
            lambda: self.search_terms(terms),
        )

    def scores_of(self, terms: QueryTerms, rows: tf.Tensor) -> tf.Tensor:
        """The scores of given items.

        Args:
            terms: of ``terms``.
            rows: int32 [B, n] item rows; negative where there is no item.

        Returns:
            float32 [B, n]; 0 for an item without a term of the query, and where there is none.
        """
        return score_bm25(self._index, terms.ids, tf.maximum(rows, NO_ROW), weights=terms.weights)

    def _found(self, rows: tf.Tensor, scores: tf.Tensor) -> Found:
        is_item = rows >= 0
        return Found(
            rows, tf.where(is_item, scores, NO_SCORE), tf.fill(tf.shape(rows), NO_ROW), tf.where(is_item, LEXICAL, 0)
        )

    def _allowed(self, wanted: FilterValues) -> tf.Tensor:
        """A bitmap of the items that match each row's filters, uint8 [B, ceil(items / 8)]."""
        matching = self._filters.matches(tf.range(self._items)[tf.newaxis, tf.newaxis], wanted)[:, 0]
        matching = tf.pad(matching, [[0, 0], [0, -self._items % 8]])
        bits = tf.reshape(tf.cast(matching, tf.uint8), [tf.shape(matching)[0], -1, 8])
        return tf.reduce_sum(bits * tf.constant([1, 2, 4, 8, 16, 32, 64, 128], tf.uint8), axis=2)
