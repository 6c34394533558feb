"""Bad cases of a generated shop, by the grades that its generator knows; and how two versions differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from dpsr.evaluation.bad_cases import DEPTH
from dpsr.evaluation.measures.intervals import Interval, bootstrap_means, interval

CASES = 30
LEAST_FIXED = 0.8
"""Share of reported cases that the next version has to answer right."""
Grades = Mapping[str, Mapping[str, int]]
"""Query -> item -> grade above 0."""


class TrueCase(NamedTuple):
    """A wrong answer, as the shop was generated."""

    query: str
    kind: Literal["wrong item", "missing item"]
    item_id: str


def true_grades(shop: Path) -> Grades:
    """The grades of a folder that ``dpsr.data.demo_shop.shop.generate`` wrote."""
    grades: dict[str, dict[str, int]] = {}
    for row in pq.read_table(shop / "relevance.parquet").to_pylist():
        grades.setdefault(row["query"], {})[row["item_id"]] = row["grade"]
    return grades


def true_cases(lists: Mapping[str, Sequence[str]], grades: Grades, count: int) -> list[TrueCase]:
    """Draws bad cases.

    Args:
        lists: query -> item ids, best first.
        grades: of these queries.
        count: of the cases: half of them items of another category among the best, half of them perfect items that are
            not there, at most one of a kind for each query.
    """
    random = np.random.default_rng(1)
    wrong, missing = [], []
    for query, found in lists.items():
        best = found[:DEPTH]
        perfect = [item for item, grade in grades[query].items() if grade == 3]
        wrong += [TrueCase(query, "wrong item", item) for item in best if item not in grades[query]][:1]
        if len(perfect) <= DEPTH:
            missing += [TrueCase(query, "missing item", item) for item in perfect if item not in best][:1]
    return [some[place] for some in (wrong, missing) for place in random.permutation(len(some))[: count // 2]]


def difference(after: np.ndarray, before: np.ndarray, queries: np.ndarray) -> Interval:
    """Mean difference and its 95 % interval by a paired bootstrap over queries."""
    samples = bootstrap_means(np.stack([after, before], axis=1), queries, seed=1)
    assert samples is not None
    return interval(float((after - before).mean()), samples[:, 0] - samples[:, 1])
