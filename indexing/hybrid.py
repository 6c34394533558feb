"""The hybrid searcher: items by meaning and by words, in one list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from dpsr.indexing.dense.searcher import DenseSearcher
from dpsr.indexing.filters import FilterValues
from dpsr.indexing.fusion import FusionPlan, reciprocal_ranks, weighted_sum
from dpsr.indexing.lexical.searcher import LexicalSearcher, QueryTerms
from dpsr.indexing.query_weight import query_features
from dpsr.indexing.searcher import Found, Queries
from dpsr.indexing.signature import DENSE, LEXICAL, MODES
from dpsr.ops_cc.fusion import fuse
from dpsr.ops_cc.head_merge import NO_ROW, NO_SCORE


class HybridSearcher(tf.Module):
    """Asks both searchers for their k best items and joins the lists as a ``FusionPlan`` says.

    A query that wants one of them (``Queries.wanted``) gets that one's list, with its scores.
    """

    name = "hybrid"

    def __init__(
        self, dense: DenseSearcher, lexical: LexicalSearcher, plan: FusionPlan, *, default: str = "hybrid"
    ) -> None:
        """Joins two searchers over the same items.

        Args:
            dense: finds items by their vectors.
            lexical: finds items by their words.
            plan: how their lists become one.
            default: what answers a request that asks for nothing: ``dense``, ``lexical`` or ``hybrid``.
        """
        super().__init__(name=self.name)
        self.dense, self.lexical = dense, lexical
        self.plan = plan
        self.k = dense.k
        modes = dict(zip(MODES, (DENSE, LEXICAL, DENSE | LEXICAL), strict=True))
        self.modes: Mapping[str, int] = {**modes, "": modes[default]}
        self.release = dense.release

    def describe(self) -> dict[str, Any]:
        """The plan of the fusion."""
        return self.plan.describe()

    def search(self, queries: Queries) -> Found:
        """As ``Searcher.search``."""
        return self._join(self._lists(queries))

    def search_matching(self, queries: Queries, wanted: FilterValues) -> Found:
        """As ``Searcher.search_matching``."""
        return self._join(self._lists(queries, wanted))

    def search_and_score(
        self, queries: Queries, rows: tf.Tensor, wanted: FilterValues | None = None
    ) -> tuple[Found, tf.Tensor]:
        """As ``ScoringSearcher.search_and_score``; by reciprocal ranks, an item of no list scores 0."""
        lists = self._lists(queries, wanted)
        return self._join(lists), self._scores_of(lists, rows)

    def search_heads_and_terms(self, heads: tf.Tensor, terms: QueryTerms) -> Found:
        """The joined lists of queries of which heads and terms are known."""
        lists = _Lists(heads, terms, self.dense.search_heads(heads), self.lexical.search_terms(terms))
        return self._join(self._weighed(lists))

    def _lists(self, queries: Queries, wanted: FilterValues | None = None) -> _Weighed:
        heads, terms = self.dense.heads(queries), self.lexical.terms(queries.texts)

        def by_heads() -> Found:
            if wanted is None:
                return self.dense.search_heads(heads)
            return self.dense.search_heads_matching(heads, wanted)

        def by_terms() -> Found:
            if wanted is None:
                return self.lexical.search_terms(terms)
            return self.lexical.search_terms_matching(terms, wanted)

        if queries.wanted is None:
            return self._weighed(_Lists(heads, terms, by_heads(), by_terms()))
        dense, lexical = queries.wanted & DENSE > 0, queries.wanted & LEXICAL > 0
        return self._weighed(
            _Lists(
                heads,
                terms,
                self._where_wanted(dense, by_heads),
                self._where_wanted(lexical, by_terms),
                dense[:, tf.newaxis],
                lexical[:, tf.newaxis],
            )
        )

    def _weighed(self, lists: _Lists) -> _Weighed:
        """The lists, each with the scores of the other side, and the weight of every query."""
        if self.plan.kind != "weighted_sum":
            return _Weighed(lists, None, None, self.plan.dense_weight)
        words = self.lexical.scores_of(lists.terms, lists.dense.rows)
        meaning = self.dense.scores_of(lists.heads, lists.lexical.rows)
        if self.plan.by_query is None:
            return _Weighed(lists, words, meaning, self.plan.dense_weight)
        features = query_features(lists.terms, lists.dense, lists.lexical, words, meaning)
        return _Weighed(lists, words, meaning, self.plan.by_query.weights(features, self.plan.dense_weight))

    def _where_wanted(self, wanted: tf.Tensor, search: Callable[[], Found]) -> Found:
        """The list of a searcher, empty for the queries that do not want it; it is not asked where none does."""
        shape = [tf.shape(wanted)[0], self.k]
        rows, scores = tf.fill(shape, NO_ROW), tf.fill(shape, NO_SCORE)
        empty = Found(rows, scores, rows, tf.zeros(shape, tf.int32))
        found = tf.cond(tf.reduce_any(wanted), search, lambda: empty)
        return Found(*(tf.where(wanted[:, tf.newaxis], held, none) for held, none in zip(found, empty, strict=True)))

    def _join(self, weighed: _Weighed) -> Found:
        """The best items of both lists; where one searcher is not wanted, its list is empty and the other one stays."""
        lists, words, meaning, weight = weighed
        dense, lexical = lists.dense, lists.lexical
        if words is not None and meaning is not None:
            of_dense = weighted_sum(words, lists.best, dense.scores, weight)
            of_lexical = weighted_sum(lexical.scores, lists.best, meaning, weight)
        else:
            of_lexical = reciprocal_ranks(dense.rows)
            of_dense = weight * of_lexical
        of_dense, of_lexical = lists.where_both(of_dense, dense.scores), lists.where_both(of_lexical, lexical.scores)
        # The lists are numbered as the bits of the sources are.
        fused = fuse(
            [(dense.rows, of_dense), (lexical.rows, of_lexical)],
            self.k,
            combine="first" if self.plan.kind == "weighted_sum" else "sum",
        )
        by_dense = (fused.lists & DENSE) > 0
        heads_found = tf.gather(dense.heads, tf.where(by_dense, fused.places, 0), batch_dims=1)
        return Found(fused.rows, fused.scores, tf.where(by_dense, heads_found, NO_ROW), fused.lists)

    def _scores_of(self, weighed: _Weighed, rows: tf.Tensor) -> tf.Tensor:
        """The joined scores of given items, float32 [B, n]: those of one searcher where it alone is wanted."""
        lists = weighed.lists
        dense, lexical = self.dense.scores_of(lists.heads, rows), self.lexical.scores_of(lists.terms, rows)
        joined = tf.zeros_like(dense)
        if self.plan.kind == "weighted_sum":
            joined = weighted_sum(lexical, lists.best, dense, weighed.dense_weight)
        return joined if lists.by_dense is None else lists.where_both(joined, tf.where(lists.by_dense, dense, lexical))


class _Lists(NamedTuple):
    """What both searchers read and found of B queries."""

    heads: tf.Tensor
    terms: QueryTerms
    dense: Found
    lexical: Found
    by_dense: tf.Tensor | None = None
    """bool [B, 1], where the dense searcher is wanted; None: both are wanted everywhere."""
    by_lexical: tf.Tensor | None = None

    @property
    def best(self) -> tf.Tensor:
        """The best lexical score of each query, float32 [B, 1]; 0 where no item has one of its words."""
        return tf.maximum(self.lexical.scores[:, :1], 0.0)

    def where_both(self, joined: tf.Tensor, alone: tf.Tensor) -> tf.Tensor:
        """``joined`` where both searchers are wanted, else ``alone``; [B, n] each."""
        if self.by_dense is None or self.by_lexical is None:
            return joined
        return tf.where(self.by_dense & self.by_lexical, joined, alone)


class _Weighed(NamedTuple):
    """Both lists, and what their weighted sum takes beside them."""

    lists: _Lists
    words: tf.Tensor | None
    """float32 [B, k], BM25 of the items of the dense list; None by reciprocal ranks."""
    meaning: tf.Tensor | None
    """float32 [B, k], inner products of the items of the lexical list."""
    dense_weight: tf.Tensor | float
    """Of all queries, or float32 [B, 1]."""
