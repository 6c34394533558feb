"""The choice of a model for a shop, from measured models alone.

The evidence is the compared shop that is nearest in the logarithms of log and catalogue size. Of its models, those take
part whose needs the shop meets and whose time, in proportion to the catalogue, is within the limit. Among those whose
quality is at most one standard error of the best one below it, the fastest is chosen (the rule of one standard error,
Breiman et al., Classification and Regression Trees, 1984, section 3.4.3; their simplest tree is our fastest model).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import hypot, inf, log10

from dpsr.evaluation.report.model_comparison import Evidence, EvidenceRow

CLICKS, LABELS = "clicks", "labelled pairs"
LOG_SIZES = (0, 1_000, 10_000, 100_000, 1_000_000, 10_000_000)
CATALOGUE_SIZES = (1_000, 10_000, 100_000, 1_000_000)
LABEL_COUNTS = (0, 1_000, 100_000)
LIMITS = (inf, 100.0, 20.0, 5.0, 1.0)
"""Milliseconds from one text to 1,000 items on one core."""


@dataclass(frozen=True)
class Shop:
    """What a choice depends on."""

    log_clicks: int
    items: int
    labelled_pairs: int
    limit: float
    """Milliseconds for one query on one core."""


@dataclass(frozen=True)
class Choice:
    """A recommended model, and what it was chosen from."""

    shop: Shop
    evidence: Evidence
    """The nearest compared shop."""
    chosen: EvidenceRow | None
    """None where no measured model fits."""
    milliseconds: float
    """Expected time of the chosen model for the shop's catalogue; of the fastest one that it may have without one."""
    best: EvidenceRow | None
    """The highest quality among the models that fit."""


def choose(shop: Shop, known: Sequence[Evidence]) -> Choice:
    """Chooses a model by the rule above.

    Args:
        shop: the shop.
        known: compared shops, at least one; the first of equally near ones is taken.
    """
    near = min(known, key=lambda evidence: distance(shop, evidence))
    possible = [row for row in near.rows if _has_needs(shop, near, row)]
    times = {row.model: expected_milliseconds(row, near, shop) for row in possible}
    fitting = [row for row in possible if times[row.model] <= shop.limit]
    if not fitting:
        return Choice(shop, near, None, min(times.values(), default=inf), None)
    best = max(fitting, key=lambda row: row.quality)
    equal = [row for row in fitting if row.quality >= best.quality - best.standard_error]
    chosen = min(equal, key=lambda row: (times[row.model], row.training_seconds or 0.0))
    return Choice(shop, near, chosen, times[chosen.model], best)


def expected_milliseconds(row: EvidenceRow, evidence: Evidence, shop: Shop) -> float:
    """Scales a measured time to a larger catalogue; a smaller one is taken to save none.

    Of a reranker only the time of its first stage grows: its scorer reads as many pairs of any catalogue.
    """
    first = row.model.partition(">")[0]
    growing = next((each.milliseconds for each in evidence.rows if each.model == first), row.milliseconds)
    growing = min(growing, row.milliseconds)
    return row.milliseconds - growing + growing * max(1.0, shop.items / evidence.items)


def choices(known: Sequence[Evidence]) -> list[Choice]:
    """Chooses for a grid of shops; numbers of labels differ only where a compared model learns from labels."""
    labels = LABEL_COUNTS if any(LABELS in row.needs for evidence in known for row in evidence.rows) else (0,)
    grid = product(LOG_SIZES, CATALOGUE_SIZES, labels, LIMITS)
    return [choose(Shop(*sizes), known) for sizes in grid]


def distance(shop: Shop, evidence: Evidence) -> float:
    """Euclidean distance of log and catalogue sizes on logarithmic scales."""
    return hypot(log10(1 + shop.log_clicks) - log10(1 + evidence.log_clicks), log10(shop.items) - log10(evidence.items))


def _has_needs(shop: Shop, evidence: Evidence, row: EvidenceRow) -> bool:
    """Whether a shop has what a model learns from.

    Clicks count as there where the compared shop had no log either: the model learnt from queries made of item texts.
    Labels have to be as many as those of the compared shop.
    """
    has_clicks = shop.log_clicks > 0 or evidence.log_clicks == 0
    has_labels = shop.labelled_pairs >= max(1, evidence.labelled_pairs)
    return (CLICKS not in row.needs or has_clicks) and (LABELS not in row.needs or has_labels)
