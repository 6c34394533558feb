"""The tables of a report, as rows of cells that text, Markdown and the web page render."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tabulate import tabulate

from dpsr.evaluation.measures.intervals import Interval
from dpsr.evaluation.measures.matches import EITHER, MATCH_MEASURES
from dpsr.evaluation.measures.metrics import CLICKS, COMPARED
from dpsr.evaluation.measures.slices import ALL, SEEN, TYPO, UNSEEN
from dpsr.evaluation.report.results import Comparison, Report, Result

IN_FULL = (ALL, SEEN, UNSEEN, TYPO)
"""Slices with a table of their own; the others share one of ``COMPARED[0]``."""
HEADLINES = ("MAP@5", "Top-1")
"""Measures shown with an interval."""
COLUMNS = ("MAP@5", "MRR@10", "nDCG@10", "Recall@10", "Recall@100", "Recall@1000", "Top-1", "Top-10", CLICKS)
"""Measures of the tables; Hit@10 equals Recall@10 for one relevant item, and is in the JSON file only."""
PAIRED = ("MAP@5", "nDCG@10", "Recall@100", "Top-1")
"""Measures of the table of paired differences from BM25."""
_SENSES_SHOWN = 12  # polysemous queries
WORDS = ("index", "needs")
"""Columns of text, aligned left."""
JUDGED_COLUMNS = ("nDCG@10", "MRR@10", "Recall@100", "Recall@1000", "AUC", "AUC within queries")
"""Measures of the table of judged queries."""
JUDGED_PAIRED = ("nDCG@10", "MRR@10", "Recall@100", EITHER)
"""Measures of the table of paired differences from BM25 on judged queries."""


class Cell(NamedTuple):
    """One cell: a value, and an interval or error beside it."""

    value: str
    aside: str = ""
    best: bool = False
    """Whether the value is the highest of its column."""

    def __str__(self) -> str:
        """Returns both as one text."""
        return f"{self.value} {self.aside}".rstrip()


@dataclass(frozen=True)
class Table:
    """A table; the first cell of a row is its header."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def render(self, table_format: str) -> str:
        """Renders the table in a format of tabulate."""
        alignment = ["left" if not place or header in WORDS else "right" for place, header in enumerate(self.headers)]
        rows = [[str(cell) for cell in row] for row in self.rows]
        return tabulate(rows, headers=self.headers, tablefmt=table_format, disable_numparse=True, colalign=alignment)


NO_VALUE = Cell("-")
"""A measure that the method does not allow."""


def tables(report: Report) -> list[Table]:
    """Makes every table of a report."""
    found = [slice_table(report, name) for name in report.comparison.slices() if name in IN_FULL]
    found += kinds_table(report)
    found += paired_table(report.comparison.of_slice(ALL), PAIRED, "clicks")
    found += judged_tables(report)
    found += senses_table(report)
    found += retrieval_table(report)
    return found


def slice_table(report: Report, name: str) -> Table:
    """Makes the table of all methods on one slice."""
    comparison = report.comparison.of_slice(name)
    return _measures(f"{name} ({comparison.results[0].examples:,} clicks)", comparison, COLUMNS, HEADLINES)


def kinds_table(report: Report) -> list[Table]:
    """Makes the table of ``COMPARED[0]`` on the slices without a table of their own; none without such a slice."""
    names = [name for name in report.comparison.slices() if name not in IN_FULL]
    if not names:
        return []
    rows = []
    for name in names:
        results = report.comparison.of_slice(name).results
        values = [result.metrics.get(COMPARED[0]) for result in results]
        cells = [NO_VALUE if value is None else Cell(f"{value:.3f}", "", is_best(value, values)) for value in values]
        rows.append([Cell(name), Cell(f"{results[0].examples:,}"), *cells])
    retrievers = [result.retriever for result in report.comparison.of_slice(names[0]).results]
    return [Table(f"{COMPARED[0]} by kind of query", ["queries", "clicks", *retrievers], rows)]


def paired_table(comparison: Comparison, measures: Sequence[str], what: str) -> list[Table]:
    """Makes the table of paired differences from BM25; none without BM25."""
    if not comparison.over_reference:
        return []
    reference = comparison.over_reference[0].baseline
    rows = [
        [Cell(each.retriever), *(paired_cell(each.metrics.get(measure)) for measure in measures)]
        for each in comparison.over_reference
    ]
    title = f"minus {reference} on the same {what}: difference [95 % interval], and how many standard errors it is"
    return [Table(title, ["retriever", *measures], rows)]


def judged_tables(report: Report) -> list[Table]:
    """Makes the tables of judged queries; none without judgements."""
    judged = report.judged
    if judged is None:
        return []
    title = f"{judged.queries:,} judged queries, {judged.pairs:,} pairs"
    measured = {measure for result in judged.comparison.results for measure in result.metrics}
    of_matches, paired = ([name for name in names if name in measured] for names in (MATCH_MEASURES, JUDGED_PAIRED))
    return [
        _measures(title, judged.comparison, [*JUDGED_COLUMNS, *of_matches], JUDGED_COLUMNS[:1]),
        *paired_table(judged.comparison, paired, "judged queries"),
    ]


def senses_table(report: Report) -> list[Table]:
    """Makes the table of senses by head, for twelve queries at most; none where senses are unknown."""
    if not report.senses:
        return []
    count = len(report.senses)
    parted = sum(each.parted for each in report.senses) / count
    covered = sum(each.covered for each in report.senses) / count
    heads = len(report.senses[0].shares)
    rows = []
    for each in report.senses[:_SENSES_SHOWN]:
        best = each.shares.argmax(axis=1)
        cells = [Cell(each.senses.names[at], f"{row[at]:.0%}") for at, row in zip(best, each.shares, strict=True)]
        rows.append([Cell(each.senses.query), *cells, Cell("yes" if each.parted else "no")])
    title = (
        f"{count} queries of several meanings: for {parted:.0%} the heads' best items are of different ones, "
        f"for {covered:.0%} the merged list has a tenth or more of two"
    )
    return [Table(title, ["query", *(f"head {head}" for head in range(heads)), "parted"], rows)]


def retrieval_table(report: Report) -> list[Table]:
    """Makes the table of retrieval times; none where they were not measured."""
    if not report.retrieval:
        return []
    rows = [
        [Cell(time.retriever), Cell(f"{time.median_ms:.2f}"), Cell(f"{time.p90_ms:.2f}"), Cell(time.index)]
        for time in report.retrieval
    ]
    first = report.retrieval[0]
    title = (
        f"milliseconds from one text to its {first.items:,} best items (one query at a time, {first.queries} queries)"
    )
    return [Table(title, ["retriever", "median", "90th percentile", "index"], rows)]


def _measures(title: str, comparison: Comparison, columns: Sequence[str], with_interval: Sequence[str]) -> Table:
    """A row for each method; the last column is the first measure of the trained model minus the method's."""
    results = comparison.results
    in_column = {column: [result.metrics.get(column) for result in results] for column in columns}
    rows = [
        [Cell(result.retriever), *(_cell(result, column, with_interval, in_column[column]) for column in columns)]
        for result in results
    ]
    headers = ["retriever", *columns]
    if comparison.differences:
        headers.append(f"{comparison.differences[0].retriever} minus it, {columns[0]}")
        found = {each.baseline: _signed(each.metrics.get(columns[0])) for each in comparison.differences}
        rows = [[*row, found.get(row[0].value, Cell(""))] for row in rows]
    return Table(title, headers, rows)


def _cell(result: Result, column: str, with_interval: Sequence[str], in_column: Sequence[float | None]) -> Cell:
    value = result.metrics.get(column)
    if value is None:
        return NO_VALUE
    if column == CLICKS:
        return Cell(f"{value:,.0f}")
    aside = f"± {result.half_widths[column]:.3f}" if column in with_interval else ""
    return Cell(f"{value:.3f}", aside, is_best(value, in_column))


def is_best(value: float, values: Sequence[float | None]) -> bool:
    """Whether the value is the largest as printed, and not the smallest."""
    shown = [round(other, 3) for other in values if other is not None]
    return round(value, 3) == max(shown) > min(shown)


def _signed(found: Interval | None) -> Cell:
    if found is None:
        return NO_VALUE
    return Cell(f"{found.mean:+.3f}", f"[{found.low:+.3f}, {found.high:+.3f}]")


def paired_cell(found: Interval | None) -> Cell:
    """Returns a paired difference with its interval and number of standard errors."""
    cell = _signed(found)
    if found is None or not found.standard_error:
        return cell
    return cell._replace(aside=f"{cell.aside} {abs(found.mean) / found.standard_error:.1f} SE")
