"""The results of a run: tables for people (``tables``), JSON for programs."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import dpsr
from dpsr.evaluation.measures.paired import Interval
from dpsr.evaluation.measures.slices import ALL
from dpsr.evaluation.measures.timing import RetrievalTime
from dpsr.evaluation.report.tables import tables

if TYPE_CHECKING:
    from dpsr.evaluation.measures.polysemy import HeadSenses

T = TypeVar("T")


@dataclass(frozen=True)
class Result:
    """One retriever on one slice of the examples."""

    slice: str
    retriever: str
    examples: int
    metrics: dict[str, float]
    half_widths: dict[str, float]
    """Half of the 95 % interval of every metric, by its linearised variance."""
    intervals: dict[str, Interval] = field(default_factory=dict)
    """Of the measures that are compared, by bootstrap."""


@dataclass(frozen=True)
class Difference:
    """What one retriever has over another on the same clicks of a slice."""

    slice: str
    retriever: str
    baseline: str
    metrics: dict[str, Interval]


@dataclass(frozen=True)
class Comparison:
    """Results, and what two sides have over each other on the same clicks."""

    results: list[Result]
    differences: list[Difference] = field(default_factory=list)
    """The subject of the evaluation, the trained model, against each other retriever."""
    over_reference: list[Difference] = field(default_factory=list)
    """Each other retriever against the reference, BM25."""

    def of_slice(self, name: str) -> Comparison:
        """What belongs to one slice."""
        return Comparison(
            [result for result in self.results if result.slice == name],
            [difference for difference in self.differences if difference.slice == name],
            [difference for difference in self.over_reference if difference.slice == name],
        )

    def slices(self) -> list[str]:
        """The names of the slices, in their order."""
        return list(dict.fromkeys(result.slice for result in self.results))


@dataclass(frozen=True)
class Judged:
    """Every retriever on the judged queries."""

    queries: int
    """Queries with a relevant item."""
    pairs: int
    unknown_items: int
    """Pairs that were left out because the catalogue does not have the item."""
    positive_from: float
    comparison: Comparison

    @property
    def results(self) -> list[Result]:
        """Of every retriever."""
        return self.comparison.results

    @property
    def differences(self) -> list[Difference]:
        """The trained model against each other retriever."""
        return self.comparison.differences


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
    comparison: Comparison
    judged: Judged | None = None
    notes: list[str] = field(default_factory=list)
    """What a reader has to know beside the numbers, a sentence each."""
    senses: list[HeadSenses] = field(default_factory=list, compare=False)
    """Which meanings of queries with several the heads find."""
    retrieval: list[RetrievalTime] = field(default_factory=list, compare=False)
    """From one text to its 1,000 best items."""

    @property
    def results(self) -> list[Result]:
        """Of every retriever on every slice."""
        return self.comparison.results

    @property
    def differences(self) -> list[Difference]:
        """The trained model against each other retriever."""
        return self.comparison.differences

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
        so are ``intervals``, ``differences.<baseline>.<measure>`` (``mean``, ``low``, ``high``, ``standard_error``),
        the model minus the baseline, and ``over_bm25.<retriever>.<measure>``, a retriever minus BM25;
        ``slices.<slice>`` has the same keys for a slice, and ``judged`` for the judged queries.
        """
        slices = {name: _to_json(self.comparison.of_slice(name)) for name in self.comparison.slices()}
        facts = {key: getattr(self, key) for key in _FACTS}
        judged = None
        if self.judged is not None:
            judged = {key: getattr(self.judged, key) for key in ("queries", "pairs", "unknown_items", "positive_from")}
            judged |= _to_json(self.judged.comparison)
        times = {time.retriever: asdict(time) for time in self.retrieval}
        heads = polysemy_json(self.senses) if self.senses else None
        return facts | {"retrieval": times, "polysemy": heads} | slices.pop(ALL) | {"judged": judged, "slices": slices}

    def write(self, directory: Path) -> Path:
        """Writes ``metrics.json`` to a directory, which is made if need be; returns the file's path."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "metrics.json"
        beside = path.with_suffix(".json.partial")
        beside.write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")
        beside.rename(path)
        return path

    def facts(self) -> str:
        """How the numbers came about, in a few lines."""
        weights = ", ".join(f"{name} {weight:g}" for name, weight in self.weights.items())
        machine = ", ".join(f"{key} {value}" for key, value in self.machine.items())
        notes = "".join(f"\n{note}" for note in self.notes)
        return (
            f"{self.split_size:,} interactions in the split; {self.num_items:,} items, all of them ranked; Top-k among "
            f"{self.candidates:,} candidates; ± is half a 95 % interval over queries, [ ] a paired one; "
            f"weights: {weights}; seed {self.seed}.\n{machine}.{notes}"
        )

    def _render(self, table_format: str, title: str, heading: str) -> str:
        parts = [title.format(f"{self.name}, {self.split} split"), self.facts()]
        parts += [f"{heading.format(table.title)}\n\n{table.render(table_format)}" for table in tables(self)]
        return "\n\n".join(parts)


_FACTS = (
    "name",
    "split",
    "split_size",
    "num_items",
    "candidates",
    "weights",
    "mixing_ratio",
    "seed",
    "machine",
    "notes",
)


def polysemy_json(senses: list[HeadSenses]) -> dict[str, Any]:
    """Shares of the queries whose heads part, and whose merged list covers two meanings; and each query's shares."""
    return {
        "queries": len(senses),
        "parted": sum(each.parted for each in senses) / len(senses),
        "covered": sum(each.covered for each in senses) / len(senses),
        "shares": {
            each.senses.query: {name: each.shares[:, place].tolist() for place, name in enumerate(each.senses.names)}
            for each in senses
        },
    }


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


def _intervals(found: dict[str, Interval]) -> dict[str, dict[str, float]]:
    return {key: value._asdict() for key, value in _with_json_keys(found).items()}


def _to_json(comparison: Comparison) -> dict[str, Any]:
    results = comparison.results
    return {
        "examples": results[0].examples,
        "retrievers": {
            result.retriever: {
                key: None if isnan(value) else value for key, value in _with_json_keys(result.metrics).items()
            }
            for result in results
        },
        "half_widths": {result.retriever: _with_json_keys(result.half_widths) for result in results},
        "intervals": {result.retriever: _intervals(result.intervals) for result in results},
        "differences": {each.baseline: _intervals(each.metrics) for each in comparison.differences},
        "over_bm25": {each.retriever: _intervals(each.metrics) for each in comparison.over_reference},
    }
