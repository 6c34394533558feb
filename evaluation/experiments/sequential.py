"""A test that stays valid however often one looks: asymptotic confidence sequence of a difference of two means.

With n units of both variants, the estimated difference d and its variance V, let s^2 = n V. The confidence sequence
of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform central limit theory and asymptotic confidence
sequences", Annals of Statistics 52 (2024), Theorem 2.2, equation 8, at level a is

    d +- s sqrt(2 (n r^2 + 1) / (n^2 r^2) log(sqrt(n r^2 + 1) / a)).

It covers the truth at all n at once with probability 1 - a, for large n. The p-value is the least a whose interval
leaves out 0, so the reciprocal of the mixture likelihood ratio

    L = (1 + n r^2)^(-1/2) exp(n^2 r^2 d^2 / (2 s^2 (1 + n r^2))),

which is the mixture SPRT of Robbins with a normal mixture of variance r^2 s^2 over the difference, as in Johari,
Pekelis and Walsh, "Always Valid Inference: Bringing Sequential Analysis to A/B Testing" (2015).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.optimize import brentq

LEVEL = 0.05
"""Of all comparisons of an experiment together."""
TUNED_UNITS = 20_000
"""Units of both variants at which the sequence is narrowest. A constant: a choice by the data would void the level."""
_FARTHEST = 1000.0


def _tuned_rho2(units: int) -> float:
    """The r^2 that makes the sequence about narrowest at ``units`` (the paper's appendix B.2, equation 50)."""
    twice = -2 * math.log(LEVEL)
    return (twice + math.log(twice + 1)) / units


RHO2 = _tuned_rho2(TUNED_UNITS)


@dataclass(frozen=True)
class Sequential:
    """The always-valid interval and p-value at the units seen so far."""

    low: float
    high: float
    p: float
    level: float
    """The p-value below which the difference counts; the interval covers with probability 1 - ``level``."""


def sequential_test(difference: float, variance: float, units: int, comparisons: int = 1) -> Sequential:
    """Tests a difference of two means.

    Args:
        difference: d.
        variance: V, positive.
        units: n, of both variants together.
        comparisons: variants that are compared with the control; ``LEVEL`` is split among them (Bonferroni).
    """
    level, growth = LEVEL / comparisons, units * RHO2 + 1
    half = _half_width(variance * units, units, level)
    evidence = units * RHO2 * difference**2 / (2 * variance * growth) - 0.5 * math.log(growth)
    return Sequential(difference - half, difference + half, math.exp(-max(0.0, evidence)), level)


def units_needed(difference: float, variance: float, units: int, level: float) -> float | None:
    """Units of both variants at which the interval would leave out 0, were the difference and s^2 as they are now.

    Returns:
        The units, at least ``units``; None where they are more than 1,000 times as many.
    """
    scale = variance * units

    def excess(count: float) -> float:
        return _half_width(scale, count, level) - abs(difference)

    if excess(units) <= 0:
        return float(units)
    if excess(units * _FARTHEST) > 0:
        return None
    return float(brentq(excess, units, units * _FARTHEST, rtol=1e-6))


def _half_width(scale: float, units: float, level: float) -> float:
    growth = units * RHO2 + 1
    return math.sqrt(scale * 2 * growth / (units**2 * RHO2) * math.log(math.sqrt(growth) / level))
