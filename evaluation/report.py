"""The results of a run: a table for people, JSON for programs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from math import isnan
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from tabulate import tabulate

import dpsr
from dpsr.evaluation.slices import ALL, SEEN, TYPO, UNSEEN

T = TypeVar("T")

CLICKS = "Clicks@10"
"""How popular what is retrieved is: the mean clicks, in the train split, of the ten best items."""
IN_FULL = (ALL, SEEN, UNSEEN, TYPO)
"""Slices with a table of their own; the others share one of ``COMPARED[0]``."""
HEADLINES = ("MAP@5", "Top-1")
"""Measures that come with an interval in the tables."""
COLUMNS = ("MAP@5", "MRR@10", "nDCG@10", "Recall@10", "Recall@100", "Recall@1000", "Top-1", "Top-10", CLICKS)
"""Measures of the tables; Hit@10 is Recall@10 where one item is relevant, and is left to the JSON file."""
COMPARED = ("MAP@5", "MRR@10", "nDCG@10", "Recall@10", "Recall@100", "Top-1", "Top-10")
"""Measures that come with a paired interval in the JSON file; the tables show the first."""
JUDGED_COLUMNS = ("nDCG@10", "MRR@10", "Recall@100", "Recall@1000", "AUC", "AUC within queries")
"""Measures of the table of judged queries."""


@dataclass(frozen=True)
class Result:
    """One retriever on one slice of the examples."""

    slice: str
    retriever: str
    examples: int
    metrics: dict[str, float]
    half_widths: dict[str, float]
    """Half of the 95 % interval of every metric."""


class Interval(NamedTuple):
    """A mean and the ends of its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """What one retriever has over another on the same clicks of a slice."""

    slice: str
    retriever: str
    baseline: str
    metrics: dict[str, Interval]


@dataclass(frozen=True)
class Judged:
    """Every retriever on the judged queries."""

    queries: int
    """Queries with a relevant item."""
    pairs: int
    unknown_items: int
    """Pairs that were left out because the catalogue does not have the item."""
    positive_from: float
    results: list[Result]
    differences: list[Difference]


@dataclass(frozen=True)
class Report:
    """Every retriever on every slice, and what is needed to read and to repeat the numbers."""

    name: str
    split: str
    split_size: int
    """Interactions of the split, of which the examples may be a sample."""
    num_items: int
    candidates: int
    """Items that Top-k is measured among."""
    weights: dict[str, float]
    """Of the retrievers that mix two: of log(1 + clicks) and of the model beside BM25."""
    mixing_ratio: float
    """alpha: the share of random negatives in training."""
    seed: int
    machine: dict[str, Any]
    results: list[Result]
    differences: list[Difference] = field(default_factory=list)
    """The trained model against each other retriever."""
    judged: Judged | None = None
    retrieval_ms: dict[str, float] = field(default_factory=dict, compare=False)
    """Median time from one text to its 1,000 best items by exact search."""

    def result(self, retriever: str, slice_name: str = ALL) -> Result:
        """The result of one retriever on one slice.

        Raises:
            KeyError: there is none.
        """
        for result in self.results:
            if (result.retriever, result.slice) == (retriever, slice_name):
                return result
        known = ", ".join(f"{result.retriever} / {result.slice}" for result in self.results)
        raise KeyError(f"no result of {retriever} / {slice_name} (there are: {known})")

    def to_text(self) -> str:
        """The tables as plain text."""
        return self._render("simple", "{}", "{}")

    def to_markdown(self) -> str:
        """The tables as Markdown."""
        return self._render("github", "### {}", "**{}**")

    def tables(self, table_format: str) -> list[tuple[str, str]]:
        """Every table with what it is about, in a format of tabulate."""
        found = []
        for name in self._slices():
            if name in IN_FULL:
                results, differences = self._slice(name)
                about = f"{name} ({results[0].examples:,} clicks)"
                found.append((about, _table(results, differences, COLUMNS, HEADLINES, table_format)))
        others = [name for name in self._slices() if name not in IN_FULL]
        if others:
            found.append((f"{COMPARED[0]} by kind of query", self._kinds(others, table_format)))
        if self.judged is not None:
            about = f"{self.judged.queries:,} judged queries, {self.judged.pairs:,} pairs"
            headline = JUDGED_COLUMNS[:1]
            table = _table(self.judged.results, self.judged.differences, JUDGED_COLUMNS, headline, table_format)
            found.append((about, table))
        return found

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object, in full precision.

        ``retrievers.<name>.<measure>`` (``map_5``, ``top_1``, ...) and ``half_widths`` alike are over all examples, and
        so is ``differences.<baseline>.<measure>`` (``mean``, ``low``, ``high``), the model minus the baseline;
        ``slices.<slice>`` has the same keys for a slice, and ``judged`` for the judged queries.
        """
        slices = {name: _to_json(*self._slice(name)) for name in self._slices()}
        facts = {key: value for key, value in asdict(self).items() if key not in ("results", "differences", "judged")}
        judged = None
        if self.judged is not None:
            judged = {key: getattr(self.judged, key) for key in ("queries", "pairs", "unknown_items", "positive_from")}
            judged |= _to_json(self.judged.results, self.judged.differences)
        return facts | slices.pop(ALL) | {"judged": judged, "slices": slices}

    def write(self, directory: Path) -> Path:
        """Writes ``metrics.json`` to a directory, which is made if need be; returns the file's path."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "metrics.json"
        beside = path.with_suffix(".json.partial")
        beside.write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")
        beside.rename(path)
        return path

    def _slices(self) -> list[str]:
        return list(dict.fromkeys(result.slice for result in self.results))

    def _slice(self, name: str) -> tuple[list[Result], list[Difference]]:
        results = [result for result in self.results if result.slice == name]
        return results, [difference for difference in self.differences if difference.slice == name]

    def _render(self, table_format: str, title: str, heading: str) -> str:
        parts = [title.format(f"{self.name}, {self.split} split"), self.facts()]
        parts += [heading.format(about) + "\n\n" + table for about, table in self.tables(table_format)]
        return "\n\n".join(parts)

    def _kinds(self, slices: list[str], table_format: str) -> str:
        rows = []
        for name in slices:
            results, _ = self._slice(name)
            rows.append([name, f"{results[0].examples:,}", *(f"{each.metrics[COMPARED[0]]:.3f}" for each in results)])
        headers = ["queries", "clicks", *(each.retriever for each in self._slice(slices[0])[0])]
        return _tabulate(rows, headers, table_format)

    def facts(self) -> str:
        """How the numbers came about, in a few lines."""
        weights = ", ".join(f"{name} {weight:g}" for name, weight in self.weights.items())
        times = ""
        if self.retrieval_ms:
            listed = ", ".join(f"{name} {value:.1f}" for name, value in self.retrieval_ms.items())
            times = f"\nMilliseconds from one text to its 1,000 best items by exact search: {listed}."
        machine = ", ".join(f"{key} {value}" for key, value in self.machine.items())
        return (
            f"{self.split_size:,} interactions in the split; {self.num_items:,} items, all of them ranked; Top-k among "
            f"{self.candidates:,} candidates; ± is half a 95 % interval over queries, [ ] a paired one; "
            f"weights: {weights}; seed {self.seed}.{times}\n{machine}."
        )


def describe_machine() -> dict[str, Any]:
    """What the numbers were made on: cores, processor and versions; nothing that names the machine."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu": _processor(),
        "python": platform.python_version(),
        "tensorflow": version("tensorflow"),
        "numpy": version("numpy"),
        "dpsr": dpsr.__version__,
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _with_json_keys(measures: dict[str, T]) -> dict[str, T]:
    return {
        name.lower().replace("@", "_").replace("-", "_").replace(" ", "_"): value for name, value in measures.items()
    }


def _to_json(results: list[Result], differences: list[Difference]) -> dict[str, Any]:
    return {
        "examples": results[0].examples,
        "retrievers": {
            result.retriever: {
                key: None if isnan(value) else value for key, value in _with_json_keys(result.metrics).items()
            }
            for result in results
        },
        "half_widths": {result.retriever: _with_json_keys(result.half_widths) for result in results},
        "differences": {
            difference.baseline: {key: found._asdict() for key, found in _with_json_keys(difference.metrics).items()}
            for difference in differences
        },
    }


def _table(
    results: list[Result],
    differences: list[Difference],
    columns: Sequence[str],
    with_interval: Sequence[str],
    table_format: str,
) -> str:
    """A row for each retriever; the last column is what the compared one has over it in the first measure."""
    rows = [[result.retriever, *(_cell(result, column, with_interval) for column in columns)] for result in results]
    headers = ["retriever", *columns]
    if differences:
        headers.append(f"{differences[0].retriever} minus it, {columns[0]}")
        found = {difference.baseline: _signed(difference.metrics[columns[0]]) for difference in differences}
        rows = [[*row, found.get(row[0], "")] for row in rows]
    return _tabulate(rows, headers, table_format)


def _tabulate(rows: list[list[str]], headers: list[str], table_format: str) -> str:
    alignment = ["left", *("right" for _ in headers[1:])]
    return tabulate(rows, headers=headers, tablefmt=table_format, disable_numparse=True, colalign=alignment)


def _cell(result: Result, column: str, with_interval: Sequence[str]) -> str:
    if column == CLICKS:
        return f"{result.metrics[column]:,.0f}"
    value = f"{result.metrics[column]:.3f}"
    return f"{value} ± {result.half_widths[column]:.3f}" if column in with_interval else value


def _signed(found: Interval) -> str:
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
