"""Lists of candidates whose relevant items are known, and how well scores order them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dpsr.baselines.examples import QueryExamples
from dpsr.baselines.ranking import best_first


@dataclass(frozen=True)
class CandidateLists:
    """Candidates of some queries."""

    queries: QueryExamples
    """n queries."""
    items: np.ndarray
    """Item rows int32 [n, c]; -1 fills shorter lists."""
    relevant: np.ndarray
    """Whether an item is relevant, bool [n, c]; at least one of each row is."""


def mean_average_precision(lists: CandidateLists, scores: np.ndarray) -> float:
    """Mean average precision of the lists ordered by scores, float32 [n, c]; ties in the order of ``tie_noise``."""
    places = np.broadcast_to(np.arange(scores.shape[1], dtype=np.int32), scores.shape)
    scores = np.where(lists.items < 0, -np.inf, scores)
    order, _ = best_first(places, scores, lists.queries.tie_keys)
    relevant = np.take_along_axis(lists.relevant, order, axis=1)
    precision = np.cumsum(relevant, axis=1) / np.arange(1, relevant.shape[1] + 1)
    return float(((precision * relevant).sum(axis=1) / relevant.sum(axis=1)).mean())


def candidate_lists(queries: QueryExamples, found: np.ndarray, relevant: Sequence[np.ndarray]) -> CandidateLists:
    """Joins the items that a method found with the relevant ones that it did not.

    Args:
        queries: n queries.
        found: item rows int32 [n, c]; -1 fills shorter lists.
        relevant: relevant items of each query, at least one.
    """
    lists = [
        list(dict.fromkeys([*row[row >= 0].tolist(), *items.tolist()]))
        for row, items in zip(found, relevant, strict=True)
    ]
    items = np.full((len(lists), max(map(len, lists))), -1, np.int32)
    for row, listed in zip(items, lists, strict=True):
        row[: len(listed)] = listed
    return CandidateLists(queries, items, np.stack([np.isin(*pair) for pair in zip(items, relevant, strict=True)]))
