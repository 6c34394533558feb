"""A small comparison of models, whose names and texts would be markup if they were not escaped."""

from __future__ import annotations

import numpy as np

from dpsr.evaluation.compare.comparison import summarise
from dpsr.evaluation.measures.cases import Case
from dpsr.evaluation.measures.slices import ALL
from dpsr.evaluation.report.costs import Cost, TrainingCost
from dpsr.evaluation.report.model_comparison import ModelComparison
from dpsr.evaluation.report.results import Report


def small_comparison(another: str | None = None) -> ModelComparison:
    """Three models that find items, ``another`` if it is named, and one that scores pairs alone."""
    rng = np.random.default_rng(2)
    names: dict[str, float | None] = {"bm25": 0.3, "lsa": 0.4, "<b>odd</b>": 0.2, "scorer": None}
    if another is not None:
        names[another] = 0.35
    measures = ("MAP@5", "MRR@10", "nDCG@10", "Recall@10", "Recall@100", "Top-1", "Top-10")
    values = {
        name: {} if mean is None else {key: (rng.random(60) < mean).astype(float) for key in measures}
        for name, mean in names.items()
    }
    found = summarise(ALL, values, np.arange(60) // 2, measures, subject="lsa", reference="bm25", seed=1)
    report = Report("shop", "test", 60, 500, 40, {}, 0.5, 1, {"cores": 2}, found, notes=["<script>note"])
    costs = [
        Cost(name, ("clicks",) if name == "lsa" else (), TrainingCost(2.0, 3.0, 1 << 30), None, 1.5 if mean else None)
        for name, mean in names.items()
    ]
    case = Case("<i>query", "clicked", 1.0, ["x"], ["clicked"], ("lsa", "bm25"))
    cases = {"lsa": [case], "bm25": []} | ({} if another is None else {another: [case]})
    return ModelComparison(report, costs, "lsa", 1_000, 0, cases, {})
