"""Both lists of some queries with both scores of every item: what a fusion is chosen on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import tensorflow as tf

from dpsr.indexing.dense.searcher import DenseSearcher
from dpsr.indexing.fusion import FUSION_CONSTANT, FusionPlan
from dpsr.indexing.lexical.searcher import LexicalSearcher
from dpsr.indexing.query_weight import query_features
from dpsr.indexing.valid_clicks import gain

_BATCH = 64


@dataclass(frozen=True)
class Candidates:
    """Both lists of n queries, one after the other; an item of both stands twice."""

    rows: np.ndarray
    """int32 [n, 2k], item rows, first the dense list; negative where there is no item."""
    dense: np.ndarray
    """float32 [n, 2k]."""
    lexical: np.ndarray
    """float32 [n, 2k]."""
    features: np.ndarray
    """float32 [n, 9], of ``query_weight.query_features``."""

    @classmethod
    def found(
        cls, dense: DenseSearcher, lexical: LexicalSearcher, heads: np.ndarray, texts: Sequence[str]
    ) -> Candidates:
        """Asks both searchers.

        Args:
            dense: one side.
            lexical: the other one, over the same items.
            heads: float32 [n, m, d], those of every query; n > 0.
            texts: the queries.
        """
        parts = []
        for start in range(0, len(texts), _BATCH):
            of_batch = heads[start : start + _BATCH]
            terms = lexical.terms(tf.constant(texts[start : start + _BATCH]))
            near, matching = dense.search_heads(of_batch), lexical.search_terms(terms)
            words, meaning = lexical.scores_of(terms, near.rows), dense.scores_of(of_batch, matching.rows)
            parts.append(
                (
                    np.concatenate([near.rows, matching.rows], axis=1),
                    np.concatenate([near.scores, meaning], axis=1),
                    np.concatenate([words, tf.maximum(matching.scores, 0.0)], axis=1),
                    query_features(terms, near, matching, words, meaning).numpy(),
                )
            )
        return cls(*(np.concatenate(of_queries) for of_queries in zip(*parts, strict=True)))

    @property
    def k(self) -> int:
        """Length of each list."""
        return self.rows.shape[1] // 2

    @cached_property
    def in_both(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The items that stand twice, int64 [items] each: query, place in the first half, place in the second."""
        order = np.argsort(self.rows, axis=1, kind="stable")
        ordered = np.take_along_axis(self.rows, order, axis=1)
        query, place = np.nonzero((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0))
        return query, order[query, place], order[query, place + 1]

    @cached_property
    def counted(self) -> np.ndarray:
        """bool [n, 2k], True where an item stands first."""
        is_first = self.rows >= 0
        query, _, second = self.in_both
        is_first[query, second] = False
        return is_first

    @cached_property
    def normalised_lexical(self) -> np.ndarray:
        """BM25 over the query's best, float32 [n, 2k]; 0 where no item has one of its words."""
        best = np.maximum(self.lexical[:, self.k : self.k + 1], 0)
        return self.lexical / np.where(best > 0, best, np.float32(1))

    def gains(self, plan: FusionPlan, clicked: np.ndarray) -> np.ndarray:
        """``gains`` of the list that a plan makes of both; an item of both has its score in the first one."""
        return gains(self.rows, fused_scores(self, plan), clicked, self.counted)

    def gains_of_sides(self, clicked: np.ndarray) -> dict[str, np.ndarray]:
        """``gains`` of the lists ``dense`` and ``lexical`` alone."""
        halves = {"dense": (slice(0, self.k), self.dense), "lexical": (slice(self.k, None), self.lexical)}
        return {
            side: gains(self.rows[:, half], scores[:, half], clicked, self.rows[:, half] >= 0)
            for side, (half, scores) in halves.items()
        }


def fused_scores(candidates: Candidates, plan: FusionPlan) -> np.ndarray:
    """The score of every candidate as the servable joins it, float32 [n, 2k]; -inf where there is no item."""
    rows, k = candidates.rows, candidates.k
    if plan.kind == "weighted_sum":
        weight = np.float32(plan.dense_weight)
        if plan.by_query is not None:
            weight = plan.by_query.weights(tf.constant(candidates.features), plan.dense_weight).numpy()
        scores = candidates.normalised_lexical + weight * candidates.dense
    else:
        ranks = (1.0 / (FUSION_CONSTANT + 1 + np.arange(k))).astype(np.float32)
        scores = np.broadcast_to(np.concatenate([plan.dense_weight * ranks, ranks]), rows.shape).astype(np.float32)
        query, first, second = candidates.in_both
        both = scores[query, first] + scores[query, second]
        scores[query, first], scores[query, second] = both, both
    return np.where(rows >= 0, scores, -np.inf)


def gains(rows: np.ndarray, scores: np.ndarray, clicked: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """``valid_clicks.gain`` of the item that each query led to, 0 where no list has it; half of the ties come before.

    Args:
        rows: int32 [n, m], item rows.
        scores: float32 [n, m].
        clicked: int32 [n], item rows.
        counted: bool [n, m], the places that make up the list.

    Returns:
        float64 [n].
    """
    is_clicked = (rows == clicked[:, np.newaxis]) & counted
    held = is_clicked.any(axis=1)
    target = np.take_along_axis(scores, is_clicked.argmax(axis=1)[:, np.newaxis], axis=1)
    better = np.count_nonzero((scores > target) & counted, axis=1)
    tied = np.count_nonzero((scores == target) & counted, axis=1)
    return np.where(held, gain(np.where(held, better + 0.5 * (tied - 1) + 1.0, 1.0)), 0.0)
