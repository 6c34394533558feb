"""The decision about one variant, and its sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from dpsr.evaluation.experiments.sequential import Sequential, units_needed

Verdict = Literal["better", "worse", "not different yet", "none"]
LEAST_EXPECTED = 10
"""Units with and without an event that each variant lets expect, below which the normal approximation is no guide."""
_GUARDRAIL_P = 0.01


@dataclass(frozen=True)
class Decision:
    """What the experiment says about a variant."""

    verdict: Verdict
    """``none`` where the sample ratio forbids one."""
    more_units: int | None
    """Units, of both variants together, that are still needed should the difference stay as it is."""
    more_days: float | None
    """Days for these at the rate of the access log."""
    sentence: str


@dataclass(frozen=True)
class Evidence:
    """What a decision rests on."""

    variant: str
    control: str
    converted: tuple[int, int]
    """Units with an event, of the variant and of the control."""
    units: tuple[int, int]
    difference: float
    variance: float
    sequential: Sequential | None
    """None where all units are alike."""
    units_per_day: float | None
    """Of both variants together."""


def no_decision(variant: str, control: str) -> Decision:
    """The decision where the sample ratio does not fit."""
    return Decision(
        "none",
        None,
        None,
        f"No decision on {variant} against {control}: the sample ratio is broken, so the variants' units are not "
        "comparable; find the cause before you read a difference.",
    )


def decide(evidence: Evidence) -> Decision:
    """Decides by the sequential test alone, which is valid whenever one looks."""
    variant, control, found = evidence.variant, evidence.control, evidence.sequential
    missing = _missing_units(evidence)
    if missing or found is None:
        return Decision(
            "not different yet",
            missing,
            _days(missing, evidence.units_per_day),
            f"{variant} is not different yet from {control}: too few units for the test, which needs {LEAST_EXPECTED} "
            f"units with an event and {LEAST_EXPECTED} without to be expected of each "
            f"variant{_more(missing, evidence)}.",
        )
    if found.p <= found.level:
        verdict: Verdict = "better" if evidence.difference > 0 else "worse"
        return Decision(
            verdict,
            None,
            None,
            f"{variant} is {verdict} than {control} (difference {100 * evidence.difference:+.2f} percentage points, "
            f"always-valid p {found.p:.2g}).",
        )
    needed = units_needed(evidence.difference, evidence.variance, sum(evidence.units), found.level)
    more = None if needed is None else max(1, math.ceil(needed - sum(evidence.units)))
    tail = (
        _more(more, evidence)
        if more is not None
        else "; the difference so far is so small that 1,000 times the units would not show it"
    )
    return Decision(
        "not different yet",
        more,
        _days(more, evidence.units_per_day),
        f"{variant} is not different yet from {control} (difference {100 * evidence.difference:+.2f} percentage "
        f"points, always-valid p {found.p:.2g}){tail}.",
    )


def guardrail_sentence(variant: str, control: str, difference: float, p: float | None) -> str | None:
    """The warning about a variant with a higher share of failed requests; None without cause."""
    if p is None or p >= _GUARDRAIL_P or difference <= 0:
        return None
    return (
        f"Guardrail: more requests fail with {variant} than with {control} ({100 * difference:+.2f} percentage points, "
        f"p {p:.2g}); mend that before a promotion."
    )


def _missing_units(evidence: Evidence) -> int:
    """Units of both variants that are still missing for the normal approximation; 0 where there are enough."""
    total, converted = sum(evidence.units), sum(evidence.converted)
    # Without any event, or without a unit that has none, the rate is unknown; one unit stands for it.
    rarest = max(1, min(converted, total - converted)) / total
    smaller = min(evidence.units) / total
    return max(0, math.ceil(LEAST_EXPECTED / (rarest * smaller)) - total)


def _days(more: int | None, units_per_day: float | None) -> float | None:
    return None if more is None or not units_per_day else more / units_per_day


def _more(more: int | None, evidence: Evidence) -> str:
    if more is None:
        return ""
    days = _days(more, evidence.units_per_day)
    text = f"; about {rounded(more):,} more units needed"
    return text if days is None else f"{text} at this rate, {_time(days)}"


def rounded(count: float) -> int:
    """A count to two significant digits, rounded up."""
    step = 10 ** max(0, math.floor(math.log10(max(1.0, count))) - 1)
    return math.ceil(count / step) * step


def _time(days: float) -> str:
    return f"{days * 24:.1f} hours" if days < 2 else f"{days:,.0f} days"
