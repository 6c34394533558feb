"""Tables of a comparison of models: quality beside cost, and quality by slice."""

from __future__ import annotations

from math import isnan

from dpsr.evaluation.measures.slices import ALL
from dpsr.evaluation.report.model_comparison import QUALITY, ModelComparison, by_quality
from dpsr.evaluation.report.results import Result
from dpsr.evaluation.report.tables import NO_VALUE, Cell, Table, is_best, paired_cell

CLICK_COLUMNS = ("MAP@5", "Recall@100", "Top-1")
"""Measures of clicks beside the quality."""
JUDGED_COLUMNS = (QUALITY, "AUC")
"""Measures of judged queries."""
NEEDS = "needs"


def model_table(comparison: ModelComparison) -> Table:
    """Makes the table of all models, the best first."""
    report, judged = comparison.report, comparison.report.judged
    clicks = {result.retriever: result for result in report.comparison.of_slice(ALL).results}
    of_judged = {} if judged is None else {result.retriever: result for result in judged.comparison.results}
    names = models(comparison)
    columns = {QUALITY: [_measure(clicks.get(name), QUALITY, clicks, interval=True) for name in names]}
    for measure in CLICK_COLUMNS:
        columns[measure] = [_measure(clicks.get(name), measure, clicks) for name in names]
    for measure in JUDGED_COLUMNS if of_judged else ():
        columns[f"judged {measure}"] = [_measure(of_judged.get(name), measure, of_judged) for name in names]
    costs = [comparison.cost(name) for name in names]
    trained = [cost.training for cost in costs]
    columns |= {
        "training s": [_number(None if each is None else each.seconds, 1) for each in trained],
        "ms": [_number(cost.milliseconds, 2) for cost in costs],
        "index MiB": [_number(cost.index_bytes, 1, unit=2**20) for cost in costs],
        NEEDS: [Cell(", ".join(cost.needs) or "nothing") for cost in costs],
        "CPU s": [_number(None if each is None else each.cpu_seconds, 1) for each in trained],
        "memory MiB": [_number(None if each is None else each.peak_bytes, 0, unit=2**20) for each in trained],
    }
    over = {each.retriever: each for each in comparison.quality().over_reference}
    if over:
        reference = next(iter(over.values())).baseline
        columns[f"minus {reference}"] = [
            paired_cell(over[name].metrics.get(QUALITY)) if name in over else Cell("") for name in names
        ]
    under = {each.baseline: each for each in comparison.quality().differences}
    columns["best minus it"] = [
        paired_cell(under[name].metrics.get(QUALITY)) if name in under else Cell("") for name in names
    ]
    rows = [[Cell(name), *(cells[place] for cells in columns.values())] for place, name in enumerate(names)]
    clicked = f"{next(iter(clicks.values())).examples:,} clicks"
    title = f"models by {QUALITY}, {clicked}" + ("" if judged is None else f", {judged.queries:,} judged queries")
    return Table(title, ["model", *columns], rows)


def models(comparison: ModelComparison) -> list[str]:
    """Returns all models by quality, those without it last."""
    names = [result.retriever for result in by_quality(comparison)]
    return [*names, *(cost.retriever for cost in comparison.costs if cost.retriever not in names)]


def slices_table(comparison: ModelComparison) -> Table:
    """Makes the table of the quality of every model on every slice."""
    parts = {
        name: comparison.report.comparison.of_slice(name).results for name in comparison.report.comparison.slices()
    }
    by_name = {part: {result.retriever: result for result in results} for part, results in parts.items()}
    has_lists = {name for name, result in by_name[ALL].items() if QUALITY in result.metrics}
    names = [name for name in models(comparison) if name in has_lists]
    headers = [f"{part} ({results[0].examples:,})" for part, results in parts.items()]
    rows = [[Cell(name), *(_measure(found[name], QUALITY, found) for found in by_name.values())] for name in names]
    return Table(f"quality by kind of query, {QUALITY} of clicks", ["model", *headers], rows)


def _measure(result: Result | None, measure: str, column: dict[str, Result], *, interval: bool = False) -> Cell:
    value = None if result is None else result.metrics.get(measure)
    if result is None or value is None or isnan(value):  # no area under a curve where all pairs are relevant
        return NO_VALUE
    aside = f"± {result.half_widths[measure]:.3f}" if interval else ""
    return Cell(f"{value:.3f}", aside, is_best(value, [other.metrics.get(measure) for other in column.values()]))


def _number(value: float | None, decimals: int, *, unit: int = 1) -> Cell:
    return NO_VALUE if value is None else Cell(f"{value / unit:,.{decimals}f}")
