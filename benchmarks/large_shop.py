"""Compares trained models of one dataset, BM25 and the memory of clicks on the same clicks and candidates.

    python benchmarks/large_shop.py build/dpsr build/dpsr_p build/dpsr_h --labels build/large_shop/relevance.parquet

prints Top-1 and Top-10 among 1,024 items, the area under the curve of the judged pairs, and what every model has over
the one before it. Scores only the candidates, so that many more clicks can be asked than in ``dpsr evaluate``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from tabulate import tabulate

from dpsr.baselines.baselines import (
    DEFAULT_POPULARITY_WEIGHT,
    BM25PopularityRetriever,
    BM25Retriever,
    MemoryRetriever,
    click_counts,
    tokenizer_words,
)
from dpsr.baselines.examples import Examples, load_examples
from dpsr.baselines.ranking import ranks_of_first
from dpsr.baselines.retrievers import Retriever, queries_at_once
from dpsr.baselines.two_tower import TwoTowerRetriever
from dpsr.config import LabelsConfig
from dpsr.data.dataset.tables import Dataset
from dpsr.evaluation.compare.benchmark_suite import item_texts
from dpsr.evaluation.measures.judgements import areas_under_curve, load_judgements
from dpsr.evaluation.measures.metrics import half_width, sample_candidates, top_k_values
from dpsr.evaluation.measures.paired import paired_intervals
from dpsr.indexing.corpus import embed_items
from dpsr.tokenizer_cc import Tokenizer
from dpsr.training.trained import load_trained

ROWS = 256
CANDIDATES = 1024


def scores_of_model(retriever: TwoTowerRetriever, vectors: np.ndarray, part: Examples, drawn: np.ndarray) -> np.ndarray:
    """An item's score is that of its best head; float32 [n, candidates]."""
    return np.einsum("bmd,bcd->bmc", retriever.query_heads(part), vectors[drawn], optimize=True).max(axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="work directories of runs on one dataset")
    parser.add_argument("--labels", type=Path, help="the shop's true grades")
    parser.add_argument("--examples", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    dataset = Dataset.load(arguments.runs[0] / "dataset")
    examples = load_examples(dataset, "test", max_examples=arguments.examples, seed=arguments.seed)
    train, items = dataset.interactions("train"), dataset.schema.num_items
    drawn = sample_candidates(examples.item_rows, items, CANDIDATES, seed=arguments.seed)
    bm25 = BM25Retriever(item_texts(dataset), tokenizer_words(Tokenizer.load(dataset.tokenizer_path)))
    both = BM25PopularityRetriever(bm25, click_counts(train, items), DEFAULT_POPULARITY_WEIGHT)
    retrievers: dict[str, Retriever] = {
        "bm25": bm25,
        "memory": MemoryRetriever(dataset.query_texts().to_pylist(), train, both),
    }
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
            part, candidates = examples.take(slice(start, start + size)), drawn[start : start + size]
            if isinstance(retriever, TwoTowerRetriever):
                scores = scores_of_model(retriever, vectors[name], part, candidates)
            else:
                scores = retriever.score(part, candidates)
            ranks.append(ranks_of_first(scores, candidates, part.tie_keys))
        values[name] = top_k_values(np.concatenate(ranks))
        print(name, float(values[name]["Top-1"].mean()), flush=True)

    queries = examples.records["query"]
    rows, before = [], ""
    for name, each in values.items():
        means = [f"{value.mean():.4f} ± {half_width(value, queries):.4f}" for value in each.values()]
        difference = ""
        if before:
            change = (each["Top-1"] - values[before]["Top-1"])[:, np.newaxis]
            low, high = paired_intervals(change, queries, seed=arguments.seed)
            difference = f"{change.mean():+.4f} [{low[0]:+.4f}, {high[0]:+.4f}]"
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
