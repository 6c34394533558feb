"""Agreement of judges."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from dpsr.data.judgements.records import GRADES, Judgement


def krippendorff_alpha(judgements: Iterable[Judgement]) -> float | None:
    """Computes Krippendorff's alpha with the ordinal metric (Krippendorff, 2011, "Computing Krippendorff's
    Alpha-Reliability") for any number of judges, each of whom may have judged some of the pairs.

    Args:
        judgements: a unit is a pair in a book; those without a grade are missing values.

    Returns:
        1 for perfect agreement, 0 for that of chance, below 0 for systematic disagreement; None where no pair has two
        judges, or where all grades of such pairs are the same, for which alpha is not defined.
    """
    units: dict[tuple[str, str, str], dict[str, int]] = {}
    for each in judgements:
        if each.grade is not None:
            units.setdefault((each.book, each.query, each.item_id), {})[each.judge] = each.grade
    counts = np.array(
        [np.bincount(list(unit.values()), minlength=len(GRADES)) for unit in units.values() if len(unit) > 1],
        dtype=np.float64,
    ).reshape(-1, len(GRADES))
    return alpha_of_counts(counts)


def alpha_of_counts(counts: np.ndarray) -> float | None:
    """Computes ordinal alpha from how often each unit has each value.

    Args:
        counts: float64 [units, values], values in their order; every unit has at least two.

    Returns:
        As ``krippendorff_alpha``.
    """
    # The matrix of coincidences: each pair of values within a unit, weighted by 1 / (values of the unit - 1).
    pairs = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(counts.shape[1])
    observed = (pairs / (counts.sum(axis=1) - 1)[:, None, None]).sum(axis=0)
    totals = observed.sum(axis=0)
    middles = np.cumsum(totals) - totals / 2
    distances = np.square(middles[:, None] - middles[None, :])
    expected = (np.outer(totals, totals) * distances).sum()
    if not expected:
        return None
    return float(1.0 - (totals.sum() - 1) * (observed * distances).sum() / expected)
