"""Estimates of one variant and differences of two, with 95 % intervals and p-values for one look at the data."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

Z95 = float(special.ndtri(0.975))


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval; ``None`` ends where there is too little to tell."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference:
    """A difference to the control, its 95 % interval and two-sided p-value; None where there is too little to tell."""

    value: float
    low: float | None
    high: float | None
    p: float | None
    relative: float | None
    """The difference over the control's value; None where that is 0."""


@dataclass(frozen=True)
class Sample:
    """A mean, or a ratio of sums, of independent units."""

    units: int
    value: float
    variance: float
    """Of ``value``: the square of its standard error."""


def mean_of(values: np.ndarray) -> Sample:
    """The mean over units, [units]."""
    variance = float(values.var(ddof=1)) / len(values) if len(values) > 1 else math.nan
    return Sample(len(values), float(values.mean()), variance)


def ratio_of(numerators: np.ndarray, denominators: np.ndarray) -> Sample:
    """The ratio of two sums over units, with the variance of the delta method.

    A ratio whose denominator is finer than the unit (events by request, where a key is the unit) has units, not
    requests, as independent draws: Deng, Knoblich and Lu, "Applying the Delta Method in Metric Analytics", KDD 2018.

    Args:
        numerators: [units].
        denominators: [units], with a positive sum.
    """
    count, ratio = len(numerators), float(numerators.sum() / denominators.sum())
    if count < 2:
        return Sample(count, ratio, math.nan)
    deviations = numerators - ratio * denominators
    variance = float(np.square(deviations).sum()) / (count - 1) / count / float(denominators.mean()) ** 2
    return Sample(count, ratio, variance)


def estimate(sample: Sample) -> Estimate:
    """The normal interval of a mean or ratio."""
    if math.isnan(sample.variance):
        return Estimate(sample.value, None, None)
    half = Z95 * math.sqrt(sample.variance)
    return Estimate(sample.value, sample.value - half, sample.value + half)


def proportion(successes: int, units: int) -> Estimate:
    """A share of units with Wilson's score interval (1927)."""
    return Estimate(successes / units, *_score_interval(successes, units))


def proportion_difference(treated: tuple[int, int], control: tuple[int, int]) -> Difference:
    """The difference of two shares, each given as successes and units.

    The p-value is that of the two-proportion z test with the pooled share, the interval that of Newcombe (1998,
    method 10), which is made of the two score intervals and stays within -1 and 1.
    """
    mine, theirs = treated[0] / treated[1], control[0] / control[1]
    (my_low, my_high), (their_low, their_high) = _score_interval(*treated), _score_interval(*control)
    value = mine - theirs
    low = value - math.hypot(mine - my_low, their_high - theirs)
    high = value + math.hypot(my_high - mine, theirs - their_low)
    error = math.sqrt(pooled_variance(treated, control))
    p = 1.0 if error == 0 else float(2 * special.ndtr(-abs(value) / error))
    return Difference(value, low, high, p, _relative(value, theirs))


def _score_interval(successes: int, units: int) -> tuple[float, float]:
    share, square = successes / units, Z95**2
    centre = (share + square / (2 * units)) / (1 + square / units)
    half = Z95 / (1 + square / units) * math.sqrt(share * (1 - share) / units + square / (4 * units**2))
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == units else centre + half)


def pooled_variance(treated: tuple[int, int], control: tuple[int, int]) -> float:
    """Variance of the difference of two shares if both are draws of one."""
    share = (treated[0] + control[0]) / (treated[1] + control[1])
    return share * (1 - share) * (1 / treated[1] + 1 / control[1])


def mean_difference(treated: Sample, control: Sample) -> Difference:
    """The difference of two means by Welch's t test (1947)."""
    total = treated.variance + control.variance
    if not total > 0:
        return _without_variance(treated, control)
    parts = treated.variance**2 / (treated.units - 1) + control.variance**2 / (control.units - 1)
    freedom = total**2 / parts
    statistic = abs(treated.value - control.value) / math.sqrt(total)
    p = float(2 * special.stdtr(freedom, -statistic))
    return _difference(treated, control, float(special.stdtrit(freedom, 0.975)), p)


def ratio_difference(treated: Sample, control: Sample) -> Difference:
    """The difference of two ratios by the normal approximation."""
    total = treated.variance + control.variance
    if not total > 0:
        return _without_variance(treated, control)
    p = float(2 * special.ndtr(-abs(treated.value - control.value) / math.sqrt(total)))
    return _difference(treated, control, Z95, p)


def _difference(treated: Sample, control: Sample, quantile: float, p: float) -> Difference:
    value = treated.value - control.value
    half = quantile * math.sqrt(treated.variance + control.variance)
    return Difference(value, value - half, value + half, p, _relative(value, control.value))


def _without_variance(treated: Sample, control: Sample) -> Difference:
    value = treated.value - control.value
    return Difference(value, None, None, None, _relative(value, control.value))


def _relative(value: float, control: float) -> float | None:
    return value / control if control else None
