"""Exact search in NumPy: the ground truth of an index's recall."""

from __future__ import annotations

import numpy as np

_SCORES_AT_ONCE = 1 << 25
_TIE = 1e-5
"""Scores closer than this times the lengths of both vectors are equal: float32 sums differ by the order of terms."""


def exact_search(vectors: np.ndarray, heads: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k rows of largest inner product with any head of a query, by scoring every row.

    The best k rows of the maximum over heads are the best k of the union of every head's best k, which is what the
    servable retrieves (paper, section 4.2).

    Args:
        vectors: float32 [items, d].
        heads: float32 [B, m, d]; [B, 1, d] for plain vectors.
        k: rows of each query, at most the number of items.

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


def kth_scores(vectors: np.ndarray, heads: np.ndarray, k: int) -> np.ndarray:
    """The score of the k-th best row of every query, the threshold of ``recall_at_k``.

    Equal to ``exact_search(...)[1][:, -1]``, in one pass over the vectors for all queries, which keeps only the scores
    that may be among the best k.

    Args:
        vectors: float32 [items, d].
        heads: float32 [B, m, d].
        k: at most the number of items.

    Returns:
        float32 [B].
    """
    k = min(k, len(vectors))
    queries, num_heads, dimension = heads.shape
    best = [np.empty(0, np.float32) for _ in range(queries)]
    step = max(1, _SCORES_AT_ONCE // max(1, queries * num_heads))
    flat = heads.reshape(-1, dimension)
    for start in range(0, len(vectors), step):
        scores = (flat @ vectors[start : start + step].T).reshape(queries, num_heads, -1).max(axis=1)
        for i, row in enumerate(scores):
            candidates = row if len(best[i]) < k else row[row > best[i].min()]
            kept = np.concatenate([best[i], candidates])
            best[i] = np.partition(kept, len(kept) - k)[-k:] if len(kept) > k else kept
    return np.array([found.min() for found in best], np.float32)


def recall_at_k(vectors: np.ndarray, heads: np.ndarray, found: np.ndarray, kth: np.ndarray) -> float:
    """The share of the true best k that a search found, counting any of several equal items.

    Items with equal vectors (one title twice) have equal scores, and a search may return either. A row counts as found
    where its exact score reaches that of the k-th best.

    Args:
        vectors: float32 [items, d].
        heads: float32 [B, m, d].
        found: int32 [B, k] rows; negative where a search found fewer. A repeated row counts once.
        kth: float32 [B], the exact score of the k-th best row; see ``kth_scores``.

    Returns:
        recall at k, 0..1, the mean over queries.
    """
    right = 0
    for query, rows, worst in zip(heads, found, kth, strict=True):
        candidates = vectors[np.unique(rows[rows >= 0])]
        scores = (query @ candidates.T).max(axis=0, initial=-np.inf)
        tie = _TIE * np.linalg.norm(candidates, axis=1) * np.linalg.norm(query, axis=1).max()
        right += int(np.count_nonzero(scores >= worst - tie))
    return right / max(found.size, 1)
