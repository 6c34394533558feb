"""The comparison of one variant with the control: differences, sequential test, decision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dpsr.evaluation.experiments.decision import Decision, Evidence, decide, guardrail_sentence, no_decision
from dpsr.evaluation.experiments.estimates import (
    Difference,
    mean_difference,
    mean_of,
    pooled_variance,
    proportion_difference,
    ratio_difference,
    ratio_of,
)
from dpsr.evaluation.experiments.sequential import Sequential, sequential_test


@dataclass(frozen=True)
class VariantUnits:
    """The units of one variant."""

    requests: np.ndarray
    """int64 [units]."""
    events: np.ndarray
    """Events of the action, int64 [units]."""
    errors: np.ndarray
    """Failed requests, int64 [units]."""

    @property
    def units(self) -> int:
        """Their number."""
        return len(self.requests)

    @property
    def converted(self) -> int:
        """Units with at least one event."""
        return int(np.count_nonzero(self.events))


@dataclass(frozen=True)
class Comparison:
    """A variant against the control."""

    variant: str
    control: str
    conversion: Difference
    """Two-proportion z test, for one look at a number of units that was fixed before."""
    events_per_unit: Difference
    """Welch's t test, for one look."""
    events_per_request: Difference
    """Delta method over units, for one look."""
    error_share: Difference
    """Delta method over units, for one look."""
    sequential: Sequential | None
    """Of the conversion, for any number of looks; None where all units are alike."""
    decision: Decision
    guardrail: str | None
    """A warning about failed requests."""


def compare(
    treated: tuple[str, VariantUnits],
    control: tuple[str, VariantUnits],
    *,
    comparisons: int,
    days: float,
    broken: bool,
) -> Comparison:
    """Compares a variant with the control.

    Args:
        treated: name and units of the variant.
        control: of the control.
        comparisons: variants that are compared with the control.
        days: that the access log covers.
        broken: whether the sample ratio forbids a decision.
    """
    (variant, mine), (base, theirs) = treated, control
    converted = ((mine.converted, mine.units), (theirs.converted, theirs.units))
    conversion = proportion_difference(*converted)
    units = mine.units + theirs.units
    variance = _variance(*converted)
    sequential = sequential_test(conversion.value, variance, units, comparisons) if variance > 0 else None
    errors = ratio_difference(ratio_of(mine.errors, mine.requests), ratio_of(theirs.errors, theirs.requests))
    evidence = Evidence(
        variant,
        base,
        (mine.converted, theirs.converted),
        (mine.units, theirs.units),
        conversion.value,
        variance,
        sequential,
        units / days if days > 0 else None,
    )
    return Comparison(
        variant,
        base,
        conversion,
        mean_difference(mean_of(mine.events), mean_of(theirs.events)),
        ratio_difference(ratio_of(mine.events, mine.requests), ratio_of(theirs.events, theirs.requests)),
        errors,
        sequential,
        no_decision(variant, base) if broken else decide(evidence),
        guardrail_sentence(variant, base, errors.value, errors.p),
    )


def _variance(treated: tuple[int, int], control: tuple[int, int]) -> float:
    """Variance of the difference of two shares for the sequential test.

    The larger of the pooled and the separate estimate: an arm of few units with few events by chance has too small a
    variance of its own, and both are consistent where the shares are equal.
    """
    separate = sum(events / units * (1 - events / units) / units for events, units in (treated, control))
    return max(separate, pooled_variance(treated, control))
