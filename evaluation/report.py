"""The results of a run: a table for people, JSON for programs."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from tabulate import tabulate

import dpsr

T = TypeVar("T")

ALL = "all"
"""The slice of all examples."""
HEADLINES = ("MAP@5", "Top-1")
"""Measures that come with an interval in the tables."""
COLUMNS = ("MAP@5", "MRR@10", "nDCG@10", "Recall@10", "Recall@100", "Recall@1000", "Top-1", "Top-10")
"""Measures of the tables; Hit@10 is Recall@10 where one item is relevant, and is left to the JSON file."""
COMPARED = ("MAP@5", "MRR@10", "nDCG@10", "Recall@10", "Recall@100", "Top-1", "Top-10")
"""Measures that come with a paired interval in the JSON file; the tables show the first."""


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
    seed: int
    machine: dict[str, Any]
    results: list[Result]
    differences: list[Difference] = field(default_factory=list)
    """The trained model against each other retriever."""

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

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object, in full precision.

        ``retrievers.<name>.<measure>`` (``map_5``, ``top_1``, ...) and ``half_widths`` alike are over all examples, and
        so is ``differences.<baseline>.<measure>`` (``mean``, ``low``, ``high``), the model minus the baseline;
        ``slices.<slice>`` has the same keys for a slice.
        """
        slices = {name: self._slice_to_json(name) for name in self._slices()}
        facts = {key: value for key, value in asdict(self).items() if key not in ("results", "differences")}
        return facts | slices.pop(ALL) | {"slices": slices}

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

    def _slice_to_json(self, name: str) -> dict[str, Any]:
        results = [result for result in self.results if result.slice == name]
        return {
            "examples": results[0].examples,
            "retrievers": {result.retriever: _with_json_keys(result.metrics) for result in results},
            "half_widths": {result.retriever: _with_json_keys(result.half_widths) for result in results},
            "differences": {
                difference.baseline: {
                    key: found._asdict() for key, found in _with_json_keys(difference.metrics).items()
                }
                for difference in self.differences
                if difference.slice == name
            },
        }

    def _render(self, table_format: str, title: str, heading: str) -> str:
        parts = [title.format(f"{self.name}, {self.split} split"), self._facts()]
        for name in self._slices():
            results = [result for result in self.results if result.slice == name]
            rows = [[result.retriever, *(_cell(result, column) for column in COLUMNS)] for result in results]
            headers = ["retriever", *COLUMNS]
            compared = {difference.baseline: difference for difference in self.differences if difference.slice == name}
            if compared:
                headers.append(f"{next(iter(compared.values())).retriever} minus it, {COMPARED[0]}")
                rows = [
                    [*row, _signed(compared[row[0]].metrics[COMPARED[0]]) if row[0] in compared else ""] for row in rows
                ]
            table = tabulate(
                rows,
                headers=headers,
                tablefmt=table_format,
                disable_numparse=True,
                colalign=["left", *("right" for _ in headers[1:])],
            )
            parts.append(heading.format(f"{name} ({results[0].examples:,} clicks)") + "\n\n" + table)
        return "\n\n".join(parts)

    def _facts(self) -> str:
        weights = ", ".join(f"{name} {weight:g}" for name, weight in self.weights.items())
        machine = ", ".join(f"{key} {value}" for key, value in self.machine.items())
        return (
            f"{self.split_size:,} interactions in the split; {self.num_items:,} items, all of them ranked; Top-k among "
            f"{self.candidates:,} candidates; ± is half a 95 % interval over queries, [ ] a paired one; "
            f"weights: {weights}; seed {self.seed}.\n{machine}."
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
    return {name.lower().replace("@", "_").replace("-", "_"): value for name, value in measures.items()}


def _cell(result: Result, column: str) -> str:
    value = f"{result.metrics[column]:.3f}"
    return f"{value} ± {result.half_widths[column]:.3f}" if column in HEADLINES else value


def _signed(found: Interval) -> str:
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
