"""Vectors of words: what looks them up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

WordLookup = Callable[[Sequence[str]], np.ndarray]
"""Words -> vectors, float32 [n, d]; zeros for a word without one."""


def table_lookup(ids: Mapping[str, int], vectors: np.ndarray) -> WordLookup:
    """Looks words up in a table, float32 [words, d], by their rows."""

    def lookup(words: Sequence[str]) -> np.ndarray:
        rows = np.array([ids.get(word, -1) for word in words], np.int64)
        return np.where(rows[:, None] >= 0, vectors[rows], np.float32(0))

    return lookup
