"""Search parameters by measurement: the least latency among those that reach the target recall."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np

from dpsr.indexing.dense.exact import kth_scores, recall_at_k
from dpsr.ops_cc.head_merge import NO_ROW

Kind = Literal["exact", "hashed", "tree"]
Search = Callable[[np.ndarray, "SearchPlan"], tuple[np.ndarray, np.ndarray]]
"""Vectors float32 [Q, d] and a plan -> rows int32 and scores [Q, <= k]; not finite where no row was found."""

_SMALLEST_REORDER = 100
_REORDER_FACTORS = (1.25, 1.5, 2, 3, 4, 8, 16)
_LEAF_STEP = 1.25
"""Ratio of neighbouring numbers of leaves that are tried."""
_MOST_LEAVES = 2500
"""Building compares every item with every leaf: more leaves build longer, and search no faster."""
_TIMED_SEARCHES = 50
_CLEARLY_SLOWER = 1.2
_TUNING_VECTORS = 256
_MOST_COMPARISONS = 1 << 30
"""Inner products of the exact search: a larger catalogue is tuned on fewer query vectors."""
_FEWEST_VECTORS = 64


@dataclass(frozen=True)
class SearchPlan:
    """Kind and search parameters of an index; -1 where the kind has no such parameter."""

    kind: Kind
    reorder: int = -1
    """Candidates scored again with the vectors themselves; larger than k."""
    num_leaves: int = -1
    leaves_to_search: int = -1


@dataclass(frozen=True)
class Tuned:
    """A plan and its measurements; None where there were no queries to measure with."""

    plan: SearchPlan
    recall: float | None = None
    latency_ms: float | None = None
    """Median of single searches, one after the other."""

    def describe(self) -> dict[str, Any]:
        """For manifests."""
        chosen = {key: value for key, value in asdict(self.plan).items() if value != -1}
        return {**chosen, "recall_when_tuned": self.recall, "latency_ms": self.latency_ms}

    @classmethod
    def described(cls, described: Mapping[str, Any]) -> Tuned:
        """The inverse of ``describe``; other entries are passed over."""
        plan = {field.name: described[field.name] for field in fields(SearchPlan) if field.name in described}
        return cls(SearchPlan(**plan), described["recall_when_tuned"], described["latency_ms"])


def num_leaves(items: int) -> int:
    """Leaves of a tree over this number of items."""
    return max(2, min(int(2 * items**0.5), _MOST_LEAVES))


def first_plan(kind: Kind, items: int, k: int) -> SearchPlan:
    """The plan that a searcher is built with; it runs every other plan of its kind."""
    if kind == "exact":
        return SearchPlan("exact")
    leaves = num_leaves(items) if kind == "tree" else -1
    return SearchPlan(kind, _reorders(items, k)[0], leaves, leaves)


def tune(search: Search, first: SearchPlan, vectors: np.ndarray, queries: np.ndarray, k: int, target: float) -> Tuned:
    """The plan of the least latency among those that reach the target recall.

    Recall grows with the leaves searched and with the candidates scored again. For each number of candidates, bisection
    finds the fewest leaves that reach the target; only these plans are timed.

    Args:
        search: runs a plan.
        first: of ``first_plan``.
        vectors: float32 [items, d].
        queries: float32 [Q, d]; at most 256 are used, fewer for large catalogues.
        k: rows of a search.
        target: recall at k.

    Returns:
        The choice. Where no plan reaches the target, the one of the highest recall.
    """
    if len(queries) == 0:
        return Tuned(first)
    most = min(_TUNING_VECTORS, max(_FEWEST_VECTORS, _MOST_COMPARISONS // len(vectors)))
    queries = queries[:: -(-len(queries) // most)]
    recall_of = _recall_function(search, vectors, queries, k)
    best, best_rank = Tuned(first), (-1.0, 0.0)
    for plans in _sweeps(first, len(vectors), k):
        plan, recall = _first_to_reach(plans, recall_of, target)
        latency = _latency_ms(search, plan, queries)
        rank = (min(recall, target), -latency)
        if rank > best_rank:
            best, best_rank = Tuned(plan, recall, latency), rank
        elif recall >= target and latency > _CLEARLY_SLOWER * -best_rank[1]:
            break  # more candidates are slower still
    return best


def _reorders(items: int, k: int) -> list[int]:
    most = max(items, k + 1)
    return sorted({max(k + 1, min(int(factor * max(k, _SMALLEST_REORDER)), most)) for factor in _REORDER_FACTORS})


def _sweeps(first: SearchPlan, items: int, k: int) -> Iterator[list[SearchPlan]]:
    """Lists of plans by growing recall and cost."""
    if first.kind == "exact":
        yield [first]
    elif first.kind == "hashed":
        yield [SearchPlan("hashed", reorder) for reorder in _reorders(items, k)]
    else:
        steps = range(int(np.log(first.num_leaves) / np.log(_LEAF_STEP)) + 1)
        leaves = sorted({first.num_leaves, *(int(_LEAF_STEP**step) for step in steps)})
        for reorder in _reorders(items, k):
            yield [SearchPlan("tree", reorder, first.num_leaves, number) for number in leaves]


def _first_to_reach(
    plans: list[SearchPlan], recall_of: Callable[[SearchPlan], float], target: float
) -> tuple[SearchPlan, float]:
    """The first plan that reaches the target, the last one where none does.

    Steps that double bound the reach, then bisection: the plans of high cost are measured only where needed.
    """
    low, high, step = 0, 0, 1
    reached = recall_of(plans[high])
    while reached < target and high < len(plans) - 1:
        low, high, step = high + 1, min(high + step, len(plans) - 1), 2 * step
        reached = recall_of(plans[high])
    while low < high and reached >= target:
        middle = (low + high) // 2
        recall = recall_of(plans[middle])
        if recall >= target:
            high, reached = middle, recall
        else:
            low = middle + 1
    return plans[high], reached


def _recall_function(search: Search, vectors: np.ndarray, queries: np.ndarray, k: int) -> Callable[[SearchPlan], float]:
    heads = queries[:, np.newaxis]
    kth = kth_scores(vectors, heads, k)

    def recall_of(plan: SearchPlan) -> float:
        rows, scores = search(queries, plan)
        found = np.where(np.isfinite(scores), rows, NO_ROW)
        # Columns that no list filled count as not found.
        found = np.pad(found, [(0, 0), (0, k - found.shape[1])], constant_values=NO_ROW)
        return recall_at_k(vectors, heads, found, kth)

    return recall_of


def _latency_ms(search: Search, plan: SearchPlan, queries: np.ndarray) -> float:
    seconds = []
    for number in range(_TIMED_SEARCHES):
        query = queries[number % len(queries)][np.newaxis]
        start = time.perf_counter()
        search(query, plan)
        seconds.append(time.perf_counter() - start)
    return round(1e3 * statistics.median(seconds), 4)
