"""Exact search in NumPy: the truth that an index is measured against."""

from __future__ import annotations

import numpy as np

_TIE = 1e-5
"""Scores closer than this are the same up to the rounding of float32 sums in a different order."""


def exact_search(vectors: np.ndarray, heads: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k rows of largest inner product with any head of a query, by scoring every row.

    The best k rows of the maximum over heads are the best k of the union of every head's best k, which is what the
    servable retrieves (paper, section 4.2).

    Args:
        vectors: float32 [items, d].
        heads: float32 [B, m, d]; [B, 1, d] for plain vectors.
        k: rows wanted for each query; at most the number of items are returned.

    Returns:
        rows int32 and scores float32, both [B, min(k, items)], best first; ties by lower row.
    """
    k = min(k, len(vectors))
    rows = np.empty((len(heads), k), np.int32)
    best = np.empty((len(heads), k), np.float32)
    for i, query in enumerate(heads):
        scores = np.asarray((query @ vectors.T).max(axis=0), np.float32)
        kth = np.partition(scores, len(scores) - k)[len(scores) - k]
        candidates = np.flatnonzero(scores >= kth)
        rows[i] = candidates[np.argsort(-scores[candidates], kind="stable")[:k]]
        best[i] = scores[rows[i]]
    return rows, best


def recall_at_k(vectors: np.ndarray, heads: np.ndarray, found: np.ndarray, kth_scores: np.ndarray) -> float:
    """The share of the true best k that a search found, where any of several equal items is right.

    A catalogue has items with equal vectors (the same title twice); which of them a search returns is chance. So a row
    counts as found when its exact score reaches that of the k-th best.

    Args:
        vectors: float32 [items, d].
        heads: float32 [B, m, d].
        found: int32 [B, k] rows; negative where a search found fewer. A row given twice counts once.
        kth_scores: float32 [B], the exact score of the k-th best row.

    Returns:
        recall at k, 0..1, the mean over queries.
    """
    right = 0
    for query, rows, kth in zip(heads, found, kth_scores, strict=True):
        distinct = np.unique(rows[rows >= 0])
        scores = (query @ vectors[distinct].T).max(axis=0, initial=-np.inf)
        right += int(np.count_nonzero(scores >= kth - _TIE))
    return right / max(found.size, 1)
