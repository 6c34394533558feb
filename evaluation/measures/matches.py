"""Kinds of matches among the best items: exact, substitute or other (Muhamed et al., 2023, section 4)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DEPTH = 100
EXACT, SUBSTITUTE, EITHER, OTHER = f"E@{DEPTH}", f"S@{DEPTH}", f"E+S@{DEPTH}", f"O@{DEPTH}"
MATCH_MEASURES = (EXACT, SUBSTITUTE, EITHER, OTHER)
"""Shares of the best items: exact, substitute, one of both, other; the last is 1 minus the one before."""


def match_shares(
    ranked: np.ndarray, items: Sequence[np.ndarray], labels: Sequence[np.ndarray], thresholds: tuple[float, float]
) -> dict[str, np.ndarray]:
    """Computes ``MATCH_MEASURES`` of every list; items without a judgement are other matches.

    Args:
        ranked: int32 [n, k], items best first, k at least 1; of more than ``DEPTH`` the first are read, and of fewer
            the shares are of these.
        items: for each list its judged items, int32 [judged].
        labels: their labels, float64 [judged].
        thresholds: lowest label of an exact and of a substitute match.

    Returns:
        float64 [n] for each measure.
    """
    best = ranked[:, :DEPTH]
    exact, substitute = thresholds

    def share(row: int, wanted: np.ndarray) -> float:
        return float(np.isin(best[row], items[row][wanted]).mean())

    exacts = np.array([share(row, each >= exact) for row, each in enumerate(labels)])
    either = np.array([share(row, each >= substitute) for row, each in enumerate(labels)])
    return {EXACT: exacts, SUBSTITUTE: either - exacts, EITHER: either, OTHER: 1.0 - either}
