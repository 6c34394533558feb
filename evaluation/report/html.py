"""A report as one HTML page that needs nothing beside it: no script, no font, no picture is fetched."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from dpsr.data.dataset.schema import DatasetError
from dpsr.evaluation.compare.cases import Case
from dpsr.evaluation.measures.slices import ALL, TYPO, UNSEEN
from dpsr.evaluation.report.figures import bars, curve
from dpsr.evaluation.report.item_map import HEAD_DEPTH, HeadAnswers
from dpsr.evaluation.report.report import Report
from dpsr.evaluation.report.style import STYLE
from dpsr.evaluation.report.tables import (
    CLICKS,
    COMPARED,
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
    """What the page shows beside numbers, each part left out where it is empty."""

    wins: Sequence[Case] = ()
    """Clicks that the model finds and BM25 does not."""
    losses: Sequence[Case] = ()
    """And the other way round."""
    item_map: str = ""
    """The figure of ``item_map.item_map``."""
    heads_maps: Sequence[str] = ()
    """The figures of ``item_map.heads_maps``."""
    head_answers: Sequence[HeadAnswers] = field(default_factory=list)
    """Of all queries that were looked at for them."""


def write_html(
    path: Path, report: Report, *, subject: str, figures: Figures, runs: Sequence[Mapping[str, Any]] = ()
) -> Path:
    """Writes the page.

    Args:
        path: where to; its folder is made if need be.
        report: the results.
        subject: the retriever that stands out.
        figures: what is shown beside them.
        runs: ``metrics.json`` of other runs, for the curves over the mixing ratio.
    """
    sections = {
        "Measures": _bars(report, subject),
        "Tables": _tables(report, subject),
        "Negatives": _by_mixing_ratio(report, subject, runs),
        "Items": _item_map(figures),
        "Heads": _heads(report, figures, subject),
        f"Beside BM25: {subject} finds": _cases(subject, figures.wins),
        "Beside BM25: BM25 finds": _cases(subject, figures.losses),
        "How it was measured": _facts(report),
    }
    sections = {title: body for title, body in sections.items() if body}
    names = {title: f"part{place}" for place, title in enumerate(sections)}
    links = "".join(f'<a href="#{name}">{escape(title)}</a>' for title, name in names.items())
    body = "".join(
        f'<section id="{names[title]}"><h2>{escape(title)}</h2>{content}</section>'
        for title, content in sections.items()
    )
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(report.name)}: evaluation</title><style>{STYLE}</style></head><body>"
        f"{_header(report, subject)}<nav>{links}</nav><main>{body}</main></body></html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".partial")
    beside.write_text(page, encoding="utf-8")
    beside.rename(path)
    return path


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


def _header(report: Report, subject: str) -> str:
    examples = report.result(subject).examples
    about = f"{examples:,} clicks of the {report.split} split, {report.num_items:,} items, seed {report.seed}"
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in report.notes)
    return (
        f"<header><h1>{escape(report.name)}</h1><p>{about}</p>"
        f'<div class="tiles">{_tiles(report, subject)}</div>{notes}</header>'
    )


def _tiles(report: Report, subject: str) -> str:
    """The figures that are read first: the model on the hard slices, beside the best of the others."""
    tiles = []
    for name, about in ((ALL, "all clicks"), (UNSEEN, "queries never seen"), (TYPO, "one typo in each query")):
        results = {result.retriever: result.metrics[MEASURE] for result in report.comparison.of_slice(name).results}
        own = results.pop(subject, None)
        # A hybrid is half the model, and no rival.
        rivals = {rival: value for rival, value in results.items() if not rival.startswith(subject)}
        if own is None:
            continue
        best = max(rivals, key=lambda rival: rivals[rival], default=None)
        beside = f"best other: {escape(best)} {rivals[best]:.3f}" if best else ""
        tiles.append(_tile(f"{MEASURE}, {about}", f"{own:.3f}", beside))
    for time in report.retrieval:
        if time.retriever == subject:
            tiles.append(_tile(f"text to {time.items:,} items", f"{time.median_ms:.1f} ms", escape(time.index)))
    return "".join(tiles)


def _tile(about: str, value: str, beside: str) -> str:
    return f'<div class="tile"><span>{escape(about)}</span><b>{value}</b><span>{beside}</span></div>'


def _bars(report: Report, subject: str) -> str:
    shown = [(name, MEASURE) for name in report.comparison.slices() if name in IN_FULL]
    shown += [(ALL, measure) for measure in _ALSO_DRAWN]
    figures = []
    for name, measure in shown:
        results = report.comparison.of_slice(name).results
        values = {result.retriever: result.intervals[measure] for result in results if measure in result.intervals}
        if values:
            figures.append(bars(f"{measure}, {name} ({results[0].examples:,} clicks)", values, subject))
    said = "<p>Bars are means over clicks; whiskers are 95 % bootstrap intervals over queries.</p>"
    return f'{said}<div class="figures">{"".join(figures)}</div>' if figures else ""


def _tables(report: Report, subject: str) -> str:
    names = [name for name in report.comparison.slices() if name in IN_FULL]
    parts = [_table(slice_table(report, ALL), subject)]
    parts += [_table(table, subject) for table in paired_table(report.comparison.of_slice(ALL), PAIRED, "clicks")]
    parts += [_table(slice_table(report, name), subject, folded=True) for name in names if name != ALL]
    parts += [_table(table, subject) for table in kinds_table(report)]
    parts += [_table(table, subject) for table in judged_tables(report) + retrieval_table(report)]
    return "".join(parts)


def _table(table: Table, subject: str, *, folded: bool = False) -> str:
    kinds = [' class="text"' if header in WORDS else "" for header in table.headers]
    heads = "".join(f"<th{kind}>{escape(header)}</th>" for header, kind in zip(table.headers, kinds, strict=True))
    rows = []
    for row in table.rows:
        cells = [f"<th>{escape(row[0].value)}</th>"]
        for cell, kind in zip(row[1:], kinds[1:], strict=True):
            aside = f" <small>{escape(cell.aside)}</small>" if cell.aside else ""
            cells.append(f"<td{' class=best' if cell.best else kind}>{escape(cell.value)}{aside}</td>")
        rows.append(f"<tr{' class=subject' if row[0].value == subject else ''}>{''.join(cells)}</tr>")
    body = f'<div class="table"><table><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    title = escape(table.title[:1].upper() + table.title[1:])
    return f"<details><summary>{title}</summary>{body}</details>" if folded else f"<h3>{title}</h3>{body}"


def _by_mixing_ratio(report: Report, subject: str, runs: Sequence[Mapping[str, Any]]) -> str:
    """Popularity of what is retrieved, and quality, over the mixing ratios; empty for one ratio."""
    keys = {CLICKS: (CLICKS.lower().replace("@", "_"), 0), MEASURE: (MEASURE.lower().replace("@", "_"), 3)}
    titles = {CLICKS: "Mean clicks, in training, of the ten best items", MEASURE: f"{MEASURE}, {ALL} clicks"}
    figures = []
    for measure, (key, decimals) in keys.items():
        points = [(float(run["mixing_ratio"]), float(run["retrievers"][subject][key])) for run in runs]
        points.append((report.mixing_ratio, report.result(subject).metrics[measure]))
        if len({ratio for ratio, _ in points}) < 2:
            return ""
        figures.append(curve(titles[measure], "alpha", points, decimals=decimals, from_zero=measure == CLICKS))
    return (
        f"<p>What {escape(subject)} retrieves by alpha, the share of random negatives in training: this run and those "
        f'it is compared with, a dot each, and their means.</p><div class="figures">{"".join(figures)}</div>'
    )


def _item_map(figures: Figures) -> str:
    if not figures.item_map:
        return ""
    return (
        "<p>The vectors of the item tower, laid out by t-SNE: neighbours here are answers to the same queries. "
        f'Point at an item to read it.</p><div class="wide">{figures.item_map}</div>'
    )


def _heads(report: Report, figures: Figures, subject: str) -> str:
    known = "".join(_table(table, subject) for table in senses_table(report))
    if not figures.heads_maps:
        return known
    overlap = float(np.median([answer.overlap for answer in figures.head_answers]))
    asked = "queries of several meanings" if report.senses else "commonest queries"
    return (
        f"<p>The {HEAD_DEPTH} best items of each head, laid out by t-SNE, for those of the "
        f"{len(figures.head_answers):,} {asked} whose heads differ most. Of the items that any head finds, "
        f'all find {overlap:.0%} (median over the queries).</p><div class="figures">{"".join(figures.heads_maps)}</div>'
        f"{known}"
    )


def _cases(subject: str, cases: Sequence[Case]) -> str:
    if not cases:
        return ""
    cards = []
    for case in cases:
        answers = "".join(
            f"<div><h5>{escape(name)}</h5>{_answer(texts, case.clicked)}</div>"
            for name, texts in ((subject, case.first), ("BM25", case.second))
        )
        cards.append(
            f'<article class="case"><h4>{escape(case.query)}</h4><p>clicked: {escape(case.clicked)}</p>'
            f'<div class="answers">{answers}</div></article>'
        )
    return f'<div class="cases">{"".join(cards)}</div>'


def _answer(texts: Sequence[str], clicked: str) -> str:
    items = (f"<mark>{escape(text)}</mark>" if text == clicked else escape(text) for text in texts)
    return "<ol>" + "".join(f"<li>{item}</li>" for item in items) + "</ol>"


def _facts(report: Report) -> str:
    facts = {
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
    listed = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts.items() if value)
    return f"<dl>{listed}</dl>"
