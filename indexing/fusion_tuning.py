"""The choice of a fusion by the clicks of the valid split: its kind, its weight, and whether it helps at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from dpsr.indexing.dense.searcher import DenseSearcher
from dpsr.indexing.fusion import FUSION_CONSTANT, FusionKind, FusionPlan
from dpsr.indexing.lexical.searcher import LexicalSearcher
from dpsr.indexing.valid_clicks import gain

WEIGHTS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 5.0, 7.0, 10.0, 20.0, 50.0, 100.0)
"""Of the dense side. At either end one of the two sides only orders what the other leaves tied, or nearly so."""
UNTUNED = FusionPlan("weighted_sum", 1.0)
"""Where no click can choose."""
_BATCH = 64


class Candidates(NamedTuple):
    """Both lists of some queries, one after the other, with both scores of every item."""

    rows: np.ndarray
    """int32 [n, 2k], item rows, first the dense list; an item of both stands twice."""
    dense: np.ndarray
    """float32 [n, 2k]."""
    lexical: np.ndarray
    """float32 [n, 2k]."""


@dataclass(frozen=True)
class TunedFusion:
    """A plan, and the mean nDCG of the lists that it was chosen by; see ``valid_clicks.gain``."""

    plan: FusionPlan
    clicks: int
    """Examples it was chosen on; 0: none, and the plan is what stands for no choice."""
    ndcg: dict[str, float]
    """Of ``dense`` and ``lexical`` alone, and of the best plan of each kind."""

    given: bool = False
    """Whether the configuration left nothing to choose."""

    @property
    def mode(self) -> str:
        """``hybrid``; or the side that is not behind the plan that was chosen, as the other one then brings nothing."""
        if self.given or not self.clicks:
            return "hybrid"
        joined, sides = self.ndcg[self.plan.kind], ("dense", "lexical")
        ahead = max(sides, key=lambda side: self.ndcg[side])
        return ahead if self.ndcg[ahead] >= joined else "hybrid"

    @classmethod
    def described(cls, described: Mapping[str, Any], *, given: bool) -> TunedFusion:
        """The inverse of ``describe``."""
        plan = FusionPlan(described["kind"], described["dense_weight"])
        return cls(plan, described["clicks"], dict(described["ndcg"]), given)

    def describe(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            **self.plan.describe(),
            "mode": self.mode,
            "clicks": self.clicks,
            "ndcg": self.ndcg,
        }


def tune_fusion(
    dense: DenseSearcher,
    lexical: LexicalSearcher,
    heads: np.ndarray,
    texts: Sequence[str],
    clicked: np.ndarray,
    *,
    kind: FusionKind | None = None,
    weight: float | None = None,
) -> TunedFusion:
    """Chooses the plan with the best mean nDCG of the clicked item; the first of equals.

    Args:
        dense: one side.
        lexical: the other one, over the same items.
        heads: float32 [n, m, d], those of the query of every example.
        texts: the queries.
        clicked: int32 [n], the item row that each query led to; n > 0.
        kind: the only one that is tried; None for both.
        weight: the only one that is tried; None for ``WEIGHTS``.
    """
    parts = [
        _candidates(dense, lexical, heads[start : start + _BATCH], texts[start : start + _BATCH])
        for start in range(0, len(clicked), _BATCH)
    ]
    joined = Candidates(*(np.concatenate(of_queries) for of_queries in zip(*parts, strict=True)))
    k = joined.rows.shape[1] // 2
    found = {
        "dense": ndcg(joined.rows[:, :k], joined.dense[:, :k], clicked),
        "lexical": ndcg(joined.rows[:, k:], joined.lexical[:, k:], clicked),
    }
    plans: list[FusionPlan] = []
    kinds: tuple[FusionKind, ...] = ("weighted_sum", "reciprocal_ranks")
    for tried in kinds if kind is None else (kind,):
        of_kind = [FusionPlan(tried, each) for each in (WEIGHTS if weight is None else (weight,))]
        means = [ndcg(joined.rows, fused_scores(joined, plan), clicked) for plan in of_kind]
        plans.append(of_kind[int(np.argmax(means))])
        found[tried] = max(means)
    best = max(plans, key=lambda plan: found[plan.kind])
    return TunedFusion(best, len(clicked), found, given=kind is not None and weight is not None)


def fused_scores(candidates: Candidates, plan: FusionPlan) -> np.ndarray:
    """The score of every candidate as the servable joins it, float32 [n, 2k]; -inf where there is no item."""
    rows, k = candidates.rows, candidates.rows.shape[1] // 2
    if plan.kind == "weighted_sum":
        best = np.maximum(candidates.lexical[:, k : k + 1], 0)
        scores = candidates.lexical / np.where(best > 0, best, 1) + np.float32(plan.dense_weight) * candidates.dense
    else:
        ranks = (1.0 / (FUSION_CONSTANT + 1 + np.arange(k))).astype(np.float32)
        scores = np.broadcast_to(np.concatenate([plan.dense_weight * ranks, ranks]), rows.shape).astype(np.float32)
        for of_query, scored in zip(rows, scores, strict=True):
            _, first, second = np.intersect1d(of_query[:k], of_query[k:], return_indices=True)
            both = scored[first] + scored[k + second]
            scored[first], scored[k + second] = both, both
    return np.where(rows >= 0, scores, -np.inf)


def _candidates(dense: DenseSearcher, lexical: LexicalSearcher, heads: np.ndarray, texts: Sequence[str]) -> Candidates:
    terms = lexical.terms(tf.constant(texts))
    near, matching = dense.search_heads(heads), lexical.search_terms(terms)
    return Candidates(
        tf.concat([near.rows, matching.rows], axis=1).numpy(),
        tf.concat([near.scores, dense.scores_of(heads, matching.rows)], axis=1).numpy(),
        tf.concat([lexical.scores_of(terms, near.rows), tf.maximum(matching.scores, 0.0)], axis=1).numpy(),
    )


def ndcg(rows: np.ndarray, scores: np.ndarray, clicked: np.ndarray) -> float:
    """The mean ``gain`` of the clicked item, 0 where no list has it; half of the items tied with it come before.

    An item that stands twice counts once, with its score in the first list, as ``ops_cc.fusion`` has it.
    """
    is_clicked = rows == clicked[:, np.newaxis]
    held = is_clicked.any(axis=1)
    target = np.take_along_axis(scores, is_clicked.argmax(axis=1)[:, np.newaxis], axis=1)
    total = 0.0
    for of_query, scored, wanted in zip(rows[held], scores[held], target[held], strict=True):
        _, first = np.unique(of_query, return_index=True)
        first = first[of_query[first] >= 0]
        better, tied = np.count_nonzero(scored[first] > wanted), np.count_nonzero(scored[first] == wanted)
        total += float(gain(better + 0.5 * (tied - 1) + 1.0))
    return total / len(rows)
