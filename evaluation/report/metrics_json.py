"""The file ``metrics.json``: a report in full precision, for programs; written here, and read of other runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import Any, TypeVar

from dpsr.data.dataset.schema import DatasetError
from dpsr.evaluation.measures.intervals import Interval
from dpsr.evaluation.measures.polysemy import HeadSenses
from dpsr.evaluation.measures.slices import ALL
from dpsr.evaluation.report.results import Comparison, Report

FILE = "metrics.json"
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
T = TypeVar("T")


def report_json(report: Report) -> dict[str, Any]:
    """Returns the report as a JSON object.

    ``retrievers.<name>.<measure>`` (``map_5``, ``top_1``, ...) and ``half_widths`` alike are over all examples, and so
    are ``intervals``, ``differences.<baseline>.<measure>`` (``mean``, ``low``, ``high``, ``standard_error``), the model
    minus the baseline, and ``over_bm25.<retriever>.<measure>``, a method minus BM25. ``slices.<slice>`` has the same
    keys for a slice, ``judged`` for the judged queries. A measure that a method does not allow is absent.
    """
    slices = {name: _comparison_json(report.comparison.of_slice(name)) for name in report.comparison.slices()}
    facts = {key: getattr(report, key) for key in _FACTS}
    judged = None
    if report.judged is not None:
        judged = {key: getattr(report.judged, key) for key in ("queries", "pairs", "unknown_items", "positive_from")}
        judged |= _comparison_json(report.judged.comparison)
    times = {time.retriever: asdict(time) for time in report.retrieval}
    heads = polysemy_json(report.senses) if report.senses else None
    return facts | {"retrieval": times, "polysemy": heads} | slices.pop(ALL) | {"judged": judged, "slices": slices}


def write_metrics(report: Report, directory: Path) -> Path:
    """Writes ``metrics.json`` into a directory, made if missing; returns the file's path."""
    return write_json(report_json(report), directory / FILE)


def write_json(content: dict[str, Any], path: Path) -> Path:
    """Writes a JSON file beside its place and renames it; its directory is made if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".json.partial")
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    partial.rename(path)
    return path


def read_metrics(path: Path) -> dict[str, Any]:
    """Reads the ``metrics.json`` of another run.

    Raises:
        DatasetError: the file is missing, or is of an earlier version.
    """
    try:
        run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        float(run["mixing_ratio"])
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}; name the {FILE} of another run") from None
    except (ValueError, KeyError, TypeError):
        raise DatasetError(f"{path}: expected a {FILE} with a mixing ratio; evaluate that run again") from None
    return run


def measure_key(name: str) -> str:
    """Returns the JSON key of a measure: ``MAP@5`` -> ``map_5``."""
    return name.lower().replace("@", "_").replace("-", "_").replace(" ", "_")


def polysemy_json(senses: list[HeadSenses]) -> dict[str, Any]:
    """Returns shares of queries whose heads differ and whose merged list covers two senses, and each query's shares."""
    return {
        "queries": len(senses),
        "parted": sum(each.parted for each in senses) / len(senses),
        "covered": sum(each.covered for each in senses) / len(senses),
        "shares": {
            each.senses.query: {name: each.shares[:, place].tolist() for place, name in enumerate(each.senses.names)}
            for each in senses
        },
    }


def _comparison_json(comparison: Comparison) -> dict[str, Any]:
    results = comparison.results
    return {
        "examples": results[0].examples,
        "retrievers": {
            result.retriever: {
                key: None if isnan(value) else value for key, value in _with_keys(result.metrics).items()
            }
            for result in results
        },
        "half_widths": {result.retriever: _with_keys(result.half_widths) for result in results},
        "intervals": {result.retriever: _intervals(result.intervals) for result in results},
        "differences": {each.baseline: _intervals(each.metrics) for each in comparison.differences},
        "over_bm25": {each.retriever: _intervals(each.metrics) for each in comparison.over_reference},
    }


def _with_keys(measures: dict[str, T]) -> dict[str, T]:
    return {measure_key(name): value for name, value in measures.items()}


def _intervals(found: dict[str, Interval]) -> dict[str, dict[str, float]]:
    return {key: value._asdict() for key, value in _with_keys(found).items()}
