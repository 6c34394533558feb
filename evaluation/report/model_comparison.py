"""A comparison of many models as plain data, and its JSON file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dpsr.data.dataset.schema import DatasetError
from dpsr.evaluation.measures.cases import Case
from dpsr.evaluation.measures.slices import ALL
from dpsr.evaluation.report.costs import Cost
from dpsr.evaluation.report.metrics_json import report_json, write_json
from dpsr.evaluation.report.results import Comparison, Report, Result

QUALITY = "nDCG@10"
"""The measure that orders the models, and that a choice goes by."""
ORACLE = "oracle"
"""The order of the judged items by label, which no method exceeds on judged queries."""
FILE = "comparison.json"


@dataclass(frozen=True)
class ModelComparison:
    """Models measured on the same examples, and what each costs."""

    report: Report
    """Measures, differences and times; the subject of its differences is ``best``."""
    costs: list[Cost]
    best: str
    """The model of the highest quality."""
    log_clicks: int
    """Clicks of the train split; 0 without a log, where queries are sampled from the items."""
    labelled_pairs: int
    """Labelled pairs that models may learn from."""
    cases: dict[str, list[Case]] = field(default_factory=dict, compare=False)
    """Model -> clicks that it does not find and another one does."""
    failed: dict[str, str] = field(default_factory=dict)
    """Models that could not be measured, and why."""

    @property
    def by_clicks(self) -> bool:
        """Whether quality is that of clicks; without a log it is that of judged queries, where there are some."""
        return self.log_clicks > 0 or self.report.judged is None

    def quality(self) -> Comparison:
        """Returns the results that the quality is read of: all clicks, or judged queries."""
        judged = self.report.judged
        return self.report.comparison.of_slice(ALL) if self.by_clicks or judged is None else judged.comparison

    def cost(self, name: str) -> Cost:
        """Returns the cost of a model."""
        return next(cost for cost in self.costs if cost.retriever == name)


@dataclass(frozen=True)
class EvidenceRow:
    """One measured model: what a choice is made from."""

    model: str
    quality: float
    standard_error: float
    milliseconds: float
    training_seconds: float | None
    index_bytes: int | None
    needs: tuple[str, ...]


@dataclass(frozen=True)
class Evidence:
    """The measured models of one shop."""

    name: str
    measure: str
    """What ``quality`` is, with the split or the judged queries that it is of."""
    log_clicks: int
    items: int
    labelled_pairs: int
    rows: list[EvidenceRow]


def evidence(comparison: ModelComparison) -> Evidence:
    """Returns quality and cost of every model that has both."""
    report, costs = comparison.report, {cost.retriever: cost for cost in comparison.costs}
    rows = []
    for result in comparison.quality().results:
        cost = costs[result.retriever]
        if QUALITY in result.intervals and cost.milliseconds is not None:
            found = result.intervals[QUALITY]
            training = cost.training.seconds if cost.training else None
            row = EvidenceRow(
                result.retriever,
                found.mean,
                found.standard_error,
                cost.milliseconds,
                training,
                cost.index_bytes,
                cost.needs,
            )
            rows.append(row)
    what = f"{report.split} clicks" if comparison.by_clicks else "judged queries"
    name, measure = report.name, f"{QUALITY} of {what}"
    return Evidence(name, measure, comparison.log_clicks, report.num_items, comparison.labelled_pairs, rows)


def comparison_json(comparison: ModelComparison, own: Evidence) -> dict[str, Any]:
    """Returns the JSON object: that of ``report_json``, and ``costs``, ``evidence``, ``best`` and ``failed``."""
    costs = {cost.retriever: asdict(cost) for cost in comparison.costs}
    extra = {"best": comparison.best, "costs": costs, "evidence": asdict(own), "failed": comparison.failed}
    return report_json(comparison.report) | extra


def write_comparison(comparison: ModelComparison, own: Evidence, directory: Path) -> Path:
    """Writes ``comparison.json`` into a directory; returns the file's path."""
    return write_json(comparison_json(comparison, own), directory / FILE)


def read_evidence(path: Path) -> Evidence:
    """Reads the evidence of another comparison.

    Raises:
        DatasetError: the file is missing, or no ``comparison.json``.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["evidence"]
        rows = [EvidenceRow(**{**row, "needs": tuple(row["needs"])}) for row in found["rows"]]
        return Evidence(**{**found, "rows": rows})
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}; name the {FILE} of another comparison") from None
    except (ValueError, KeyError, TypeError):
        raise DatasetError(f"{path}: expected a {FILE} that `dpsr compare` wrote; compare that shop again") from None


def by_quality(comparison: ModelComparison) -> list[Result]:
    """Returns the results of ``quality``, the best first; models without the measure last."""
    return sorted(comparison.quality().results, key=lambda result: -result.metrics.get(QUALITY, -1.0))
