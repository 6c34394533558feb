"""Measures of methods on clicks: ranked lists of retrievers, Top-k of scorers.

A retriever may return fewer items than asked for: a clicked item outside its list counts as not retrieved. A method
that is not a retriever lacks the ranked-list measures, one that is not a scorer lacks Top-k; their keys are absent.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from tqdm import tqdm

from dpsr.baselines.examples import QueryExamples
from dpsr.baselines.exhaustive import queries_at_once
from dpsr.baselines.interfaces import Method, Retriever, Scorer
from dpsr.baselines.ranking import best_first, ranks_of_first
from dpsr.evaluation.measures.metrics import CLICKS, RANKED_DEPTH, ranked_values, top_k_values


def measure_all(
    methods: Mapping[str, Method],
    examples: QueryExamples,
    candidates: np.ndarray,
    *,
    counts: np.ndarray,
    bar: tqdm | None = None,
) -> dict[str, dict[str, np.ndarray]]:
    """Applies ``measure`` to several methods, batch by batch, so that mixtures share the scores of their sides.

    Args:
        methods: name -> method.
        examples: n clicks.
        candidates: int32 [n, c], the clicked item first.
        counts: clicks of every item in the train split, int64 [items].
        bar: progress bar, advanced by one for each example and method.

    Returns:
        For each method float64 [n] for each measure.
    """
    size = queries_at_once(len(counts))
    found: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in methods}
    for start in range(0, len(examples), size):
        rows = slice(start, start + size)
        batch = examples.take(rows)
        for name, method in methods.items():
            found[name].append(measure(method, batch, candidates[rows], counts=counts))
            if bar is not None:
                bar.update(len(batch))
    return {name: concatenated(batches) for name, batches in found.items()}


def measure(
    method: Method, examples: QueryExamples, candidates: np.ndarray, *, counts: np.ndarray
) -> dict[str, np.ndarray]:
    """Computes every measure that a method allows, for every example.

    Args:
        method: a retriever, a scorer, or both.
        examples: n clicks.
        candidates: int32 [n, c], the clicked item first.
        counts: clicks of every item in the train split, int64 [items].

    Returns:
        float64 [n] for each measure.

    Raises:
        ValueError: the method returned a NaN score or an item twice.
    """
    values: dict[str, np.ndarray] = {}
    if isinstance(method, Retriever):
        values |= list_values(retrieved(method, examples, min(RANKED_DEPTH, len(counts))), examples, counts)
    if isinstance(method, Scorer):
        values |= top_k_values(candidate_ranks(method, examples, candidates))
    return values


def list_values(items: np.ndarray, examples: QueryExamples, counts: np.ndarray) -> dict[str, np.ndarray]:
    """Computes the measures of ranked lists.

    Args:
        items: the list of every example, best first, int32 [n, w]; -1 stands for no item.
        examples: n clicks.
        counts: clicks of every item in the train split, int64 [items].

    Returns:
        float64 [n] for each measure.
    """
    best = items[:, :10]
    popularity = np.where(best >= 0, counts[best], 0).sum(axis=1) / min(10, len(counts))
    return ranked_values(items, [{item: 1} for item in examples.item_rows.tolist()]) | {CLICKS: popularity}


def candidate_ranks(method: Scorer, examples: QueryExamples, candidates: np.ndarray) -> np.ndarray:
    """Ranks the clicked item, the first candidate of int32 [n, c], among all candidates; int64 [n], from 1.

    Raises:
        ValueError: a score is NaN.
    """
    scores = _numbers(method.score(examples, candidates), method)
    return ranks_of_first(scores, candidates, examples.tie_keys)


def retrieved(method: Retriever, examples: QueryExamples, k: int) -> np.ndarray:
    """Retrieves lists with ties in random order, int32 [n, w], w <= k; -1 stands for no item.

    Raises:
        ValueError: a score is NaN.
    """
    items, scores = method.retrieve(examples, k)
    return best_first(items, _numbers(scores, method), examples.tie_keys)[0]


def concatenated(batches: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Joins the values of batches, measure by measure; empty for no batch."""
    return {key: np.concatenate([values[key] for values in batches]) for key in (batches[0] if batches else {})}


def _numbers(scores: np.ndarray, method: Method) -> np.ndarray:
    if np.isnan(scores).any():
        raise ValueError(f"{type(method).__name__} returned NaN scores, which have no rank; expected numbers")
    return scores
