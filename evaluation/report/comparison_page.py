"""A comparison of models as one self-contained HTML page; the only script picks a row of a table that is all there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isinf
from pathlib import Path
from typing import Any

from dpsr.evaluation.measures.slices import ALL, TYPO, UNSEEN
from dpsr.evaluation.report.chooser import Choice, choices, distance
from dpsr.evaluation.report.comparison_tables import model_table, slices_table
from dpsr.evaluation.report.costs import Cost
from dpsr.evaluation.report.figures import bars, trade_off
from dpsr.evaluation.report.model_comparison import QUALITY, Evidence, ModelComparison, by_quality
from dpsr.evaluation.report.page import shown_table
from dpsr.evaluation.report.rendering import render, write_html
from dpsr.evaluation.report.results import Comparison
from dpsr.evaluation.report.tables import judged_tables, paired_table, retrieval_table

_PAIRED = (QUALITY, "MAP@5", "Recall@100", "Top-1")
_DRAWN = ((ALL, QUALITY), (UNSEEN, QUALITY), (TYPO, QUALITY), (ALL, "Recall@100"), (ALL, "Top-1"))
_DRAWN_JUDGED = (QUALITY, "Recall@100")

_Section = dict[str, Any]


def write_comparison_page(path: Path, comparison: ModelComparison, known: Sequence[Evidence]) -> Path:
    """Writes the page.

    Args:
        path: the file; its folder is made if missing.
        comparison: the measured models.
        known: what the chooser goes by, this comparison first.

    Returns:
        ``path``.
    """
    report = comparison.report
    sections: list[_Section] = [
        {"title": "Models", "template": "tables.html", "tables": [shown_table(model_table(comparison))]},
        _chooser(known),
        _measures(comparison),
        _costs(comparison),
        {"title": "Slices", "template": "tables.html", "tables": [shown_table(slices_table(comparison))]},
        *(
            {"title": f"Missed by {name}", "template": "cases.html", "cases": cases}
            for name, cases in comparison.cases.items()
            if cases
        ),
        {"title": "All tables", "template": "tables.html", "tables": _tables(comparison)},
        {"title": "How it was measured", "template": "facts.html", "facts": _facts(comparison)},
    ]
    page = render(
        "page.html",
        title="comparison of models",
        report=report,
        subject=comparison.best,
        examples=report.comparison.of_slice(ALL).results[0].examples,
        tiles=_tiles(comparison),
        sections=sections,
    )
    return write_html(path, page)


def _tiles(comparison: ModelComparison) -> list[dict[str, str]]:
    """The best model, the fastest one of those that are as good, and the reference."""
    results = {result.retriever: result for result in by_quality(comparison)}
    best = results[comparison.best]
    tiles = [
        {
            "about": f"best {QUALITY}",
            "value": comparison.best,
            "beside": f"{best.metrics[QUALITY]:.3f} ± {best.half_widths[QUALITY]:.3f}",
        }
    ]
    for each in comparison.quality().differences:
        found = each.metrics.get(QUALITY)
        if each.baseline == "bm25" and found is not None:
            beside = f"[{found.low:+.3f}, {found.high:+.3f}]"
            tiles.append({"about": f"{comparison.best} minus bm25", "value": f"{found.mean:+.3f}", "beside": beside})
    milliseconds = comparison.cost(comparison.best).milliseconds
    if milliseconds is not None:
        tiles.append({"about": "text to items, one core", "value": f"{milliseconds:.1f} ms", "beside": comparison.best})
    return tiles


def _measures(comparison: ModelComparison) -> _Section:
    report = comparison.report
    order = [result.retriever for result in by_quality(comparison)]
    parts = [(f"{measure}, {part}", measure, report.comparison.of_slice(part)) for part, measure in _DRAWN]
    if report.judged is not None:
        judged = report.judged.comparison
        parts += [(f"{measure}, judged queries", measure, judged) for measure in _DRAWN_JUDGED]
    figures = [_bars(title, measure, found, order, comparison.best) for title, measure, found in parts]
    return {"title": "Measures", "template": "measures.html", "figures": [figure for figure in figures if figure]}


def _bars(title: str, measure: str, found: Comparison, order: Sequence[str], best: str) -> Any:
    of_model = {result.retriever: result.intervals.get(measure) for result in found.results}
    values = {name: interval for name in order if (interval := of_model.get(name)) is not None}
    if not values:
        return None
    return bars(f"{title} ({found.results[0].examples:,})", values, best)


def _costs(comparison: ModelComparison) -> _Section:
    qualities = {result.retriever: result.metrics.get(QUALITY) for result in comparison.quality().results}
    costs: dict[str, Callable[[Cost], float | None]] = {
        "milliseconds from a text to its items, one core": lambda cost: cost.milliseconds,
        "seconds of training": lambda cost: cost.training.seconds if cost.training else None,
        "MiB of the index": lambda cost: cost.index_bytes / 2**20 if cost.index_bytes else None,
    }
    figures = []
    for label, value in costs.items():
        of_models = ((cost.retriever, value(cost), qualities.get(cost.retriever)) for cost in comparison.costs)
        points = {name: (max(x, 1e-3), y) for name, x, y in of_models if x is not None and y is not None}
        if len(points) > 1:
            figures.append(trade_off(f"Quality and {label}", label, QUALITY, points))
    return {"title": "Cost and quality", "template": "costs.html", "figures": figures}


def _chooser(known: Sequence[Evidence]) -> _Section:
    found = choices(known)
    axes: dict[str, Callable[[Choice], str]] = {
        "clicks in the log": lambda choice: f"{choice.shop.log_clicks:,}",
        "items": lambda choice: f"{choice.shop.items:,}",
        "labelled pairs": lambda choice: f"{choice.shop.labelled_pairs:,}",
        "limit, ms": lambda choice: "none" if isinf(choice.shop.limit) else f"{choice.shop.limit:g}",
    }
    keys = [[axis(choice) for axis in axes.values()] for choice in found]
    own = min(found, key=lambda choice: distance(choice.shop, known[0]))
    first = [axis(own) for axis in axes.values()]
    return {
        "title": "Which model",
        "template": "chooser.html",
        "known": known,
        "axes": [
            {"name": name, "values": list(dict.fromkeys(key[place] for key in keys)), "first": first[place]}
            for place, name in enumerate(axes)
        ],
        "columns": ["model", "expected ms", "quality there", "best that fits", "training there", "evidence"],
        "rows": [{"key": key, "cells": _cells(choice)} for key, choice in zip(keys, found, strict=True)],
    }


def _cells(choice: Choice) -> list[str]:
    near = choice.evidence
    source = f"{near.name}: {near.measure}, {near.log_clicks:,} clicks, {near.items:,} items"
    if choice.chosen is None or choice.best is None:
        fastest = "no model has what it needs"
        if not isinf(choice.milliseconds):
            fastest = f"the fastest takes {choice.milliseconds:,.1f} ms"
        return ["none fits", fastest, "-", "-", "-", source]
    seconds, best = choice.chosen.training_seconds, choice.best
    return [
        choice.chosen.model,
        f"{choice.milliseconds:,.2f}",
        f"{choice.chosen.quality:.3f}",
        f"{best.model} {best.quality:.3f}, standard error {best.standard_error:.3f}",
        "-" if seconds is None else f"{seconds:,.1f} s",
        source,
    ]


def _tables(comparison: ModelComparison) -> list[dict[str, Any]]:
    report = comparison.report
    found = paired_table(report.comparison.of_slice(ALL), _PAIRED, "clicks") + judged_tables(report)
    return [shown_table(table, folded=True) for table in found + retrieval_table(report)]


def _facts(comparison: ModelComparison) -> dict[str, str]:
    report = comparison.report
    return {
        "split": f"{report.split}, {report.split_size:,} interactions",
        "log": f"{comparison.log_clicks:,} clicks to learn from, {comparison.labelled_pairs:,} labelled pairs",
        "catalogue": f"{report.num_items:,} items, all of them ranked",
        "Top-k": f"among {report.candidates:,} candidates, the clicked item and random others",
        "±": "half of a 95 % interval over queries",
        "[ ]": "95 % interval of a paired bootstrap over queries, and the difference in standard errors (SE)",
        "training": "seconds, and CPU seconds of all threads, from the prepared dataset to the built method, in a "
        "process of its own; memory is the peak of that process, with its libraries",
        "ms": "median from one text to its items, one query at a time, a process on one core",
        "weights": ", ".join(f"{name} {weight:g}" for name, weight in report.weights.items()),
        "seed": f"{report.seed}",
        **{key: str(value) for key, value in report.machine.items()},
    }
