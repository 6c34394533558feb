"""From scores to ranks, with ties that favour nobody.

Items with equal scores are ordered by a noise that depends on the example and the item alone: over the examples every
item of a tie is first equally often, whoever produced the scores, and the same run gives the same order again.
"""

from __future__ import annotations

import numpy as np


def tie_noise(tie_keys: np.ndarray, items: np.ndarray) -> np.ndarray:
    """A uniform hash of (example, item), by the finaliser of SplitMix64.

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
    """Orders lists of items by descending score, ties by noise.

    Args:
        items: int32 [n, c].
        scores: float32 [n, c].
        tie_keys: uint64 [n].

    Returns:
        Items int32 [n, c] and scores float32 [n, c].
    """
    items, scores = np.array(items), np.array(scores)
    # The noise is dear, and lists that come without a tie and in order need none.
    rows = np.flatnonzero(~(scores[:, :-1] > scores[:, 1:]).all(axis=1))
    order = np.lexsort((tie_noise(tie_keys[rows], items[rows]), -scores[rows]), axis=1)
    items[rows] = np.take_along_axis(items[rows], order, axis=1)
    scores[rows] = np.take_along_axis(scores[rows], order, axis=1)
    return items, scores


def top_k(scores: np.ndarray, k: int, tie_keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The k best columns of every row, best first; which items of a tie at the cut stay is decided by noise.

    Args:
        scores: float32 [n, N].
        k: items wanted; at most N are returned.
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
    """The rank of the first column among all columns, ties by noise.

    Args:
        scores: float32 [n, c].
        items: int32 [n, c], the items that the scores belong to.
        tie_keys: uint64 [n].

    Returns:
        int64 [n], from 1.
    """
    noise = tie_noise(tie_keys, items)
    tied_before = (scores == scores[:, :1]) & (noise < noise[:, :1])
    return 1 + (scores > scores[:, :1]).sum(axis=1) + tied_before.sum(axis=1)


def _top_k_of_row(scores: np.ndarray, k: int, tie_key: np.ndarray) -> np.ndarray:
    cut = np.partition(scores, -k)[-k]
    above = np.flatnonzero(scores > cut)
    tied = np.flatnonzero(scores == cut)
    chosen = tied[np.argsort(tie_noise(tie_key, tied[None])[0])[: k - len(above)]]
    return np.concatenate([above, chosen]).astype(np.int32)
