"""Compares trained models of one dataset, BM25 and click memory on the same clicks and candidates.

    python benchmarks/large_shop.py build/dpsr build/dpsr_p build/dpsr_h --labels build/large_shop/relevance.parquet

prints Top-1 and Top-10 among 1,024 items, the area under the curve of the judged pairs, and the Top-1 of every model
minus that of the one before it. Models score the candidates only, which affords more clicks than ``dpsr evaluate``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from tabulate import tabulate

from dpsr.baselines.context import BuildContext
from dpsr.baselines.examples import QueryExamples, load_examples
from dpsr.baselines.exhaustive import ExhaustiveRetriever, queries_at_once
from dpsr.baselines.ranking import ranks_of_first
from dpsr.baselines.registry import ENTRIES
from dpsr.baselines.two_tower import TwoTowerRetriever
from dpsr.config import LabelsConfig
from dpsr.data.dataset.tables import Dataset
from dpsr.evaluation.measures.intervals import bootstrap_means, half_width, interval
from dpsr.evaluation.measures.judgements import areas_under_curve, load_judgements
from dpsr.evaluation.measures.metrics import sample_candidates, top_k_values
from dpsr.indexing.corpus import embed_items
from dpsr.model.trained import load_trained

ROWS = 256
CANDIDATES = 1024


def scores_of_model(
    retriever: TwoTowerRetriever, vectors: np.ndarray, batch: QueryExamples, drawn: np.ndarray
) -> np.ndarray:
    """Scores candidates by their best head, float32 [n, candidates]."""
    return np.einsum("bmd,bcd->bmc", retriever.query_heads(batch), vectors[drawn], optimize=True).max(axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="work directories of runs on one dataset")
    parser.add_argument("--labels", type=Path, help="the shop's true grades")
    parser.add_argument("--examples", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    dataset = Dataset.load(arguments.runs[0] / "dataset")
    examples = load_examples(dataset, "test", max_examples=arguments.examples, seed=arguments.seed)
    items = dataset.schema.num_items
    drawn = sample_candidates(examples.item_rows, items, CANDIDATES, seed=arguments.seed)
    context = BuildContext(dataset, ENTRIES, arguments.seed, progress=False)
    retrievers: dict[str, ExhaustiveRetriever] = {name: context.exhaustive(name) for name in ("bm25", "memory")}
    vectors = {}
    for run in arguments.runs:
        model = load_trained(run / "checkpoints", dataset)
        vectors[run.name] = embed_items(model, dataset, progress=False)
        retrievers[run.name] = TwoTowerRetriever(model, dataset, vectors[run.name])

    values: dict[str, dict[str, np.ndarray]] = {}
    for name, retriever in retrievers.items():
        size = ROWS if name in vectors else queries_at_once(items)
        ranks = []
        for start in range(0, len(examples), size):
            batch, candidates = examples.take(slice(start, start + size)), drawn[start : start + size]
            if isinstance(retriever, TwoTowerRetriever):
                scores = scores_of_model(retriever, vectors[name], batch, candidates)
            else:
                scores = retriever.score(batch, candidates)
            ranks.append(ranks_of_first(scores, candidates, batch.tie_keys))
        values[name] = top_k_values(np.concatenate(ranks))
        print(name, float(values[name]["Top-1"].mean()), flush=True)

    queries = examples.records["query"]
    rows, before = [], ""
    for name, each in values.items():
        means = [f"{value.mean():.4f} ± {half_width(value, queries):.4f}" for value in each.values()]
        difference = ""
        if before:
            change = each["Top-1"] - values[before]["Top-1"]
            samples = bootstrap_means(change[:, np.newaxis], queries, seed=arguments.seed)
            found = interval(float(change.mean()), None if samples is None else samples[:, 0])
            difference = f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
        ratio = f"{each['Top-1'].mean() / values['bm25']['Top-1'].mean():.2f}"
        rows.append([name, *means, ratio, difference])
        before = name
    print(f"{len(examples):,} clicks of the test split, {len(np.unique(queries)):,} queries, {items:,} items")
    print(tabulate(rows, headers=["", "Top-1", "Top-10", "over bm25", "Top-1 minus the row above"], tablefmt="github"))
    if arguments.labels:
        labels = LabelsConfig(path=str(arguments.labels), columns={"label": "grade"}, positive_from=2)
        judged = load_judgements(labels, dataset, seed=arguments.seed)
        areas = areas_under_curve(retrievers, judged, num_items=items)
        print(tabulate([[name, *area.values()] for name, area in areas.items()], ["", "AUC", "AUC within queries"]))


if __name__ == "__main__":
    main()
