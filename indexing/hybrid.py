"""The hybrid searcher: items by meaning and by words, in one list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from dpsr.indexing.dense.searcher import DenseSearcher
from dpsr.indexing.filters import FilterValues
from dpsr.indexing.fusion import FusionPlan, reciprocal_ranks, weighted_sum
from dpsr.indexing.lexical.searcher import LexicalSearcher, QueryTerms
from dpsr.indexing.searcher import DENSE, LEXICAL, Found, Queries
from dpsr.indexing.signature import MODES
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
        return self._search(queries, self.dense.search_heads, self.lexical.search_terms)

    def search_matching(self, queries: Queries, wanted: FilterValues) -> Found:
        """As ``Searcher.search_matching``."""
        return self._search(
            queries,
            lambda heads: self.dense.search_heads_matching(heads, wanted),
            lambda terms: self.lexical.search_terms_matching(terms, wanted),
        )

    def _search(
        self, queries: Queries, by_heads: Callable[[tf.Tensor], Found], by_terms: Callable[[QueryTerms], Found]
    ) -> Found:
        heads, terms = self.dense.heads(queries), self.lexical.terms(queries.texts)
        if queries.wanted is None:
            return self._join(heads, terms, by_heads(heads), by_terms(terms))
        dense = self._where_wanted(queries.wanted & DENSE > 0, lambda: by_heads(heads))
        lexical = self._where_wanted(queries.wanted & LEXICAL > 0, lambda: by_terms(terms))
        both = (queries.wanted & (DENSE | LEXICAL)) == (DENSE | LEXICAL)
        return self._join(heads, terms, dense, lexical, both[:, tf.newaxis])

    def search_heads_and_terms(self, heads: tf.Tensor, terms: QueryTerms) -> Found:
        """The joined lists of queries of which heads and terms are known."""
        return self._join(heads, terms, self.dense.search_heads(heads), self.lexical.search_terms(terms))

    def _where_wanted(self, wanted: tf.Tensor, search: Callable[[], Found]) -> Found:
        """The list of a searcher, empty for the queries that do not want it; it is not asked where none does."""
        shape = [tf.shape(wanted)[0], self.k]
        rows, scores = tf.fill(shape, NO_ROW), tf.fill(shape, NO_SCORE)
        empty = Found(rows, scores, rows, tf.zeros(shape, tf.int32))
        found = tf.cond(tf.reduce_any(wanted), search, lambda: empty)
        return Found(*(tf.where(wanted[:, tf.newaxis], held, none) for held, none in zip(found, empty, strict=True)))

    def _join(
        self, heads: tf.Tensor, terms: QueryTerms, dense: Found, lexical: Found, both: tf.Tensor | None = None
    ) -> Found:
        """The best items of both lists; where not ``both``, bool [B, 1], one list is empty and the other one stays."""
        weight = self.plan.dense_weight
        if self.plan.kind == "weighted_sum":
            best = tf.maximum(lexical.scores[:, :1], 0.0)
            of_dense = weighted_sum(self.lexical.scores_of(terms, dense.rows), best, dense.scores, weight)
            of_lexical = weighted_sum(lexical.scores, best, self.dense.scores_of(heads, lexical.rows), weight)
        else:
            of_lexical = reciprocal_ranks(dense.rows)
            of_dense = weight * of_lexical
        if both is not None:
            of_dense = tf.where(both, of_dense, dense.scores)
            of_lexical = tf.where(both, of_lexical, lexical.scores)
        # The lists are numbered as the bits of the sources are.
        fused = fuse(
            [(dense.rows, of_dense), (lexical.rows, of_lexical)],
            self.k,
            combine="first" if self.plan.kind == "weighted_sum" else "sum",
        )
        by_dense = (fused.lists & DENSE) > 0
        heads_found = tf.gather(dense.heads, tf.where(by_dense, fused.places, 0), batch_dims=1)
        return Found(fused.rows, fused.scores, tf.where(by_dense, heads_found, NO_ROW), fused.lists)
