"""Sample ratio mismatch: whether the units of the variants are as many as the configured shares let expect."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from scipy import special

from dpsr.evaluation.experiments.errors import ExperimentError

MISMATCH_P = 0.001
"""Below this p-value no difference is to be trusted (Fabijan et al., "Diagnosing Sample Ratio Mismatch", KDD 2019)."""


@dataclass(frozen=True)
class SampleRatio:
    """The chi-square test of the units against the shares."""

    units: dict[str, int]
    expected: dict[str, float]
    """Units by variant."""
    chi_square: float | None
    """None where a variant without a share has units."""
    p: float
    mismatch: bool


def normalised(alias: str, shares: Mapping[str, float]) -> dict[str, float]:
    """Shares that sum to 1.

    Raises:
        ExperimentError: a weight is not a positive number, or there is only one.
    """
    for name, weight in shares.items():
        if not (math.isfinite(weight) and weight > 0):
            raise ExperimentError(f"share of {name} of alias {alias} is {weight}; give a positive number")
    if len(shares) < 2:
        raise ExperimentError(
            f"alias {alias} has one variant, {', '.join(shares) or 'or none'}; give the shares that it had during the "
            "experiment"
        )
    total = sum(shares.values())
    return {name: weight / total for name, weight in shares.items()}


def check_sample_ratio(units: Mapping[str, int], shares: Mapping[str, float]) -> SampleRatio:
    """Tests the units of the variants.

    Args:
        units: variant -> units, those that saw two variants left out.
        shares: variant -> share; the shares sum to 1.
    """
    total = sum(units.values())
    expected = {name: share * total for name, share in shares.items()}
    if set(units) - set(shares):
        return SampleRatio(dict(units), expected, None, 0.0, True)
    square = sum((units.get(name, 0) - count) ** 2 / count for name, count in expected.items())
    p = float(special.chdtrc(len(shares) - 1, square))
    return SampleRatio(dict(units), expected, square, p, p < MISMATCH_P)
