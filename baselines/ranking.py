"""Ranks from scores, with ties in random but reproducible order.

Items with equal scores are ordered by a hash of (example, item): over the examples every item of a tie is first equally
often, for every method alike, and a repeated run has the same order.
"""

from __future__ import annotations

import numpy as np


def tie_noise(tie_keys: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Computes a uniform hash of (example, item), the finaliser of SplitMix64.

    Args:
        tie_keys: uint64 [n].
        items: integers [n, c].

    Returns:
        uint64 [n, c].
    """
    x = tie_keys[:, None] + items.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def best_first(items: np.ndarray, scores: np.ndarray, tie_keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorts lists of items by descending score, ties by ``tie_noise``.

    Args:
        items: int32 [n, c].
        scores: float32 [n, c].
        tie_keys: uint64 [n].

    Returns:
        Items int32 [n, c] and scores float32 [n, c].
    """
    items, scores = np.array(items), np.array(scores)
    rows = np.flatnonzero(~(scores[:, :-1] >= scores[:, 1:]).all(axis=1))
    order = np.argsort(-scores[rows], axis=1)
    items[rows] = np.take_along_axis(items[rows], order, axis=1)
    scores[rows] = np.take_along_axis(scores[rows], order, axis=1)
    # Equal scores stand side by side now. A list is sorted by the number of its tie and, within, by the hash.
    tied = scores[:, 1:] == scores[:, :-1]
    rows = np.flatnonzero(tied.any(axis=1))
    ties = np.zeros((len(rows), scores.shape[1]), np.uint64)
    np.cumsum(~tied[rows], axis=1, out=ties[:, 1:])
    bits = np.uint64(scores.shape[1].bit_length())
    keys = (ties << (np.uint64(64) - bits)) | (tie_noise(tie_keys[rows], items[rows]) >> bits)
    items[rows] = np.take_along_axis(items[rows], np.argsort(keys, axis=1), axis=1)
    return items, scores


def top_k(scores: np.ndarray, k: int, tie_keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Selects the k best columns of every row, best first; ``tie_noise`` decides a tie at the cut.

    Args:
        scores: float32 [n, N].
        k: columns selected, N at most.
        tie_keys: uint64 [n].

    Returns:
        Columns int32 [n, min(k, N)] and scores float32 [n, min(k, N)].
    """
    if k >= scores.shape[1]:
        items = np.broadcast_to(np.arange(scores.shape[1], dtype=np.int32), scores.shape)
    else:
        items = np.stack([_top_k_of_row(row, k, tie_keys[i : i + 1]) for i, row in enumerate(scores)])
    scores = np.take_along_axis(scores, items, axis=1)
    order = np.argsort(-scores, axis=1)
    return best_first(np.take_along_axis(items, order, axis=1), np.take_along_axis(scores, order, axis=1), tie_keys)


def ranks_of_first(scores: np.ndarray, items: np.ndarray, tie_keys: np.ndarray) -> np.ndarray:
    """Computes the rank of the first column among all columns, ties by ``tie_noise``.

    Args:
        scores: float32 [n, c].
        items: the scored items, int32 [n, c].
        tie_keys: uint64 [n].

    Returns:
        Ranks from 1, int64 [n].
    """
    noise = tie_noise(tie_keys, items)
    tied_before = (scores == scores[:, :1]) & (noise < noise[:, :1])
    return 1 + (scores > scores[:, :1]).sum(axis=1) + tied_before.sum(axis=1)


def _top_k_of_row(scores: np.ndarray, k: int, tie_key: np.ndarray) -> np.ndarray:
    cut = np.partition(scores, -k)[-k]
    above = np.flatnonzero(scores > cut)
    tied = np.flatnonzero(scores == cut)
    if (missing := k - len(above)) < len(tied):
        tied = tied[np.argpartition(tie_noise(tie_key, tied[None])[0], missing - 1)[:missing]]
    return np.concatenate([above, tied]).astype(np.int32)
