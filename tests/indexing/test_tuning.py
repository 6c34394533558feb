from __future__ import annotations

import numpy as np
import pytest

from dpsr.indexing.dense import tuning
from dpsr.indexing.dense.exact import exact_search
from dpsr.indexing.dense.tuning import SearchPlan, Tuned, first_plan, num_leaves, tune

from .vectors import clustered_vectors

ITEMS, K = 400, 20
VECTORS = clustered_vectors(ITEMS, seed=1)
QUERIES = clustered_vectors(30, seed=2)


class Clock:
    """Stands for the module ``time``: only searches pass it."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


CLOCK = Clock()


@pytest.fixture(autouse=True)
def _searches_take_the_time_of_their_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "time", CLOCK)


class Searcher:
    """Exact search that forgets all but a share of its results, and takes a time that its plan decides."""

    def __init__(self, recall, seconds) -> None:
        self._recall, self._seconds = recall, seconds
        self.plans: list[SearchPlan] = []

    def __call__(self, batch: np.ndarray, plan: SearchPlan) -> tuple[np.ndarray, np.ndarray]:
        self.plans.append(plan)
        CLOCK.now += self._seconds(plan)
        rows, scores = exact_search(VECTORS, batch[:, np.newaxis], K)
        found = np.arange(K) < round(K * self._recall(plan))
        return np.where(found, rows, 0), np.where(found, scores, np.nan)

    def tune(self, kind: str, target: float) -> Tuned:
        return tune(self, first_plan(kind, ITEMS, K), VECTORS, QUERIES, K, target)


@pytest.mark.parametrize("threshold", [2, 9, 40])
def test_the_fewest_leaves_that_reach_the_target_are_taken(threshold: int) -> None:
    searcher = Searcher(lambda plan: plan.leaves_to_search >= threshold, lambda plan: 2e-5 * plan.leaves_to_search)
    tuned = searcher.tune("tree", 0.95)
    tried = {plan.leaves_to_search for plan in searcher.plans}
    assert tuned.plan.leaves_to_search == min(leaves for leaves in tried if leaves >= threshold)
    assert tuned.plan.leaves_to_search <= 1.25 * threshold
    assert tuned.recall == 1.0


def test_more_candidates_are_taken_where_they_save_more_leaves_than_they_cost() -> None:
    """40 candidates reach the target with a leaf, fewer need nearly all leaves, which take ten times as long."""
    searcher = Searcher(
        lambda plan: plan.reorder >= 200 or plan.leaves_to_search >= 38,
        lambda plan: 1e-4 * plan.leaves_to_search,
    )
    tuned = searcher.tune("tree", 0.95)
    assert tuned.plan.reorder >= 200
    assert tuned.plan.leaves_to_search == 1


def test_the_fewest_candidates_that_reach_the_target_are_taken() -> None:
    searcher = Searcher(lambda plan: plan.reorder / ITEMS, lambda plan: 0)
    tuned = searcher.tune("hashed", 0.7)
    assert tuned.plan == SearchPlan("hashed", 300)
    assert tuned.recall == pytest.approx(0.75, abs=0.03)


def test_out_of_reach_the_highest_recall_is_taken() -> None:
    searcher = Searcher(lambda plan: 0.5 + plan.reorder / 1000, lambda plan: 0)
    tuned = searcher.tune("tree", 0.99)
    assert tuned.plan == SearchPlan("tree", ITEMS, num_leaves(ITEMS), num_leaves(ITEMS))
    assert tuned.recall == pytest.approx(0.9, abs=0.03)


def test_what_was_measured_is_described() -> None:
    tuned = Searcher(lambda plan: 1, lambda plan: 1e-3).tune("exact", 0.95)
    assert tuned.describe().keys() == {"kind", "recall_when_tuned", "latency_ms"}
    assert tuned.latency_ms == pytest.approx(1.0)


def test_without_queries_nothing_is_measured() -> None:
    first = first_plan("exact", ITEMS, K)
    assert tune(Searcher(lambda plan: 1, lambda plan: 0), first, VECTORS, QUERIES[:0], K, 0.9) == Tuned(first)
