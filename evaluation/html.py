"""A report as one HTML page that needs nothing beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from dpsr.data.schema import DatasetError
from dpsr.data.tables import Dataset
from dpsr.evaluation.cases import Case
from dpsr.evaluation.figures import bars, curve, scatter
from dpsr.evaluation.report import Report
from dpsr.evaluation.tables import CLICKS, IN_FULL, tables

MEASURE = "MAP@5"
"""The measure of the bars."""
_MAPPED_ITEMS = 1000
_STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
figure { margin: 1.5rem 0; overflow-x: auto } figcaption { font-weight: 600; margin-bottom: .5rem }
svg { max-width: 100%; height: auto; font-size: 12px } svg text { fill: currentColor }
div.table { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #8884; vertical-align: top }
th:first-child, td:first-child, table.cases td, table.cases th { text-align: left }
mark { background: #22883344; color: inherit } ol { margin: 0; padding-left: 1.2rem }
"""


def write_html(
    path: Path,
    report: Report,
    *,
    subject: str,
    cases: tuple[list[Case], list[Case]],
    item_map: str = "",
    runs: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Writes the page.

    Args:
        path: where to; its folder is made if need be.
        report: the results.
        subject: the retriever whose bars stand out.
        cases: its wins and losses against BM25.
        item_map: the figure of ``item_map``.
        runs: ``metrics.json`` of other runs, for the curve of popularity over the mixing ratio.
    """
    wins, losses = cases
    shown = "".join(
        f"<h3>{escape(table.title)}</h3><div class=table>{table.render('html')}</div>" for table in tables(report)
    )
    body = [
        f"<h1>{escape(report.name)}, {escape(report.split)} split</h1>",
        f"<p>{escape(report.facts())}</p>",
        "<h2>Measures</h2>",
        *_bars(report, subject),
        _popularity(report, subject, runs),
        "<h2>Tables</h2>",
        shown,
        "<h2>Items</h2>" + item_map if item_map else "",
        f"<h2>{escape(subject)} against BM25</h2>",
        _cases(f"Clicks that {subject} finds and BM25 does not", subject, wins),
        _cases(f"Clicks that BM25 finds and {subject} does not", subject, losses),
    ]
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>'
        f"{escape(report.name)}</title><style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".partial")
    beside.write_text(page, encoding="utf-8")
    beside.rename(path)
    return path


def item_map(vectors: np.ndarray, dataset: Dataset, counts: np.ndarray, texts: Sequence[str], *, seed: int) -> str:
    """The most clicked items as t-SNE lays out their vectors, in the colour of their category (paper, figure 5).

    Args:
        vectors: float32 [items, d].
        dataset: says the category: the column of that name, or else the first categorical one.
        counts: clicks of every item, int64 [items].
        texts: the text of every item.
        seed: of the layout.

    Returns:
        A figure; empty where there are fewer than ten items.
    """
    rows = np.argsort(-counts, kind="stable")[:_MAPPED_ITEMS]
    if len(rows) < 10:
        return ""
    layout = TSNE(metric="cosine", init="random", random_state=seed, perplexity=min(30.0, (len(rows) - 1) / 3))
    columns = list(dataset.schema.categorical)
    column = "category" if "category" in columns else next(iter(columns), None)
    groups = ["items"] * len(rows)
    if column is not None:
        groups = [str(value) for value in dataset.item_table()[column].take(rows).to_pylist()]
    title = f"{len(rows):,} most clicked items by t-SNE of their vectors" + (f", by {column}" if column else "")
    # A thousand points keep one core busy; more threads mostly wait for each other.
    with threadpool_limits(1):
        places = layout.fit_transform(vectors[rows])
    return scatter(title, places, groups, [texts[row] for row in rows])


def read_run(path: Path) -> dict[str, Any]:
    """Reads the ``metrics.json`` of another run.

    Raises:
        DatasetError: there is no such file, or it was not written by this version.
    """
    try:
        run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        float(run["mixing_ratio"])
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}; name the metrics.json of another run") from None
    except (ValueError, KeyError, TypeError):
        raise DatasetError(f"{path}: no metrics.json with a mixing ratio; evaluate that run again") from None
    return run


def _bars(report: Report, subject: str) -> list[str]:
    figures = []
    for name in dict.fromkeys(result.slice for result in report.results):
        if name not in IN_FULL:
            continue
        results = [result for result in report.results if result.slice == name]
        title = f"{MEASURE}, {name} ({results[0].examples:,} clicks), with 95 % intervals over queries"
        values = [result.metrics[MEASURE] for result in results]
        halves = [result.half_widths[MEASURE] for result in results]
        figures.append(bars(title, [result.retriever for result in results], values, halves, subject))
    return figures


def _popularity(report: Report, subject: str, runs: Sequence[Mapping[str, Any]]) -> str:
    """Popularity of what is retrieved over the mixing ratio of this run and others; empty for one ratio."""
    key = CLICKS.lower().replace("@", "_")
    points = {float(run["mixing_ratio"]): float(run["retrievers"][subject][key]) for run in runs}
    points[report.mixing_ratio] = report.result(subject).metrics[CLICKS]
    if len(points) < 2:
        return ""
    return curve("Mean clicks of the ten best items by mixing ratio alpha", "alpha", list(points.items()))


def _cases(title: str, subject: str, cases: Sequence[Case]) -> str:
    if not cases:
        return ""
    rows = "".join(
        f"<tr><td>{escape(case.query)}<td>{_answer(case.first, case.clicked)}<td>{_answer(case.second, case.clicked)}"
        f"<td>{escape(case.clicked)}</tr>"
        for case in cases
    )
    heads = "".join(f"<th>{escape(head)}" for head in ("query", subject, "BM25", "clicked"))
    return f"<h3>{escape(title)}</h3><div class=table><table class=cases><tr>{heads}</tr>{rows}</table></div>"


def _answer(texts: Sequence[str], clicked: str) -> str:
    items = (f"<mark>{escape(text)}</mark>" if text == clicked else escape(text) for text in texts)
    return "<ol>" + "".join(f"<li>{item}" for item in items) + "</ol>"
