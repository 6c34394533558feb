"""Measures of one method from its ranked lists, kept beside them: another metric runs no method again."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from dpsr.evaluation.compare import lists
from dpsr.evaluation.compare.inputs import Inputs
from dpsr.evaluation.compare.lists import read_array, read_whole, write_beside
from dpsr.evaluation.measures.clicks import list_values
from dpsr.evaluation.measures.judgements import JUDGED_MEASURES, Judgements, areas, judged_list_values
from dpsr.evaluation.measures.matches import MATCH_MEASURES
from dpsr.evaluation.measures.metrics import CLICKS, RANKED_DEPTH, RANKED_MEASURES, TOP_K, top_k_values

_NAMES = (*RANKED_MEASURES, *TOP_K, CLICKS, *JUDGED_MEASURES, *MATCH_MEASURES)
_STAMP = "lists"


@dataclass
class ModelValues:
    """Values of one method; a measure that the method does not allow is absent."""

    clicks: dict[str, np.ndarray] = field(default_factory=dict)
    """Measure -> float64 [examples]."""
    typos: dict[str, np.ndarray] = field(default_factory=dict)
    """Of the examples with one typo."""
    judged: dict[str, np.ndarray] = field(default_factory=dict)
    """Of the judged queries with a relevant item."""
    areas: dict[str, float] = field(default_factory=dict)
    """Areas under the curve of the judged pairs."""


def oracle_values(judgements: Judgements) -> ModelValues:
    """Computes the values of the order by label, the judged items alone: no method exceeds them on judged queries."""
    rows = judgements.answerable()
    width = max(len(judgements.items[row]) for row in rows)
    items = np.full((len(rows), width), -1, np.int32)
    for target, row in zip(items, rows, strict=True):
        # A pair that is judged twice has the higher label.
        best_first = judgements.items[row][np.argsort(-judgements.labels[row], kind="stable")]
        _, first = np.unique(best_first, return_index=True)
        target[: len(first)] = best_first[np.sort(first)]
    values = judged_list_values(items[:, :RANKED_DEPTH], judgements, rows)
    return ModelValues(judged=values, areas=areas(list(judgements.labels), judgements))


def model_values(path: Path, inputs: Inputs, counts: np.ndarray) -> ModelValues:
    """Computes the values of a method, or reads them of an earlier comparison.

    Args:
        path: file of the lists.
        inputs: what they are lists of.
        counts: clicks of every item in the train split, int64 [items].
    """
    digest = sha256("|".join(_NAMES).encode()).hexdigest()[:8]
    cache = inputs.directory / "measures" / f"{path.stem}-{digest}.npz"
    stat = path.stat()
    stamp = np.array([stat.st_size, stat.st_mtime_ns])
    stored = read_whole(cache)
    if stored is None or not np.array_equal(stored[_STAMP], stamp):
        stored = _computed(path, inputs, counts) | {_STAMP: stamp}
        named: dict[str, Any] = stored
        write_beside(cache, lambda file: np.savez(file, **named))
    found = ModelValues()
    for key, value in stored.items():
        kind, _, measure = key.partition("/")
        if kind == "areas":
            found.areas[measure] = float(value)
        elif kind != _STAMP:
            getattr(found, kind)[measure] = value
    return found


def _computed(path: Path, inputs: Inputs, counts: np.ndarray) -> dict[str, np.ndarray]:
    """All values by ``<kind>/<measure>``; the lists of one kind are in memory at a time."""
    found: dict[str, np.ndarray] = {}
    variants = (
        (lists.CLICKS, inputs.examples, lists.CLICK_RANKS),
        (lists.TYPOS, inputs.typos, lists.TYPO_RANKS),
    )
    for kind, examples, ranks_name in variants:
        items, ranks = read_array(path, kind), read_array(path, ranks_name)
        values = {} if items is None else list_values(items, examples, counts)
        values |= {} if ranks is None else top_k_values(ranks)
        found |= {f"{kind}/{measure}": value for measure, value in values.items()}
    judgements = inputs.judgements
    if judgements is None:
        return found
    items, scores = read_array(path, lists.JUDGED), read_array(path, lists.PAIR_SCORES)
    if items is not None:
        values = judged_list_values(items, judgements, judgements.answerable())
        found |= {f"{lists.JUDGED}/{measure}": value for measure, value in values.items()}
    if scores is not None:
        cuts = np.cumsum([len(each) for each in judgements.items])[:-1]
        pair_areas = areas(np.split(scores, cuts), judgements)
        found |= {f"areas/{measure}": np.array(value) for measure, value in pair_areas.items()}
    return found
