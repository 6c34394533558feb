"""The lexical searcher in the graph of a servable."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from dpsr.indexing.filters import Filters, FilterValues
from dpsr.indexing.searcher import Found, Queries, traced_once
from dpsr.indexing.signature import LEXICAL, LEXICAL_MODE
from dpsr.ops_cc.bm25 import Bm25Index, score_bm25, search_bm25
from dpsr.ops_cc.head_merge import NO_ROW, NO_SCORE
from dpsr.tokenizer_cc.term_op import TermLayer

LISTED_SHARE = 1 / 64
"""Where at most this share of the items matches the filters of a query, all that match are scored: a search that few
items may answer goes through most postings of its terms, which then takes longer (``benchmarks/filters.py``)."""


class QueryTerms(NamedTuple):
    """The terms of B queries."""

    ids: tf.RaggedTensor
    """int32 [B, None]."""
    weights: tf.Tensor
    """float32 [nnz] of ``ids.values``: 1, or less for a term that stands for a misspelt word."""

    def take(self, rows: tf.Tensor) -> QueryTerms:
        """Those of the queries ``rows``, int64 [n]."""
        return QueryTerms(tf.gather(self.ids, rows), tf.gather(self.ids.with_values(self.weights), rows).values)


class LexicalSearcher(tf.Module):
    """Searches an inverted index exactly; an item without a word of the query is not found."""

    name = "lexical"
    modes: Mapping[str, int] = {LEXICAL_MODE: LEXICAL, "": LEXICAL}

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
        self._most_listed = int(LISTED_SHARE * len(index.rows))
        # As variables: constants of a graph are limited to 2 GB.
        self._index = index.map(lambda array: tf.Variable(array, trainable=False))
        self._term_layer = TermLayer(str(terms))
        self._filters = filters
        self._search_terms = traced_once(self._best_of_terms)
        self._search_terms_matching = traced_once(self._best_of_terms_matching)
        self.release = tf.function(lambda: None, input_signature=[])

    def search(self, queries: Queries) -> Found:
        """As ``Searcher.search``."""
        return self.search_terms(self.terms(queries.texts))

    def search_matching(self, queries: Queries, wanted: FilterValues) -> Found:
        """As ``Searcher.search_matching``."""
        return self.search_terms_matching(self.terms(queries.texts), wanted)

    def search_and_score(
        self, queries: Queries, rows: tf.Tensor, wanted: FilterValues | None = None
    ) -> tuple[Found, tf.Tensor]:
        """As ``ScoringSearcher.search_and_score``; an item without a word of the query scores 0."""
        terms = self.terms(queries.texts)
        found = self.search_terms(terms) if wanted is None else self.search_terms_matching(terms, wanted)
        return found, self.scores_of(terms, rows)

    def describe(self) -> dict[str, Any]:
        """The kind of the index, for the manifest."""
        return {"kind": "bm25", "precision": "exact", "k": self.k}

    def terms(self, texts: tf.Tensor) -> QueryTerms:
        """The terms of queries, string [B]."""
        ids, weights, row_splits = self._term_layer.encode_queries(texts)
        return QueryTerms(tf.RaggedTensor.from_row_splits(ids, row_splits, validate=False), weights)

    def search_terms(self, terms: QueryTerms) -> Found:
        """The k best items of every query."""
        return self._search_terms(terms)

    def _best_of_terms(self, terms: QueryTerms) -> Found:
        return self._found(*search_bm25(self._index, terms.ids, self.k, weights=terms.weights))

    def search_terms_matching(self, terms: QueryTerms, wanted: FilterValues) -> Found:
        """The k best items of every query among those that match its filters; see ``Searcher.search_matching``."""
        return self._search_terms_matching(terms, wanted)

    def _best_of_terms_matching(self, terms: QueryTerms, wanted: FilterValues) -> Found:
        active = self._filters.active(wanted)
        return tf.cond(
            tf.reduce_any(active),
            lambda: self._search_matching(terms, wanted, active),
            lambda: self.search_terms(terms),
        )

    def _search_matching(self, terms: QueryTerms, wanted: FilterValues, active: tf.Tensor) -> Found:
        rows, matching = self._filters.request(wanted).matching_rows(self._most_listed)
        found = self._best_listed(terms, rows)
        wide = ~active | (matching > self._most_listed)

        def with_wide() -> tuple[tf.Tensor, ...]:
            places = tf.where(wide)
            at = places[:, 0]
            request = self._filters.request({name: tf.gather(values, at) for name, values in wanted.items()})
            of_wide = terms.take(at)
            lists = search_bm25(
                self._index, of_wide.ids, self.k, weights=of_wide.weights, allowed=request.matching_bits()
            )
            return tuple(tf.tensor_scatter_nd_update(old, places, new) for old, new in zip(found, lists, strict=True))

        return self._found(*tf.cond(tf.reduce_any(wide), with_wide, lambda: found))

    def _best_listed(self, terms: QueryTerms, rows: tf.RaggedTensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The k best of the items that are listed for each query, int32 [B, None] and ascending, as ``search_bm25``."""
        listed = rows.to_tensor(NO_ROW)
        listed = tf.pad(listed, [[0, 0], [0, tf.maximum(self.k - tf.shape(listed)[1], 0)]], constant_values=NO_ROW)
        scores, places = tf.math.top_k(self.scores_of(terms, listed), self.k)
        return tf.where(scores > 0.0, tf.gather(listed, places, batch_dims=1), NO_ROW), scores

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
