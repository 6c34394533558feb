"""The choice of a fusion by the clicks of the valid split: its kind, its weight, and whether it helps at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from dpsr.indexing.fusion import FusionKind, FusionPlan
from dpsr.indexing.fusion_candidates import Candidates
from dpsr.indexing.query_weight_fitting import fit_query_weight

WEIGHTS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 5.0, 7.0, 10.0, 20.0, 50.0, 100.0)
"""Of the dense side. At either end one of the two sides only orders what the other leaves tied, or nearly so."""
UNTUNED = FusionPlan("weighted_sum", 1.0)
"""Where no click can choose."""
AUTO: Literal["auto"] = "auto"
"""A weight for each query."""
LEAST_QUERIES = 30
"""Distinct queries below which no weight for each query is fitted."""
WORTH_A_SEARCHER = 0.02
"""Gain in mean nDCG that clicks have to rule out before a side is left out by default: a few clicks leave it in."""
_NOISE = 0.05
"""Share of bootstrap samples on either side of what counts as noise."""
_DRAWS = 2000


class Tried(NamedTuple):
    """What a weight for each query was worth in mean nDCG."""

    by_query: float
    """Of clicks that its factor was not fitted on."""
    constant: float
    """Of the best plan with one weight."""
    used: bool


@dataclass(frozen=True)
class TunedFusion:
    """A plan, and the mean nDCG of the lists that it was chosen by; see ``valid_clicks.gain``."""

    plan: FusionPlan
    clicks: int
    """Examples it was chosen on; 0: none, and the plan is what stands for no choice."""
    ndcg: dict[str, float]
    """Of ``dense`` and ``lexical`` alone, of the best plan of each kind, and of the weight ``by_query`` where used."""
    mode: str = "hybrid"
    """What answers by default: ``hybrid``, or the side alone that the other one adds nothing to beyond noise."""
    tried: Tried | None = None
    """Of the weight for each query; None where none was fitted."""
    made_queries: bool = False
    """Whether the examples are words of items in place of clicks."""

    @classmethod
    def described(cls, entry: Mapping[str, Any]) -> TunedFusion:
        """The inverse of ``describe``."""
        tried = Tried(**entry["tried"]) if "tried" in entry else None
        plan, made_queries = FusionPlan.described(entry), entry.get("made_queries", False)
        return cls(plan, entry["clicks"], dict(entry["ndcg"]), entry["mode"], tried, made_queries)

    def describe(self) -> dict[str, Any]:
        """For the manifest."""
        tried = {} if self.tried is None else {"tried": self.tried._asdict()}
        return {**self.plan.describe(), "mode": self.mode, "clicks": self.clicks, "ndcg": self.ndcg, **tried} | (
            {"made_queries": True} if self.made_queries else {}
        )

    def notes(self) -> list[str]:
        """Lines for the terminal: what was tried, and what does not answer by default."""
        lines = []
        if self.made_queries:
            lines.append(
                f"fusion: no clicks; {self.clicks:,} queries made of words of items bear out {self.plan.kind} with "
                f"dense_weight = {self.plan.dense_weight:g}"
            )
        if self.tried is not None:
            figures = f"nDCG {self.tried.by_query:.4f} of held-out clicks, {self.tried.constant:.4f} by one weight"
            if self.tried.used:
                lines.append(f"fusion: each query has its own weight of the dense list ({figures})")
            else:
                lines.append(
                    f"fusion: a weight for each query is not ahead beyond noise ({figures}); all queries have "
                    f"{self.plan.kind} with dense_weight = {self.plan.dense_weight:g}"
                )
        if self.mode != "hybrid":
            other = "words" if self.mode == "dense" else "vectors"
            joined = max(value for name, value in self.ndcg.items() if name not in ("dense", "lexical"))
            lines.append(
                f"fusion: {other} bring nothing beyond noise (nDCG {joined:.4f} joined, {self.ndcg[self.mode]:.4f} by "
                f"mode {self.mode} alone); mode {self.mode} answers by default, and a request may ask for another"
            )
        return lines


def tune_fusion(
    candidates: Candidates,
    texts: Sequence[str],
    clicked: np.ndarray,
    *,
    kind: FusionKind | None = None,
    weight: float | Literal["auto"] | None = None,
) -> TunedFusion:
    """Chooses the plan with the best mean nDCG of the clicked item; the first of equals.

    Args:
        candidates: of n queries; n > 0.
        texts: the queries, [n].
        clicked: int32 [n], the item row that each led to.
        kind: the only one that is tried; None for both.
        weight: the only one that is tried; None for ``WEIGHTS``; ``auto`` fits one for each query beside these, which
            is used where it is ahead on held-out queries.
    """
    _, queries = np.unique(np.array(texts, object), return_inverse=True)
    kinds: tuple[FusionKind, ...] = ("weighted_sum", "reciprocal_ranks") if kind is None else (kind,)
    weights = WEIGHTS if weight is None or weight == AUTO else (weight,)
    constants = [FusionPlan(tried, each) for tried in kinds for each in weights]
    of_plans = {plan: candidates.gains(plan, clicked) for plan in constants}
    plan = max(constants, key=lambda plan: of_plans[plan].mean())
    sides, joined, tried = candidates.gains_of_sides(clicked), of_plans[plan], None
    found = {side: of_side.mean() for side, of_side in sides.items()}
    found |= {kind: max(of_plans[plan].mean() for plan in constants if plan.kind == kind) for kind in kinds}
    if weight == AUTO and queries.max() + 1 >= LEAST_QUERIES:
        held_out = _held_out(candidates, clicked, queries)
        used = gain_within(held_out, joined, queries)[0] > 0.0
        tried = Tried(float(held_out.mean()), float(joined.mean()), used)
        if used:
            plan = _by_query(candidates, clicked)
            joined = candidates.gains(plan, clicked)
            found["by_query"] = joined.mean()
    is_given = kind is not None and weight is not None and weight != AUTO
    mode = "hybrid" if is_given else _default_mode(joined, sides, queries)
    return TunedFusion(plan, len(clicked), {name: float(mean) for name, mean in found.items()}, mode, tried)


def tune_by_made_queries(
    candidates: Candidates, texts: Sequence[str], clicked: np.ndarray, *, kind: FusionKind | None
) -> TunedFusion:
    """Chooses a weight without clicks: at most the one of ``UNTUNED``, less where made queries do not bear that out.

    The model learnt from queries that were made in the same way, so they flatter the dense side: what they say against
    it holds all the more for queries of people, and what they say for it does not count.

    Args:
        candidates: of n queries; n > 0.
        texts: the queries, words of an item each.
        clicked: int32 [n], its row.
        kind: of the fusion; None for that of ``UNTUNED``.
    """
    kind = kind or UNTUNED.kind
    _, queries = np.unique(np.array(texts, object), return_inverse=True)
    plans = [FusionPlan(kind, weight) for weight in WEIGHTS]
    of_plans = {plan: candidates.gains(plan, clicked) for plan in plans}
    best = max(plans, key=lambda plan: of_plans[plan].mean())
    level = next(plan for plan in plans if gain_within(of_plans[best], of_plans[plan], queries)[0] <= 0.0)
    plan = min(level, FusionPlan(kind, UNTUNED.dense_weight), key=lambda plan: plan.dense_weight)
    sides = candidates.gains_of_sides(clicked)
    mode = _default_mode(of_plans[plan], {"lexical": sides["lexical"]}, queries)
    found = {side: float(of_side.mean()) for side, of_side in sides.items()}
    found[kind] = float(of_plans[plan].mean())
    return TunedFusion(plan, len(clicked), found, mode, made_queries=True)


def _by_query(candidates: Candidates, clicked: np.ndarray) -> FusionPlan:
    """The weighted sum with a weight for each query, fitted on all clicks."""
    factor = fit_query_weight(candidates, clicked, np.ones(len(clicked), bool))
    plans = [FusionPlan("weighted_sum", weight, factor) for weight in WEIGHTS]
    return max(plans, key=lambda plan: candidates.gains(plan, clicked).mean())


def _held_out(candidates: Candidates, clicked: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Gains of each click by a weight for each query, whose factor the half of the queries without it was fitted on.

    The weight of the mean query is chosen on all clicks, as the one weight is that these gains are compared with.

    Args:
        candidates: of n queries.
        clicked: int32 [n].
        queries: int [n], equal for equal texts.

    Returns:
        float64 [n].
    """
    half = np.random.default_rng(1).permutation(queries.max() + 1)[queries] % 2
    factors = [fit_query_weight(candidates, clicked, half != left_out) for left_out in (0, 1)]
    by_weight = []
    for weight in WEIGHTS:
        of_halves = [candidates.gains(FusionPlan("weighted_sum", weight, factor), clicked) for factor in factors]
        by_weight.append(np.where(half == 0, *of_halves))
    return max(by_weight, key=np.mean)


def _default_mode(joined: np.ndarray, sides: Mapping[str, np.ndarray], queries: np.ndarray) -> str:
    """``hybrid``, or the better side where the other one adds nothing; gains float64 [n] of each click."""
    best = max(sides, key=lambda side: sides[side].mean())
    least, most = gain_within(joined, sides[best], queries)
    adds_nothing = least <= 0.0 and most < WORTH_A_SEARCHER
    return best if adds_nothing or joined.mean() <= sides[best].mean() else "hybrid"


def gain_within(gains: np.ndarray, others: np.ndarray, queries: np.ndarray) -> tuple[float, float]:
    """The 90 % interval of the mean difference of two lists, by a paired bootstrap over queries.

    Args:
        gains: float64 [n], of the one.
        others: float64 [n], of the other.
        queries: int [n], 0..q - 1; the clicks of a query are drawn together.
    """
    differences, clicks = np.bincount(queries, gains - others), np.bincount(queries)
    count = len(clicks)
    drawn = np.random.default_rng(1).multinomial(count, np.full(count, 1.0 / count), _DRAWS)
    least, most = np.quantile((drawn @ differences) / (drawn @ clicks), [_NOISE, 1.0 - _NOISE])
    return float(least), float(most)
