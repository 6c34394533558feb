"""A report as one self-contained HTML page: no script, and no font, picture or style sheet to fetch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from dpsr.evaluation.measures.cases import Case
from dpsr.evaluation.measures.heads import HEAD_DEPTH, HeadAnswers
from dpsr.evaluation.measures.metrics import CLICKS, COMPARED
from dpsr.evaluation.measures.slices import ALL, TYPO, UNSEEN
from dpsr.evaluation.report.figures import bars, curve
from dpsr.evaluation.report.metrics_json import measure_key
from dpsr.evaluation.report.rendering import render, write_html
from dpsr.evaluation.report.results import Report
from dpsr.evaluation.report.tables import (
    IN_FULL,
    PAIRED,
    WORDS,
    Table,
    judged_tables,
    kinds_table,
    paired_table,
    retrieval_table,
    senses_table,
    slice_table,
)

MEASURE = COMPARED[0]
"""The measure of the tiles, the bars of every slice, and the curve."""
_ALSO_DRAWN = ("Recall@100", "Top-1")


@dataclass(frozen=True)
class Figures:
    """Content of the page beside numbers; an empty field leaves its section out."""

    wins: Sequence[Case] = ()
    """Clicks that the model ranks higher than BM25."""
    losses: Sequence[Case] = ()
    """Clicks that BM25 ranks higher than the model."""
    item_map: Markup | None = None
    """The figure of ``item_map.item_map``."""
    heads_maps: Sequence[Markup] = ()
    """The figures of ``item_map.heads_maps``."""
    head_answers: Sequence[HeadAnswers] = ()
    """Lists by head of all queries compared, of which ``heads_maps`` shows some."""


_Section = dict[str, Any]
"""A section of the page: ``title``, ``template``, and the values that the template reads."""


def write_page(
    path: Path, report: Report, *, subject: str, figures: Figures, runs: Sequence[Mapping[str, Any]] = ()
) -> Path:
    """Writes the page.

    Args:
        path: the file; its folder is made if missing.
        report: the results.
        subject: the highlighted method.
        figures: cases and maps.
        runs: ``metrics.json`` of other runs, for the curves over the mixing ratio.

    Returns:
        ``path``.
    """
    sections: list[_Section | None] = [
        _measures(report, subject),
        {"title": "Tables", "template": "tables.html", "tables": _tables(report)},
        _negatives(report, subject, runs),
        _items(figures),
        _heads(report, figures),
        _cases(f"Beside BM25: {subject} finds", figures.wins),
        _cases("Beside BM25: BM25 finds", figures.losses),
        {"title": "How it was measured", "template": "facts.html", "facts": _facts(report)},
    ]
    page = render(
        "page.html",
        title="evaluation",
        report=report,
        subject=subject,
        examples=report.result(subject).examples,
        tiles=_tiles(report, subject),
        sections=[section for section in sections if section is not None],
    )
    return write_html(path, page)


def _tiles(report: Report, subject: str) -> list[dict[str, str]]:
    """Headline figures: the model on all, unseen and misspelt queries, beside the best other method."""
    tiles = []
    for name, about in ((ALL, "all clicks"), (UNSEEN, "queries never seen"), (TYPO, "one typo in each query")):
        results = report.comparison.of_slice(name).results
        values = {result.retriever: result.metrics[MEASURE] for result in results if MEASURE in result.metrics}
        own = values.pop(subject, None)
        # Hybrids and rerankers contain the model.
        rivals = {rival: value for rival, value in values.items() if subject not in rival}
        if own is None:
            continue
        best = max(rivals, key=lambda rival: rivals[rival], default=None)
        beside = f"best other: {best} {rivals[best]:.3f}" if best else ""
        tiles.append({"about": f"{MEASURE}, {about}", "value": f"{own:.3f}", "beside": beside})
    for time in report.retrieval:
        if time.retriever == subject:
            about, value = f"text to {time.items:,} items", f"{time.median_ms:.1f} ms"
            tiles.append({"about": about, "value": value, "beside": time.index})
    return tiles


def _measures(report: Report, subject: str) -> _Section | None:
    shown = [(name, MEASURE) for name in report.comparison.slices() if name in IN_FULL]
    shown += [(ALL, measure) for measure in _ALSO_DRAWN]
    figures = []
    for name, measure in shown:
        results = report.comparison.of_slice(name).results
        values = {result.retriever: result.intervals[measure] for result in results if measure in result.intervals}
        if values:
            figures.append(bars(f"{measure}, {name} ({results[0].examples:,} clicks)", values, subject))
    return {"title": "Measures", "template": "measures.html", "figures": figures} if figures else None


def _tables(report: Report) -> list[dict[str, Any]]:
    names = [name for name in report.comparison.slices() if name in IN_FULL]
    found = [shown_table(slice_table(report, ALL))]
    found += [shown_table(table) for table in paired_table(report.comparison.of_slice(ALL), PAIRED, "clicks")]
    found += [shown_table(slice_table(report, name), folded=True) for name in names if name != ALL]
    found += [shown_table(table) for table in kinds_table(report)]
    found += [shown_table(table) for table in judged_tables(report) + retrieval_table(report)]
    return found


def shown_table(table: Table, *, folded: bool = False) -> dict[str, Any]:
    """Variables of ``table.html``."""
    columns = [{"header": header, "text": header in WORDS} for header in table.headers]
    rows = [{"header": row[0].value, "cells": list(zip(row[1:], columns[1:], strict=True))} for row in table.rows]
    return {"title": table.title[:1].upper() + table.title[1:], "columns": columns, "rows": rows, "folded": folded}


def _negatives(report: Report, subject: str, runs: Sequence[Mapping[str, Any]]) -> _Section | None:
    """Popularity of retrieved items, and quality, by mixing ratio; None for a single ratio."""
    titles = {CLICKS: "Mean clicks, in training, of the ten best items", MEASURE: f"{MEASURE}, {ALL} clicks"}
    figures = []
    for measure, title in titles.items():
        key = measure_key(measure)
        points = [(float(run["mixing_ratio"]), float(run["retrievers"][subject][key])) for run in runs]
        points.append((report.mixing_ratio, report.result(subject).metrics[measure]))
        if len({ratio for ratio, _ in points}) < 2:
            return None
        popularity = measure == CLICKS
        figures.append(curve(title, "alpha", points, decimals=0 if popularity else 3, from_zero=popularity))
    return {"title": "Negatives", "template": "negatives.html", "figures": figures}


def _items(figures: Figures) -> _Section | None:
    return {"title": "Items", "template": "items.html", "figure": figures.item_map} if figures.item_map else None


def _heads(report: Report, figures: Figures) -> _Section | None:
    tables = [shown_table(table) for table in senses_table(report)]
    if not tables and not figures.heads_maps:
        return None
    return {
        "title": "Heads",
        "template": "heads.html",
        "tables": tables,
        "figures": figures.heads_maps,
        "depth": HEAD_DEPTH,
        "queries": len(figures.head_answers),
        "asked": "queries of several meanings" if report.senses else "commonest queries",
        "overlap": float(np.median([answer.overlap for answer in figures.head_answers] or [0.0])),
    }


def _cases(title: str, cases: Sequence[Case]) -> _Section | None:
    return {"title": title, "template": "cases.html", "cases": cases} if cases else None


def _facts(report: Report) -> dict[str, str]:
    return {
        "split": f"{report.split}, {report.split_size:,} interactions",
        "catalogue": f"{report.num_items:,} items, all of them ranked",
        "Top-k": f"among {report.candidates:,} candidates, the clicked item and random others",
        "±": "half of a 95 % interval over queries",
        "[ ]": "95 % interval of a paired bootstrap over queries",
        "weights": ", ".join(f"{name} {weight:g}" for name, weight in report.weights.items()),
        "alpha": f"{report.mixing_ratio:g}",
        "seed": f"{report.seed}",
        **{key: str(value) for key, value in report.machine.items()},
    }
